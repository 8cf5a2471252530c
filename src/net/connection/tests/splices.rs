//! Bulk data through a pipe.

use std::time::Duration;

use super::Event::{Boundary, Deliver, EndOfInput, Poll, Resume, Room, Stop};
use super::*;

/// A plain echo after enough full reads, so that it splices.
fn splicing() -> Run {
    let mut run = Run::new(true, LIMITS, 16, Answers::Plain).with_pipes(1);
    run.settle([Deliver(5 * 64)]);
    assert!(
        run.connection.flow.wire.bulk().is_large() && run.workspace.traffic().spliced > 0,
        "{:?}",
        run.connection
    );
    assert_eq!(
        (run.connection.sent(), run.workspace.pipes_in_use()),
        (320, 0),
        "drained, it has given its pipe back"
    );
    run
}

#[test]
fn bulk_goes_through_a_pipe_and_small_messages_are_read_again() {
    let mut run = splicing();
    for _ in 0..20 {
        run.perform([Deliver(3), Poll]);
    }
    let spliced = run.workspace.traffic().spliced;
    run.perform([Deliver(3), Poll]);
    assert_eq!(
        (run.connection.flow.wire.bulk().is_large(), run.workspace.traffic().spliced),
        (false, spliced),
        "it has gone back to reading"
    );
    assert_eq!(run.connection.sent(), run.connection.received());
}

#[test]
fn a_peer_that_does_not_read_stops_a_spliced_connection_too() {
    let mut run = splicing();
    run.settle([Deliver(5000), Deliver(5000)]);
    assert_eq!(run.connection.sent(), 1000, "the room that there was");
    assert!(
        run.connection.flow.held().piped() == run.connection.unsent() && run.workspace.pipes_in_use() == 1
    );
    assert_eq!(run.connection.received(), 1000 + run.connection.unsent() as u64);
    assert!(run.connection.transport().queued() >= 5000, "the rest stays with the kernel");
    assert_eq!((run.connection.is_paused(), run.workspace.pauses()), (true, 1));
    let (write, _) = run.connection.deadline(&TIMEOUTS).expect("something is unsent");
    assert_eq!(write, run.now + Duration::from_secs(30));
    run.settle([Room(20_000)]);
    assert_eq!((run.connection.sent(), run.connection.is_paused()), (320 + 10_000, false));

    // A connection that is abandoned with bytes in its pipe gives the pipe back.
    run.settle([Deliver(50_000)]);
    assert_eq!((run.workspace.pipes_in_use(), run.workspace.pauses()), (1, 2));
    run.connection.abandon(&mut run.workspace);
    assert_eq!((run.workspace.pipes_in_use(), run.connection.unsent()), (0, 0));
}

/// A peer that sends everything before it reads can fill the whole write buffer, even if its first bytes lie in a pipe.
#[test]
fn input_is_read_behind_a_pipe_up_to_the_write_limit() {
    let limits = Limits { write_limit: 20_000, ..LIMITS };
    let mut run = Run::new(true, limits, 16, Answers::Plain).with_pipes(1);
    run.settle([Deliver(5 * 64), Deliver(2000)]);
    assert!(run.connection.flow.held().piped() > 0, "{:?}", run.connection);
    run.settle([Deliver(10_000)]);
    assert_eq!((run.connection.received(), run.connection.sent()), (12_320, 1000));
    assert!(!run.connection.is_paused());
    run.settle([Deliver(10_000)]);
    assert!(run.connection.is_paused() && run.connection.unsent() >= 20_000);
    run.settle([Room(30_000)]);
    assert_eq!((run.connection.sent(), run.connection.is_paused()), (22_320, false));
}

#[test]
fn an_urgent_byte_in_front_is_read_and_hides_nothing_behind_it() {
    let mut run = splicing();
    run.settle([Deliver(100), Boundary, Deliver(100)]);
    assert_eq!(run.connection.sent(), 320 + 201);
    run.play_out();
}

#[test]
fn an_urgent_byte_before_the_end_is_read_although_a_splice_says_that_the_input_has_ended() {
    let mut run = splicing();
    run.perform([Room(10_000), Deliver(2000), Poll]);
    assert!(
        run.queued && run.connection.transport().queued() == 0,
        "its share is spent, and nothing is left"
    );
    // Both come while the connection waits for its next share, and the loop has not fetched their events yet.
    run.perform([Boundary, EndOfInput, Resume]);
    assert_eq!(run.connection.received(), run.connection.transport().delivered);
    run.play_out();
    assert!(matches!(run.end, Some(End::Finished)));
    assert_eq!(run.connection.sent(), 320 + 2001);
}

#[test]
fn a_stop_sends_the_bytes_in_the_pipe_before_the_answers_to_the_rest() {
    let mut run = splicing();
    run.settle([Deliver(5000)]);
    assert!(run.connection.flow.held().piped() > 0);
    run.perform([Deliver(50), Stop]);
    run.play_out();
    assert!(matches!(run.end, Some(End::Lingered)), "{:?}", run.end);
    assert_eq!(run.connection.sent(), 320 + 5050);
}

#[test]
fn the_bytes_in_a_pipe_count_for_the_write_limit() {
    let mut run = splicing();
    run.settle([Deliver(700)]);
    assert_eq!((run.connection.unsent(), run.connection.flow.held().piped()), (20, 20));
    assert_eq!((run.connection.is_paused(), run.workspace.pauses()), (false, 0));
    run.settle([Deliver(44), Deliver(100)]);
    assert_eq!(
        (run.connection.unsent(), run.connection.flow.held().piped()),
        (68, 20),
        "by chunks of 16 bytes"
    );
    assert_eq!((run.connection.is_paused(), run.workspace.pauses()), (true, 1));
    assert_eq!(run.connection.transport().queued(), 80);
    run.settle([Room(200)]);
    assert_eq!((run.connection.unsent(), run.connection.is_paused()), (0, false));
}
