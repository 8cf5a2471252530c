//! The program: arguments in, exit status out. A file or a folder a command.

mod arguments;
mod compare;
mod doctor;
mod generate;
mod load;
mod merge;
mod output;
mod progress;
mod results;
mod send;
mod serve;
mod service_manager;
mod values;
mod verbosity;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::arguments::{Arguments, Command};

/// Does what the arguments of the process ask for.
pub(crate) fn run() -> ExitCode {
    let program = <Arguments as CommandFactory>::command;
    match Arguments::parse().command() {
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Send(arguments) => send::send(&arguments),
        Command::Load(arguments) => load::load(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Merge(arguments) => merge::merge(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
        Command::Completions(arguments) => generate::completions(arguments, program()),
        Command::Man(arguments) => generate::man(&arguments, program()),
    }
}
