//! `echoloop load`: carries a load run out and prints its results.

mod arguments;
mod failure;
mod generators;
mod records;
mod run;

use std::process::ExitCode;

use echoloop::load::{FoundRate, Plan, RateSearch, Report, Side};

pub(crate) use self::arguments::{EXAMPLES, LoadArguments};
use self::failure::Failure;
use self::run::{onlookers, prepare, run_at};
use super::output::{FAILED, WRONG_USAGE, fail};
use super::results::Outputs;
use super::verbosity::install_log;

/// Carries a load run out and prints its results.
pub(crate) fn load(arguments: &LoadArguments) -> ExitCode {
    install_log(arguments.verbosity.level());
    if arguments.worker {
        return generators::work();
    }
    if let Err(error) = arguments.results.check(&arguments.plan()) {
        return fail(WRONG_USAGE, &error);
    }
    let outputs = match arguments.results.open() {
        Ok(outputs) => outputs,
        Err(error) => return fail(FAILED, &error),
    };
    let done = if let Some(search) = arguments.rate_search() {
        find_rate(arguments, search).map(|found| outputs.publish_rate(&found))
    } else if arguments.repeat > 1 {
        repeat(arguments, &outputs)
    } else {
        run(arguments, &arguments.plan()).map(|report| outputs.publish(&report))
    };
    done.unwrap_or_else(|Failure { status, words }| fail(status, &words))
}

/// Runs several times, publishes each run as it comes, and sums all runs up. The worst run decides the exit status.
fn repeat(arguments: &LoadArguments, outputs: &Outputs) -> Result<ExitCode, Failure> {
    let mut side = Side { name: "all runs".into(), reports: Vec::new() };
    let mut worst = 0;
    let unprinted = |words| Failure { status: FAILED, words };
    for number in 1..=arguments.repeat {
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
        let has_records = arguments.results.json_lines;
        return Ok(run_at(plan, arguments.start_at, *arguments.interval, has_records)?);
    }
    generators::run_all(arguments, plan)
}

/// Searches for a rate. All steps of the search share the same connections.
fn find_rate(arguments: &LoadArguments, search: RateSearch) -> Result<FoundRate, Failure> {
    if arguments.processes() > 1 {
        return generators::search(arguments, search);
    }
    let watcher = || onlookers(arguments.results.json_lines);
    let mut load = prepare(&search.plan, *arguments.interval, watcher)?;
    Ok(search.find(|step| load.step(step))?)
}
