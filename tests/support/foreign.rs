//! Programs of others, which a machine may lack.

use std::io::Write;
use std::path::PathBuf;

/// The programs of others that the commands of the documentation use.
const FOREIGN: [&str; 10] =
    ["cmp", "curl", "haproxy", "nc", "promtool", "python3", "script", "socat", "strace", "telnet"];

/// The path of a program, if it is installed.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// The first program of others in a command of the documentation that is not installed here.
pub(crate) fn missing_for(command: &str) -> Option<&str> {
    let words = command.split(|letter: char| letter.is_whitespace() || "|;&(){}".contains(letter));
    words.filter(|word| FOREIGN.contains(word)).find(|word| installed(word).is_none())
}

/// Says why a test does nothing on this machine. It writes past the test harness, which hides the output of tests that
/// pass.
pub(crate) fn skip(test: &str, reason: &str) {
    // In one piece, since the harness writes meanwhile. Without a standard error nobody could read it.
    let _ = std::io::stderr().write_all(format!("left out: {test}: {reason}\n").as_bytes());
}
