//! The program: arguments in, exit status out.

mod cli;
mod commands;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use echoloop::{DescriptorLimit, Error, Server, StandardErrorLog, StopSignal, Summary};

use crate::cli::{Arguments, Command, ServeArguments, Verbosity};

/// Something failed, as opposed to being asked for wrongly.
const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    match Arguments::parse().command() {
        Command::Serve(arguments) => match serve(&arguments) {
            Ok(summary) => {
                log::info!("stopped: {summary}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain(&error);
                ExitCode::from(if matches!(error, Error::ListedTwice(_)) { WRONG_USAGE } else { FAILED })
            }
        },
        Command::Load(arguments) => commands::load(&arguments),
        Command::Compare(arguments) => commands::compare(&arguments),
    }
}

fn serve(arguments: &ServeArguments) -> Result<Summary, Error> {
    install_log(arguments.verbosity());
    let limit = DescriptorLimit::raise();
    log::info!("descriptor limit {} (it was {}, the hard limit is {})", limit.soft, limit.found, limit.hard);
    let stop = StopSignal::new()?;
    stop.on_interrupt_and_terminate()?;
    let server = Server::bind(&arguments.endpoints(), arguments.options(), stop)?;
    announce(server.endpoints());
    server.run()
}

fn install_log(verbosity: Verbosity) {
    if let Err(error) = StandardErrorLog::install(verbosity.level()) {
        complain(&error);
    }
}

/// For scripts: the addresses, once they are really listened on. Nobody may care, so a closed standard output is no
/// reason not to serve.
fn announce(endpoints: &[String]) {
    let mut output = io::stdout().lock();
    let written = endpoints.iter().try_for_each(|endpoint| writeln!(output, "listening on {endpoint}"));
    if let Err(error) = written.and_then(|()| output.flush()) {
        log::warn!("cannot say on standard output what is listened on: {error}");
    }
}

/// The last word on standard error; if nobody can hear it, the exit status still says it.
fn complain(error: &impl Display) {
    let _ = writeln!(io::stderr(), "echoloop: {error}");
}
