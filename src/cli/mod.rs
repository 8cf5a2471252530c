//! The command line: text in, typed options out, nothing done. A file a command.

mod compare;
mod doctor;
mod generated;
mod load;
mod send;
mod serve;
mod values;

use clap::{Args, Parser, Subcommand};
use log::LevelFilter;

pub(crate) use self::compare::CompareArguments;
pub(crate) use self::doctor::DoctorArguments;
pub(crate) use self::generated::{CompletionsArguments, ManArguments};
pub(crate) use self::load::LoadArguments;
pub(crate) use self::send::SendArguments;
pub(crate) use self::serve::ServeArguments;

/// An echo server on one event loop: whatever a client sends comes back.
///
/// Without a command it serves. With no arguments at all it is a plain echo server on localhost, port 10000.
#[derive(Debug, Parser)]
#[command(name = "echoloop", version, args_conflicts_with_subcommands = true, after_help = serve::EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the echo server (this is what happens without a command, too)
    #[command(after_help = serve::EXAMPLES)]
    Serve(ServeArguments),
    /// Talk to an echo server, or to any other
    #[command(after_help = send::EXAMPLES)]
    Send(SendArguments),
    /// Put many clients at once to an echo server, verify every byte, and measure
    #[command(after_help = load::EXAMPLES)]
    Load(Box<LoadArguments>),
    /// Show results of `load --json` side by side
    Compare(CompareArguments),
    /// Say how many connections this machine can hold, which limit comes first, and what raises it
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(DoctorArguments),
    /// Print a completion script for a shell
    #[command(after_help = generated::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArguments),
    /// Print the manual page of the program, or of one of its commands
    #[command(after_help = generated::MAN_EXAMPLES)]
    Man(ManArguments),
}

impl Arguments {
    /// The command, the default one made explicit.
    pub(crate) fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

/// What the log shows, on standard error.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Verbosity {
    /// Log each chunk; twice: each readiness event, change of state and system call
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet", help_heading = "Log")]
    verbose: u8,

    /// Log nothing but warnings and errors
    #[arg(short, long, help_heading = "Log")]
    quiet: bool,
}

impl Verbosity {
    pub(crate) fn level(self) -> LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::Warn,
            (false, 0) => LevelFilter::Info,
            (false, 1) => LevelFilter::Debug,
            (false, _) => LevelFilter::Trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Arguments as CommandFactory>::command().debug_assert();
    }
}
