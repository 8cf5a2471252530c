//! The reactor alone, with pipes and a toy handler: no TCP, no echo.

use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::BorrowedFd;

use mio::unix::pipe::{self, Receiver, Sender};

use super::*;

/// The calls that the toy handler got, in order.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Ready(&'static str),
    Resumed(&'static str),
    Deadline(&'static str),
    Timer(u8),
    TurnEnd,
}

struct Source {
    name: &'static str,
    receiver: Receiver,
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

type Action = Box<dyn FnMut(&mut Context<Source>, Token, &Told)>;

/// Notes each callback, and does whatever a test wants done at that moment.
struct Toy {
    told: Vec<Told>,
    action: Action,
}

impl Toy {
    fn new() -> Toy {
        Toy::doing(|_, _, _| {})
    }

    fn doing(action: impl FnMut(&mut Context<Source>, Token, &Told) + 'static) -> Toy {
        Toy { told: Vec::new(), action: Box::new(action) }
    }

    fn note(&mut self, context: &mut Context<Source>, token: Token, told: fn(&'static str) -> Told) {
        // An earlier event of the batch may have removed it.
        let Some(Source { name, .. }) = context.get(token) else { return };
        let told = told(name);
        (self.action)(context, token, &told);
        self.told.push(told);
    }
}

impl Handler for Toy {
    type Source = Source;

    fn ready(&mut self, context: &mut Context<Source>, token: Token, _: Readiness) {
        self.note(context, token, Told::Ready);
    }

    fn resume(&mut self, context: &mut Context<Source>, token: Token) {
        self.note(context, token, Told::Resumed);
    }

    fn deadline(&mut self, context: &mut Context<Source>, token: Token) {
        self.note(context, token, Told::Deadline);
    }

    fn timer(&mut self, _: &mut Context<Source>, Timer(number): Timer) {
        self.told.push(Told::Timer(number));
    }

    fn turn_end(&mut self, _: &mut Context<Source>) {
        self.told.push(Told::TurnEnd);
    }
}

fn reactor() -> Reactor<Source> {
    Reactor::new().expect("a poll descriptor")
}

fn source(reactor: &mut Reactor<Source>, name: &'static str, stage: Stage) -> (Token, Sender) {
    let (sender, receiver) = pipe::new().expect("a pipe");
    let token =
        reactor.context().insert(Source { name, receiver }, Interest::READABLE, stage).expect("registered");
    (token, sender)
}

/// A source that is ready: one byte waits in its pipe.
fn ready_source(reactor: &mut Reactor<Source>, name: &'static str, stage: Stage) -> (Token, Sender) {
    let (token, mut sender) = source(reactor, name, stage);
    sender.write_all(b"x").expect("room in the pipe");
    (token, sender)
}

#[test]
fn a_turn_has_the_order_that_the_diagram_shows() {
    let mut reactor = reactor();
    // Registered in the opposite order, so that the kernel's order is not what is seen.
    let (_signal, _s) = ready_source(&mut reactor, "signal", Stage::Signals);
    let (_listener, _l) = ready_source(&mut reactor, "listener", Stage::Listeners);
    let (late, _d) = source(&mut reactor, "late", Stage::Connections);
    let (again, _q) = source(&mut reactor, "again", Stage::Connections);
    let (_connection, _c) = ready_source(&mut reactor, "connection", Stage::Connections);
    reactor.context().set_deadline(late, Moment::now());
    reactor.context().run_again(again);
    reactor.context().set_timer(Timer(3), Moment::now());

    let mut toy = Toy::new();
    reactor.turn(&mut toy).expect("a turn");
    assert_eq!(
        toy.told,
        [
            Told::Ready("connection"),
            Told::Ready("listener"),
            Told::Resumed("again"),
            Told::Deadline("late"),
            Told::Timer(3),
            Told::Ready("signal"),
            Told::TurnEnd
        ]
    );
}

#[test]
fn readiness_is_an_edge_and_running_again_is_the_handlers_own_affair() {
    let mut reactor = reactor();
    let (token, _sender) = ready_source(&mut reactor, "pipe", Stage::Connections);
    let mut toy = Toy::new();
    reactor.turn(&mut toy).expect("a turn");
    assert_eq!(toy.told, [Told::Ready("pipe"), Told::TurnEnd]);

    // Nothing was read, and yet no second event comes: only the run queue brings the source back.
    toy.told.clear();
    reactor.context().run_again(token);
    reactor.turn(&mut toy).expect("a turn");
    assert_eq!(toy.told, [Told::Resumed("pipe"), Told::TurnEnd]);
}

#[test]
fn reregistering_reports_anew_what_is_there_already() {
    let mut reactor = reactor();
    let (token, _sender) = ready_source(&mut reactor, "pipe", Stage::Connections);
    let mut toy = Toy::new();
    reactor.turn(&mut toy).expect("a turn");
    reactor.context().reregister(token, Interest::READABLE).expect("registered");
    reactor.turn(&mut toy).expect("a turn");
    assert_eq!(toy.told, [Told::Ready("pipe"), Told::TurnEnd, Told::Ready("pipe"), Told::TurnEnd]);
}

#[test]
fn what_queues_itself_waits_behind_the_others() {
    let mut reactor = reactor();
    let (greedy, _g) = source(&mut reactor, "greedy", Stage::Connections);
    let (modest, _m) = source(&mut reactor, "modest", Stage::Connections);
    reactor.context().run_again(greedy);
    reactor.context().run_again(modest);
    reactor.context().run_again(greedy);
    let mut toy = Toy::doing(move |context, token, _| {
        if token == greedy {
            context.run_again(greedy);
        }
    });
    reactor.turn(&mut toy).expect("a turn");
    reactor.turn(&mut toy).expect("a turn");
    assert_eq!(
        toy.told,
        [
            Told::Resumed("greedy"),
            Told::Resumed("modest"),
            Told::TurnEnd,
            Told::Resumed("greedy"),
            Told::TurnEnd
        ]
    );
}

#[test]
fn a_source_removed_in_the_batch_is_not_told_of_its_event() {
    let mut reactor = reactor();
    let (first, _f) = ready_source(&mut reactor, "first", Stage::Connections);
    let (second, _s) = ready_source(&mut reactor, "second", Stage::Connections);
    reactor.context().set_deadline(first, Moment::now());
    reactor.context().set_deadline(second, Moment::now());
    reactor.context().run_again(first);
    reactor.context().run_again(second);
    // Whichever comes first removes both: neither its queue entry nor its deadline nor the other's event may follow.
    let mut toy = Toy::doing(move |context, _, _| {
        context.remove(first);
        context.remove(second);
    });
    reactor.turn(&mut toy).expect("a turn");
    assert_eq!(toy.told.len(), 2, "{:?}", toy.told);
    assert!(reactor.context().is_empty());
}

#[test]
fn a_stale_event_does_not_reach_the_new_owner_of_a_slot() {
    let mut reactor = reactor();
    let (first, _f) = ready_source(&mut reactor, "first", Stage::Connections);
    let (second, _s) = ready_source(&mut reactor, "second", Stage::Connections);
    // The first to be told removes the other and takes a new source in: it must not get the other's slot, since the
    // other's event is still in the batch.
    let mut senders = Vec::new();
    let mut toy = Toy::doing(move |context, token, told| {
        if matches!(told, Told::Ready("first" | "second")) {
            context.remove(if token == first { second } else { first });
            let (sender, receiver) = pipe::new().expect("a pipe");
            senders.push(sender);
            let source = Source { name: "new", receiver };
            context.insert(source, Interest::READABLE, Stage::Connections).expect("registered");
        }
    });
    reactor.turn(&mut toy).expect("a turn");
    assert!(!toy.told.contains(&Told::Ready("new")), "{:?}", toy.told);
    assert_eq!(toy.told.len(), 2);
}

#[test]
fn removing_closes_the_descriptor_at_the_end_of_the_turn() {
    let mut reactor = reactor();
    let (token, mut sender) = source(&mut reactor, "pipe", Stage::Connections);
    reactor.context().remove(token);
    sender.write_all(b"still open").expect("the receiver lives until the end of the turn");
    reactor.context().set_deadline(token, Moment::now());
    let (other, _o) = source(&mut reactor, "other", Stage::Connections);
    reactor.context().run_again(other);
    reactor.turn(&mut Toy::new()).expect("a turn");
    assert_eq!(sender.write(b"closed").expect_err("no reader").kind(), ErrorKind::BrokenPipe);
}

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
fn what_cannot_be_polled_is_refused_or_driven_by_the_run_queue() {
    struct File(std::fs::File);
    impl AsFd for File {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
    struct Reader(Vec<u8>);
    impl Handler for Reader {
        type Source = File;
        fn ready(&mut self, _: &mut Context<File>, _: Token, _: Readiness) {
            unreachable!("a regular file has no events");
        }
        fn resume(&mut self, context: &mut Context<File>, token: Token) {
            let file = context.get_mut(token).expect("not removed");
            let mut chunk = [0; 16];
            match file.0.read(&mut chunk).expect("readable") {
                0 => context.stop(),
                count => {
                    self.0.extend_from_slice(&chunk[..count]);
                    context.run_again(token);
                }
            }
        }
    }

    let open = || {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"sixteen bytes and a few more").expect("written");
        file.rewind().expect("rewound");
        File(file)
    };
    let mut reactor = Reactor::new().expect("a poll descriptor");
    let refused = reactor.context().insert(open(), Interest::READABLE, Stage::Connections);
    assert_eq!(refused.expect_err("epoll refuses regular files").kind(), ErrorKind::PermissionDenied);
    let token = reactor.context().insert_unpolled(open(), Stage::Connections).expect("room");
    reactor.context().run_again(token);
    let mut reader = Reader(Vec::new());
    reactor.run(&mut reader).expect("turns");
    assert_eq!(reader.0, b"sixteen bytes and a few more");
}

#[test]
fn a_turn_tells_what_it_consisted_of() {
    let mut reactor = reactor();
    let (ready, mut sender) = source(&mut reactor, "ready", Stage::Connections);
    let (queued, _other) = source(&mut reactor, "queued", Stage::Connections);
    sender.write_all(b"x").expect("room in the pipe");
    reactor.context().run_again(queued);
    let now = Moment::now();
    reactor.context().set_deadline(ready, now);
    reactor.turn(&mut Toy::new()).expect("a turn");
    assert_eq!(
        *reactor.context().turn(),
        Turn { events: 1, queued: 1, waiting: 1, deadlines: 1, times: None }
    );

    reactor.set_timed(true);
    reactor.context().run_again(queued);
    let pause = Duration::from_millis(2);
    let mut slow = Toy::doing(move |_, _, _| {
        let since = Moment::now();
        while Moment::now().since(since) < pause {}
    });
    reactor.turn(&mut slow).expect("a turn");
    let turn = *reactor.context().turn();
    let times = turn.times.expect("it was timed");
    assert_eq!((turn.events, turn.queued, turn.deadlines), (0, 1, 0));
    assert!(now <= times.poll_began && times.poll_began <= times.poll_ended);
    assert!(times.poll_ended <= times.batch_ended);
    assert!(
        times.run_queue_ended.since(times.batch_ended) >= pause,
        "the slow part is the run queue: {times:?}"
    );
    assert!(times.run_queue_ended <= times.deadlines_ended && times.deadlines_ended <= times.ended);
}

/// Each source that is in the run queue, or becomes ready, wants another share at once.
#[derive(Default)]
struct Greedy {
    events: usize,
    resumed: Vec<Token>,
    deadlines: usize,
}

impl Handler for Greedy {
    type Source = Source;

    fn ready(&mut self, context: &mut Context<Source>, token: Token, _: Readiness) {
        self.events += 1;
        context.run_again(token);
    }

    fn resume(&mut self, context: &mut Context<Source>, token: Token) {
        self.resumed.push(token);
        context.run_again(token);
    }

    fn deadline(&mut self, context: &mut Context<Source>, token: Token) {
        self.deadlines += 1;
        context.set_deadline(token, context.now());
    }
}

#[test]
fn no_turn_exceeds_its_budget_and_everybody_has_a_share() {
    const SOURCES: usize = 300;
    let mut reactor = reactor();
    let mut senders = Vec::new();
    let mut tokens = Vec::new();
    for _ in 0..SOURCES {
        let (token, sender) = ready_source(&mut reactor, "greedy", Stage::Connections);
        reactor.context().set_deadline(token, Moment::now());
        senders.push(sender);
        tokens.push(token);
    }
    let (mut shares, mut events, mut deadlines) = (Vec::new(), 0, 0);
    // As many turns as it takes until each has had its share once, if nobody has two before.
    for turn in 0..2 + SOURCES.div_ceil(RESUMES_PER_TURN) {
        let mut greedy = Greedy::default();
        reactor.turn(&mut greedy).expect("a turn");
        let Turn { events: told, queued, deadlines: due, .. } = *reactor.context().turn();
        assert_eq!((greedy.events, greedy.resumed.len(), greedy.deadlines), (told, queued, due));
        assert!(told <= EVENTS_PER_TURN && queued <= RESUMES_PER_TURN && due <= DEADLINES_PER_TURN);
        assert_eq!(queued, if turn == 0 { 0 } else { RESUMES_PER_TURN }, "an event is a share of its turn");
        assert!(deadlines > 0 || due == DEADLINES_PER_TURN);
        events += told;
        deadlines += due;
        shares.extend(greedy.resumed);
    }
    assert_eq!(events, SOURCES, "the events of the second batch came in the second turn");
    for token in tokens {
        assert!(shares.contains(&token), "{token:?} starves");
    }
}

#[test]
fn a_source_in_the_run_queue_says_so() {
    let mut reactor = reactor();
    let (token, _sender) = source(&mut reactor, "pipe", Stage::Connections);
    let (other, _other) = source(&mut reactor, "other", Stage::Connections);
    reactor.context().run_again(token);
    assert!(reactor.context().is_queued(token) && !reactor.context().is_queued(other));
    reactor.turn(&mut Toy::new()).expect("a turn");
    assert!(!reactor.context().is_queued(token));
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

#[test]
fn a_table_without_memory_for_more_says_so() {
    let mut reactor = reactor();
    let error = reactor.context().reserve(usize::MAX / 4096).expect_err("no machine has so much");
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    let (token, _sender) = source(&mut reactor, "pipe", Stage::Connections);
    assert!(reactor.context().get(token).is_some(), "the table is as it was");
}
