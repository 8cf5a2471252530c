//! `echoloop load`: carries a load run out and prints its results.

mod arguments;

use std::fs;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use echoloop::load::{Load, LoadError, Report, Table, Verdict, hgrm, plot};
use echoloop::{DescriptorLimit, StopSignal};

pub(crate) use self::arguments::{EXAMPLES, LoadArguments};
use super::output::{FAILED, WRONG_USAGE, complain, fail, print};
use super::progress::ProgressLine;
use super::verbosity::install_log;

/// The name of an endpoint does not resolve.
const NOT_RESOLVED: u8 = 3;

/// Carries a load run out and prints its results.
pub(crate) fn load(arguments: &LoadArguments) -> ExitCode {
    install_log(arguments.verbosity().level());
    match run(arguments) {
        Ok(report) => match publish(&report, arguments) {
            Ok(()) => judge(&report, arguments),
            Err(error) => fail(FAILED, &error),
        },
        Err(error) => {
            let code = match error {
                LoadError::Plan(_) | LoadError::SourceFamily { .. } => WRONG_USAGE,
                LoadError::Resolve { .. } => NOT_RESOLVED,
                _ => FAILED,
            };
            fail(code, &error)
        }
    }
}

fn run(arguments: &LoadArguments) -> Result<Report, LoadError> {
    let limit = DescriptorLimit::raise();
    let stop = StopSignal::new()?;
    stop.on_interrupt_and_terminate()?;
    let mut load = Load::new(arguments.plan(), stop)?;
    log::debug!("descriptor limit {}; at most {} connections are possible", limit.soft, load.ceiling());
    if let Some(warning) = load.warning() {
        log::warn!("{warning}");
    }
    if io::stderr().is_terminal() {
        load.watch(Box::new(ProgressLine::new()));
    }
    load.run()
}

fn publish(report: &Report, arguments: &LoadArguments) -> Result<(), String> {
    if let Some(path) = arguments.hgrm() {
        fs::write(path, hgrm(report)).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if let Some(path) = arguments.plot() {
        let picture = plot(report).map_err(|error| error.to_string())?;
        fs::write(path, picture).map_err(|error| format!("cannot draw {}: {error}", path.display()))?;
    }
    let text = if arguments.json() {
        for warning in &report.warnings {
            log::warn!("{warning}");
        }
        serde_json::to_string_pretty(report).map_err(|error| format!("cannot write the report: {error}"))?
            + "\n"
    } else {
        Table(report).to_string()
    };
    print(&text).map_err(|error| format!("cannot write the results to standard output: {error}"))
}

fn judge(report: &Report, arguments: &LoadArguments) -> ExitCode {
    let verdict = Verdict::of(report, arguments.conditions());
    if let Verdict::Failed(reasons) = &verdict {
        for reason in reasons {
            complain(&format!("failed by {reason}"));
        }
    }
    ExitCode::from(verdict.status())
}
