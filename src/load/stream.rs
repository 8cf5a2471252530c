//! A client's messages on one connection: the next one to send, the replies to come, and whether they are right.

use std::fmt;

use super::client::Client;
use super::flights::{Flight, Flights};
use super::greetings::Awaited;
use super::mismatch::Fault;
use super::pattern::Place;
use super::replies::{Incoming, Replies};
use super::traffic::Traffic;
use crate::reactor::Moment;

/// The messages and replies of one connection.
#[derive(Debug)]
pub(super) struct Stream {
    number: u64,
    /// When the connection was established; until then, when the connect began.
    pub(super) began: Moment,
    pub(super) connecting: bool,
    /// Whether the driver has to look: see [`Stream::take_attention`].
    attention: bool,
    /// Whether input only needs comparing: the stream awaits no greeting, and has found no difference.
    pub(super) plain: bool,
    /// The server's greeting, which comes before anything is sent.
    greeting: Option<Box<Awaited>>,
    /// Whether the greeting is complete and the driver does not know yet.
    greeted: bool,
    write_at: Place,
    read_at: Place,
    /// Bytes of the oldest message under way that have not come back yet.
    missing: usize,
    /// Bytes of all messages under way that have not come back yet.
    pub(super) outstanding: u64,
    /// Bytes that came back.
    returned: u64,
    /// Replies that are not echoes.
    incoming: Option<Box<Incoming>>,
    flights: Flights,
    /// The source of the lengths of messages.
    lengths: fastrand::Rng,
    pub(super) fault: Option<Box<Fault>>,
}

impl Stream {
    /// A stream for the connection with this number, which begins to connect.
    pub(super) fn new(number: u64, greeting: u32, traffic: &Traffic, now: Moment) -> Stream {
        let beginning = traffic.pattern.beginning(number);
        Stream {
            number,
            began: now,
            connecting: true,
            attention: false,
            plain: greeting == 0,
            greeting: (greeting > 0).then(|| Box::new(Awaited::new(greeting as usize))),
            greeted: false,
            write_at: beginning,
            read_at: beginning,
            missing: 0,
            outstanding: 0,
            returned: 0,
            incoming: None,
            flights: Flights::new(now),
            lengths: traffic.lengths(number),
            fault: None,
        }
    }

    /// Notes that the connection is established.
    pub(super) fn established(&mut self, now: Moment) {
        self.connecting = false;
        self.began = now;
    }

    /// Bytes or replies that should still come.
    pub(super) fn missing(&self, replies: Replies) -> Missing {
        match self.missing_greeting() {
            Some(bytes) => Missing { count: bytes as u64, of: "bytes of the greeting" },
            None if replies == Replies::Echo => Missing { count: self.outstanding, of: "bytes of replies" },
            None => Missing { count: self.flights.len().into(), of: "replies" },
        }
    }

    /// Bytes of the greeting that have not come, if it is awaited.
    pub(super) fn missing_greeting(&self) -> Option<usize> {
        self.greeting.as_ref().map(|greeting| greeting.missing())
    }

    /// Whether the greeting is incomplete, or the driver does not know that it is complete.
    pub(super) fn is_ungreeted(&self) -> bool {
        self.greeting.is_some() || self.greeted
    }

    /// Whether the greeting has become complete since this was asked.
    pub(super) fn take_greeted(&mut self) -> bool {
        std::mem::take(&mut self.greeted)
    }

    /// Whether the driver has to look: a reply is complete and the next message waits, or a difference was found.
    pub(super) fn take_attention(&mut self) -> bool {
        std::mem::take(&mut self.attention)
    }

    /// Whether no message is under way.
    pub(super) fn is_done(&self) -> bool {
        self.flights.is_empty()
    }

    /// Whether all awaited replies have come, and at least one.
    pub(super) fn is_replied_to(&self) -> bool {
        self.returned > 0 && self.is_done() && self.fault.is_none() && self.greeting.is_none()
    }

    /// The moment since which the stream has awaited the greeting, or the reply to the oldest message under way.
    pub(super) fn waiting_since(&self) -> Option<Moment> {
        if self.greeting.is_some() {
            return Some(self.began);
        }
        self.flights.oldest().map(|flight| flight.sent)
    }

    /// The messages that may leave now: they are the stream's next bytes. If they do not fit into one piece of the
    /// table, all but the last piece go through `staged`.
    pub(super) fn compose<'a>(
        &mut self,
        client: &mut Client,
        traffic: &'a mut Traffic,
        now: Moment,
        staged: &mut Vec<u8>,
    ) -> &'a [u8] {
        if self.greeting.is_some() {
            return &[];
        }
        if traffic.replies != Replies::Echo {
            self.stage_requests(client, traffic, now, staged);
            return &[];
        }
        let (mut start, mut length) = (self.write_at, 0);
        while client.pacer.may_send(&traffic.pacing, now) {
            let size = traffic.sizes.draw(&mut self.lengths);
            if length + size > traffic.pattern.reach() {
                staged.extend_from_slice(traffic.pattern.bytes(start, length));
                start = traffic.pattern.advance(start, length);
                length = 0;
            }
            length += size;
            self.launch(client, traffic, size, now);
        }
        self.write_at = traffic.pattern.advance(start, length);
        traffic.pattern.bytes(start, length)
    }

    /// The messages that may leave now, to a service that does not echo.
    fn stage_requests(
        &mut self,
        client: &mut Client,
        traffic: &mut Traffic,
        now: Moment,
        staged: &mut Vec<u8>,
    ) {
        while client.pacer.may_send(&traffic.pacing, now) {
            let size = traffic.sizes.draw(&mut self.lengths);
            staged.extend_from_slice(traffic.requests.of(size));
            self.launch(client, traffic, size, now);
        }
    }

    fn launch(&mut self, client: &mut Client, traffic: &mut Traffic, size: usize, now: Moment) {
        let departure = client.pacer.sent(&mut traffic.pacing, now);
        traffic.figures.sending(size, departure.intended, departure.lag);
        self.outstanding += size as u64;
        if self.flights.is_empty() {
            self.missing = size;
        }
        self.flights.push(Flight { intended: departure.intended, sent: now, size: size as u32 });
    }

    /// Takes in bytes that are known to be the right ones, and returns the time if they completed a reply.
    pub(super) fn accept(
        &mut self,
        client: &mut Client,
        traffic: &mut Traffic,
        count: usize,
    ) -> Option<Moment> {
        self.returned += count as u64;
        self.outstanding -= count as u64;
        self.read_at = traffic.pattern.advance(self.read_at, count);
        if count < self.missing {
            self.missing -= count;
            return None;
        }
        let now = Moment::now();
        let mut rest = count;
        while !self.flights.is_empty() && rest >= self.missing {
            rest -= self.missing;
            let Flight { intended, sent, size } = self.flights.pop();
            client.replied(traffic, size as usize, (intended, sent), now);
            self.missing = self.flights.oldest().map_or(0, |flight| flight.size as usize);
        }
        self.missing -= rest;
        // In a plain closed loop the driver has nothing to do: the next message is the answer.
        self.attention = traffic.churn || !traffic.pacing.is_at_once();
        Some(now)
    }

    /// Takes replies that are not echoes, and returns the time if any is complete.
    pub(super) fn take_replies(
        &mut self,
        client: &mut Client,
        traffic: &mut Traffic,
        chunk: &[u8],
    ) -> Option<Moment> {
        let mut rest = self.take_greeting(client, traffic, chunk);
        let now = Moment::now();
        let mut completed = None;
        while !rest.is_empty() && self.fault.is_none() {
            if self.is_done() && traffic.replies == Replies::Any {
                // Another piece of the reply before, if there was one.
                if let Some(flight) = self.flights.latest().filter(|_| self.returned > 0) {
                    traffic.figures.more_of_a_reply(rest.len(), flight.intended);
                }
                break;
            }
            let incoming = self.incoming.get_or_insert_default();
            let (length, behind) = incoming.take(traffic.replies, rest);
            match length {
                Some(length) if !self.flights.is_empty() => {
                    let Flight { intended, sent, .. } = self.flights.pop();
                    client.replied(traffic, length, (intended, sent), now);
                    completed = Some(now);
                }
                Some(_) => {
                    let surplus = [incoming.beginning(), rest].concat();
                    self.fault = Some(Box::new(Fault::surplus(self.number, self.returned, &surplus)));
                }
                None => {}
            }
            self.returned += length.unwrap_or(0) as u64;
            rest = behind;
        }
        self.attention |= self.fault.is_some() || traffic.churn || !traffic.pacing.is_at_once();
        if self.fault.is_some() { None } else { completed }
    }

    /// Handles everything out of the ordinary: a greeting, a difference, more bytes than were sent.
    #[cold]
    pub(super) fn unusual<'a>(
        &mut self,
        client: &mut Client,
        traffic: &mut Traffic,
        mut chunk: &'a [u8],
    ) -> &'a [u8] {
        chunk = self.take_greeting(client, traffic, chunk);
        self.plain = self.greeting.is_none() && self.fault.is_none();
        if chunk.is_empty() || (self.plain && self.is_right(traffic, chunk)) {
            return chunk;
        }
        if self.fault.is_none() {
            // Bytes that are right before the difference count.
            let expected = chunk.len().min(usize::try_from(self.outstanding).unwrap_or(usize::MAX));
            let agreed = if traffic.verify {
                traffic.pattern.agreement(self.read_at, &chunk[..expected])
            } else {
                expected
            };
            if agreed > 0 {
                self.accept(client, traffic, agreed);
                chunk = &chunk[agreed..];
            }
            let fault = Fault::new(self.number, self.returned, self.read_at, self.outstanding);
            self.fault = Some(Box::new(fault));
            self.plain = false;
        }
        if let Some(fault) = &mut self.fault {
            fault.add(chunk);
        }
        self.attention = true;
        &[]
    }

    /// Takes the greeting, or as much of it as came, and returns the rest.
    fn take_greeting<'a>(&mut self, client: &mut Client, traffic: &mut Traffic, chunk: &'a [u8]) -> &'a [u8] {
        let Some(greeting) = &mut self.greeting else { return chunk };
        let rest = greeting.take(chunk);
        if greeting.missing() == 0 {
            if let Some(greeting) = self.greeting.take() {
                traffic.figures.greetings.count(*greeting);
            }
            self.greeted = true;
            self.attention = true;
            // The server, not the generator, kept the client from sending until now.
            client.pacer.connected(None, Moment::now());
        }
        rest
    }

    /// Whether these are the bytes that were sent.
    pub(super) fn is_right(&self, traffic: &Traffic, chunk: &[u8]) -> bool {
        chunk.len() as u64 <= self.outstanding
            && (!traffic.verify || traffic.pattern.matches(self.read_at, chunk))
    }
}

/// Bytes or replies that should have come and have not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    count: u64,
    of: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.of)
    }
}
