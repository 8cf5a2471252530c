//! `echoloop send`: talks to a server.

mod arguments;

use std::process::ExitCode;

use echoloop::client;

pub(crate) use self::arguments::{EXAMPLES, SendArguments};
use super::output::{WRONG_USAGE, fail};
use super::verbosity::install_log;

/// Talks to a server.
pub(crate) fn send(arguments: &SendArguments) -> ExitCode {
    if let Err(reason) = arguments.check() {
        return fail(WRONG_USAGE, &reason);
    }
    install_log(arguments.log_level());
    match client::send(&arguments.endpoint(), &arguments.options()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match arguments.hint(&error) {
            Some(hint) => fail(error.exit_code(), &format!("{error}; {hint}")),
            None => fail(error.exit_code(), &error),
        },
    }
}
