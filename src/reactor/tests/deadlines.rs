//! Deadlines, timers, and how long the loop sleeps.

use super::*;

#[test]
fn a_deadline_ends_the_wait_and_comes_once() {
    let mut reactor = reactor();
    let (token, _sender) = source(&mut reactor, "pipe", Stage::Connections);
    let at = Moment::now() + Duration::from_millis(20);
    reactor.context().set_deadline_no_later_than(token, at);
    reactor.context().set_deadline_no_later_than(token, at + Duration::from_secs(3600));
    let mut toy = Toy::doing(|context, _, _| context.stop());
    reactor.run(&mut toy).expect("turns");
    assert!(Moment::now() >= at);
    assert!(toy.told.contains(&Told::Deadline("pipe")));
    assert!(reactor.context.nearest().is_none());
}

#[test]
fn a_deadline_set_to_now_by_a_deadline_waits_for_the_next_turn() {
    let mut reactor = reactor();
    let (token, _sender) = source(&mut reactor, "pipe", Stage::Connections);
    reactor.context().set_deadline(token, Moment::now());
    let mut toy = Toy::doing(|context, token, _| context.set_deadline(token, context.now()));
    reactor.turn(&mut toy).expect("a turn");
    assert_eq!(toy.told, [Told::Deadline("pipe"), Told::TurnEnd]);
    reactor.context().clear_deadline(token);
    assert!(reactor.context.nearest().is_none());
}

#[test]
fn a_deadline_that_is_due_in_the_same_turn_is_cleared_too_late() {
    let mut reactor = reactor();
    let (one, _keep_one) = source(&mut reactor, "one", Stage::Connections);
    let (other, _keep_other) = source(&mut reactor, "other", Stage::Connections);
    let now = Moment::now();
    for token in [one, other] {
        reactor.context().set_deadline(token, now);
    }
    let mut toy = Toy::doing(move |context, _, _| {
        for token in [one, other] {
            context.clear_deadline(token);
        }
    });
    reactor.turn(&mut toy).expect("a turn");
    assert_eq!(toy.told.iter().filter(|told| matches!(told, Told::Deadline(_))).count(), 2);
}

#[test]
fn busy_polling_does_not_sleep_after_an_event_and_stops_by_itself() {
    let mut reactor = reactor();
    reactor.set_busy_poll(Duration::from_millis(5));
    let (token, _sender) = ready_source(&mut reactor, "pipe", Stage::Connections);
    assert_eq!(reactor.timeout(), None, "nothing happened yet: sleep");
    let mut toy = Toy::new();
    reactor.turn(&mut toy).expect("a turn");
    let mut empty_turns = 0;
    while reactor.timeout() == Some(Duration::ZERO) {
        reactor.turn(&mut toy).expect("a turn that does not block, or the test would hang here");
        empty_turns += 1;
    }
    assert!(empty_turns > 0);
    assert_eq!(reactor.timeout(), None);
    reactor.context().remove(token);
}

#[test]
fn a_prompt_deadline_is_slept_up_to_and_polled_for_the_rest() {
    for (left, sleep) in [(0, 0), (900, 0), (1_100, 0), (1_200, 1), (2_500, 2), (10_000, 9)] {
        let (left, sleep) = (Duration::from_micros(left), Duration::from_millis(sleep));
        assert_eq!(sleep_before(left), sleep, "{left:?}");
    }
    let mut reactor = reactor();
    reactor.set_prompt_deadlines(true);
    let (token, _sender) = source(&mut reactor, "pipe", Stage::Connections);
    assert_eq!(reactor.timeout(), None, "without a deadline it sleeps");
    reactor.context().set_deadline(token, Moment::now() + Duration::from_micros(500));
    assert_eq!(reactor.timeout(), Some(Duration::ZERO), "half a millisecond can't be slept");
    let mut toy = Toy::new();
    while !toy.told.contains(&Told::Deadline("pipe")) {
        reactor.turn(&mut toy).expect("a turn");
    }
    assert_eq!(reactor.timeout(), None);
}

#[test]
fn a_timer_needs_no_source_and_can_be_moved_and_cleared() {
    let mut reactor = reactor();
    let now = Moment::now();
    let hour = Duration::from_secs(3600);
    reactor.context().set_timer(Timer(0), now);
    reactor.context().set_timer(Timer(0), now + hour);
    reactor.context().set_timer(Timer(1), now);
    reactor.context().clear_timer(Timer(1));
    reactor.context().set_timer(Timer(7), now + Duration::from_millis(1));
    let mut toy = Toy::new();
    while toy.told.iter().all(|told| *told == Told::TurnEnd) {
        reactor.turn(&mut toy).expect("a turn that ends when the timer is due");
    }
    toy.told.retain(|told| *told != Told::TurnEnd);
    assert_eq!(toy.told, [Told::Timer(7)]);
    assert_eq!(reactor.context.nearest(), Some(now + hour));
}
