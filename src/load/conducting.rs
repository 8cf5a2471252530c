//! The run as a whole: its parts, what happens at regular times, and its end.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::plan::{Pace, Usage};
use super::schedule::Schedule;
use super::shared::Pacing;
use super::{Source, State};
use crate::reactor::{Context, Moment, Timer};

/// How often a watcher is told.
const WATCH: Duration = Duration::from_millis(200);
/// How often it is looked for timeouts at most and at least.
const SWEEP: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Wakes the loop for the run as a whole, whose work is done at the end of each turn.
const RUN: Timer = Timer(0);
/// "Not before something else happens."
pub(super) const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Is told how a run goes on.
pub trait Watcher {
    /// How it stands now.
    fn watch(&mut self, progress: &Progress);
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What it is doing.
    pub doing: &'static str,
    /// How much of the measured part is done, from 0 to 1.
    pub done: f64,
    /// Replies a second, over the whole measured part.
    pub rate: f64,
    /// The 99th percentile of latency in microseconds.
    pub p99_us: f64,
    /// Connections that failed.
    pub errors: u64,
    /// Connections that are open.
    pub open: u64,
    /// Connections that are asked for.
    pub clients: u64,
}

/// Where in the run we are; the list is in `mod.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Idle,
    Opening,
    WarmUp,
    Measuring,
    Draining,
    Over,
}

/// The clock of a run.
pub(super) struct Conductor {
    part: Part,
    /// When the run began, and when the current part is to end.
    pub(super) started: Moment,
    part_ends: Moment,
    next_sweep: Moment,
    next_watch: Moment,
    /// Stop when all connections are open.
    pub(super) only_open: bool,
    /// Run only messages that were asked for by `exchange`.
    exchanging: bool,
    /// What had been received when the measured part began.
    received_before: u64,
    /// CPU time at the beginning of the measured part.
    cpu_before: Duration,
    pub(super) watcher: Option<Box<dyn Watcher>>,
}

impl Conductor {
    pub(super) fn new(now: Moment) -> Conductor {
        Conductor {
            part: Part::Idle,
            started: now,
            part_ends: now + FOREVER,
            next_sweep: now,
            next_watch: now,
            only_open: false,
            exchanging: false,
            received_before: 0,
            cpu_before: Duration::ZERO,
            watcher: None,
        }
    }

    /// Nothing new is sent any more.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.part, Part::Draining | Part::Over)
    }
}

impl State {
    /// The loop is about to run.
    pub(super) fn begin(&mut self, context: &mut Context<Source>) {
        let now = Moment::now();
        if self.conductor.part == Part::Idle {
            self.conductor.started = now;
            self.conductor.part = Part::Opening;
            if self.plan.usage == Usage::Churn {
                // There is nothing to be opened before.
                self.start(context, now);
            } else if self.plan.usage == Usage::Hold {
                self.run.budget = u64::MAX;
            }
        } else if !self.conductor.exchanging && self.conductor.part == Part::Opening {
            self.start(context, now);
        }
        // The loop only sleeps once there is a deadline.
        context.set_timer(RUN, now);
    }

    /// So many messages are to be exchanged over what is open.
    pub(super) fn begin_exchange(&mut self, context: &mut Context<Source>, messages: u64) {
        let now = Moment::now();
        self.conductor.exchanging = true;
        self.conductor.part = Part::Measuring;
        self.conductor.part_ends = now + FOREVER;
        self.run.figures.begin(now);
        self.run.budget = messages;
        self.send_all(context);
    }

    /// From here on the plan is carried out; what was exchanged before is not part of it.
    pub(super) fn end_exchanges(&mut self, context: &mut Context<Source>) {
        self.conductor.only_open = false;
        if std::mem::take(&mut self.conductor.exchanging) {
            self.conductor.part = Part::Opening;
            self.run.figures.forget_messages();
            for token in self.clients(context) {
                match context.get_mut(token) {
                    Some(Source::Client(client)) => client.session.completed = 0,
                    // An answer to what was lost before may still come.
                    Some(Source::Datagrams(client)) => client.forget_messages(),
                    Some(Source::Stop(_)) | None => {}
                }
            }
        }
    }

    /// Ends the run early.
    pub(super) fn interrupt(&mut self, context: &mut Context<Source>) {
        self.run.figures.interrupted = true;
        self.end_window(Moment::now());
        self.finish(context);
    }

    /// Does what is due for the run as a whole. It is asked after every turn, so it only looks at the clock that the
    /// turn has read already.
    pub(super) fn conduct(&mut self, context: &mut Context<Source>) {
        let now = context.now();
        if !self.fresh.is_empty() || !self.waiting.is_empty() {
            self.ramp_up(context);
        }
        match self.conductor.part {
            Part::Opening => {
                let first_echoes = self.plan.usage == Usage::Hold && self.run.in_flight > 0;
                if self.all_have_connected() && !first_echoes {
                    if self.conductor.only_open {
                        context.stop();
                    } else {
                        self.start(context, now);
                    }
                }
            }
            // Read anew: messages of this very turn have left after it began, and belong to the warm-up.
            Part::WarmUp if now >= self.conductor.part_ends => self.measure(Moment::now()),
            Part::Measuring => {
                let all_sent = self.run.budget == 0 && self.run.in_flight == 0;
                let over = all_sent || now >= self.conductor.part_ends;
                if over || self.nobody_is_left() || self.is_in_vain(now) {
                    self.end_measuring(context, all_sent);
                }
            }
            Part::Draining if self.run.in_flight == 0 => self.finish(context),
            _ => {}
        }
        if self.nobody_is_left() && matches!(self.conductor.part, Part::WarmUp) {
            self.end_measuring(context, false);
        }
        self.at_regular_times(context, now);
    }

    fn at_regular_times(&mut self, context: &mut Context<Source>, now: Moment) {
        if now >= self.conductor.next_sweep {
            let timeout = self.plan.timeout.min(self.plan.connect_timeout);
            self.conductor.next_sweep = now + (timeout / 10).clamp(SWEEP.0, SWEEP.1);
            self.sweep(context, now);
        }
        let measuring = self.conductor.part == Part::Measuring;
        if measuring && now >= self.run.figures.interval_end() {
            self.run.figures.end_interval(now);
        }
        if self.conductor.watcher.is_some() && now >= self.conductor.next_watch {
            self.conductor.next_watch = now + WATCH;
            let progress = self.progress(now);
            if let Some(watcher) = &mut self.conductor.watcher {
                watcher.watch(&progress);
            }
        }
        let mut wake = self.conductor.part_ends.min(self.conductor.next_sweep);
        if measuring {
            wake = wake.min(self.run.figures.interval_end());
        }
        if self.conductor.watcher.is_some() {
            wake = wake.min(self.conductor.next_watch);
        }
        if let Some(at) = self.next_connect() {
            wake = wake.min(at);
        }
        context.set_timer(RUN, wake);
    }

    /// Messages begin to flow.
    fn start(&mut self, context: &mut Context<Source>, now: Moment) {
        if self.plan.usage == Usage::Hold {
            self.measure(now);
            return;
        }
        self.run.budget = u64::MAX;
        self.run.figures.from = now + FOREVER;
        if let Pace::Open { rate, arrivals } = self.plan.pace {
            // By the time of the first deadline everyone should be ready.
            self.run.pacing = Pacing::Scheduled(Schedule::new(now, self.plan.clients, rate, arrivals));
        }
        self.conductor.part = Part::WarmUp;
        self.conductor.part_ends = now + self.plan.warmup;
        if self.plan.warmup.is_zero() {
            self.measure(now);
        }
        if self.plan.usage == Usage::Churn {
            self.queue_churn(now);
        } else {
            self.schedule_all(context);
            self.send_all(context);
        }
    }

    fn measure(&mut self, now: Moment) {
        // In hold there are the first echoes already. They are counted, but not in this time.
        self.run.figures.begin(now);
        self.conductor.received_before = self.run.figures.received;
        if self.plan.usage != Usage::Hold {
            self.run.budget = self.plan.messages.unwrap_or(u64::MAX);
        }
        if self.run.churn {
            self.run.figures.begin_churn(self.ramp.under_way() as u64);
        }
        self.conductor.part = Part::Measuring;
        let duration = if self.plan.messages.is_some() { FOREVER } else { self.plan.duration };
        self.conductor.part_ends = now + duration;
        self.run.due_until = self.conductor.part_ends;
        self.conductor.cpu_before = cpu_time();
    }

    fn end_measuring(&mut self, context: &mut Context<Source>, all_sent: bool) {
        if self.conductor.exchanging {
            context.stop();
            return;
        }
        let mut now = Moment::now();
        // Without a reply, it took until the last message was given up.
        if all_sent && self.run.figures.received > 0 {
            now = self.run.figures.last_reply;
        } else if let Pacing::Scheduled(_) = self.run.pacing {
            // We may have been woken late. What was due by then, and has a free connection, leaves now; and the
            // measured part is as long as its schedule.
            self.send_all(context);
            now = now.min(self.conductor.part_ends);
        }
        self.end_window(now);
        self.count_owed(context, now);
        self.fresh = 0..0;
        self.forget_waiting();
        self.conductor.part = Part::Draining;
        self.conductor.part_ends = now + FOREVER;
        if self.plan.usage == Usage::Hold {
            self.call_all(context);
        }
        self.run.budget = 0;
        if self.run.in_flight == 0 {
            self.finish(context);
        }
    }

    fn end_window(&mut self, now: Moment) {
        let figures = &mut self.run.figures;
        if figures.ended.is_none() {
            figures.ended = Some((now, figures.received - self.conductor.received_before));
            figures.cpu_time = cpu_time().saturating_sub(self.conductor.cpu_before);
            if self.conductor.part == Part::Measuring {
                figures.end_interval(now);
            }
        }
    }

    /// What was due and could not be sent would be missing from the figures.
    fn count_owed(&mut self, context: &Context<Source>, end: Moment) {
        let Pacing::Scheduled(schedule) = self.run.pacing else { return };
        if self.plan.messages.is_some() {
            return;
        }
        let from = self.run.figures.from;
        let on_sockets = context.tokens().filter_map(|token| match context.get(token)? {
            Source::Client(client) => client.session.turn.as_ref(),
            Source::Datagrams(client) => client.turn(),
            Source::Stop(_) => None,
        });
        // In churn, a client without a connection is behind, too.
        let turns = on_sockets.chain(self.waiting_turns());
        let owed = turns.map(|turn| schedule.owed(turn, from, end)).sum::<u64>();
        self.run.figures.not_sent += owed;
    }

    fn finish(&mut self, context: &mut Context<Source>) {
        self.conductor.part = Part::Over;
        self.forget_waiting();
        for token in self.clients(context) {
            if matches!(context.get(token), Some(Source::Client(client)) if client.session.fault.is_some()) {
                // No more evidence is waited for.
                self.mismatch(context, token);
            }
        }
        self.run.figures.settle();
        for token in context.tokens() {
            if let Some(Source::Datagrams(client)) = context.get(token) {
                self.run.figures.fairness.add(client.completed());
            }
            // In churn, a client that is connecting just now has had messages before.
            if let Some(Source::Client(client)) = context.get(token)
                && (self.run.churn || !client.session.connecting)
            {
                self.run.figures.fairness.add(client.session.completed);
            }
        }
        context.stop();
    }

    fn nobody_is_left(&self) -> bool {
        self.run.figures.open == 0 && self.all_have_connected()
    }

    /// Nobody takes the messages that are to be sent: a churn would try for ever, as no time ends it.
    fn is_in_vain(&self, now: Moment) -> bool {
        let patience = self.plan.connect_timeout.max(self.plan.timeout);
        let is_endless = self.run.churn && self.plan.messages.is_some() && self.run.in_flight == 0;
        is_endless && self.run.figures.failing_since().is_some_and(|since| since + patience <= now)
    }

    fn progress(&self, now: Moment) -> Progress {
        let figures = &self.run.figures;
        let seconds = now.since(figures.from).as_secs_f64();
        let measured = matches!(self.conductor.part, Part::Measuring | Part::Draining);
        let done = match (self.conductor.part, self.plan.messages) {
            (Part::Draining | Part::Over, _) => 1.0,
            (Part::Measuring, Some(messages)) => figures.received as f64 / messages as f64,
            (Part::Measuring, None) => {
                let left = self.conductor.part_ends.since(now).as_secs_f64();
                1.0 - left / self.plan.duration.as_secs_f64().max(1e-9)
            }
            _ => 0.0,
        };
        Progress {
            doing: match self.conductor.part {
                Part::Idle | Part::Opening => "opening",
                Part::WarmUp => "warming up",
                Part::Measuring if self.plan.usage == Usage::Hold => "holding",
                Part::Measuring => "measuring",
                Part::Draining | Part::Over => "draining",
            },
            done: done.clamp(0.0, 1.0),
            rate: if measured && seconds > 0.0 { figures.received as f64 / seconds } else { 0.0 },
            p99_us: figures.p99_us(),
            errors: figures.errors.total(),
            open: figures.open,
            clients: self.plan.clients as u64,
        }
    }
}

/// The CPU time that this process has taken.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
