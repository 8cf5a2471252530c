//! One run in this process.

use std::time::{Duration, SystemTime};

use echoloop::load::{Load, LoadError, Plan, Point, Progress, Report, Watcher};
use echoloop::{DescriptorLimit, StopSignal};

use super::records::{ProgressRecords, Records};
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
pub(super) fn run_at(plan: &Plan, start: Option<SystemTime>, shown: Shown) -> Result<Report, LoadError> {
    let mut load = prepare(plan, shown)?;
    if let Some(start) = start {
        load.start_at(start);
    }
    load.run()
}

/// A generator that is ready to run: names are resolved, and a signal ends its run in order.
pub(super) fn prepare(plan: &Plan, shown: Shown) -> Result<Load, LoadError> {
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
    load.set_interval(shown.interval);
    let line = ProgressLine::begin();
    let records = shown.as_records.then(Records::new);
    let progress = shown.as_progress.then(ProgressRecords::new);
    if line.is_some() || records.is_some() || progress.is_some() {
        load.watch(Box::new(Onlookers { line, records, progress }));
    }
    Ok(load)
}

/// How a run is shown while it goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) interval: Duration,
    pub(super) as_records: bool,
    /// For the process that started this one.
    pub(super) as_progress: bool,
}

/// All that is shown while a run goes on.
struct Onlookers {
    line: Option<ProgressLine>,
    records: Option<Records>,
    progress: Option<ProgressRecords>,
}

impl Watcher for Onlookers {
    fn watch(&mut self, progress: &Progress) {
        if let Some(line) = &mut self.line {
            line.watch(progress);
        }
        if let Some(records) = &mut self.progress {
            records.write(progress);
        }
    }

    fn interval(&mut self, point: &Point) {
        if let Some(records) = &mut self.records {
            records.write(point);
        }
    }
}
