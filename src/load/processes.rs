//! `--processes`: one run, or one search for a rate, by several processes of the same program, since a process takes one
//! core at most.
//!
//! ```text
//!   this process                              each generator
//!   divides the plan                     ───► reads its share from standard input, a line of JSON
//!                                        ◄─── says that it is ready, and heeds signals from now on
//!   says when to begin, and at what rate ───► reads an order, opens its connections, waits for the common start, runs
//!   shows how far all are                ◄─── prints its progress now and then, and each interval with its histogram
//!   waits for all of them, in one loop
//!   merges                               ◄─── prints its report, a line of JSON
//! ```
//!
//! In a search there is an order for each step, and connections stay open from step to step.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use mio::unix::pipe::Receiver;
use rustix::process::Signal;

use super::error::ProcessesError;
use super::intervals::Intervals;
use super::progress::{Progress, Watcher};
use super::report::{MergeError, Report, merge, read};
use super::series::USUAL_LENGTH;
use super::shares::{Order, Share};
use super::step::StepPlan;
use super::worker::Worker;
use crate::reactor::{Context, Handler, Interest, Reactor, Readiness, Stage, Token};
use crate::system::StopSignal;

/// The time that generators with open connections have to read an order.
const NOTICE: Duration = Duration::from_millis(100);
/// Generators that begin further apart than this part of a step did not do it together.
const APART: f64 = 0.1;
/// How often such a step is tried.
const ATTEMPTS: u32 = 3;

/// Generators in processes of their own. Dropping this kills them.
pub struct Processes {
    reactor: Reactor<Source>,
    workers: Workers,
    /// How long the generators need to open their connections; `None` once these are open.
    opening: Option<Duration>,
    /// The share of the clients that each generator has.
    parts: Vec<f64>,
}

impl Processes {
    /// Starts a process for each share, by `command`. A first request from `stop` ends their run early; a second one
    /// kills them.
    ///
    /// # Errors
    /// When a process can't be started.
    pub fn start(
        mut command: impl FnMut() -> Command,
        shares: &[Share],
        stop: StopSignal,
    ) -> Result<Processes, ProcessesError> {
        let mut reactor = Reactor::new()?;
        reactor.context().insert(Source::Stop(stop), Interest::READABLE, Stage::Signals)?;
        let interval = shares.first().map_or(USUAL_LENGTH, |share| share.interval);
        let mut workers = Workers {
            all: Vec::new(),
            intervals: Intervals::new(interval, shares.len()),
            reading: 0,
            ending: false,
            requests: 0,
            failed: None,
            watcher: None,
        };
        for (place, share) in shares.iter().enumerate() {
            let program = command();
            let name = Path::new(program.get_program()).display().to_string();
            let started = workers.start(reactor.context(), program, share);
            started.map_err(|source| ProcessesError::Start { number: place + 1, program: name, source })?;
        }
        let clients = |share: &Share| share.plan.clients as f64;
        let all: f64 = shares.iter().map(clients).sum();
        let parts = shares.iter().map(|share| clients(share) / all).collect();
        Ok(Processes { reactor, workers, opening: Some(Share::time_to_open(shares)), parts })
    }

    /// Shows the intervals of all generators as one series. If the shares ask for progress, shows that too.
    pub fn watch(&mut self, watcher: Box<dyn Watcher>) {
        self.workers.watcher = Some(watcher);
    }

    /// Carries out the whole plan, from the given time on or as soon as all generators can be ready, and merges the
    /// reports.
    ///
    /// # Errors
    /// When a process fails; the others are stopped then. When the reports don't fit together.
    pub fn run(mut self, start: Option<SystemTime>) -> Result<Report, ProcessesError> {
        let start = start.unwrap_or_else(|| self.next_start());
        self.workers.order(|_| Order::new(start, None))?;
        self.workers.close_inputs();
        if !self.workers.is_over() {
            self.reactor.run(&mut self.workers)?;
        }
        let report = self.workers.results()?;
        self.workers.pass_words_on();
        Ok(report)
    }

    /// Carries a step of a search out over connections that stay open, and merges the reports. A generator that
    /// lost connections opens new ones before it begins. If that takes so long that the others do a good part of the step
    /// without it, all of them do the step again, with more time before it. If that does not help, the report says that
    /// the generator was the bottleneck.
    ///
    /// # Errors
    /// The same as for [`Processes::run`].
    pub fn step(&mut self, step: StepPlan) -> Result<Report, ProcessesError> {
        let mut more = Duration::ZERO;
        let mut attempts = 1;
        loop {
            let result = self.try_step(step, more);
            let apart = match &result {
                Ok(report) => report.merged.as_ref().map_or(0.0, |merged| merged.start_spread_s),
                Err(ProcessesError::Merge(MergeError::Apart { gap_s, .. })) => *gap_s,
                Err(_) => return result,
            };
            if apart <= step.duration.as_secs_f64() * APART || self.workers.requests > 0 {
                return result;
            }
            if attempts == ATTEMPTS {
                return result.map(|mut report| {
                    report.generator.bottleneck = true;
                    report
                });
            }
            attempts += 1;
            more += Duration::try_from_secs_f64(apart).unwrap_or_default();
        }
    }

    fn try_step(&mut self, step: StepPlan, more: Duration) -> Result<Report, ProcessesError> {
        let start = self.next_start() + more;
        let parts = &self.parts;
        let part = |place: usize| StepPlan { rate: step.rate * parts[place], ..step };
        self.workers.order(|place| Order::new(start, Some(part(place))))?;
        if !self.workers.is_over() {
            self.reactor.run(&mut self.workers)?;
        }
        self.workers.results()
    }

    /// Lets the generators end in order after the last step.
    ///
    /// # Errors
    /// When the loop itself fails.
    pub fn finish(mut self) -> Result<(), ProcessesError> {
        self.workers.close_inputs();
        if !self.workers.is_over() {
            self.reactor.run(&mut self.workers)?;
        }
        self.workers.pass_words_on();
        Ok(())
    }

    fn next_start(&mut self) -> SystemTime {
        SystemTime::now() + self.opening.take().unwrap_or(NOTICE)
    }
}

/// All processes, and what they have said so far.
struct Workers {
    all: Vec<Worker>,
    /// The intervals of all processes in the run or step that goes on.
    intervals: Intervals,
    /// Pipes that have not ended yet.
    reading: usize,
    /// Whether the processes are to end: they get no more orders.
    ending: bool,
    /// Requests to stop.
    requests: usize,
    /// The first process that failed.
    failed: Option<usize>,
    watcher: Option<Box<dyn Watcher>>,
}

enum Source {
    Pipe { place: usize, is_output: bool, pipe: Receiver },
    Stop(StopSignal),
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Pipe { pipe, .. } => pipe.as_fd(),
            Source::Stop(stop) => stop.as_fd(),
        }
    }
}

impl Handler for Workers {
    type Source = Source;

    fn ready(&mut self, context: &mut Context<Source>, token: Token, _: Readiness) {
        match context.get_mut(token) {
            Some(Source::Stop(stop)) => {
                let requests = stop.received();
                self.stop_requested(context, requests);
            }
            Some(Source::Pipe { place, is_output, pipe }) => {
                let (place, is_output) = (*place, *is_output);
                let Some(worker) = self.all.get_mut(place) else { return };
                let has_ended = worker.read(pipe, is_output);
                if worker.take_ready() && self.requests > 0 {
                    worker.signal(Signal::TERM);
                }
                if has_ended {
                    context.remove(token);
                    self.ended(place, is_output);
                }
                self.show();
                self.show_intervals(place);
                if self.is_over() {
                    context.stop();
                }
            }
            None => {}
        }
    }
}

impl Workers {
    fn start(
        &mut self,
        context: &mut Context<Source>,
        mut command: Command,
        share: &Share,
    ) -> io::Result<()> {
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let place = self.all.len();
        let (input, output, errors) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        // From here on, dropping the worker kills the process.
        self.all.push(Worker::new(process, input));
        for (is_output, pipe) in [(true, output.map(Receiver::from)), (false, errors.map(Receiver::from))] {
            let Some(pipe) = pipe else { continue };
            pipe.set_nonblocking(true)?;
            let source = Source::Pipe { place, is_output, pipe };
            context.insert(source, Interest::READABLE, Stage::Connections)?;
            self.reading += 1;
        }
        self.all[place].tell(share)
    }

    /// Gives each process its order.
    fn order(&mut self, order: impl Fn(usize) -> Order) -> io::Result<()> {
        self.intervals.begin();
        for (place, worker) in self.all.iter_mut().enumerate() {
            (worker.report, worker.progress) = (None, None);
            worker.tell(&order(place))?;
        }
        self.look_for_failures();
        Ok(())
    }

    fn close_inputs(&mut self) {
        self.ending = true;
        self.all.iter_mut().for_each(|worker| worker.input = None);
    }

    /// Handles requests to stop. The first one makes each process end its run and report; a process that is not ready
    /// for a signal gets it as soon as it is ready. The second one stops the loop.
    fn stop_requested(&mut self, context: &mut Context<Source>, requests: usize) {
        for _ in 0..requests {
            self.requests += 1;
            if self.requests > 1 {
                context.stop();
                return;
            }
            self.all.iter().filter(|worker| worker.is_ready).for_each(|worker| worker.signal(Signal::TERM));
        }
    }

    fn ended(&mut self, place: usize, is_output: bool) {
        self.reading -= 1;
        self.all[place].has_ended |= is_output;
        self.look_for_failures();
    }

    /// Looks for failures: a process that ends without a report has failed, and the others need not go on.
    fn look_for_failures(&mut self) {
        let has_failed = |worker: &Worker| worker.has_ended && worker.report.is_none();
        if self.failed.is_none()
            && let Some(place) = self.all.iter().position(has_failed)
        {
            self.failed = Some(place);
            self.close_inputs();
            self.all.iter().for_each(|worker| worker.signal(Signal::TERM));
        }
    }

    fn show(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let all: Option<Vec<Progress>> = self.all.iter().map(|worker| worker.progress).collect();
        if let Some(progress) = all.and_then(|all| Progress::of_all(all.into_iter())) {
            watcher.watch(&progress);
        }
    }

    /// Shows the intervals that are complete now that this process has come further.
    fn show_intervals(&mut self, place: usize) {
        let worker = &mut self.all[place];
        for interval in worker.intervals.drain(..) {
            self.intervals.add(place, &interval);
        }
        if worker.has_ended || worker.report.is_some() {
            self.intervals.ended(place);
        }
        while let Some((point, latency)) = self.intervals.next() {
            if let Some(watcher) = &mut self.watcher {
                watcher.interval(&point, &latency);
            }
        }
    }

    /// Whether the last order is carried out; at the end, whether all processes have ended and said their last words.
    fn is_over(&self) -> bool {
        self.reading == 0 || (!self.ending && self.all.iter().all(|worker| worker.report.is_some()))
    }

    /// The reports on the last order as one.
    fn results(&mut self) -> Result<Report, ProcessesError> {
        if self.requests > 1 {
            return Err(ProcessesError::Killed);
        }
        if let Some(place) = self.failed {
            let worker = &mut self.all[place];
            let how = worker.process.wait()?.to_string();
            return Err(ProcessesError::Died { number: place + 1, how, words: worker.last_words() });
        }
        let mut reports = Vec::new();
        for (place, worker) in self.all.iter().enumerate() {
            let text = String::from_utf8_lossy(worker.report.as_deref().unwrap_or_default());
            reports.extend(read(&format!("generator {}", place + 1), &text)?);
        }
        let mut report = merge(&reports)?;
        let series = self.intervals.take_points();
        let received: u64 = series.iter().map(|point| point.received).sum();
        // A generator drops intervals if this process does not take them for long.
        if received == report.messages.received && !series.is_empty() {
            report.series = series;
        }
        Ok(report)
    }

    fn pass_words_on(&self) {
        for (place, worker) in self.all.iter().enumerate() {
            for line in String::from_utf8_lossy(&worker.words).lines() {
                log::warn!("generator {}: {line}", place + 1);
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.all {
            // Both calls fail only if the process has ended and was waited for.
            let _ = worker.process.kill();
            let _ = worker.process.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::super::report::report;
    use super::super::shares::shares;
    use super::*;

    const AT_100: StepPlan = StepPlan { rate: 100.0, duration: Duration::from_secs(1) };

    fn start(script: &str, count: usize, stop: StopSignal) -> Processes {
        let plan = Plan { clients: 10, ..Plan::new(vec![":7".parse().expect("an endpoint")]) };
        let shares = shares(&plan, count, USUAL_LENGTH, false).expect("there is enough");
        let command = || {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        Processes::start(command, &shares, stop).expect("a shell")
    }

    fn run(script: &str, count: usize) -> Result<Report, ProcessesError> {
        start(script, count, StopSignal::new().expect("a socket pair")).run(None)
    }

    #[test]
    fn one_that_dies_fails_the_run_with_its_words_and_stops_the_others() {
        // The second one would go on for ever.
        let script = r#"grep -q '"seed":1,' || exec sleep 1000; echo 'no port left' >&2; exit 3"#;
        let error = run(script, 2).expect_err("the first fails").to_string();
        assert!(error.starts_with("generator 1 failed (exit status: 3): no port left"), "{error}");
        let error = run("kill -KILL $$", 1).expect_err("it is killed").to_string();
        assert!(error.contains("signal: 9") && error.contains("it said nothing"), "{error}");
        let error = run("echo no report", 1).expect_err("it is none").to_string();
        assert!(error.contains("generator 1 is no report"), "{error}");
    }

    #[test]
    fn a_request_to_stop_reaches_all_of_them() {
        let stop = StopSignal::new().expect("a socket pair");
        let handle = stop.handle().expect("a descriptor");
        handle.stop();
        // A signal before the trap would end it.
        let script = r#"sleep 0.1; trap 'echo stopped >&2; exit 1' TERM; echo '"ready"'; while :; do sleep 0.01; done"#;
        let error = start(script, 3, stop).run(None).expect_err("there is no report").to_string();
        assert!(error.contains("failed (exit status: 1): stopped"), "{error}");
    }

    #[test]
    fn a_step_that_generators_did_not_do_together_is_done_again() {
        // A report lasts for ten seconds: without a common time, and with half of it.
        for early in [1000.0, 1995.0] {
            let directory = tempfile::tempdir().expect("a directory");
            for (name, started) in [("early", early), ("late", 2000.0)] {
                let json = serde_json::to_string(&report(started, &[1])).expect("it can be written");
                std::fs::write(directory.path().join(name), json + "\n").expect("a file");
            }
            let script = format!(
                r#"cd {}; read share; read order
                case "$share" in *'"seed":1,'*) cat early;; *) cat late;; esac
                read order; cat late; read order"#,
                directory.path().display()
            );
            let mut processes = start(&script, 2, StopSignal::new().expect("a socket pair"));
            let report = processes.step(AT_100).expect("together the second time");
            assert_eq!((report.started, report.messages.sent), (2000.0, 2));
            assert!(!report.generator.bottleneck);
            processes.finish().expect("they end");
        }
    }

    #[test]
    fn each_step_has_orders_and_one_that_dies_in_a_later_one_is_named() {
        let script =
            r#"read share; read order; echo "$order" >&2; echo "{}"; read order; echo "$order" >&2; exit 4"#;
        let mut processes = start(script, 2, StopSignal::new().expect("a socket pair"));
        let error = processes.step(AT_100).expect_err("that is no report").to_string();
        assert!(error.contains("generator 1 is no report"), "{error}");
        let error = processes.step(StepPlan { rate: 200.0, ..AT_100 }).expect_err("they exit").to_string();
        assert!(error.contains("failed (exit status: 4)"), "{error}");
        assert!(error.contains("\"rate\":50.0,") && error.contains("\"rate\":100.0,"), "{error}");
    }
}
