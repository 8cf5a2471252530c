//! The bound of a turn, and the memory of the tables.

use std::io::ErrorKind;

use super::*;

/// Each source that has a share asks for another one at once.
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
    // In so many turns each source has had its share once, if no source has two before.
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
fn a_table_without_memory_for_more_says_so() {
    let mut reactor = reactor();
    let error = reactor.context().reserve(usize::MAX / 4096).expect_err("no machine has so much");
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    let (token, _sender) = source(&mut reactor, "pipe", Stage::Connections);
    assert!(reactor.context().get(token).is_some(), "the table is as it was");
}

#[test]
fn a_place_in_the_run_queue_and_a_deadline_need_no_memory_once_a_source_is_in() {
    const SOURCES: usize = 300;
    let mut reactor = reactor();
    let context = reactor.context();
    let mut pipes = Vec::new();
    let mut insert = |context: &mut Context<Source>| {
        let (sender, receiver) = pipe::new().expect("a pipe");
        pipes.push(sender);
        context.insert_unpolled(Source { name: "pipe", receiver }, Stage::Connections).expect("room")
    };
    let everything_at_once = |context: &mut Context<Source>, token| {
        let room = context.room();
        context.run_again(token);
        context.set_deadline(token, Moment::now());
        assert_eq!(context.room(), room);
    };
    let mut tokens: Vec<Token> = (0..SOURCES).map(|_| insert(context)).collect();
    tokens.iter().for_each(|token| everything_at_once(context, *token));
    // Sources that come and go leave entries in the run queue. These must not take the places of others.
    for round in 0..4 * SOURCES {
        let place = round % SOURCES;
        context.remove(tokens[place]);
        context.free_removed();
        tokens[place] = insert(context);
        everything_at_once(context, tokens[place]);
    }
    assert!(tokens.iter().all(|token| context.is_queued(*token)));
    assert!(context.room()[0] < 4 * SOURCES, "{:?}", context.room());
}
