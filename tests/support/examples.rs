//! The examples, as programs that a test can run.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Where the examples are. `cargo test --test NAME` alone does not make them, so they are made here; when they are
/// there already this only looks.
pub(crate) fn examples() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_echoloop"));
        let profile = program.parent().expect("the directory of a profile");
        let name = profile.file_name().expect("it has a name").to_str().expect("text");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--examples", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .args(["--profile", if name == "debug" { "dev" } else { name }])
            .arg("--target-dir")
            .arg(profile.parent().expect("the target directory"))
            .status();
        assert!(status.expect("cargo starts").success(), "the examples compile");
        profile.join("examples")
    })
}
