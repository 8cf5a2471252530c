//! Results on standard output, failures on standard error, and the exit status that goes with them.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use echoloop::describe;

/// The command failed.
pub(super) const FAILED: u8 = 1;
/// The arguments make no sense.
pub(super) const WRONG_USAGE: u8 = 2;

/// Prints a result. A closed standard output is no failure, since nobody misses the result; a full disk is one.
///
/// # Errors
/// The reason, in words.
pub(super) fn print(text: &str) -> Result<(), String> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {}", describe(&error)))
        }
        _ => Ok(()),
    }
}

/// Prints the only result of a command; returns its exit status.
pub(super) fn publish(text: &str) -> ExitCode {
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &error),
    }
}

/// Says why a command failed; returns its exit status.
pub(super) fn fail(code: u8, reason: &impl Display) -> ExitCode {
    complain(reason);
    ExitCode::from(code)
}

/// Prints the last line on standard error. If nobody reads it, the exit status still tells of the failure.
pub(super) fn complain(error: &impl Display) {
    log::logger().flush();
    let _ = writeln!(io::stderr(), "echoloop: {error}");
}
