//! `echoloop serve`: runs the server until it is asked to stop.

mod arguments;

use std::io::{self, Write};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};

use echoloop::{
    DescriptorLimit, Error, InheritedSocket, ReportSignal, Server, StopSignal, Summary, describe,
    survive_file_size_limit,
};

pub(crate) use self::arguments::{EXAMPLES, ServeArguments};
use super::output::{FAILED, WRONG_USAGE, fail};
use super::service_manager::ServiceManager;
use super::verbosity::install_log;

/// Serves until it is asked to stop.
pub(crate) fn serve(arguments: &ServeArguments) -> ExitCode {
    install_log(arguments.verbosity.level());
    match run(arguments) {
        Ok(summary) => {
            // Give a slow reader of the log some time to take the last lines.
            log::logger().flush();
            log::info!("stopped: {summary}");
            log::logger().flush();
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = if matches!(error, Error::ListedTwice(_)) { WRONG_USAGE } else { FAILED };
            fail(code, &error)
        }
    }
}

fn run(arguments: &ServeArguments) -> Result<Summary, Error> {
    // Take these before anything else opens a descriptor: a descriptor that was announced but never handed over is
    // still free, and a new file could get its number.
    let inherited = InheritedSocket::from_environment()?;
    let limit = DescriptorLimit::raise();
    let stop = StopSignal::new()?;
    let stop_request = stop.handle()?;
    stop_request.on_signals()?;
    let report = ReportSignal::new()?;
    report.on_user_signal()?;
    survive_file_size_limit()?;
    let manager = ServiceManager::from_environment();
    let endpoints = arguments.endpoints_beside(&inherited);
    let mut server = Server::with_inherited(inherited, &endpoints, arguments.options(), stop)?;
    // Log this only after a successful start: a failed start prints one line, its reason.
    log::info!("descriptor limit {} (it was {}, the hard limit is {})", limit.soft, limit.found, limit.hard);
    server.report_on(report)?;
    await_reader();
    // From here on the loop answers signals. Until here Ctrl-C ends the process as usual.
    stop_request.heed_signals();
    announce(server.endpoints(), server.admin_endpoints());
    manager.ready();
    server.on_stop(move || manager.stopping());
    server.run()
}

/// Waits until standard output has room. A blocking write would wait as well, but no signal would end that wait.
fn await_reader() {
    let output = io::stdout();
    // If the poll fails, the write below finds out why.
    let _ = poll(&mut [PollFd::new(&output, PollFlags::OUT)], None);
}

/// Prints the addresses for scripts, once the server really listens. Perhaps nobody reads them, so a closed standard
/// output is no reason not to serve.
fn announce(endpoints: &[String], admin: &[String]) {
    let mut output = io::stdout().lock();
    let written = endpoints
        .iter()
        .try_for_each(|endpoint| writeln!(output, "listening on {endpoint}"))
        .and_then(|()| admin.iter().try_for_each(|endpoint| writeln!(output, "admin on {endpoint}")))
        .and_then(|()| output.flush());
    if let Err(error) = written {
        log::warn!(
            "cannot write the endpoints to standard output, but the log has them: {}",
            describe(&error)
        );
    }
}
