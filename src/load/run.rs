//! The run as a whole: its parts, what happens at regular times, and its end.

use std::rc::Rc;
use std::time::Duration;

use super::clients::Clients;
use super::figures::Figures;
use super::pacer::FOREVER;
use super::plan::{Plan, Usage};
use super::progress::{Doing, Progress, Watcher};
use super::series::Point;
use super::slot::Slot;
use super::starvation::{HEARTBEAT, working_time};
use super::stream_clients::END_TIME;
use super::targets::{Ceiling, Targets};
use crate::reactor::{Context, Handler, Moment, Readiness, Timer, Token};

/// How often a watcher sees the progress.
const WATCH: Duration = Duration::from_millis(200);
/// The shortest and the longest time between two looks for timeouts.
const SWEEP: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Wakes the loop for the run as a whole, whose work is done at the end of each turn.
const RUN: Timer = Timer(0);

/// Messages that are sent and counted together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// How long messages flow before they count.
    pub(super) warmup: Duration,
    /// How long they count, if no number of messages ends it.
    pub(super) duration: Duration,
    pub(super) messages: Option<u64>,
}

impl Window {
    /// The window that the plan asks for.
    pub(super) fn of(plan: &Plan) -> Window {
        Window { warmup: plan.warmup, duration: plan.duration, messages: plan.messages }
    }
}

/// The part of the run that goes on; `mod.rs` lists the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Opening,
    /// Connections are open, and the time to begin has not come.
    Waiting,
    /// The reactor stands still until the next window or the end begins.
    Resting,
    WarmUp,
    Measuring,
    Draining,
    Closing,
}

/// The handler of the reactor: it hands events on to the clients, and takes the clients from one part of the run to
/// the next.
pub(super) struct Run {
    plan: Rc<Plan>,
    clients: Clients,
    watcher: Option<Box<dyn Watcher>>,
    part: Part,
    part_ends: Moment,
    window: Window,
    next_sweep: Moment,
    next_watch: Moment,
    /// The last interval that is over.
    latest: Option<Point>,
    /// Replies that had come when the measured part began.
    received_before: u64,
}

impl Handler for Run {
    type Source = Slot;

    fn ready(&mut self, context: &mut Context<Slot>, token: Token, readiness: Readiness) {
        if let Some(Slot::Stop(signal)) = context.get_mut(token) {
            if signal.received() > 0 {
                self.interrupt(context);
            }
        } else {
            self.clients.ready(context, token, readiness);
        }
    }

    fn resume(&mut self, context: &mut Context<Slot>, token: Token) {
        self.clients.resume(context, token);
    }

    fn deadline(&mut self, context: &mut Context<Slot>, token: Token) {
        self.clients.deadline(context, token);
    }

    fn turn_end(&mut self, context: &mut Context<Slot>) {
        self.conduct(context);
    }
}

impl Run {
    pub(super) fn new(plan: Plan, targets: Targets, ceiling: Ceiling) -> Run {
        let now = Moment::now();
        let plan = Rc::new(plan);
        let mut clients = Clients::new(Rc::clone(&plan), targets, ceiling, now);
        if plan.usage == Usage::Hold {
            clients.traffic().pacing.allow(u64::MAX, now + FOREVER);
        }
        Run {
            clients,
            watcher: None,
            part: Part::Opening,
            part_ends: now + FOREVER,
            window: Window::of(&plan),
            plan,
            next_sweep: now,
            next_watch: now,
            latest: None,
            received_before: 0,
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn figures(&mut self) -> &mut Figures {
        &mut self.clients.traffic().figures
    }

    #[cfg(test)]
    pub(super) fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    pub(super) fn watch(&mut self, watcher: Box<dyn Watcher>) {
        self.watcher = Some(watcher);
    }

    /// Lets all clients without a connection connect; the reactor stops when they have connected. A churn has nothing
    /// to open before its messages flow.
    pub(super) fn begin_opening(&mut self, context: &mut Context<Slot>) -> bool {
        context.set_timer(RUN, Moment::now());
        self.clients.reopen();
        let is_churn = self.plan.usage == Usage::Churn;
        self.part = if is_churn { Part::Resting } else { Part::Opening };
        !is_churn
    }

    /// Sets the rate of an open loop, from the next window on.
    pub(super) fn set_rate(&mut self, rate: f64) {
        self.clients.traffic().pacing.set_rate(rate);
    }

    /// Sends nothing before `until`; the reactor stops then.
    pub(super) fn begin_waiting(&mut self, context: &mut Context<Slot>, until: Moment) {
        self.part = Part::Waiting;
        self.part_ends = until;
        context.set_timer(RUN, Moment::now());
    }

    /// Begins a window: messages flow, and the reactor stops when the last of them is answered or given up.
    pub(super) fn begin_window(&mut self, context: &mut Context<Slot>, window: Window) {
        self.window = window;
        let is_hold = self.plan.usage == Usage::Hold;
        if !is_hold {
            self.clients.forget_messages(context);
        }
        if is_hold || window.warmup.is_zero() {
            self.figures().starvation.begin(Moment::now());
        }
        let now = Moment::now();
        context.set_timer(RUN, now);
        if is_hold {
            // The echoes of the first messages have come already. They count, but this window's time begins after
            // them.
            self.clients.start(context, now);
            return self.measure(context, now);
        }
        self.figures().from = now + FOREVER;
        self.clients.start(context, now);
        self.part = Part::WarmUp;
        self.part_ends = now + window.warmup;
        if window.warmup.is_zero() {
            self.measure(context, now);
        } else {
            self.clients.traffic().pacing.allow(u64::MAX, now + FOREVER);
        }
        self.clients.send_all(context);
    }

    /// Ends the connections. False: there is nothing to wait for.
    pub(super) fn begin_closing(&mut self, context: &mut Context<Slot>) -> bool {
        let now = Moment::now();
        context.set_timer(RUN, now);
        self.part = Part::Closing;
        self.part_ends = now + END_TIME;
        // With --reset the run awaits no ends, but one more turn reads the bytes that have come by now.
        let is_waiting = !self.figures().interrupted && (self.clients.end_all(context) || self.plan.reset);
        if self.plan.reset {
            self.part_ends = now;
        }
        is_waiting
    }

    /// The figures of the window, which is over. A message of the window that is answered before the next window
    /// counts nowhere.
    pub(super) fn end_step(&mut self, context: &mut Context<Slot>) -> Figures {
        let figures = self.figures().hand_over();
        self.clients.forget_messages(context);
        if let Some(watcher) = &mut self.watcher {
            watcher.pause();
        }
        figures
    }

    /// The figures of the run, which is over.
    pub(super) fn into_figures(mut self) -> (Plan, Figures) {
        let figures = self.figures().hand_over();
        ((*self.plan).clone(), figures)
    }

    /// Ends the run early.
    fn interrupt(&mut self, context: &mut Context<Slot>) {
        self.figures().interrupted = true;
        let now = Moment::now();
        if matches!(self.part, Part::WarmUp | Part::Measuring) {
            if self.part == Part::Measuring {
                self.end_window(now);
            }
            self.clients.wind_down(context, now);
        }
        self.rest(context);
    }

    /// Does everything that is due for the run as a whole. It runs after every turn, so it only looks at the clock
    /// that the turn has read already.
    fn conduct(&mut self, context: &mut Context<Slot>) {
        let now = context.now();
        if self.part == Part::Measuring {
            let is_idle = context.turn().events == 0 && context.turn().queued == 0;
            self.figures().starvation.turn(now, is_idle, working_time);
        }
        if self.connects_at().is_some_and(|at| at <= now) {
            self.clients.connect(context);
        }
        match self.part {
            Part::Opening => {
                let first_echoes = self.clients.traffic().pacing.in_flight() > 0;
                if self.clients.all_have_connected() && !first_echoes {
                    self.part = Part::Resting;
                    context.stop();
                }
            }
            Part::Waiting if now >= self.part_ends => {
                self.part = Part::Resting;
                context.stop();
            }
            // The clock is read anew: messages of this very turn have left after it began, and belong to the warm-up.
            Part::WarmUp if now >= self.part_ends => {
                self.figures().starvation.begin(now);
                self.measure(context, Moment::now());
                self.clients.send_all(context);
            }
            Part::WarmUp if self.clients.nobody_is_left() => self.end_measuring(context, false),
            Part::Measuring => {
                let pacing = &self.clients.traffic().pacing;
                let all_sent = pacing.budget() == 0 && pacing.in_flight() == 0;
                let over = all_sent || now >= self.part_ends;
                if over || self.clients.nobody_is_left() || self.is_in_vain(now) {
                    self.end_measuring(context, all_sent);
                }
            }
            Part::Draining if self.clients.traffic().pacing.in_flight() == 0 => self.rest(context),
            Part::Closing if self.clients.ending() == 0 || now >= self.part_ends => context.stop(),
            _ => {}
        }
        self.at_regular_times(context, now);
    }

    /// When the next client connects. In a churn no client connects before messages flow.
    fn connects_at(&self) -> Option<Moment> {
        let is_early = self.part == Part::Waiting && self.plan.usage == Usage::Churn;
        if is_early { None } else { self.clients.connects_at() }
    }

    fn at_regular_times(&mut self, context: &mut Context<Slot>, now: Moment) {
        if now >= self.next_sweep {
            let timeout = self.plan.timeout.min(self.plan.connect_timeout);
            self.next_sweep = now + (timeout / 10).clamp(SWEEP.0, SWEEP.1);
            self.clients.sweep(context, now);
        }
        let measuring = self.part == Part::Measuring;
        if measuring && now >= self.figures().interval_end() {
            let point = self.figures().end_interval(now);
            self.tell(point);
        }
        if self.watcher.is_some() && now >= self.next_watch {
            self.next_watch = now + WATCH;
            let progress = self.progress(now);
            if let Some(watcher) = &mut self.watcher {
                watcher.watch(&progress);
            }
        }
        let mut wake = self.part_ends.min(self.next_sweep);
        if measuring {
            wake = wake.min(self.figures().interval_end()).min(now + HEARTBEAT);
        }
        if self.watcher.is_some() {
            wake = wake.min(self.next_watch);
        }
        if let Some(at) = self.connects_at() {
            wake = wake.min(at);
        }
        if measuring {
            self.figures().starvation.wakes_at(wake.max(now));
        }
        context.set_timer(RUN, wake);
    }

    /// Begins the measured part at `now`, after the beginning of `starvation`.
    fn measure(&mut self, context: &mut Context<Slot>, now: Moment) {
        self.figures().begin(now);
        self.received_before = self.figures().messages.received;
        self.part = Part::Measuring;
        self.part_ends = now + if self.window.messages.is_some() { FOREVER } else { self.window.duration };
        if self.plan.usage != Usage::Hold {
            let budget = self.window.messages.unwrap_or(u64::MAX);
            self.clients.traffic().pacing.allow(budget, self.part_ends);
            self.clients.skip_backlog(context, now);
        }
        if self.plan.usage == Usage::Churn {
            let connecting = self.clients.connecting() as u64;
            self.figures().begin_churn(connecting);
        }
    }

    fn end_measuring(&mut self, context: &mut Context<Slot>, all_sent: bool) {
        let mut now = Moment::now();
        let traffic = self.clients.traffic();
        // Without a reply, the part ends when the last message is given up.
        if all_sent && traffic.figures.messages.received > 0 {
            now = traffic.figures.last_reply;
        } else if traffic.pacing.is_scheduled() {
            // We may have been woken late. Messages that were due by then, and have a free connection, leave now; and
            // the measured part is as long as its schedule.
            self.clients.send_all(context);
            now = now.min(self.part_ends);
        }
        self.end_window(now);
        let asked_for = if self.window.messages.is_none() { self.part_ends } else { now };
        self.clients.wind_down(context, asked_for);
        self.part = Part::Draining;
        self.part_ends = now + FOREVER;
        if self.plan.usage == Usage::Hold {
            self.clients.call_all(context, now);
        }
        let pacing = &mut self.clients.traffic().pacing;
        pacing.allow(0, now + FOREVER);
        if pacing.in_flight() == 0 {
            self.rest(context);
        }
    }

    fn end_window(&mut self, now: Moment) {
        let received_before = self.received_before;
        let figures = self.figures();
        if figures.ended.is_none() {
            figures.ended = Some((now, figures.messages.received - received_before));
            figures.starvation.end(now);
            let point = figures.end_interval(now);
            self.tell(point);
        }
    }

    /// Tells the watcher of an interval that is over.
    fn tell(&mut self, point: Option<Point>) {
        self.latest = point.or(self.latest);
        if let (Some(watcher), Some(point)) = (&mut self.watcher, point) {
            watcher.interval(&point, self.clients.traffic().figures.interval_latency());
        }
    }

    /// Ends the window; the reactor stands still.
    fn rest(&mut self, context: &mut Context<Slot>) {
        self.part = Part::Resting;
        let last = self.clients.settle(context);
        self.tell(last);
        context.stop();
    }

    /// Whether clients try in vain to send a number of messages: no time ends the run, so they would try for ever.
    fn is_in_vain(&mut self, now: Moment) -> bool {
        let patience = self.plan.connect_timeout.max(self.plan.timeout);
        let (is_churn, is_endless) = (self.plan.usage == Usage::Churn, self.window.messages.is_some());
        let traffic = self.clients.traffic();
        let nothing_moves = traffic.pacing.in_flight() == 0 && (is_churn || traffic.figures.open == 0);
        is_endless
            && nothing_moves
            && traffic.figures.failing_since().is_some_and(|since| since + patience <= now)
    }

    fn progress(&mut self, now: Moment) -> Progress {
        let (part, part_ends, window, latest) = (self.part, self.part_ends, self.window, self.latest);
        let traffic = self.clients.traffic();
        let figures = &traffic.figures;
        let seconds = now.since(figures.from).as_secs_f64();
        let is_measured = matches!(part, Part::Measuring | Part::Draining);
        let is_waiting = is_measured && (traffic.pacing.in_flight() > 0 || figures.open == 0);
        let stalled = if is_waiting { now.since(figures.last_reply) } else { Duration::ZERO };
        let done = match (part, window.messages) {
            (Part::Draining | Part::Closing, _) => 1.0,
            (Part::Measuring, Some(messages)) => figures.messages.received as f64 / messages as f64,
            (Part::Measuring, None) => {
                1.0 - part_ends.since(now).as_secs_f64() / window.duration.as_secs_f64().max(1e-9)
            }
            _ => 0.0,
        };
        let (rate, p99_us) = match latest {
            Some(point) => (point.rate, point.p99_us),
            // The first interval is not over.
            None if is_measured && seconds > 0.0 => {
                (figures.messages.received as f64 / seconds, figures.p99_us())
            }
            None => (0.0, None),
        };
        let (errors, open) = (figures.errors.total(), figures.open);
        Progress {
            doing: match part {
                Part::Opening | Part::Resting => Doing::Opening,
                Part::Waiting => Doing::Waiting,
                Part::WarmUp => Doing::WarmingUp,
                Part::Measuring if self.plan.usage == Usage::Hold => Doing::Holding,
                Part::Measuring => Doing::Measuring,
                Part::Draining | Part::Closing => Doing::Draining,
            },
            done: done.clamp(0.0, 1.0),
            rate,
            p99_us,
            stalled,
            errors,
            open,
            clients: self.plan.clients as u64,
        }
    }
}
