//! The program: arguments in, exit status out. Each command has a file or a folder.

mod arguments;
mod compare;
mod doctor;
mod generate;
mod help;
mod hints;
mod load;
mod merge;
mod output;
mod progress;
mod results;
mod send;
mod serve;
mod service_manager;
mod terminal;
mod trace_page;
mod values;
mod verbosity;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use self::arguments::{Arguments, Command};
use self::output::{WRONG_USAGE, fail};

/// Runs the command that the arguments of the process name.
pub(crate) fn run() -> ExitCode {
    let program = || {
        let program = <Arguments as CommandFactory>::command();
        // clap asks a terminal for its width.
        if terminal::columns().is_some() { program } else { program.term_width(terminal::USUAL) }
    };
    let first = std::env::args_os().nth(1).and_then(|first| first.into_string().ok());
    if let Some(hint) = first.and_then(|first| hints::misspelt(&first, &program())) {
        return fail(WRONG_USAGE, &hint);
    }
    let parsed = program().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = parsed.unwrap_or_else(|error| hints::explained(error).exit());
    match arguments.command() {
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Send(arguments) => send::send(&arguments),
        Command::Load(arguments) => load::load(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Merge(arguments) => merge::merge(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
        Command::TracePage(arguments) => trace_page::trace_page(&arguments),
        Command::Completions(arguments) => generate::completions(arguments, &program()),
        Command::Man(arguments) => generate::man(&arguments, program()),
    }
}
