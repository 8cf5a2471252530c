//! The command line as a whole: the list of commands.

use clap::{Parser, Subcommand};

use super::compare::{self, CompareArguments};
use super::doctor::{self, DoctorArguments};
use super::generate::{self, CompletionsArguments, ManArguments};
use super::help::terminal;
use super::load::{self, LoadArguments};
use super::merge::{self, MergeArguments};
use super::send::{self, SendArguments};
use super::serve::{self, ServeArguments};
use super::trace_page::{self, TracePageArguments};

/// An echo server on one event loop: whatever a client sends comes back.
///
/// Without a command it serves. With no arguments at all it is a plain echo server on localhost, port 10000.
#[derive(Debug, Parser)]
#[command(name = "echoloop", version, args_conflicts_with_subcommands = true, after_help = terminal(serve::EXAMPLES))]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the echo server (the default command)
    #[command(after_help = terminal(serve::EXAMPLES))]
    Serve(Box<ServeArguments>),
    /// Talk to an echo server, or to any other
    #[command(after_help = terminal(send::EXAMPLES))]
    Send(SendArguments),
    /// Run many clients against an echo server, verify every byte, and measure
    #[command(after_help = terminal(load::EXAMPLES))]
    Load(Box<LoadArguments>),
    /// Show results of `load --json` side by side
    #[command(after_help = terminal(compare::EXAMPLES))]
    Compare(CompareArguments),
    /// Merge the reports of several generators that ran at the same time
    #[command(after_help = terminal(merge::EXAMPLES))]
    Merge(MergeArguments),
    /// Say how many connections this machine can hold; name the first limit, and the command that raises it
    #[command(after_help = terminal(doctor::EXAMPLES))]
    Doctor(DoctorArguments),
    /// Turn a recording (`serve --trace`) into a page that steps through the loop
    #[command(after_help = terminal(trace_page::EXAMPLES))]
    TracePage(TracePageArguments),
    /// Print a completion script for a shell
    #[command(after_help = terminal(generate::COMPLETIONS_EXAMPLES))]
    Completions(CompletionsArguments),
    /// Print the manual page of the program, or of one of its commands
    #[command(after_help = terminal(generate::MAN_EXAMPLES))]
    Man(ManArguments),
}

impl Arguments {
    /// The command that the user named; without one, `serve`.
    pub(crate) fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(Box::new(self.serve)))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn serve(arguments: &[&str]) -> ServeArguments {
        let all = std::iter::once(&"echoloop").chain(arguments);
        match Arguments::try_parse_from(all).expect("well formed").command() {
            Command::Serve(arguments) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        <Arguments as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn serve_may_be_named_or_left_out() {
        for arguments in [&["serve", "--once", ":7"] as &[_], &["--once", ":7"]] {
            let arguments = serve(arguments);
            assert!(arguments.options().protocol.once);
            assert_eq!(arguments.endpoints_beside(&[]), [":7".parse().expect("an endpoint")]);
        }
    }

    #[test]
    fn every_help_fits_80_columns() {
        let mut program = <Arguments as CommandFactory>::command().term_width(80);
        program.build();
        for command in std::iter::once(&program).chain(program.get_subcommands()) {
            let help = command.clone().render_long_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with(' ')) {
                assert!(line.chars().count() <= 73, "{}: wrapped by `man`: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn man_knows_every_command() {
        let program = <Arguments as CommandFactory>::command();
        let names: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(names, generate::COMMANDS);
    }
}
