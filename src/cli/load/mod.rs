//! `echoloop load`: carries a load run out and prints its results.

mod arguments;
mod generators;
mod records;
mod run;

use std::process::ExitCode;

use echoloop::load::{Plan, ProcessesError, Report, Side};

pub(crate) use self::arguments::{EXAMPLES, LoadArguments};
use self::run::{Shown, run_at, status};
use super::output::{FAILED, WRONG_USAGE, fail};
use super::results::Outputs;
use super::verbosity::install_log;

/// The reason for a run that did not take place, and the exit status that stands for it.
struct Failure {
    status: u8,
    words: String,
}

/// Carries a load run out and prints its results.
pub(crate) fn load(arguments: &LoadArguments) -> ExitCode {
    install_log(arguments.verbosity().level());
    if arguments.is_worker() {
        return generators::work();
    }
    if let Err(error) = arguments.results().check(&arguments.plan()) {
        return fail(WRONG_USAGE, &error);
    }
    let outputs = match arguments.results().open() {
        Ok(outputs) => outputs,
        Err(error) => return fail(FAILED, &error),
    };
    let done = if let Some(search) = arguments.rate_search() {
        search.find(|plan| run(arguments, plan)).map(|found| outputs.publish_rate(&found))
    } else if arguments.repeat() > 1 {
        repeat(arguments, &outputs)
    } else {
        run(arguments, &arguments.plan()).map(|report| outputs.publish(&report))
    };
    done.unwrap_or_else(|Failure { status, words }| fail(status, &words))
}

/// Runs several times, publishes each run as it comes, and sums them up. The worst of them is the exit status.
fn repeat(arguments: &LoadArguments, outputs: &Outputs) -> Result<ExitCode, Failure> {
    let mut side = Side { name: "all runs".into(), reports: Vec::new() };
    let mut worst = 0;
    let unprinted = |words| Failure { status: FAILED, words };
    for number in 1..=arguments.repeat() {
        let report = run(arguments, &arguments.plan())?;
        worst = worst.max(outputs.publish_run(number, &report).map_err(unprinted)?);
        let interrupted = report.interrupted;
        side.reports.push(report);
        if interrupted {
            break;
        }
    }
    outputs.sum_up(&[side]).map_err(unprinted)?;
    Ok(ExitCode::from(worst))
}

/// One run, in this process or in several.
fn run(arguments: &LoadArguments, plan: &Plan) -> Result<Report, Failure> {
    if arguments.processes() == 1 {
        let shown = Shown { interval: arguments.interval(), as_records: arguments.has_json_lines() };
        return run_at(plan, arguments.start_at(), shown)
            .map_err(|error| Failure { status: status(&error), words: error.to_string() });
    }
    generators::run_all(arguments, plan).map_err(|error| {
        let status = if matches!(error, ProcessesError::TooMany { .. }) { WRONG_USAGE } else { FAILED };
        Failure { status, words: error.to_string() }
    })
}
