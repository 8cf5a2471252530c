//! A connection on a scripted kernel, and the law that it must obey.

use std::time::Duration;

use super::kernel::Kernel;
use super::services::{Answers, Expected, Recorded};
use super::watcher::Watcher;
use super::*;

pub(super) const LIMITS: Limits = Limits { read_size: 64, write_limit: 64, turn_budget: 256 };
pub(super) const TIMEOUTS: Timeouts = Timeouts {
    idle: Some(Duration::from_secs(60)),
    write: Some(Duration::from_secs(30)),
    linger: Duration::from_secs(10),
};

/// A step of a schedule. Steps come in random order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// Bytes arrive.
    Deliver(usize),
    /// Urgent data arrives on TCP, or a passed descriptor on a Unix socket. A read ends early there.
    Boundary,
    /// The peer takes bytes.
    Room(usize),
    /// A signal interrupts the next read and the next write.
    Interrupt,
    /// An event comes without a reason.
    Spurious,
    /// The loop polls: it notes events and pumps the connection.
    Poll,
    /// The run queue gives the connection its share, if it waits there.
    Resume,
    /// The server stops.
    Stop,
    /// The peer ends its input.
    EndOfInput,
    /// The peer resets the connection.
    Reset,
}

/// A connection on a scripted kernel, with the law checked after every pump.
pub(super) struct Run {
    pub(super) connection: Connection<Kernel>,
    pub(super) service: Recorded,
    watcher: Watcher,
    expected: Expected,
    checked: usize,
    pub(super) workspace: Workspace,
    buffers: usize,
    pub(super) now: Moment,
    pub(super) queued: bool,
    pub(super) end: Option<End>,
    arrived_at_stop: Option<u64>,
}

impl Run {
    pub(super) fn new(is_tcp: bool, limits: Limits, chunk: usize, answers: Answers) -> Run {
        Run::with_buffers(is_tcp, limits, usize::MAX, chunk, answers)
    }

    pub(super) fn with_pipes(mut self, pipes: usize) -> Run {
        self.workspace.allow_splicing(pipes);
        self
    }

    pub(super) fn with_buffers(
        is_tcp: bool,
        limits: Limits,
        buffers: usize,
        chunk: usize,
        answers: Answers,
    ) -> Run {
        let now = Moment::now();
        let service = Recorded::new(chunk, answers);
        let mut workspace = Workspace::new(limits);
        workspace.keep_journal(true);
        workspace.set_buffer_limit(buffers);
        let mut run = Run {
            connection: Connection::new(Kernel::new(is_tcp), now),
            expected: Expected::new(service.greeting()),
            checked: 0,
            service,
            watcher: Watcher::default(),
            workspace,
            buffers,
            now,
            queued: false,
            end: None,
            arrived_at_stop: None,
        };
        let greeting = run.service.greeting().to_vec();
        run.connection.send(&greeting, &mut run.workspace, now).expect("nothing has happened yet");
        run
    }

    pub(super) fn perform(&mut self, steps: impl IntoIterator<Item = Event>) {
        steps.into_iter().for_each(|step| self.perform_one(step));
    }

    /// Performs these steps, and then turns the loop until the connection waits.
    pub(super) fn settle(&mut self, steps: impl IntoIterator<Item = Event>) {
        self.perform(steps);
        self.perform_one(Event::Poll);
        while self.queued {
            self.perform_one(Event::Resume);
        }
    }

    pub(super) fn kernel(&mut self) -> &mut Kernel {
        self.connection.flow.wire.transport_mut()
    }

    /// The bytes that have reached the peer.
    pub(super) fn output(&self) -> &[u8] {
        &self.connection.transport().output
    }

    fn perform_one(&mut self, step: Event) {
        let kernel = self.kernel();
        match step {
            Event::Deliver(count) => kernel.deliver(count),
            Event::Boundary => kernel.boundary(),
            Event::Room(count) => kernel.make_room(count),
            Event::Interrupt => kernel.interrupt(),
            Event::Spurious => kernel.spurious(),
            Event::EndOfInput => kernel.end_input(),
            Event::Reset => kernel.reset(),
            Event::Poll => self.poll(),
            Event::Resume if self.queued => self.pump(),
            Event::Resume => {}
            Event::Stop if self.end.is_none() => {
                let arrived = self.connection.transport().queued() as u64 + self.connection.received();
                self.connection.stop(&mut self.workspace).expect("FIONREAD works here");
                self.arrived_at_stop = Some(arrived);
                self.queued = true;
            }
            Event::Stop => {}
        }
    }

    fn poll(&mut self) {
        if let Some(readiness) = self.kernel().take_event()
            && self.end.is_none()
        {
            self.connection.note(readiness);
            self.pump();
        }
    }

    pub(super) fn pump(&mut self) {
        let calls = self.connection.transport().idle_calls;
        let next = self.connection.pump(&mut self.service, &mut self.workspace, self.now);
        self.watcher.follow(self.workspace.take_journal());
        self.watcher.check(&self.connection, self.workspace.traffic());
        // Calls that move nothing would show a spin. One is fine in each direction, and one retry of each after an
        // interruption.
        let idle_calls = self.connection.transport().idle_calls - calls;
        assert!(idle_calls <= 4, "{idle_calls} calls that moved nothing in one pump");
        if let Some(interest) = self.connection.new_interest() {
            self.kernel().watch(interest.is_writable());
        }
        match next {
            Next::Wait => self.queued = false,
            Next::Again => self.queued = true,
            Next::Close(end) => {
                self.queued = false;
                self.end = Some(end);
            }
        }
        self.check_bytes();
        self.check_bounds();
        self.check_progress();
    }

    /// The sent and the unsent bytes are the answer to the input that the service got: no byte is lost, doubled or out
    /// of order.
    fn check_bytes(&mut self) {
        let connection = &self.connection;
        let consumed = connection.received() - connection.discarded() - connection.retained() as u64;
        if !self.service.ended() {
            self.expected.extend(&self.service, &connection.transport().reads, consumed);
        } else if self.checked == 0 {
            let first = connection.transport().reads[0].min(self.service.chunk());
            self.expected.extend(&self.service, &connection.transport().reads, first as u64);
        }
        let (answer, output) = (self.expected.answer(), &connection.transport().output);
        assert_eq!(output.len() as u64, connection.sent());
        assert_eq!(output.len() + connection.unsent(), answer.len(), "bytes were lost or doubled");
        assert_eq!(output[self.checked..], answer[self.checked..output.len()], "not a prefix of the answer");
        self.checked = output.len();
        if let Some(arrived) = self.arrived_at_stop
            && matches!(self.end, Some(End::Lingered))
            && !self.service.ended()
        {
            assert!(consumed >= arrived, "what had arrived before the stop was not answered");
        }
    }

    fn check_bounds(&self) {
        let limits = self.workspace.desk.limits;
        let largest_answer = self.service.largest_answer(limits.read_size);
        assert!(self.connection.retained() <= limits.read_size);
        let copied = self.connection.unsent() - self.connection.flow.held().piped();
        assert!(copied < limits.write_limit + largest_answer + self.service.greeting().len());
        assert!(self.connection.flow.held().piped() <= 1 << 20 && self.workspace.pipes_in_use() <= 1);
        assert_eq!(
            self.connection.flow.held().owns_memory(),
            self.connection.unsent() + self.connection.retained() > 0,
            "buffers exist exactly while they hold bytes"
        );
        if self.workspace.desk.pool.exhausted && self.service.is_echo() && self.service.greeting().is_empty()
        {
            let owned = self.workspace.buffer_bytes().in_use;
            assert!(owned == 0 || self.buffers > 0, "{owned} bytes of buffers without memory for any");
        }
    }

    /// The connection is queued if and only if it can make progress. This states the rule a second time, apart from the
    /// code of the connection.
    fn check_progress(&self) {
        if self.end.is_some() {
            return;
        }
        let connection = &self.connection;
        let (unsent, retained) = (connection.unsent(), connection.retained());
        let exhausted = self.workspace.desk.pool.exhausted;
        let finds_place = unsent == 0 || !exhausted;
        let takes_more = !connection.is_paused() && retained == 0 && finds_place;
        let reads_more = match connection.phase {
            Phase::Open | Phase::HalfClosing | Phase::HalfClosed => takes_more,
            Phase::Stopping { quota } => quota > 0 && takes_more,
            Phase::Lingering => true,
            Phase::Connecting | Phase::Draining | Phase::Ended => false,
        };
        let is_over = unsent + retained == 0
            && match connection.phase {
                Phase::Draining => true,
                Phase::Stopping { quota } => quota == 0 || !connection.is_readable(),
                _ => false,
            };
        let progress = (connection.is_writable() && unsent > 0)
            || (retained > 0 && unsent < if exhausted { 1 } else { self.workspace.desk.limits.write_limit })
            || (connection.is_readable() && reads_more)
            || is_over;
        assert_eq!(self.queued, progress, "queued is not the same as able to make progress: {connection:?}");

        // The state of the kernel agrees: a connection that waits has either an event coming, or nothing to do.
        let kernel = connection.transport();
        if !self.queued && !kernel.has_event() {
            let waits_for_room = unsent > 0 || connection.is_paused();
            assert!(!waits_for_room || !kernel.has_room(), "stalled with room to write");
            assert!(!reads_more || !kernel.has_input(), "stalled with input to read");
        }
    }

    /// From here on the peer does all that it can, so the connection has to come to its end.
    pub(super) fn play_out(&mut self) {
        // Enough turns even for a byte a turn.
        let turns = 10 * (self.connection.transport().queued() + self.connection.retained()) + 100_000;
        for _ in 0..turns {
            if self.end.is_some() {
                return;
            }
            self.kernel().make_room(100_000);
            self.kernel().end_input();
            if self.queued {
                self.pump();
            } else {
                assert!(self.connection.transport().has_event(), "waits for an event that never comes");
                self.poll();
            }
        }
        panic!("never ends: {:?}", self.connection);
    }
}

pub(super) fn run(answers: Answers) -> Run {
    Run::new(true, LIMITS, 16, answers)
}

pub(super) fn phase(run: &Run) -> Phase {
    run.connection.phase()
}

/// A peer that has stopped taking, so that something is unsent.
pub(super) fn stalled(answers: Answers) -> Run {
    let mut run = run(answers);
    run.settle([Event::Deliver(1200)]);
    assert!(run.connection.unsent() > 0);
    run
}

/// An event and a pump, without the checks of the law: these connections send bytes that answer nothing.
pub(super) fn turn(run: &mut Run) -> Next {
    if let Some(readiness) = run.kernel().take_event() {
        run.connection.note(readiness);
    }
    run.connection.pump(&mut run.service, &mut run.workspace, run.now)
}
