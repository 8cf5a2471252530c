//! One test an arrow of the diagram of phases.

use std::time::Duration;

use super::*;
use crate::net::Answer;

const LIMITS: Limits = Limits { read_size: 64, write_limit: 64, turn_budget: 256 };
const TIMEOUTS: Timeouts = Timeouts {
    idle: Some(Duration::from_secs(60)),
    write: Some(Duration::from_secs(30)),
    linger: Duration::from_secs(10),
};

fn run(answers: Answers) -> Run {
    Run::new(true, LIMITS, 16, answers)
}

fn phase(run: &Run) -> Phase {
    run.connection.phase()
}

/// A peer that has stopped taking, so that something is unsent.
fn stalled(answers: Answers) -> Run {
    let mut run = run(answers);
    run.perform(Event::Deliver(1200));
    run.perform(Event::Poll);
    while run.queued {
        run.perform(Event::Resume);
    }
    assert!(run.connection.unsent() > 0);
    run
}

/// An event and a turn, without the law: these connections send bytes that answer nothing.
fn turn(run: &mut Run) -> Next {
    if let Some(readiness) = run.connection.flow.wire.transport_mut().take_event() {
        run.connection.note(readiness);
    }
    run.connection.pump(&mut run.service, &mut run.workspace, run.now)
}

#[test]
fn connecting_becomes_open_when_the_handshake_has_ended() {
    let mut run = run(Answers::Plain);
    run.connection = Connection::connecting(Kernel::connecting(), run.now);
    assert!(matches!(turn(&mut run), Next::Wait));
    // An event that is too early changes nothing.
    run.connection.note(Readiness::WRITABLE);
    assert!(matches!(turn(&mut run), Next::Wait));
    assert_eq!(phase(&run), Phase::Connecting);
    run.connection.flow.wire.transport_mut().establish(Ok(()));
    assert!(matches!(turn(&mut run), Next::Wait));
    assert_eq!(phase(&run), Phase::Open);
}

#[test]
fn connecting_ends_when_nobody_listens() {
    let mut run = run(Answers::Plain);
    run.connection = Connection::connecting(Kernel::connecting(), run.now);
    run.connection.flow.wire.transport_mut().establish(Err(ErrorKind::ConnectionRefused));
    let Next::Close(End::NotConnected(error)) = turn(&mut run) else { panic!("it was refused") };
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(phase(&run), Phase::Ended);
}

#[test]
fn open_drains_after_the_end_of_input_and_then_ends() {
    let mut run = run(Answers::Greeted(vec![b'g'; 1100]));
    run.perform(Event::Deliver(30));
    run.perform(Event::EndOfInput);
    while phase(&run) == Phase::Open {
        run.perform(Event::Room(50));
        run.perform(Event::Poll);
        run.perform(Event::Resume);
    }
    assert_eq!(phase(&run), Phase::Draining);
    run.play_out();
    assert!(matches!(run.end, Some(End::Finished)));
    assert_eq!(run.connection.transport().output().len(), 1130);
    assert!(!run.connection.transport().is_shut_down(), "closing is enough");
}

#[test]
fn open_half_closes_and_goes_on_to_receive() {
    let mut run = run(Answers::Nothing);
    run.connection.send(&[b'x'; 1200], &mut run.workspace, run.now).expect("open");
    run.connection.half_close(&mut run.workspace);
    assert!(matches!(turn(&mut run), Next::Wait));
    assert_eq!(phase(&run), Phase::HalfClosing, "200 bytes are unsent");
    run.connection.flow.wire.transport_mut().make_room(300);
    run.connection.flow.wire.transport_mut().deliver(10);
    assert!(matches!(turn(&mut run), Next::Wait));
    assert_eq!((phase(&run), run.connection.received()), (Phase::HalfClosed, 10));
    assert!(run.connection.transport().is_shut_down());
    run.connection.flow.wire.transport_mut().end_input();
    assert!(matches!(turn(&mut run), Next::Close(End::Finished)));
}

#[test]
fn half_closing_ends_like_open_when_the_peer_is_faster() {
    let mut run = run(Answers::Nothing);
    run.connection.send(&[b'x'; 1200], &mut run.workspace, run.now).expect("open");
    run.connection.half_close(&mut run.workspace);
    run.connection.flow.wire.transport_mut().end_input();
    assert!(matches!(turn(&mut run), Next::Wait));
    assert_eq!(phase(&run), Phase::Draining);
    run.connection.flow.wire.transport_mut().make_room(300);
    assert!(matches!(turn(&mut run), Next::Close(End::Finished)));
    assert_eq!(run.connection.transport().output().len(), 1200);
}

#[test]
fn stopping_answers_what_has_arrived_and_lingers() {
    let mut run = run(Answers::Plain);
    run.perform(Event::Deliver(40));
    // Stopped before the event was fetched: the bytes have arrived all the same.
    run.perform(Event::Stop);
    assert_eq!(phase(&run), Phase::Stopping { quota: 40 });
    run.perform(Event::Resume);
    assert_eq!(phase(&run), Phase::Lingering);
    assert_eq!(run.connection.transport().output().len(), 40);
    run.perform(Event::Deliver(30));
    run.perform(Event::Poll);
    assert_eq!(run.connection.discarded(), 30, "too late");
    run.perform(Event::EndOfInput);
    run.perform(Event::Poll);
    assert!(matches!(run.end, Some(End::Lingered)));
}

#[test]
fn stopping_answers_what_is_behind_an_urgent_byte_that_nobody_has_announced_yet() {
    let mut run = run(Answers::Plain);
    run.perform(Event::Deliver(5));
    run.perform(Event::Boundary);
    run.perform(Event::Stop);
    run.perform(Event::Resume);
    assert_eq!(run.connection.transport().output().len(), 6);
}

#[test]
fn stopping_ends_like_open_when_the_peer_is_faster() {
    let mut run = stalled(Answers::Plain);
    run.perform(Event::Stop);
    run.perform(Event::Resume);
    assert!(matches!(phase(&run), Phase::Stopping { .. }), "the peer takes nothing");
    run.play_out();
    assert!(matches!(run.end, Some(End::Lingered | End::Finished)), "{:?}", run.end);
    assert_eq!(run.connection.transport().output().len(), 1200);
}

#[test]
fn the_last_answer_begins_to_stop() {
    let mut run = run(Answers::Once);
    run.perform(Event::Deliver(20));
    run.perform(Event::Poll);
    assert_eq!(phase(&run), Phase::Lingering);
    assert_eq!(run.connection.transport().output().len(), 16);
    assert_eq!(run.connection.discarded(), 4);
}

#[test]
fn the_last_answer_begins_to_stop_from_the_half_closed_phases_too() {
    /// Ends the connection without a word, since our side is shut down.
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
    closed.connection.flow.wire.transport_mut().deliver(16);
    let event = closed.connection.flow.wire.transport_mut().take_event().expect("bytes came");
    closed.connection.note(event);
    assert!(matches!(closed.connection.pump(&mut Silent, &mut closed.workspace, closed.now), Next::Wait));
    assert_eq!(phase(&closed), Phase::Lingering);

    let mut closing = run(Answers::Once);
    closing.connection.send(&[b'x'; 1200], &mut closing.workspace, closing.now).expect("open");
    closing.connection.half_close(&mut closing.workspace);
    closing.connection.flow.wire.transport_mut().deliver(16);
    turn(&mut closing);
    assert_eq!(phase(&closing), Phase::HalfClosing, "200 bytes are unsent");
    closing.connection.flow.wire.transport_mut().make_room(150);
    turn(&mut closing);
    assert_eq!(phase(&closing), Phase::Stopping { quota: 0 });
}

#[test]
fn limits_of_zero_are_taken_for_one() {
    let none = Limits { read_size: 0, write_limit: 0, turn_budget: 0 };
    let mut run = Run::new(true, none, 0, Answers::Plain);
    let one = Limits { read_size: 1, write_limit: 1, turn_budget: 1 };
    assert_eq!(run.workspace.desk.limits, one);
    run.connection.flow.wire.transport_mut().deliver(3);
    while let Next::Again = turn(&mut run) {}
    assert_eq!(run.connection.transport().output().len(), 3);
}

#[test]
fn a_reset_ends_every_phase() {
    let open = run(Answers::Plain);
    let waiting = stalled(Answers::Plain);
    let mut draining = run(Answers::Greeted(vec![b'g'; 1100]));
    draining.perform(Event::EndOfInput);
    draining.perform(Event::Poll);
    let mut stopping = stalled(Answers::Plain);
    stopping.perform(Event::Stop);
    let mut lingering = run(Answers::Plain);
    lingering.perform(Event::Stop);
    lingering.perform(Event::Resume);
    let runs = [open, waiting, draining, stopping, lingering];
    let phases = runs.each_ref().map(|run| std::mem::discriminant(&phase(run)));
    let quota = 0;
    let expected = [Phase::Open, Phase::Open, Phase::Draining, Phase::Stopping { quota }, Phase::Lingering];
    assert_eq!(phases, expected.map(|phase| std::mem::discriminant(&phase)));
    for mut run in runs {
        let before = phase(&run);
        run.perform(Event::Reset);
        run.perform(Event::Poll);
        assert!(matches!(run.end, Some(End::Reset(_))), "{before:?}");
        assert_eq!(phase(&run), Phase::Ended);
    }
}

#[test]
fn an_event_on_a_quiet_socket_is_harmless() {
    let mut run = run(Answers::Plain);
    for _ in 0..3 {
        run.perform(Event::Spurious);
        run.perform(Event::Poll);
        assert_eq!(phase(&run), Phase::Open);
        assert!(!run.queued);
    }
}

#[test]
fn a_short_read_is_the_last_one_unless_something_was_announced() {
    let mut run = run(Answers::Plain);
    run.perform(Event::Deliver(10));
    run.perform(Event::Poll);
    assert_eq!(
        run.connection.transport().idle_calls(),
        0,
        "the read that would only say WouldBlock is left out"
    );
    run.perform(Event::Deliver(10));
    run.perform(Event::Boundary);
    run.perform(Event::Deliver(10));
    run.perform(Event::Poll);
    assert_eq!(run.connection.received(), 31, "nothing stays behind the urgent byte");
    assert_eq!(run.connection.transport().idle_calls(), 1, "and so it reads until WouldBlock");
}

#[test]
fn a_short_write_is_the_last_one() {
    let run = stalled(Answers::Plain);
    assert_eq!(
        run.connection.transport().idle_calls(),
        0,
        "the write that would only say WouldBlock is left out"
    );
}

#[test]
fn above_the_high_water_mark_nothing_is_read_until_half_is_gone() {
    let mut run = run(Answers::Greeted(vec![b'g'; 1000 + 60]));
    run.perform(Event::Deliver(10));
    run.perform(Event::Poll);
    assert_eq!(run.connection.unsent(), 70, "over the limit of 64");
    let reads = run.connection.transport().reads().len();
    run.perform(Event::Deliver(10));
    run.perform(Event::Room(30));
    run.perform(Event::Poll);
    assert_eq!((run.connection.unsent(), run.connection.transport().reads().len()), (40, reads));
    run.perform(Event::Room(10));
    run.perform(Event::Poll);
    assert_eq!((run.connection.unsent(), run.connection.transport().reads().len()), (40, reads + 1));
}

#[test]
fn deadlines_follow_from_the_last_activity() {
    let start = Moment::now();
    let mut run = run(Answers::Plain);
    run.connection = Connection::new(Kernel::new(true), start);
    assert_eq!(run.connection.deadline(&TIMEOUTS), Some((start + Duration::from_secs(60), Timeout::Idle)));

    let later = start + Duration::from_secs(20);
    run.now = later;
    run.connection.flow.wire.transport_mut().deliver(1200);
    while let Next::Again = turn(&mut run) {}
    assert!(run.connection.unsent() > 0);
    assert_eq!(run.connection.deadline(&TIMEOUTS), Some((later + Duration::from_secs(30), Timeout::Write)));
    let patient = Timeouts { write: None, ..TIMEOUTS };
    assert_eq!(run.connection.deadline(&patient), Some((later + Duration::from_secs(60), Timeout::Idle)));
    let endless = Timeouts { write: None, idle: None, ..TIMEOUTS };
    assert_eq!(run.connection.deadline(&endless), None);

    run.now = later + Duration::from_secs(5);
    run.connection.stop(&mut run.workspace).expect("FIONREAD works here");
    run.connection.flow.wire.transport_mut().make_room(10_000);
    while let Next::Again = turn(&mut run) {}
    assert_eq!(phase(&run), Phase::Lingering);
    let linger = run.now + Duration::from_secs(10);
    assert_eq!(run.connection.deadline(&endless), Some((linger, Timeout::Linger)));
}

#[test]
fn a_deadline_is_judged_by_what_moves_when_it_is_due() {
    let judge = |run: &mut Run, after: u64| {
        run.now = run.now + Duration::from_secs(after);
        run.connection.judge(&mut run.service, &mut run.workspace, &TIMEOUTS, run.now)
    };
    // Stopped for longer than the idle timeout, while a byte arrived whose event nobody has fetched.
    let mut idle = run(Answers::Plain);
    idle.perform(Event::Deliver(1));
    let later = idle.now + Duration::from_secs(61 + 60);
    let alive = judge(&mut idle, 61);
    assert!(
        matches!(alive, Judgement::Alive { again: false, deadline: Some(at) } if at == later),
        "{alive:?}"
    );
    assert_eq!(idle.connection.transport().output().len(), 1, "and it is answered");
    assert!(matches!(judge(&mut idle, 59), Judgement::Alive { deadline: Some(at), .. } if at == later));
    assert!(matches!(judge(&mut idle, 1), Judgement::TimedOut(Timeout::Idle)));

    // A peer that takes a little, and not enough for the kernel to say so.
    let mut slow = stalled(Answers::Plain);
    slow.connection.flow.wire.transport_mut().make_room_quietly(5);
    assert!(matches!(judge(&mut slow, 31), Judgement::Alive { deadline: Some(_), .. }));
    assert_eq!(slow.connection.transport().output().len(), 1005);
    assert!(matches!(judge(&mut slow, 31), Judgement::TimedOut(Timeout::Write)));

    // Its end has arrived in the meantime: that is an end like any other.
    let mut ended = run(Answers::Plain);
    ended.perform(Event::EndOfInput);
    assert!(matches!(judge(&mut ended, 61), Judgement::Ended(End::Finished)));

    // A flood while we linger is no reason to wait for longer.
    let mut flooding = run(Answers::Plain);
    flooding.perform(Event::Stop);
    flooding.perform(Event::Resume);
    flooding.perform(Event::Deliver(10_000));
    assert!(matches!(judge(&mut flooding, 10), Judgement::TimedOut(Timeout::Linger)));
}

#[test]
fn a_unix_socket_is_watched_for_room_only_while_something_waits_for_it() {
    let mut run = Run::new(false, LIMITS, 16, Answers::Plain);
    run.connection.note(Readiness::READABLE);
    run.pump();
    assert!(run.connection.is_at_ease() && run.connection.new_interest().is_none());
    run.connection.flow.wire.transport_mut().deliver(1200);
    run.connection.note(Readiness::READABLE);
    let mut next = turn(&mut run);
    while let Next::Again = next {
        next = turn(&mut run);
    }
    assert!(run.connection.unsent() > 0 && !run.connection.is_at_ease());
    assert!(run.connection.new_interest().is_some_and(Interest::is_writable));
    assert!(run.connection.new_interest().is_none(), "once");
    run.connection.flow.wire.transport_mut().watch(true);
    run.connection.flow.wire.transport_mut().make_room(10_000);
    while !matches!(turn(&mut run), Next::Wait) {}
    assert_eq!(run.connection.unsent(), 0);
    assert!(!run.connection.is_at_ease(), "its registration is to be changed back");
    assert!(run.connection.new_interest().is_some_and(|interest| !interest.is_writable()));
    assert!(run.connection.is_at_ease());
}

#[test]
fn without_memory_for_buffers_the_kernel_keeps_what_it_does_not_take() {
    let mut run = Run::with_buffers(true, LIMITS, 0, 16, Answers::Plain);
    run.perform(Event::Deliver(1200));
    run.perform(Event::Poll);
    while run.queued {
        run.perform(Event::Resume);
    }
    assert_eq!((run.connection.sent(), run.connection.received()), (1000, 1000), "the room that there was");
    assert_eq!(run.connection.transport().queued(), 200, "the rest lies where it lay");
    assert_eq!(run.workspace.buffer_bytes().in_use, 0);
    assert!(run.connection.is_paused());
    run.perform(Event::Room(5000));
    run.perform(Event::Poll);
    while run.queued {
        run.perform(Event::Resume);
    }
    assert_eq!(run.connection.sent(), 1200);
}

#[test]
fn without_memory_for_buffers_too_a_peer_that_takes_nothing_is_given_up() {
    let mut run = Run::with_buffers(true, LIMITS, 0, 16, Answers::Plain);
    let idle_for_ever = Timeouts { idle: None, ..TIMEOUTS };
    let judge = |run: &mut Run, after: u64| {
        run.now = run.now + Duration::from_secs(after);
        run.connection.judge(&mut run.service, &mut run.workspace, &idle_for_ever, run.now)
    };
    run.perform(Event::Deliver(1200));
    run.perform(Event::Poll);
    while run.queued {
        run.perform(Event::Resume);
    }
    assert_eq!((run.connection.unsent(), run.connection.transport().queued()), (0, 200));
    let write = (run.now + Duration::from_secs(30), Timeout::Write);
    assert_eq!(run.connection.deadline(&idle_for_ever), Some(write));

    // A peer that takes a little lives on, though the kernel tells nothing of it.
    run.connection.flow.wire.transport_mut().make_room_quietly(5);
    let next = run.now + Duration::from_secs(31 + 30);
    assert!(matches!(judge(&mut run, 31), Judgement::Alive { deadline: Some(at), .. } if at == next));
    assert_eq!(run.connection.sent(), 1005);
    assert!(matches!(judge(&mut run, 29), Judgement::Alive { deadline: Some(at), .. } if at == next));
    assert!(matches!(judge(&mut run, 1), Judgement::TimedOut(Timeout::Write)));
}

/// A plain echo that has been given so much, in pieces that fill each read, that it splices.
#[cfg(target_os = "linux")]
fn splicing() -> Run {
    let mut run = Run::new(true, LIMITS, 16, Answers::Plain).with_pipes(1);
    run.perform(Event::Deliver(5 * 64));
    run.perform(Event::Poll);
    while run.queued {
        run.perform(Event::Resume);
    }
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
fn without_memory_each_small_answer_costs_its_share_of_the_budget() {
    let limits = Limits { read_size: 512, write_limit: 512, turn_budget: 4096 };
    let mut run = Run::with_buffers(true, limits, 0, 16, Answers::Prefixed(Vec::new()));
    run.perform(Event::Deliver(512));
    run.perform(Event::Poll);
    assert!(run.queued);
    assert_eq!(run.connection.sent(), 4 * 16, "four writes, though thirty-two would be possible");
    run.play_out();
    assert_eq!(run.connection.sent(), 512);
}

#[test]
fn reads_that_ask_for_little_are_no_bulk_however_full() {
    let mut run = Run::with_buffers(true, LIMITS, 0, 16, Answers::Plain);
    for _ in 0..20 {
        // Without memory for buffers it reads as much as it has answered, here a byte at a time.
        run.perform(Event::Deliver(1));
        run.perform(Event::Poll);
    }
    assert_eq!(run.connection.sent(), 20);
    assert!(!run.connection.flow.wire.bulk().is_large());
}

#[test]
#[cfg(target_os = "linux")]
fn bulk_goes_through_a_pipe_and_small_messages_are_read_again() {
    let mut run = splicing();
    for _ in 0..20 {
        run.perform(Event::Deliver(3));
        run.perform(Event::Poll);
    }
    let spliced = run.workspace.traffic().spliced;
    run.perform(Event::Deliver(3));
    run.perform(Event::Poll);
    assert_eq!(
        (run.connection.flow.wire.bulk().is_large(), run.workspace.traffic().spliced),
        (false, spliced),
        "it has gone back to reading"
    );
    assert_eq!(run.connection.sent(), run.connection.received());
}

#[test]
#[cfg(target_os = "linux")]
fn a_peer_that_does_not_read_stops_a_spliced_connection_too() {
    let mut run = splicing();
    run.perform(Event::Deliver(5000));
    run.perform(Event::Deliver(5000));
    run.perform(Event::Poll);
    while run.queued {
        run.perform(Event::Resume);
    }
    assert_eq!(run.connection.sent(), 1000, "the room that there was");
    assert!(
        run.connection.flow.held().piped() == run.connection.unsent() && run.workspace.pipes_in_use() == 1
    );
    assert_eq!(run.connection.received(), 1000 + run.connection.unsent() as u64);
    assert!(run.connection.transport().queued() >= 5000, "the rest stays with the kernel");
    let (write, _) = run.connection.deadline(&TIMEOUTS).expect("something is unsent");
    assert_eq!(write, run.now + Duration::from_secs(30));
    // Abandoned with bytes in it, the pipe is nobody's any more.
    run.connection.abandon(&mut run.workspace);
    assert_eq!((run.workspace.pipes_in_use(), run.connection.unsent()), (0, 0));
}

#[test]
#[cfg(target_os = "linux")]
fn an_urgent_byte_in_front_is_read_and_hides_nothing_behind_it() {
    let mut run = splicing();
    run.perform(Event::Deliver(100));
    run.perform(Event::Boundary);
    run.perform(Event::Deliver(100));
    run.perform(Event::Poll);
    while run.queued {
        run.perform(Event::Resume);
    }
    assert_eq!(run.connection.sent(), 320 + 201);
    run.play_out();
}

#[test]
#[cfg(target_os = "linux")]
fn an_urgent_byte_before_the_end_is_read_although_a_splice_says_that_the_input_has_ended() {
    let mut run = splicing();
    run.perform(Event::Room(10_000));
    run.perform(Event::Deliver(2000));
    run.perform(Event::Poll);
    assert!(
        run.queued && run.connection.transport().queued() == 0,
        "its share is spent, and nothing is left"
    );
    // They come while it waits for its next share, and nobody has fetched their events yet.
    run.perform(Event::Boundary);
    run.perform(Event::EndOfInput);
    run.perform(Event::Resume);
    assert_eq!(run.connection.received(), run.connection.transport().delivered());
    run.play_out();
    assert!(matches!(run.end, Some(End::Finished)));
    assert_eq!(run.connection.sent(), 320 + 2001);
}

#[test]
#[cfg(target_os = "linux")]
fn a_stop_sends_the_bytes_in_the_pipe_before_the_answers_to_the_rest() {
    let mut run = splicing();
    run.perform(Event::Deliver(5000));
    run.perform(Event::Poll);
    while run.queued {
        run.perform(Event::Resume);
    }
    assert!(run.connection.flow.held().piped() > 0);
    run.perform(Event::Deliver(50));
    run.perform(Event::Stop);
    run.play_out();
    assert!(matches!(run.end, Some(End::Lingered)), "{:?}", run.end);
    assert_eq!(run.connection.sent(), 320 + 5050);
}
