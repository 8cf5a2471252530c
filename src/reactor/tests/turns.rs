//! The order of a turn, edges, and sources that come and go.

use std::io::{ErrorKind, Read, Seek, Write};

use super::*;

#[test]
fn a_turn_has_the_order_that_the_diagram_shows() {
    let mut reactor = reactor();
    // Register in the opposite order, so that the kernel's order can't pass the test.
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

    // The handler has read nothing, and yet no second event comes: only the run queue brings the source back.
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
    // The first source that has a call removes both. No queue entry, deadline or event of either may follow.
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
    // The first source with an event removes the other one and inserts a new one. The new source must not get the slot
    // of the removed one, whose event is still in the batch.
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
