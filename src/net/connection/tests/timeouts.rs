//! Deadlines: what puts them off, and the judgement when one is due.

use std::time::Duration;

use super::Event::{Deliver, EndOfInput, Resume, Stop};
use super::*;

#[test]
fn deadlines_follow_from_the_last_activity() {
    let start = Moment::now();
    let mut run = run(Answers::Plain);
    run.connection = Connection::new(Kernel::new(true), start);
    assert_eq!(run.connection.deadline(&TIMEOUTS), Some((start + Duration::from_secs(60), Timeout::Idle)));

    let later = start + Duration::from_secs(20);
    run.now = later;
    run.kernel().deliver(1200);
    while let Next::Again = turn(&mut run) {}
    assert!(run.connection.unsent() > 0);
    assert_eq!(run.connection.deadline(&TIMEOUTS), Some((later + Duration::from_secs(30), Timeout::Write)));
    let patient = Timeouts { write: None, ..TIMEOUTS };
    assert_eq!(run.connection.deadline(&patient), Some((later + Duration::from_secs(60), Timeout::Idle)));
    let endless = Timeouts { write: None, idle: None, ..TIMEOUTS };
    assert_eq!(run.connection.deadline(&endless), None);

    run.now = later + Duration::from_secs(5);
    run.connection.stop(&mut run.workspace).expect("FIONREAD works here");
    run.kernel().make_room(10_000);
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
    // The process was stopped for longer than the idle timeout. A byte has arrived, and the loop has not fetched its
    // event.
    let mut idle = run(Answers::Plain);
    idle.perform([Deliver(1)]);
    let later = idle.now + Duration::from_secs(61 + 60);
    let alive = judge(&mut idle, 61);
    assert!(
        matches!(alive, Judgement::Alive { again: false, deadline: Some(at) } if at == later),
        "{alive:?}"
    );
    assert_eq!(idle.output().len(), 1, "and it is answered");
    assert!(matches!(judge(&mut idle, 59), Judgement::Alive { deadline: Some(at), .. } if at == later));
    assert!(matches!(judge(&mut idle, 1), Judgement::TimedOut(Timeout::Idle)));

    // The peer takes a little, and not enough for an event.
    let mut slow = stalled(Answers::Plain);
    slow.kernel().make_room_quietly(5);
    assert!(matches!(judge(&mut slow, 31), Judgement::Alive { deadline: Some(_), .. }));
    assert_eq!(slow.output().len(), 1005);
    assert!(matches!(judge(&mut slow, 31), Judgement::TimedOut(Timeout::Write)));

    // The peer's end has arrived in the meantime: an end like any other.
    let mut ended = run(Answers::Plain);
    ended.perform([EndOfInput]);
    assert!(matches!(judge(&mut ended, 61), Judgement::Ended(End::Finished)));

    // A flood while we linger does not put the deadline off.
    let mut flooding = run(Answers::Plain);
    flooding.perform([Stop, Resume, Deliver(10_000)]);
    assert!(matches!(judge(&mut flooding, 10), Judgement::TimedOut(Timeout::Linger)));
}

#[test]
fn without_memory_for_buffers_too_a_peer_that_takes_nothing_is_given_up() {
    let mut run = Run::with_buffers(true, LIMITS, 0, 16, Answers::Plain);
    let idle_for_ever = Timeouts { idle: None, ..TIMEOUTS };
    let judge = |run: &mut Run, after: u64| {
        run.now = run.now + Duration::from_secs(after);
        run.connection.judge(&mut run.service, &mut run.workspace, &idle_for_ever, run.now)
    };
    run.settle([Deliver(1200)]);
    assert_eq!((run.connection.unsent(), run.connection.transport().queued()), (0, 200));
    let write = (run.now + Duration::from_secs(30), Timeout::Write);
    assert_eq!(run.connection.deadline(&idle_for_ever), Some(write));

    // A connection whose peer takes a little lives on, though the kernel raises no event.
    run.kernel().make_room_quietly(5);
    let next = run.now + Duration::from_secs(31 + 30);
    assert!(matches!(judge(&mut run, 31), Judgement::Alive { deadline: Some(at), .. } if at == next));
    assert_eq!(run.connection.sent(), 1005);
    assert!(matches!(judge(&mut run, 29), Judgement::Alive { deadline: Some(at), .. } if at == next));
    assert!(matches!(judge(&mut run, 1), Judgement::TimedOut(Timeout::Write)));
}
