//! The load generator as others use it: a whole run with its report, or window after window over open connections.

use std::time::{Duration, SystemTime};

use super::error::LoadError;
use super::plan::{Pace, Plan};
use super::progress::Watcher;
use super::report::{Report, conclude};
use super::run::{Run, Window};
use super::slot::Slot;
use super::step::StepPlan;
use super::targets::{Ceiling, Targets};
use crate::reactor::{Interest, Moment, Reactor, Stage};
use crate::system::StopSignal;

/// A load generator with its connections.
///
/// For a whole run with its report, [`Load::run`]. For benchmarks, [`Load::open`] and then [`Load::exchange`] any
/// number of times:
///
/// ```
/// use echoloop::load::{Load, Plan};
/// use echoloop::{Server, ServerOptions, StopSignal};
///
/// let stop = StopSignal::new()?;
/// let handle = stop.handle()?;
/// let server = Server::bind(&["127.0.0.1:0".parse()?], ServerOptions::default(), stop)?;
/// let endpoint = server.endpoints()[0].parse()?;
/// let server = std::thread::spawn(move || server.run());
///
/// let mut load = Load::new(Plan { clients: 4, ..Plan::new(vec![endpoint]) }, StopSignal::new()?)?;
/// load.open()?;
/// let first = load.exchange(1000)?;
/// let second = load.exchange(1000)?;
/// assert!(!first.is_zero() && !second.is_zero());
/// drop(load);
///
/// handle.stop();
/// assert_eq!(server.join().expect("no panic")?.served, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Load {
    pub(super) reactor: Reactor<Slot>,
    pub(super) run: Run,
    ceiling: Ceiling,
    is_open: bool,
    start: Option<Moment>,
}

impl Load {
    /// Resolves the endpoints and checks that the plan can be carried out. A request from `stop` ends the run early.
    ///
    /// # Errors
    /// When settings exclude each other, a name does not resolve, or there are not enough ports or descriptors.
    pub fn new(plan: Plan, stop: StopSignal) -> Result<Load, LoadError> {
        plan.check()?;
        let targets = Targets::resolve(&plan)?;
        let ceiling = Ceiling::of(&plan, &targets);
        ceiling.check(plan.clients)?;

        let mut reactor = Reactor::new()?;
        reactor.set_prompt_deadlines(matches!(plan.pace, Pace::Open { .. }));
        // Reserve all slots at once: a growing table would leave its old allocations behind.
        reactor.context().reserve(plan.clients + 1)?;
        reactor.context().insert(Slot::Stop(stop), Interest::READABLE, Stage::Signals)?;
        let run = Run::new(plan, targets, ceiling);
        Ok(Load { reactor, run, ceiling, is_open: false, start: None })
    }

    /// Checks that several processes of this machine can carry out the plan together: the endpoints resolve, and ports
    /// suffice for the connections of all processes. (Each process has descriptors of its own.)
    ///
    /// # Errors
    /// As [`Load::new`].
    pub fn check(plan: &Plan) -> Result<(), LoadError> {
        plan.check()?;
        let targets = Targets::resolve(plan)?;
        Ceiling::of(plan, &targets).check_ports(plan.clients)
    }

    /// A warning about an obstacle that the plan may meet.
    pub fn warning(&self) -> Option<String> {
        self.ceiling.warning(self.run.plan())
    }

    /// The number of connections that are possible at once: ports × sources × targets, or descriptors if these are
    /// fewer.
    pub fn ceiling(&self) -> u64 {
        self.ceiling.connections()
    }

    /// Calls this watcher several times a second, with the progress of the run.
    pub fn watch(&mut self, watcher: Box<dyn Watcher>) {
        self.run.watch(watcher);
    }

    /// Lets messages flow from this time on, by the machine's clock. Otherwise they flow as soon as all connections
    /// are open.
    pub fn start_at(&mut self, time: SystemTime) {
        self.start = time.duration_since(SystemTime::now()).ok().map(|left| Moment::now() + left);
    }

    /// Sets the length of the intervals of the series; a second by default.
    pub fn set_interval(&mut self, length: Duration) {
        self.run.figures().interval = length;
    }

    /// Opens all connections of the plan.
    ///
    /// # Errors
    /// When not all of them could be opened, or the plan is not a closed loop over connections that are kept.
    pub fn open(&mut self) -> Result<(), LoadError> {
        self.run.plan().check_exchange()?;
        self.connect()?;
        self.complete()
    }

    /// Sends this many messages over all open connections, in a closed loop, waits for all replies, and returns the
    /// time from the first message to the last reply.
    ///
    /// # Errors
    /// When a connection failed, a reply had other bytes than its message, a datagram had no answer in time, or the plan
    /// is not a closed loop over connections that are kept.
    pub fn exchange(&mut self, messages: u64) -> Result<Duration, LoadError> {
        self.run.plan().check_exchange()?;
        self.connect()?;
        let window = Window { warmup: Duration::ZERO, duration: Duration::ZERO, messages: Some(messages) };
        self.measure(window)?;
        self.complete()?;
        let figures = self.run.figures();
        Ok(figures.last_reply.since(figures.from))
    }

    /// Carries out the plan, over the open connections if there are any.
    ///
    /// # Errors
    /// When the loop itself fails. The report tells what happened to connections.
    pub fn run(mut self) -> Result<Report, LoadError> {
        self.connect()?;
        self.wait_and_measure(Window::of(self.run.plan()))?;
        if self.run.begin_closing(self.reactor.context()) {
            self.reactor.run(&mut self.run)?;
        }
        let (plan, figures) = self.run.into_figures();
        Ok(conclude(plan, figures))
    }

    /// Carries out a step of a search, over connections that stay open for the next step. First, clients that lost
    /// their connections for good get new ones. After an interrupt it does nothing more.
    ///
    /// # Errors
    /// When the plan is no open loop, the rate is no rate, or the loop itself fails.
    pub fn step(&mut self, step: StepPlan) -> Result<Report, LoadError> {
        let plan = Plan { duration: step.duration, ..self.run.plan().at_rate(step.rate)? };
        self.run.set_rate(step.rate);
        self.is_open = false;
        self.connect()?;
        self.wait_and_measure(Window::of(&plan))?;
        let figures = self.run.end_step(self.reactor.context());
        Ok(conclude(plan, figures))
    }

    /// Waits for the start time, if one is set, and measures the window.
    fn wait_and_measure(&mut self, window: Window) -> Result<(), LoadError> {
        if let Some(start) = self.start.take().filter(|_| !self.run.figures().interrupted) {
            self.run.begin_waiting(self.reactor.context(), start);
            self.reactor.run(&mut self.run)?;
        }
        if !self.run.figures().interrupted {
            self.measure(window)?;
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), LoadError> {
        if !std::mem::replace(&mut self.is_open, true) && self.run.begin_opening(self.reactor.context()) {
            self.reactor.run(&mut self.run)?;
        }
        Ok(())
    }

    fn measure(&mut self, window: Window) -> Result<(), LoadError> {
        self.run.begin_window(self.reactor.context(), window);
        Ok(self.reactor.run(&mut self.run)?)
    }

    fn complete(&mut self) -> Result<(), LoadError> {
        let clients = self.run.plan().clients;
        let figures = self.run.figures();
        let all_open = figures.errors.total() == 0 && figures.open == clients as u64;
        let missing = figures.datagrams.lost + figures.datagrams.late;
        if all_open && !figures.interrupted {
            return if missing == 0 { Ok(()) } else { Err(LoadError::Lost(missing)) };
        }
        Err(LoadError::Connections {
            failed: figures.errors.total(),
            asked: clients,
            first: figures.failures.first().cloned().unwrap_or_else(|| "it was interrupted".into()),
        })
    }
}
