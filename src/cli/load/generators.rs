//! `--processes`: starts generators, and is one.

use std::io::{self, BufRead, IsTerminal, StdinLock};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use echoloop::load::{
    FoundRate, Load, LoadError, Order, Plan, Processes, RateSearch, Report, Share, Watcher, shares,
};
use echoloop::{DescriptorLimit, StopSignal};
use serde::de::DeserializeOwned;

use super::arguments::LoadArguments;
use super::failure::Failure;
use super::records::WorkerRecords;
use super::run::{onlookers, prepare, status};
use crate::cli::output::{FAILED, fail, print};

/// Runs the plan in several processes of this program.
pub(super) fn run_all(arguments: &LoadArguments, plan: &Plan) -> Result<Report, Failure> {
    Ok(start(arguments, plan)?.run(arguments.start_at)?)
}

/// Searches for a rate in several processes of this program.
pub(super) fn search(arguments: &LoadArguments, search: RateSearch) -> Result<FoundRate, Failure> {
    let mut processes = start(arguments, &search.plan)?;
    let found = search.find(|step| processes.step(step))?;
    processes.finish()?;
    Ok(found)
}

fn start(arguments: &LoadArguments, plan: &Plan) -> Result<Processes, Failure> {
    let stop = StopSignal::new()?;
    let stop_request = stop.handle()?;
    stop_request.on_signals()?;
    Load::check(plan)?;
    // The names are resolved. Until here Ctrl-C ends the process as usual.
    stop_request.heed_signals();
    let is_terminal = io::stderr().is_terminal();
    let shares = shares(plan, arguments.processes(), *arguments.interval, is_terminal)?;
    // The generators inherit the limit, so raise it once for all of them.
    DescriptorLimit::raise();
    let program = std::env::current_exe()?;
    let command = || {
        let mut command = Command::new(&program);
        // Each generator gets a process group of its own. So Ctrl-C in a terminal reaches only this process, which
        // stops each generator once.
        command.args(["load", "--worker", "--quiet"]).process_group(0);
        command
    };
    let mut processes = Processes::start(command, &shares, stop)?;
    if let Some(watcher) = onlookers(arguments.results.json_lines) {
        processes.watch(watcher);
    }
    Ok(processes)
}

/// Acts as one generator: reads its share and its orders from standard input, and prints a report for each order.
pub(super) fn work() -> ExitCode {
    let mut input = io::stdin().lock();
    let share: Share = match read_line(&mut input) {
        Ok(Some(share)) => share,
        Ok(None) => return fail(FAILED, &"no share of a plan on standard input"),
        Err(error) => return fail(FAILED, &format!("no share of a plan on standard input: {error}")),
    };
    keep_to(share.core);
    end_with_parent();
    let records = || Some(Box::new(WorkerRecords::begin(share.watched)) as Box<dyn Watcher>);
    let mut load = match prepare(&share.plan, share.interval, records) {
        Ok(load) => load,
        Err(error) => return fail(status(&error), &error),
    };
    loop {
        let order: Order = match read_line(&mut input) {
            Ok(Some(order)) => order,
            Ok(None) => return ExitCode::SUCCESS,
            Err(error) => return fail(FAILED, &format!("no order on standard input: {error}")),
        };
        if let Some(start) = order.start() {
            load.start_at(start);
        }
        let Some(step) = order.step else {
            return publish(load.run()).err().unwrap_or(ExitCode::SUCCESS);
        };
        if let Err(status) = publish(load.step(step)) {
            return status;
        }
    }
}

/// The next line of JSON, if there is one.
fn read_line<T: DeserializeOwned>(input: &mut StdinLock<'_>) -> io::Result<Option<T>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

/// Prints a report; without one, prints the reason and returns the exit status for it.
fn publish(result: Result<Report, LoadError>) -> Result<(), ExitCode> {
    let report = result.map_err(|error| fail(status(&error), &error))?;
    let text = serde_json::to_string(&report).map_err(|error| format!("cannot write the report: {error}"));
    text.and_then(|text| print(&(text + "\n"))).map_err(|error| fail(FAILED, &error))
}

/// Stays on one of the processors that this process may use.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn keep_to(core: Option<usize>) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let Some(core) = core else { return };
    let allowed = sched_getaffinity(None).unwrap_or_default();
    let mut processors = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    if let Some(processor) = processors.nth(core) {
        let mut one = CpuSet::new();
        one.set(processor);
        if let Err(error) = sched_setaffinity(None, &one) {
            log::warn!("cannot keep to processor {processor}: {error}");
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn keep_to(_: Option<usize>) {}

/// Ends this generator when its parent process ends: nobody would read the report.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn end_with_parent() {
    use rustix::process::{Signal, set_parent_process_death_signal};

    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        log::warn!("this generator may outlive the process that started it: {error}");
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn end_with_parent() {}
