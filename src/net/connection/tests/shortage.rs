//! Shortage of room: in the write buffer, in the memory of all buffers, in the socket.

use super::Event::{Deliver, Poll, Reset, Room};
use super::*;

#[test]
fn above_the_high_water_mark_nothing_is_read_until_half_is_gone() {
    let mut run = run(Answers::Greeted(vec![b'g'; 1000 + 60]));
    run.perform([Deliver(10), Poll]);
    assert_eq!(run.connection.unsent(), 70, "over the limit of 64");
    let reads = run.connection.transport().reads.len();
    run.perform([Deliver(10), Room(30), Poll]);
    assert_eq!((run.connection.unsent(), run.connection.transport().reads.len()), (40, reads));
    run.perform([Room(10), Poll]);
    assert_eq!((run.connection.unsent(), run.connection.transport().reads.len()), (40, reads + 1));
}

#[test]
fn a_unix_socket_is_watched_for_room_only_while_something_waits_for_it() {
    let mut run = Run::new(false, LIMITS, 16, Answers::Plain);
    run.connection.note(Readiness::READABLE);
    run.pump();
    assert!(run.connection.is_at_ease() && run.connection.new_interest().is_none());
    run.kernel().deliver(1200);
    run.connection.note(Readiness::READABLE);
    let mut next = turn(&mut run);
    while let Next::Again = next {
        next = turn(&mut run);
    }
    assert!(run.connection.unsent() > 0 && !run.connection.is_at_ease());
    assert!(run.connection.new_interest().is_some_and(Interest::is_writable));
    assert!(run.connection.new_interest().is_none(), "once");
    run.kernel().watch(true);
    run.kernel().make_room(10_000);
    while !matches!(turn(&mut run), Next::Wait) {}
    assert_eq!(run.connection.unsent(), 0);
    assert!(!run.connection.is_at_ease(), "its registration is to be changed back");
    assert!(run.connection.new_interest().is_some_and(|interest| !interest.is_writable()));
    assert!(run.connection.is_at_ease());
}

#[test]
fn without_memory_for_buffers_the_kernel_keeps_what_it_does_not_take() {
    let mut run = Run::with_buffers(true, LIMITS, 0, 16, Answers::Plain);
    run.settle([Deliver(1200)]);
    assert_eq!((run.connection.sent(), run.connection.received()), (1000, 1000), "the room that there was");
    assert_eq!(run.connection.transport().queued(), 200, "the rest lies where it lay");
    assert_eq!(run.workspace.buffer_bytes().in_use, 0);
    assert!(run.connection.is_paused());
    run.settle([Room(5000)]);
    assert_eq!(run.connection.sent(), 1200);
}

#[test]
fn without_memory_each_small_answer_costs_its_share_of_the_budget() {
    let limits = Limits { read_size: 512, write_limit: 512, turn_budget: 4096 };
    let mut run = Run::with_buffers(true, limits, 0, 16, Answers::Prefixed(Vec::new()));
    run.perform([Deliver(512), Poll]);
    assert!(run.queued);
    assert_eq!(run.connection.sent(), 4 * 16, "four writes, though thirty-two would be possible");
    run.play_out();
    assert_eq!(run.connection.sent(), 512);
}

#[test]
fn reads_that_ask_for_little_are_no_bulk_however_full() {
    let mut run = Run::with_buffers(true, LIMITS, 0, 16, Answers::Plain);
    for _ in 0..20 {
        // Without memory for buffers the connection reads as much as it has answered, here a byte at a time.
        run.perform([Deliver(1), Poll]);
    }
    assert_eq!(run.connection.sent(), 20);
    assert!(!run.connection.flow.wire.bulk().is_large());
}

#[test]
fn without_memory_a_reset_is_not_taken_for_the_end_of_input() {
    let mut run = Run::with_buffers(true, LIMITS, 0, 16, Answers::Plain);
    run.perform([Reset, Poll]);
    assert!(matches!(run.end, Some(End::Reset(_))), "{:?}", run.end);
}
