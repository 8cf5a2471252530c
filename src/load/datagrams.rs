//! Load over UDP: each message is a datagram with a number, and each ends as one of a few things.
//!
//! A datagram may be lost, doubled, overtaken or damaged, and each of these is another thing to know. So every message
//! begins with its number: of a client's first message the client's own, and from one message to its next the number
//! of clients, so that no two messages of a run have the same one. The bytes behind it are the pattern, from a place
//! that follows from the number; so the whole of an answer is known from its first eight bytes.
//!
//! - An answer is **received** if it is the first one to its message and comes in time. If an answer to a later
//!   message of the socket came before it, it is **reordered** too (RFC 4737: its number is smaller than expected).
//! - A message without an answer within the timeout is **lost**, and the next one may leave. Should its answer come
//!   after all, the message was not lost but **late**; it is not counted as received, and has no latency.
//! - A further answer to a message is **duplicated**.
//! - Other bytes behind the right number are **corrupted**: the message is answered, and wrongly.
//! - A datagram with a number that was not sent, or with that of a message which was answered but with other bytes, is
//!   **unknown**. If it was the damaged answer to a message, that one will be lost.
//!
//! So `sent = received + lost + late + corrupted + cut off`: nothing disappears from the figures.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use super::errors::{Cause, remedy};
use super::fault::Mismatch;
use super::figures::MOST_DESCRIBED;
use super::schedule::Turn;
use super::session::Session;
use super::shared::{Pacing, Run};
use super::{Source, State, TURN_BUDGET};
use crate::error::describe;
use crate::net::{ConnectedDatagramSocket, LONGEST_DATAGRAM, Target};
use crate::reactor::{Context, Interest, Moment, Stage as When, Token};

/// The number at the beginning of each message, most significant byte first.
pub(super) const NUMBER_SIZE: usize = size_of::<u64>();
/// Datagrams that one socket may take in a turn, before it is the others' turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// Of so many lost messages a client knows the numbers, to recognise their answers when they come late. An answer that
/// is later than that many losses counts as duplicated.
const LOST_REMEMBERED: usize = 1024;

/// One client: a socket, and what is under way on it.
pub(super) struct DatagramClient {
    socket: ConnectedDatagramSocket,
    client: u32,
    /// The number of its socket, over all sockets of the run.
    number: u64,
    exchange: DatagramExchange,
    /// Something has come from there, so that it is the right address.
    heard: bool,
    free_since: Moment,
    think_until: Moment,
    turn: Option<Turn>,
    completed: u64,
}

/// What a client has sent, and what that means for what it receives.
#[derive(Debug)]
struct DatagramExchange {
    /// The number of the next message, and how far it is from one to the next.
    next: u64,
    step: u64,
    /// An answer with a smaller number than this was overtaken.
    expected: u64,
    /// Messages with this number or a greater one count.
    counted_from: u64,
    /// At most as many as may be under way, in the order of their numbers.
    flights: VecDeque<Flight>,
    /// The numbers of messages that were given up, in the order in which they were.
    lost: VecDeque<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    number: u64,
    size: usize,
    intended: Moment,
    sent: Moment,
}

/// What a datagram turned out to be.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// To this message, right, and the first one.
    Right(Flight, Order),
    /// To this message, and wrong.
    Corrupted,
    Late,
    Duplicated,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Kept,
    Overtaken,
}

impl DatagramExchange {
    fn new(client: u32, clients: usize) -> DatagramExchange {
        DatagramExchange {
            next: client.into(),
            step: clients as u64,
            expected: 0,
            counted_from: u64::MAX,
            flights: VecDeque::new(),
            lost: VecDeque::new(),
        }
    }

    /// The next message, in a buffer that has room for it.
    fn compose(&self, run: &Run, size: usize, message: &mut Vec<u8>) {
        message.clear();
        message.extend_from_slice(&self.next.to_be_bytes());
        message.extend_from_slice(run.pattern.bytes(run.pattern.beginning(self.next), size - NUMBER_SIZE));
    }

    /// The next message has left.
    fn launch(&mut self, size: usize, intended: Moment, sent: Moment, counts: bool) {
        if counts && self.counted_from == u64::MAX {
            self.counted_from = self.next;
        }
        self.flights.push_back(Flight { number: self.next, size, intended, sent });
        self.next += self.step;
    }

    fn was_sent(&self, number: u64) -> bool {
        number < self.next && number % self.step == self.next % self.step
    }

    fn counts(&self, number: u64) -> bool {
        number >= self.counted_from
    }

    /// Finds out what a datagram is, and takes the message out that it answers.
    fn judge(&mut self, run: &Run, bytes: &[u8]) -> Answer {
        let Some((number, behind)) = bytes.split_first_chunk() else { return Answer::Unknown };
        let number = u64::from_be_bytes(*number);
        if !self.was_sent(number) {
            return Answer::Unknown;
        }
        let right = !run.verify
            || behind.len() <= run.pattern.reach()
                && run.pattern.matches(run.pattern.beginning(number), behind);
        match self.flights.binary_search_by_key(&number, |flight| flight.number) {
            Ok(place) => {
                let Some(flight) = self.flights.remove(place) else { return Answer::Unknown };
                if !right || flight.size != bytes.len() {
                    return Answer::Corrupted;
                }
                let order = if number < self.expected { Order::Overtaken } else { Order::Kept };
                self.expected = self.expected.max(number + 1);
                Answer::Right(flight, order)
            }
            Err(_) if !right => Answer::Unknown,
            Err(_) => match self.lost.iter().position(|lost| *lost == number) {
                Some(place) => {
                    self.lost.remove(place);
                    Answer::Late
                }
                None => Answer::Duplicated,
            },
        }
    }

    /// Gives the oldest message up if it was sent by then.
    fn give_up(&mut self, sent_until: Moment) -> Option<Flight> {
        let flight = self.flights.front().copied().filter(|flight| flight.sent <= sent_until)?;
        self.flights.pop_front();
        if self.lost.len() == LOST_REMEMBERED {
            self.lost.pop_front();
        }
        self.lost.push_back(flight.number);
        Some(flight)
    }
}

impl DatagramClient {
    fn new(
        socket: ConnectedDatagramSocket,
        client: u32,
        number: u64,
        clients: usize,
        turn: Option<Turn>,
    ) -> DatagramClient {
        let now = Moment::now();
        DatagramClient {
            socket,
            client,
            number,
            exchange: DatagramExchange::new(client, clients),
            heard: false,
            free_since: now,
            think_until: now,
            turn,
            completed: 0,
        }
    }

    fn under_way(&self) -> usize {
        self.exchange.flights.len()
    }

    /// When the next message is to be sent, if it is time that is in its way.
    fn wakes_at(&self, run: &Run) -> Option<Moment> {
        if self.under_way() >= run.depth as usize || run.budget == 0 {
            return None;
        }
        match run.pacing {
            Pacing::AtOnce | Pacing::OnCall => None,
            Pacing::Thinking(_) => Some(self.think_until),
            Pacing::Scheduled(_) => {
                self.turn.as_ref().map(|turn| turn.due).filter(|due| *due < run.due_until)
            }
        }
    }

    fn may_send(&self, run: &Run, now: Moment) -> bool {
        let has_room = self.under_way() < run.depth as usize && run.budget > 0;
        has_room && (matches!(run.pacing, Pacing::AtOnce) || self.wakes_at(run).is_some_and(|at| at <= now))
    }

    /// The next message has left.
    fn launched(&mut self, run: &mut Run, size: usize, now: Moment) {
        let (mut intended, mut lag) = (now, Duration::ZERO);
        if let (Pacing::Scheduled(schedule), Some(turn)) = (&run.pacing, &mut self.turn) {
            intended = turn.due;
            // The time in which the client could not send, because it waited for answers, is not the generator's.
            lag = now.since(intended.max(self.free_since));
            schedule.advance(turn);
        }
        run.figures.sending(size, intended, lag);
        run.budget -= 1;
        run.in_flight += 1;
        self.exchange.launch(size, intended, now, intended >= run.figures.from);
    }

    /// A message is not under way any more, whatever became of it.
    fn landed(&mut self, run: &mut Run, now: Moment) {
        run.in_flight -= 1;
        if self.under_way() + 1 >= run.depth as usize {
            self.free_since = now;
        }
        if let Pacing::Thinking(time) = run.pacing {
            self.think_until = now + time;
        }
    }

    /// Counts a datagram. True if it is one that nobody should have sent.
    fn received(&mut self, run: &mut Run, bytes: &[u8], now: Moment) -> bool {
        self.heard = true;
        let answer = self.exchange.judge(run, bytes);
        let number = bytes.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        let counts = u64::from(self.exchange.counts(number));
        let counted = &mut run.figures.datagrams;
        match answer {
            Answer::Right(flight, order) => {
                if run.figures.completed(flight.size, flight.intended, flight.sent, now) {
                    self.completed += 1;
                    run.figures.datagrams.reordered += u64::from(order == Order::Overtaken);
                }
                self.landed(run, now);
            }
            Answer::Corrupted => {
                counted.corrupted += counts;
                self.landed(run, now);
            }
            Answer::Late => {
                counted.lost -= counts;
                counted.late += counts;
            }
            Answer::Duplicated => counted.duplicated += counts,
            Answer::Unknown => counted.unknown += 1,
        }
        matches!(answer, Answer::Corrupted | Answer::Unknown)
    }

    /// What a wrong datagram should have been.
    fn describe_mismatch(&self, run: &Run, bytes: &[u8]) -> Mismatch {
        let Some((number, behind)) = bytes.split_first_chunk() else {
            return Mismatch::of_datagram(self.number, &[], bytes);
        };
        let number = u64::from_be_bytes(*number);
        if !self.exchange.was_sent(number) {
            return Mismatch::of_datagram(self.number, &[], bytes);
        }
        let length = behind.len().min(run.pattern.reach());
        let expected = run.pattern.bytes(run.pattern.beginning(number), length);
        Mismatch::of_datagram(self.number, &[&number.to_be_bytes(), expected].concat(), bytes)
    }
}

impl State {
    /// A datagram socket is there at once: nothing is sent for it.
    pub(super) fn open_datagrams(&mut self, context: &mut Context<Source>, session: &Session) {
        self.ramp.ended();
        self.datagram.resize(LONGEST_DATAGRAM, 0);
        if self.insert_datagrams(context, session.client, session.number, None).is_some() {
            self.run.figures.opened += 1;
            self.run.figures.open += 1;
        }
    }

    /// A socket to the address that the endpoint has now.
    fn insert_datagrams(
        &mut self,
        context: &mut Context<Source>,
        client: u32,
        number: u64,
        turn: Option<Turn>,
    ) -> Option<Token> {
        let Some(&Target::Udp(peer)) = self.targets.of(number) else { return None };
        let sources = self.plan.sources.as_ref();
        let source = sources.and_then(|sources| sources.nth(peer.is_ipv4(), number));
        let inserted = ConnectedDatagramSocket::connect(peer, source).and_then(|socket| {
            let client = DatagramClient::new(socket, client, number, self.plan.clients, turn);
            let interest = Interest::READABLE | Interest::WRITABLE;
            context.insert(Source::Datagrams(client), interest, When::Connections)
        });
        if let Err(error) = &inserted {
            self.fail(Cause::of(error), || cannot_send(peer, error, ""));
        }
        inserted.ok()
    }

    /// Sends whatever may be sent now.
    pub(super) fn send_datagrams(&mut self, context: &mut Context<Source>, token: Token) {
        loop {
            let now = Moment::now();
            let Some(Source::Datagrams(client)) = context.get_mut(token) else { return };
            if !client.may_send(&self.run, now) {
                break;
            }
            let size = self.run.next_size();
            client.exchange.compose(&self.run, size, &mut self.staged);
            match client.socket.send(&self.staged) {
                Ok(true) => client.launched(&mut self.run, size, now),
                // An event will come when there is room.
                Ok(false) => return,
                Err(error) => return self.unreachable(context, token, &error),
            }
        }
        if let Some(Source::Datagrams(client)) = context.get(token)
            && let Some(at) = client.wakes_at(&self.run)
        {
            context.set_deadline(token, at);
        }
    }

    /// Takes what has come, and sends what may leave because of it.
    pub(super) fn receive_datagrams(&mut self, context: &mut Context<Source>, token: Token) {
        let mut bytes = 0;
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(Source::Datagrams(client)) = context.get_mut(token) else { return };
            let length = match client.socket.receive(&mut self.datagram) {
                Ok(Some(length)) => length,
                // There may be room again for what could not be sent.
                Ok(None) => return self.send_datagrams(context, token),
                Err(error) => return self.unreachable(context, token, &error),
            };
            if !client.heard {
                self.targets.prove(client.number);
            }
            if client.received(&mut self.run, &self.datagram[..length], Moment::now()) {
                self.wrong_datagram(context, token, length);
            }
            self.send_datagrams(context, token);
            bytes += length;
            if bytes >= TURN_BUDGET {
                break;
            }
        }
        // There may be more, and no event will say so.
        context.run_again(token);
    }

    /// Counts a datagram with other bytes than were sent, and describes the first few.
    #[cold]
    fn wrong_datagram(&mut self, context: &Context<Source>, token: Token, length: usize) {
        let Some(Source::Datagrams(client)) = context.get(token) else { return };
        let number = client.number;
        let described = (self.run.figures.mismatches.len() < MOST_DESCRIBED)
            .then(|| client.describe_mismatch(&self.run, &self.datagram[..length]));
        let words = described
            .as_ref()
            .map_or_else(|| format!("connection {number}: a mismatch"), ToString::to_string);
        if let Some(mismatch) = described {
            log::warn!("{mismatch}");
            self.run.figures.mismatches.push(mismatch);
        }
        self.fail(Cause::Mismatch, || words);
    }

    /// Gives up messages whose answer takes too long.
    pub(super) fn sweep_datagrams(&mut self, context: &mut Context<Source>, now: Moment) {
        let sent_until = now - self.plan.timeout;
        for token in self.clients(context) {
            let Some(Source::Datagrams(client)) = context.get_mut(token) else { continue };
            let mut any = false;
            while let Some(flight) = client.exchange.give_up(sent_until) {
                self.run.figures.datagrams.lost += u64::from(client.exchange.counts(flight.number));
                client.landed(&mut self.run, now);
                any = true;
            }
            if any {
                self.send_datagrams(context, token);
            }
        }
    }

    /// The socket can't be used, or its peer's machine says that nobody receives there.
    fn unreachable(&mut self, context: &mut Context<Source>, token: Token, error: &io::Error) {
        let Some(Source::Datagrams(client)) = context.get(token) else { return };
        let (peer, number, heard) = (client.socket.peer(), client.number, client.heard);
        let is_refusal = error.kind() == ErrorKind::ConnectionRefused;
        if is_refusal && !heard && self.targets.try_next(number, &Target::Udp(peer)) {
            return self.try_other_address(context, token);
        }
        let why = if is_refusal { " (nobody receives on that port, its machine says)" } else { "" };
        self.fail(Cause::of(error), || cannot_send(peer, error, why));
        self.run.figures.lost += 1;
        self.close_datagrams(context, token);
    }

    /// The name has another address: what was sent to this one was sent to nobody, and is sent again.
    fn try_other_address(&mut self, context: &mut Context<Source>, token: Token) {
        let Some(Source::Datagrams(client)) = context.get_mut(token) else { return };
        for Flight { size, intended, .. } in client.exchange.flights.drain(..) {
            self.run.figures.unsent(size, intended);
            self.run.in_flight -= 1;
            self.run.budget = self.run.budget.saturating_add(1);
        }
        let (client, number, turn) = (client.client, client.number, client.turn.take());
        context.remove(token);
        match self.insert_datagrams(context, client, number, turn) {
            Some(token) => self.send_datagrams(context, token),
            None => self.run.figures.open -= 1,
        }
    }

    fn close_datagrams(&mut self, context: &mut Context<Source>, token: Token) {
        let Some(Source::Datagrams(client)) = context.get(token) else { return };
        self.run.in_flight -= client.under_way() as u64;
        self.run.figures.open -= 1;
        self.run.figures.fairness.add(client.completed);
        context.remove(token);
    }
}

impl DatagramClient {
    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    /// Its place in the schedule of an open loop.
    pub(super) fn turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
    }

    /// Which client it is, and where its place in the schedule goes.
    pub(super) fn place(&mut self) -> (u32, &mut Option<Turn>) {
        (self.client, &mut self.turn)
    }

    pub(super) fn socket(&self) -> &ConnectedDatagramSocket {
        &self.socket
    }
}

fn cannot_send(peer: SocketAddr, error: &io::Error, why: &str) -> String {
    format!("cannot send to udp://{peer}: {}{why}{}", describe(error), remedy(error))
}
