//! `--processes`: starts generators, and is one.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use echoloop::load::{Plan, ProcessesError, Report, Share, run_processes, shares};
use echoloop::{DescriptorLimit, StopSignal};

use super::arguments::LoadArguments;
use super::run::{Shown, run_at, status};
use crate::cli::output::{FAILED, fail, print};

/// Intervals of the series of each generator.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs the plan in several processes of this program.
pub(super) fn run_all(arguments: &LoadArguments, plan: &Plan) -> Result<Report, ProcessesError> {
    let stop = StopSignal::new()?;
    let stop_request = stop.handle()?;
    stop_request.on_signals()?;
    stop_request.heed_signals();
    let shares = shares(plan, arguments.processes(), arguments.start_at())?;
    // Raised once for all of them, since they inherit it.
    DescriptorLimit::raise();
    let program = std::env::current_exe()?;
    let command = || {
        let mut command = Command::new(&program);
        // In a group of its own: Ctrl-C in a terminal reaches this process alone, which tells the generators once.
        command.args(["load", "--worker", "--quiet"]).process_group(0);
        command
    };
    run_processes(command, &shares, stop)
}

/// Is one generator: reads its share from standard input, prints its report.
pub(super) fn work() -> ExitCode {
    let share = match read_share() {
        Ok(share) => share,
        Err(error) => return fail(FAILED, &format!("no share of a plan on standard input: {error}")),
    };
    keep_to(share.core);
    end_with_parent();
    let start = Duration::try_from_secs_f64(share.start_at).ok().map(|since| SystemTime::UNIX_EPOCH + since);
    let report = match run_at(&share.plan, start, Shown { interval: INTERVAL, as_records: false }) {
        Ok(report) => report,
        Err(error) => return fail(status(&error), &error),
    };
    let text = serde_json::to_string(&report).map_err(|error| format!("cannot write the report: {error}"));
    match text.and_then(|text| print(&(text + "\n"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &error),
    }
}

fn read_share() -> io::Result<Share> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
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

/// Whatever ends the process that collects the reports ends this one: nobody would read its report.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn end_with_parent() {
    use rustix::process::{Signal, set_parent_process_death_signal};

    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        log::warn!("this generator may outlive the process that started it: {error}");
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn end_with_parent() {}
