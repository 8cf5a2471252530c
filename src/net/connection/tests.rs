//! The connection against a scripted socket: a model of what a kernel may do, driven by random schedules.

mod arrows;
mod kernel;
mod run;
mod services;
mod shortage;
#[cfg(target_os = "linux")]
mod splices;
mod timeouts;
mod watcher;

use proptest::prelude::*;

use self::kernel::Kernel;
use self::run::{Event, LIMITS, Run, TIMEOUTS, phase, run, stalled, turn};
use self::services::Answers;
use super::*;
use crate::net::Limits;
use crate::net::ring::SMALLEST;

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

/// A schedule has at most one of these, shortly before its end.
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

/// The memory of all buffers: without a bound, none at all, or enough for one connection and no more.
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
        run.perform(steps.into_iter().chain(ending).chain(more));
        run.play_out();
        let connection = &run.connection;
        match run.end {
            Some(End::Finished) => {
                prop_assert_eq!(connection.unsent() + connection.retained(), 0);
                if !run.service.ended() {
                    prop_assert_eq!(connection.received(), connection.transport().delivered, "a clean end left input");
                    prop_assert_eq!(connection.discarded(), 0);
                }
            }
            Some(End::Lingered) => {
                prop_assert!(connection.transport().shut_down);
                prop_assert_eq!(connection.unsent() + connection.retained(), 0);
                prop_assert_eq!(connection.received(), connection.transport().delivered, "unread input resets the peer");
            }
            Some(End::Reset(_)) => prop_assert!(connection.transport().reset),
            ref end => prop_assert!(false, "{end:?}"),
        }
    }
}
