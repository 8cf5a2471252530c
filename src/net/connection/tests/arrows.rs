//! One test for each arrow of the diagram of phases, and tests of what an event proves.

use std::io::ErrorKind;

use super::Event::{Boundary, Deliver, EndOfInput, Poll, Reset, Resume, Room, Spurious, Stop};
use super::*;
use crate::net::{Answer, Service};

#[test]
fn connecting_becomes_open_when_the_handshake_has_ended() {
    let mut run = run(Answers::Plain);
    run.connection = Connection::connecting(Kernel::connecting(), run.now);
    assert!(matches!(turn(&mut run), Next::Wait));
    // An event that is too early changes nothing.
    run.connection.note(Readiness::WRITABLE);
    assert!(matches!(turn(&mut run), Next::Wait));
    assert_eq!(phase(&run), Phase::Connecting);
    run.kernel().establish(Ok(()));
    assert!(matches!(turn(&mut run), Next::Wait));
    assert_eq!(phase(&run), Phase::Open);
}

#[test]
fn connecting_ends_when_nobody_listens() {
    let mut run = run(Answers::Plain);
    run.connection = Connection::connecting(Kernel::connecting(), run.now);
    run.kernel().establish(Err(ErrorKind::ConnectionRefused));
    let Next::Close(End::NotConnected(error)) = turn(&mut run) else { panic!("it was refused") };
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(phase(&run), Phase::Ended);
}

#[test]
fn open_drains_after_the_end_of_input_and_then_ends() {
    let mut run = run(Answers::Greeted(vec![b'g'; 1100]));
    run.perform([Deliver(30), EndOfInput]);
    while phase(&run) == Phase::Open {
        run.perform([Room(50), Poll, Resume]);
    }
    assert_eq!(phase(&run), Phase::Draining);
    run.play_out();
    assert!(matches!(run.end, Some(End::Finished)));
    assert_eq!(run.output().len(), 1130);
    assert!(!run.connection.transport().shut_down, "closing is enough");
}

#[test]
fn open_half_closes_and_goes_on_to_receive() {
    let mut run = run(Answers::Nothing);
    run.connection.send(&[b'x'; 1200], &mut run.workspace, run.now).expect("open");
    run.connection.half_close(&mut run.workspace);
    assert!(matches!(turn(&mut run), Next::Wait));
    assert_eq!(phase(&run), Phase::HalfClosing, "200 bytes are unsent");
    run.kernel().make_room(300);
    run.kernel().deliver(10);
    assert!(matches!(turn(&mut run), Next::Wait));
    assert_eq!((phase(&run), run.connection.received()), (Phase::HalfClosed, 10));
    assert!(run.connection.transport().shut_down);
    run.kernel().end_input();
    assert!(matches!(turn(&mut run), Next::Close(End::Finished)));
}

#[test]
fn half_closing_ends_like_open_when_the_peer_is_faster() {
    let mut run = run(Answers::Nothing);
    run.connection.send(&[b'x'; 1200], &mut run.workspace, run.now).expect("open");
    run.connection.half_close(&mut run.workspace);
    run.kernel().end_input();
    assert!(matches!(turn(&mut run), Next::Wait));
    assert_eq!(phase(&run), Phase::Draining);
    run.kernel().make_room(300);
    assert!(matches!(turn(&mut run), Next::Close(End::Finished)));
    assert_eq!(run.output().len(), 1200);
}

#[test]
fn stopping_answers_what_has_arrived_and_lingers() {
    let mut run = run(Answers::Plain);
    run.perform([Deliver(40)]);
    // Stop before the loop fetches the event: the bytes have arrived all the same.
    run.perform([Stop]);
    assert_eq!(phase(&run), Phase::Stopping { quota: 40 });
    run.perform([Resume]);
    assert_eq!(phase(&run), Phase::Lingering);
    assert_eq!(run.output().len(), 40);
    run.perform([Deliver(30), Poll]);
    assert_eq!(run.connection.discarded(), 30, "too late");
    run.perform([EndOfInput, Poll]);
    assert!(matches!(run.end, Some(End::Lingered)));
}

#[test]
fn stopping_answers_what_is_behind_an_urgent_byte_that_nobody_has_announced_yet() {
    let mut run = run(Answers::Plain);
    run.perform([Deliver(5), Boundary, Stop, Resume]);
    assert_eq!(run.output().len(), 6);
}

#[test]
fn stopping_ends_like_open_when_the_peer_is_faster() {
    let mut run = stalled(Answers::Plain);
    run.perform([Stop, Resume]);
    assert!(matches!(phase(&run), Phase::Stopping { .. }), "the peer takes nothing");
    run.play_out();
    assert!(matches!(run.end, Some(End::Lingered | End::Finished)), "{:?}", run.end);
    assert_eq!(run.output().len(), 1200);
}

#[test]
fn the_last_answer_begins_to_stop() {
    let mut run = run(Answers::Once);
    run.perform([Deliver(20), Poll]);
    assert_eq!(phase(&run), Phase::Lingering);
    assert_eq!(run.output().len(), 16);
    assert_eq!(run.connection.discarded(), 4);
}

#[test]
fn the_last_answer_begins_to_stop_from_the_half_closed_phases_too() {
    /// Ends the connection without an answer, since our side is shut down.
    struct Silent;
    impl Service for Silent {
        fn chunk(&self) -> usize {
            usize::MAX
        }

        fn answer<'a>(&'a mut self, _: &'a [u8], _: &mut Vec<u8>) -> Answer<'a> {
            Answer { bytes: &[], last: true }
        }
    }
    let mut closed = run(Answers::Nothing);
    closed.connection.half_close(&mut closed.workspace);
    assert!(matches!(turn(&mut closed), Next::Wait));
    assert_eq!(phase(&closed), Phase::HalfClosed);
    closed.kernel().deliver(16);
    let event = closed.kernel().take_event().expect("bytes came");
    closed.connection.note(event);
    assert!(matches!(closed.connection.pump(&mut Silent, &mut closed.workspace, closed.now), Next::Wait));
    assert_eq!(phase(&closed), Phase::Lingering);

    let mut closing = run(Answers::Once);
    closing.connection.send(&[b'x'; 1200], &mut closing.workspace, closing.now).expect("open");
    closing.connection.half_close(&mut closing.workspace);
    closing.kernel().deliver(16);
    turn(&mut closing);
    assert_eq!(phase(&closing), Phase::HalfClosing, "200 bytes are unsent");
    closing.kernel().make_room(150);
    turn(&mut closing);
    assert_eq!(phase(&closing), Phase::Stopping { quota: 0 });
}

#[test]
fn limits_of_zero_are_taken_for_one() {
    let none = Limits { read_size: 0, write_limit: 0, turn_budget: 0 };
    let mut run = Run::new(true, none, 0, Answers::Plain);
    let one = Limits { read_size: 1, write_limit: 1, turn_budget: 1 };
    assert_eq!(run.workspace.desk.limits, one);
    run.kernel().deliver(3);
    while let Next::Again = turn(&mut run) {}
    assert_eq!(run.output().len(), 3);
}

#[test]
fn a_reset_ends_every_phase() {
    let open = run(Answers::Plain);
    let waiting = stalled(Answers::Plain);
    let mut draining = run(Answers::Greeted(vec![b'g'; 1100]));
    draining.perform([EndOfInput, Poll]);
    let mut stopping = stalled(Answers::Plain);
    stopping.perform([Stop]);
    let mut lingering = run(Answers::Plain);
    lingering.perform([Stop, Resume]);
    let runs = [open, waiting, draining, stopping, lingering];
    let phases = runs.each_ref().map(|run| std::mem::discriminant(&phase(run)));
    let quota = 0;
    let expected = [Phase::Open, Phase::Open, Phase::Draining, Phase::Stopping { quota }, Phase::Lingering];
    assert_eq!(phases, expected.map(|phase| std::mem::discriminant(&phase)));
    for mut run in runs {
        let before = phase(&run);
        run.perform([Reset, Poll]);
        assert!(matches!(run.end, Some(End::Reset(_))), "{before:?}");
        assert_eq!(phase(&run), Phase::Ended);
    }
}

#[test]
fn an_event_on_a_quiet_socket_is_harmless() {
    let mut run = run(Answers::Plain);
    for _ in 0..3 {
        run.perform([Spurious, Poll]);
        assert_eq!(phase(&run), Phase::Open);
        assert!(!run.queued);
    }
}

#[test]
fn a_short_read_is_the_last_one_unless_something_was_announced() {
    let mut run = run(Answers::Plain);
    run.perform([Deliver(10), Poll]);
    assert_eq!(
        run.connection.transport().idle_calls,
        0,
        "the read that would only say WouldBlock is left out"
    );
    run.perform([Deliver(10), Boundary, Deliver(10), Poll]);
    assert_eq!(run.connection.received(), 31, "nothing stays behind the urgent byte");
    assert_eq!(run.connection.transport().idle_calls, 1, "and so it reads until WouldBlock");
}

#[test]
fn a_short_write_is_the_last_one() {
    let run = stalled(Answers::Plain);
    assert_eq!(
        run.connection.transport().idle_calls,
        0,
        "the write that would only say WouldBlock is left out"
    );
}
