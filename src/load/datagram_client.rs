//! A client over UDP: its socket, and the fate of each message on it. [`Datagrams`] judges the messages.

use std::io;
use std::time::Duration;

use super::client::Client;
use super::datagrams::{Answer, Datagrams, Flight, Order};
use super::mismatch::Mismatch;
use super::traffic::Traffic;
use crate::net::ConnectedDatagramSocket;
use crate::reactor::Moment;

/// One client over UDP.
pub(super) struct DatagramClient {
    pub(super) client: Client,
    socket: ConnectedDatagramSocket,
    datagrams: Datagrams,
    /// Whether an answer has come, so that the address is the right one.
    heard: bool,
    /// Nobody received there, so the client sends nothing before this moment.
    refused_until: Option<Moment>,
}

/// A datagram that arrived.
pub(super) struct Received {
    pub(super) length: usize,
    /// Whether it has bytes that nobody should have sent.
    pub(super) is_wrong: bool,
    /// Whether it is the first one that came.
    pub(super) is_first: bool,
    /// Whether it is the first one after a refusal.
    pub(super) is_back: bool,
}

impl DatagramClient {
    pub(super) fn new(socket: ConnectedDatagramSocket, client: Client, clients: usize) -> DatagramClient {
        let datagrams = Datagrams::new(client.pacer.client(), clients);
        DatagramClient { client, socket, datagrams, heard: false, refused_until: None }
    }

    pub(super) fn socket(&self) -> &ConnectedDatagramSocket {
        &self.socket
    }

    /// Whether an answer has ever come.
    pub(super) fn was_heard(&self) -> bool {
        self.heard
    }

    /// Whether the peer's machine refused the last message.
    pub(super) fn is_refused(&self) -> bool {
        self.refused_until.is_some()
    }

    /// When the next message may leave, if only time is in its way.
    pub(super) fn wakes_at(&self, traffic: &Traffic) -> Option<Moment> {
        let pacing = &traffic.pacing;
        match self.refused_until {
            Some(until) if pacing.budget() > 0 => Some(until.max(self.client.pacer.due())),
            _ => self.client.pacer.wakes_at(pacing),
        }
    }

    /// Sends all messages that may leave now, through the buffer. False: the socket has no room, and an event will
    /// report room.
    pub(super) fn send(&mut self, traffic: &mut Traffic, buffer: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let now = Moment::now();
            let is_held = self.refused_until.is_some_and(|until| now < until);
            if is_held || !self.client.pacer.may_send(&traffic.pacing, now) {
                return Ok(true);
            }
            let size = self.datagrams.compose(traffic, buffer);
            if !self.socket.send(buffer)? {
                return Ok(false);
            }
            let departure = self.client.pacer.sent(&mut traffic.pacing, now);
            traffic.figures.sending(size, departure.intended, departure.lag);
            let counts = departure.intended >= traffic.figures.from;
            self.datagrams.launch(size, departure.intended, now, counts);
        }
    }

    /// Takes one datagram from the socket, if there is one. An answer that took longer than the timeout is too late.
    pub(super) fn receive(
        &mut self,
        traffic: &mut Traffic,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> io::Result<Option<Received>> {
        let Some(length) = self.socket.receive(buffer)? else { return Ok(None) };
        let now = Moment::now();
        let is_first = !std::mem::replace(&mut self.heard, true);
        let is_back = self.refused_until.take().is_some();
        let is_wrong = self.count(traffic, &buffer[..length], now, now - timeout);
        Ok(Some(Received { length, is_wrong, is_first, is_back }))
    }

    /// Counts a datagram. True if nobody should have sent it.
    fn count(&mut self, traffic: &mut Traffic, bytes: &[u8], now: Moment, sent_after: Moment) -> bool {
        let answer = self.datagrams.judge(traffic, bytes, sent_after);
        let number = bytes.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        let counts = u64::from(self.datagrams.counts(number));
        let counted = &mut traffic.figures.datagrams;
        match answer {
            Answer::Right(Flight { size, intended, sent, .. }, order) => {
                if self.client.replied(traffic, size, (intended, sent), now) {
                    traffic.figures.datagrams.reordered += u64::from(order == Order::Overtaken);
                }
            }
            Answer::Corrupted => {
                counted.corrupted += counts;
                self.client.pacer.landed(&mut traffic.pacing, now);
            }
            Answer::Overdue => {
                counted.late += counts;
                self.client.pacer.landed(&mut traffic.pacing, now);
            }
            Answer::Late(was_lost) => {
                counted.lost -= if was_lost { counts } else { 0 };
                counted.late += counts;
            }
            Answer::Duplicated => counted.duplicated += counts,
            Answer::Unknown => counted.unknown += 1,
        }
        matches!(answer, Answer::Corrupted | Answer::Unknown)
    }

    /// Describes the bytes that came, and the bytes that should have come instead.
    pub(super) fn describe_mismatch(&self, traffic: &Traffic, bytes: &[u8]) -> Mismatch {
        let was_sent = |number: &[u8; 8]| self.datagrams.was_sent(u64::from_be_bytes(*number));
        let Some(number) = bytes.first_chunk().filter(|number| was_sent(number)) else {
            return Mismatch::of_datagram(self.client.number, &[], bytes);
        };
        let expected = Datagrams::message(traffic, u64::from_be_bytes(*number));
        Mismatch::of_datagram(self.client.number, &expected, bytes)
    }

    /// Gives up the messages that were sent until this moment. True if there were any.
    pub(super) fn give_up(&mut self, traffic: &mut Traffic, sent_until: Moment, now: Moment) -> bool {
        let mut any = false;
        while let Some(flight) = self.datagrams.give_up(sent_until) {
            traffic.figures.datagrams.lost += u64::from(self.datagrams.counts(flight.number));
            self.client.pacer.landed(&mut traffic.pacing, now);
            any = true;
        }
        any
    }

    /// Handles a refusal: cuts off the messages under way, and sends nothing before `until`.
    pub(super) fn refused(&mut self, traffic: &mut Traffic, until: Moment) {
        self.client.pacer.cut_off(&mut traffic.pacing);
        self.client.pacer.connected(None, until);
        self.datagrams.cut_off();
        self.refused_until = Some(until);
    }

    /// Takes back the messages under way, because nobody received them: the client sends other messages instead. But a
    /// schedule that ends at a fixed time goes on, so there these messages count as not sent.
    pub(super) fn take_back(&mut self, traffic: &mut Traffic, ends_at_a_time: bool) {
        self.client.pacer.cut_off(&mut traffic.pacing);
        for Flight { size, intended, .. } in self.datagrams.take_back() {
            let counted = traffic.figures.unsent(size, intended);
            let is_owed = counted && ends_at_a_time && traffic.pacing.is_scheduled();
            traffic.figures.messages.not_sent += u64::from(is_owed);
            traffic.pacing.refund();
        }
    }

    /// Forgets all messages sent so far: they do not count.
    pub(super) fn forget_messages(&mut self) {
        self.client.forget();
        self.datagrams.forget();
    }
}
