//! The program: arguments in, exit status out.

mod cli;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use echoloop::{DescriptorLimit, Error, Server, StandardErrorLog, StopSignal, Summary};
use echoloop::{client, doctor};
use log::LevelFilter;

use crate::cli::{Arguments, Command, SendArguments, ServeArguments};

/// Something failed, as opposed to being asked for wrongly.
const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
/// How long the summary waits for somebody to read what was logged before it.
const LAST_LINE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match Arguments::parse().command() {
        Command::Serve(arguments) => match serve(&arguments) {
            Ok(summary) => {
                StandardErrorLog::wait_for_reader(LAST_LINE);
                log::info!("stopped: {summary}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                let code = if matches!(error, Error::ListedTwice(_)) { WRONG_USAGE } else { FAILED };
                fail(code, &error)
            }
        },
        Command::Send(arguments) => match arguments.check() {
            Ok(()) => send(&arguments),
            Err(reason) => fail(WRONG_USAGE, &reason),
        },
        Command::Doctor(arguments) => {
            let report = doctor::examine(&arguments.question());
            let code = print(arguments.show(&report).as_bytes());
            if report.is_reachable() { code } else { ExitCode::from(FAILED) }
        }
        Command::Completions(arguments) => print(&arguments.script()),
        Command::Man(arguments) => match arguments.page() {
            Ok(page) => print(&page),
            Err(reason) => fail(WRONG_USAGE, &reason),
        },
    }
}

/// What a command was asked for, on standard output. Whoever has read enough of it may go.
fn print(text: &[u8]) -> ExitCode {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(FAILED, &format!("cannot write to standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn send(arguments: &SendArguments) -> ExitCode {
    install_log(arguments.log_level());
    match client::send(&arguments.endpoint(), &arguments.options()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.exit_code(), &error),
    }
}

fn serve(arguments: &ServeArguments) -> Result<Summary, Error> {
    install_log(arguments.verbosity().level());
    let limit = DescriptorLimit::raise();
    log::info!("descriptor limit {} (it was {}, the hard limit is {})", limit.soft, limit.found, limit.hard);
    let stop = StopSignal::new()?;
    stop.on_interrupt_and_terminate()?;
    let server = Server::bind(&arguments.endpoints(), arguments.options(), stop)?;
    announce(server.endpoints());
    server.run()
}

fn install_log(level: LevelFilter) {
    if let Err(error) = StandardErrorLog::install(level) {
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

fn fail(code: u8, reason: &impl Display) -> ExitCode {
    complain(reason);
    ExitCode::from(code)
}

/// The last word on standard error; if nobody can hear it, the exit status still says it.
fn complain(error: &impl Display) {
    let _ = writeln!(io::stderr(), "echoloop: {error}");
}
