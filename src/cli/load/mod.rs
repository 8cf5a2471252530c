//! `echoloop load`: carries a load run out and prints its results.

mod arguments;
mod records;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use echoloop::load::{Load, LoadError, Point, Progress, Report, Side, Watcher};
use echoloop::{DescriptorLimit, StopSignal};

pub(crate) use self::arguments::{EXAMPLES, LoadArguments};
use self::records::Records;
use super::output::{FAILED, WRONG_USAGE, fail};
use super::progress::ProgressLine;
use super::results::Outputs;
use super::verbosity::install_log;

/// The name of an endpoint does not resolve.
const NOT_RESOLVED: u8 = 3;

/// Carries a load run out and prints its results.
pub(crate) fn load(arguments: &LoadArguments) -> ExitCode {
    install_log(arguments.verbosity().level());
    if let Err(error) = arguments.results().check(&arguments.plan()) {
        return fail(WRONG_USAGE, &error);
    }
    let outputs = match arguments.results().open() {
        Ok(outputs) => outputs,
        Err(error) => return fail(FAILED, &error),
    };
    if arguments.repeat() > 1 {
        return repeat(arguments, &outputs);
    }
    match run(arguments) {
        Ok(report) => outputs.publish(&report),
        Err(error) => fail(status(&error), &error),
    }
}

/// Runs several times, publishes each run as it comes, and sums them up. The worst of them is the exit status.
fn repeat(arguments: &LoadArguments, outputs: &Outputs) -> ExitCode {
    let mut side = Side { name: "all runs".into(), reports: Vec::new() };
    let mut worst = 0;
    for number in 1..=arguments.repeat() {
        let report = match run(arguments) {
            Ok(report) => report,
            Err(error) => return fail(status(&error), &error),
        };
        let published = match outputs.publish_run(number, &report) {
            Ok(status) => status,
            Err(error) => return fail(FAILED, &error),
        };
        worst = worst.max(published);
        let interrupted = report.interrupted;
        side.reports.push(report);
        if interrupted {
            break;
        }
    }
    match outputs.sum_up(&[side]) {
        Ok(()) => ExitCode::from(worst),
        Err(error) => fail(FAILED, &error),
    }
}

/// The exit status of a run that did not take place.
fn status(error: &LoadError) -> u8 {
    match error {
        LoadError::Plan(_) | LoadError::SourceFamily { .. } => WRONG_USAGE,
        LoadError::Resolve { .. } => NOT_RESOLVED,
        _ => FAILED,
    }
}

fn run(arguments: &LoadArguments) -> Result<Report, LoadError> {
    let limit = DescriptorLimit::raise();
    let stop = StopSignal::new()?;
    let stop_request = stop.handle()?;
    stop_request.on_signals()?;
    let mut load = Load::new(arguments.plan(), stop)?;
    // The names are resolved. Until here Ctrl-C ends the process as usual.
    stop_request.heed_signals();
    log::debug!("descriptor limit {}; at most {} connections are possible", limit.soft, load.ceiling());
    if let Some(warning) = load.warning() {
        log::warn!("{warning}");
    }
    load.set_interval(arguments.interval());
    let line = io::stderr().is_terminal().then(ProgressLine::new);
    let records = arguments.has_json_lines().then(Records::new);
    if line.is_some() || records.is_some() {
        load.watch(Box::new(Onlookers { line, records }));
    }
    load.run()
}

/// All that is shown while a run goes on.
struct Onlookers {
    line: Option<ProgressLine>,
    records: Option<Records>,
}

impl Watcher for Onlookers {
    fn watch(&mut self, progress: &Progress) {
        if let Some(line) = &mut self.line {
            line.watch(progress);
        }
    }

    fn interval(&mut self, point: &Point) {
        if let Some(records) = &mut self.records {
            records.write(point);
        }
    }
}
