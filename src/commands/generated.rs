//! `echoloop completions` and `echoloop man`.

use std::process::ExitCode;

use crate::cli::{CompletionsArguments, ManArguments};
use crate::{FAILED, WRONG_USAGE, fail};

/// Prints the script for a shell.
pub(crate) fn completions(arguments: CompletionsArguments) -> ExitCode {
    print(&arguments.script())
}

/// Prints a manual page.
pub(crate) fn man(arguments: &ManArguments) -> ExitCode {
    match arguments.page() {
        Ok(page) => print(&page),
        Err(reason) => fail(WRONG_USAGE, &reason),
    }
}

fn print(text: &str) -> ExitCode {
    match super::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &format!("cannot write to standard output: {error}")),
    }
}
