//! The connection against a scripted socket: a model of what a kernel may do, driven by random schedules.

mod arrows;
mod kernel;
mod services;
mod watcher;

use std::io::ErrorKind;

use proptest::prelude::*;

use self::kernel::Kernel;
use self::services::{Answers, Expected, Recorded};
use self::watcher::Watcher;
use super::*;
use crate::net::Limits;
use crate::net::ring::SMALLEST;

/// One thing that happens, in an order that nobody chose.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Bytes arrive.
    Deliver(usize),
    /// Something arrives at which a read ends early: urgent data on TCP, a passed descriptor on a Unix socket.
    Boundary,
    /// The peer takes bytes.
    Room(usize),
    /// The next reads, or writes, are interrupted by a signal.
    Interrupt,
    /// An event comes for which there is no reason.
    Spurious,
    /// The loop polls: events are noted and the connection is pumped.
    Poll,
    /// The run queue gives the connection its turn, if it is in it.
    Resume,
    /// The server stops.
    Stop,
    /// The peer ends its input.
    EndOfInput,
    /// The peer resets the connection.
    Reset,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1..400_usize).prop_map(Event::Deliver),
        1 => (1..80_000_usize).prop_map(Event::Deliver),
        2 => Just(Event::Boundary),
        8 => (1..400_usize).prop_map(Event::Room),
        1 => (1..200_000_usize).prop_map(Event::Room),
        2 => Just(Event::Interrupt),
        2 => Just(Event::Spurious),
        12 => Just(Event::Poll),
        6 => Just(Event::Resume),
    ]
}

/// At most one of these ends a schedule before the peer is heard to the end.
fn ending() -> impl Strategy<Value = Option<Event>> {
    prop_oneof![
        4 => Just(None),
        2 => Just(Some(Event::Stop)),
        2 => Just(Some(Event::EndOfInput)),
        1 => Just(Some(Event::Reset)),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let small = (1..300_usize, 1..300_usize, 1..600_usize);
    let real = (Just(64 * 1024), prop_oneof![Just(64 * 1024), 1..200_000_usize], Just(256 * 1024));
    prop_oneof![6 => small, 1 => real].prop_map(|(read_size, write_limit, turn_budget)| Limits {
        read_size,
        write_limit,
        turn_budget,
    })
}

fn chunk() -> impl Strategy<Value = usize> {
    prop_oneof![Just(16), 1..100_usize, 1..=70_000_usize, Just(usize::MAX)]
}

/// A connection on a scripted kernel, with the law checked after every pump.
struct Run {
    connection: Connection<Kernel>,
    service: Recorded,
    watcher: Watcher,
    expected: Expected,
    checked: usize,
    workspace: Workspace,
    buffers: usize,
    now: Moment,
    queued: bool,
    end: Option<End>,
    arrived_at_stop: Option<u64>,
}

impl Run {
    fn new(is_tcp: bool, limits: Limits, chunk: usize, answers: Answers) -> Run {
        Run::with_buffers(is_tcp, limits, usize::MAX, chunk, answers)
    }

    fn with_pipes(mut self, pipes: usize) -> Run {
        self.workspace.allow_splicing(pipes);
        self
    }

    fn with_buffers(is_tcp: bool, limits: Limits, buffers: usize, chunk: usize, answers: Answers) -> Run {
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

    fn perform(&mut self, step: Event) {
        let kernel = self.connection.flow.wire.transport_mut();
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
        if let Some(readiness) = self.connection.flow.wire.transport_mut().take_event()
            && self.end.is_none()
        {
            self.connection.note(readiness);
            self.pump();
        }
    }

    fn pump(&mut self) {
        let calls = self.connection.transport().idle_calls();
        let next = self.connection.pump(&mut self.service, &mut self.workspace, self.now);
        self.watcher.follow(self.workspace.take_journal());
        self.watcher.check(&self.connection, self.workspace.traffic());
        // Spinning would show as calls that move nothing: at most one in each direction a pump, and the retries
        // after an interruption.
        let idle_calls = self.connection.transport().idle_calls() - calls;
        assert!(idle_calls <= 4, "{idle_calls} calls that moved nothing in one pump");
        if let Some(interest) = self.connection.new_interest() {
            self.connection.flow.wire.transport_mut().watch(interest.is_writable());
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

    /// The sent and the unsent bytes are the answer to the input that the service got: nothing is lost, nothing
    /// doubled, nothing overtakes.
    fn check_bytes(&mut self) {
        let connection = &self.connection;
        let consumed = connection.received() - connection.discarded() - connection.retained() as u64;
        if !self.service.ended() {
            self.expected.extend(&self.service, connection.transport().reads(), consumed);
        } else if self.checked == 0 {
            let first = connection.transport().reads()[0].min(self.service.chunk());
            self.expected.extend(&self.service, connection.transport().reads(), first as u64);
        }
        let (answer, output) = (self.expected.answer(), connection.transport().output());
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

    /// Queued if and only if it can make progress, by the words of the rule rather than by the code.
    fn check_progress(&self) {
        if self.end.is_some() {
            return;
        }
        let connection = &self.connection;
        let (unsent, retained) = (connection.unsent(), connection.retained());
        let exhausted = self.workspace.desk.pool.exhausted;
        let finds_place = unsent == 0 || (!exhausted && connection.flow.held().piped() == 0);
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

        // And by the truth of the kernel: whoever waits has either an event coming, or nothing to do.
        let kernel = connection.transport();
        if !self.queued && !kernel.has_event() {
            let waits_for_room = unsent > 0 || connection.is_paused();
            assert!(!waits_for_room || !kernel.has_room(), "stalled with room to write");
            assert!(!reads_more || !kernel.has_input(), "stalled with input to read");
        }
    }

    /// From here on the peer does all that it can, so the connection has to come to its end.
    fn play_out(&mut self) {
        // Even a byte a turn has to be enough.
        let turns = 10 * (self.connection.transport().queued() + self.connection.retained()) + 100_000;
        for _ in 0..turns {
            if self.end.is_some() {
                return;
            }
            self.connection.flow.wire.transport_mut().make_room(100_000);
            self.connection.flow.wire.transport_mut().end_input();
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

/// The memory of all buffers: without a bound, for no buffer at all, or for one and no more.
fn buffers() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(usize::MAX), 1 => Just(0), 1 => Just(2 * SMALLEST)]
}

proptest! {
    #[test]
    fn no_schedule_makes_it_lose_a_byte_stall_spin_or_grow(
        is_tcp: bool,
        limits in limits(),
        buffers in buffers(),
        pipes in 0..=2_usize,
        chunk in chunk(),
        answers in services::answers(),
        steps in proptest::collection::vec(event(), 1..60),
        ending in ending(),
        more in proptest::collection::vec(event(), 0..20),
    ) {
        let mut run = Run::with_buffers(is_tcp, limits, buffers, chunk, answers).with_pipes(pipes);
        for step in steps.into_iter().chain(ending).chain(more) {
            run.perform(step);
        }
        run.play_out();
        let connection = &run.connection;
        match run.end {
            Some(End::Finished) => {
                prop_assert_eq!(connection.unsent() + connection.retained(), 0);
                if !run.service.ended() {
                    prop_assert_eq!(connection.received(), connection.transport().delivered(), "a clean end left input");
                    prop_assert_eq!(connection.discarded(), 0);
                }
            }
            Some(End::Lingered) => {
                prop_assert!(connection.transport().is_shut_down());
                prop_assert_eq!(connection.unsent() + connection.retained(), 0);
                prop_assert_eq!(connection.received(), connection.transport().delivered(), "unread input resets the peer");
            }
            Some(End::Reset(_)) => prop_assert!(connection.transport().was_reset()),
            ref end => prop_assert!(false, "{end:?}"),
        }
    }
}
