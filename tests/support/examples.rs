//! The examples, the steps of the ladder and the exercises, as programs that a test can run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where the examples are.
pub(crate) fn examples() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| made(&["--examples"]).join("examples"))
}

/// Where the steps of the ladder, the exercises, their solutions and their graders are.
pub(crate) fn study_programs() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    // All packages and a small test: so Cargo chooses the features that it chooses for `cargo test`, and finds most of it
    // compiled.
    DIRECTORY.get_or_init(|| made(&["--workspace", "--bins", "--test", "structure"]))
}

/// The directory of our profile, after Cargo has built this. `cargo test --test NAME` alone does not build it; when it
/// is there already, this only looks.
fn made(what: &[&str]) -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_echoloop")).parent().expect("the directory of a profile");
    let name = profile.file_name().expect("it has a name").to_str().expect("text");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .args(["--profile", if name == "debug" { "dev" } else { name }])
        .arg("--target-dir")
        .arg(profile.parent().expect("the target directory"))
        .args(what)
        .status();
    assert!(status.expect("cargo starts").success(), "{what:?} compile");
    profile.to_owned()
}
