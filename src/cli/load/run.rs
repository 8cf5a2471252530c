//! One run in this process.

use std::time::{Duration, SystemTime};

use echoloop::load::{Histogram, Load, LoadError, Plan, Point, Progress, Report, Watcher};
use echoloop::{DescriptorLimit, StopSignal};

use super::records::Records;
use crate::cli::output::{FAILED, WRONG_USAGE};
use crate::cli::progress::ProgressLine;

/// The name of an endpoint does not resolve.
const NOT_RESOLVED: u8 = 3;

/// The exit status of a run that did not take place.
pub(super) fn status(error: &LoadError) -> u8 {
    match error {
        LoadError::Plan(_) | LoadError::SourceFamily { .. } => WRONG_USAGE,
        LoadError::Resolve { .. } => NOT_RESOLVED,
        _ => FAILED,
    }
}

/// One run in this process. Messages begin to flow at the given time, or once all connections are open.
pub(super) fn run_at(
    plan: &Plan,
    start: Option<SystemTime>,
    interval: Duration,
    has_records: bool,
) -> Result<Report, LoadError> {
    let mut load = prepare(plan, interval, || onlookers(has_records))?;
    if let Some(start) = start {
        load.start_at(start);
    }
    load.run()
}

/// A generator that is ready to run: names are resolved, and a signal ends its run in order.
pub(super) fn prepare(
    plan: &Plan,
    interval: Duration,
    watcher: impl FnOnce() -> Option<Box<dyn Watcher>>,
) -> Result<Load, LoadError> {
    let limit = DescriptorLimit::raise();
    let stop = StopSignal::new()?;
    let stop_request = stop.handle()?;
    stop_request.on_signals()?;
    let mut load = Load::new(plan.clone(), stop)?;
    // The names are resolved. Until here Ctrl-C ends the process as usual.
    stop_request.heed_signals();
    log::debug!("descriptor limit {}; at most {} connections are possible", limit.soft, load.ceiling());
    if let Some(warning) = load.warning() {
        log::warn!("{warning}");
    }
    load.set_interval(interval);
    if let Some(watcher) = watcher() {
        load.watch(watcher);
    }
    Ok(load)
}

/// The watchers of a run: a progress line on a terminal, and records if the caller wants them.
pub(super) fn onlookers(has_records: bool) -> Option<Box<dyn Watcher>> {
    let (line, records) = (ProgressLine::begin(), has_records.then(Records::new));
    let is_watched = line.is_some() || records.is_some();
    is_watched.then(|| Box::new(Onlookers { line, records }) as Box<dyn Watcher>)
}

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

    fn interval(&mut self, point: &Point, _: &Histogram) {
        if let Some(records) = &mut self.records {
            records.interval(point);
        }
    }
}
