//! The program: arguments in, exit status out.

mod cli;
mod commands;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use echoloop::StandardErrorLog;
use log::LevelFilter;

use crate::cli::{Arguments, Command};

/// Something failed, as opposed to being asked for wrongly.
const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    match Arguments::parse().command() {
        Command::Serve(arguments) => commands::serve(&arguments),
        Command::Send(arguments) => commands::send(&arguments),
        Command::Load(arguments) => commands::load(&arguments),
        Command::Compare(arguments) => commands::compare(&arguments),
        Command::Doctor(arguments) => commands::doctor(&arguments),
        Command::Completions(arguments) => commands::completions(arguments),
        Command::Man(arguments) => commands::man(&arguments),
    }
}

fn install_log(level: LevelFilter) {
    if let Err(error) = StandardErrorLog::install(level) {
        complain(&error);
    }
}

fn fail(code: u8, reason: &impl Display) -> ExitCode {
    complain(reason);
    ExitCode::from(code)
}

/// The last word on standard error; if nobody can hear it, the exit status still says it.
fn complain(error: &impl Display) {
    let _ = writeln!(io::stderr(), "echoloop: {error}");
}
