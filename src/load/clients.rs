//! All clients: each event goes to its client, and each part of the run to all clients.

use std::rc::Rc;

use super::client::Client;
use super::datagram_clients::DatagramClients;
use super::dialler::{Begun, Dialler};
use super::plan::Plan;
use super::series::Point;
use super::slot::Slot;
use super::stream_clients::StreamClients;
use super::surroundings::Surroundings;
use super::targets::{Ceiling, Targets};
use super::traffic::Traffic;
use crate::reactor::{Context, Moment, Readiness, Token};

/// All clients, with everything that moves their bytes.
pub(super) struct Clients {
    traffic: Traffic,
    dialler: Dialler,
    streams: StreamClients,
    datagrams: DatagramClients,
}

impl Clients {
    pub(super) fn new(plan: Rc<Plan>, targets: Targets, ceiling: Ceiling, now: Moment) -> Clients {
        Clients {
            traffic: Traffic::new(&plan, now),
            streams: StreamClients::new(),
            datagrams: DatagramClients::new(plan.is_over_udp()),
            dialler: Dialler::new(plan, targets, ceiling, now),
        }
    }

    pub(super) fn traffic(&mut self) -> &mut Traffic {
        &mut self.traffic
    }

    /// Replaces the resolved addresses.
    #[cfg(test)]
    pub(super) fn set_targets(&mut self, targets: Targets) {
        self.dialler.targets = targets;
    }

    fn parts<'a>(
        &'a mut self,
        context: &'a mut Context<Slot>,
    ) -> (Surroundings<'a>, &'a mut StreamClients, &'a mut DatagramClients) {
        let around = Surroundings { context, dialler: &mut self.dialler, traffic: &mut self.traffic };
        (around, &mut self.streams, &mut self.datagrams)
    }

    // Events

    /// Hands an event to its client.
    pub(super) fn ready(&mut self, context: &mut Context<Slot>, token: Token, readiness: Readiness) {
        let (mut around, streams, datagrams) = self.parts(context);
        match around.context.get(token) {
            Some(Slot::Stream(_)) => streams.ready(&mut around, token, readiness),
            Some(Slot::Datagrams(_)) => datagrams.receive(&mut around, token),
            Some(Slot::Stop(_)) | None => {}
        }
    }

    /// Lets the client go on where it stopped.
    pub(super) fn resume(&mut self, context: &mut Context<Slot>, token: Token) {
        let (mut around, streams, datagrams) = self.parts(context);
        match around.context.get(token) {
            Some(Slot::Datagrams(_)) => datagrams.receive(&mut around, token),
            _ => streams.pump(&mut around, token),
        }
    }

    /// Handles the client's deadline: its next message is due, or its time is up.
    pub(super) fn deadline(&mut self, context: &mut Context<Slot>, token: Token) {
        let (mut around, streams, datagrams) = self.parts(context);
        match around.context.get(token) {
            Some(Slot::Datagrams(_)) => datagrams.send(&mut around, token),
            _ => streams.deadline(&mut around, token),
        }
    }

    /// Begins all connections that may begin now.
    pub(super) fn connect(&mut self, context: &mut Context<Slot>) {
        let now = Moment::now();
        let (mut around, streams, datagrams) = self.parts(context);
        while let Some(begun) = around.dialler.next(around.traffic, now) {
            match begun {
                Begun::Stream { client, socket, began } => streams.add(&mut around, client, socket, began),
                Begun::Datagrams(client) => datagrams.add(&mut around, client),
            }
        }
    }

    /// The moment at which the next connection may begin, if only time is in its way.
    pub(super) fn connects_at(&self) -> Option<Moment> {
        self.dialler.queue.wakes_at()
    }

    /// Gives up handshakes, replies and answers over UDP that take too long.
    pub(super) fn sweep(&mut self, context: &mut Context<Slot>, now: Moment) {
        let (mut around, streams, datagrams) = self.parts(context);
        if around.dialler.plan.is_over_udp() {
            datagrams.sweep(&mut around, now);
        } else {
            streams.sweep(&mut around, now);
        }
    }

    // The run as a whole

    /// Whether each client has its first connection and greeting, or has failed to get them.
    pub(super) fn all_have_connected(&self) -> bool {
        self.dialler.queue.all_have_tried() && self.streams.ungreeted() == 0
    }

    /// Whether no client has a connection or will get one. A client that never reached a server does not wait for one
    /// to appear.
    pub(super) fn nobody_is_left(&self) -> bool {
        let is_awaited = self.dialler.has_heard() && self.datagrams.refused() > 0;
        self.traffic.figures.open == 0 && self.dialler.queue.is_empty() && !is_awaited
    }

    /// The number of connects under way.
    pub(super) fn connecting(&self) -> usize {
        self.dialler.queue.ramp.under_way()
    }

    /// Lets all clients that were given up connect again.
    pub(super) fn reopen(&mut self) {
        self.dialler.reopen();
    }

    /// Lets messages flow from now on; in an open loop the schedule begins now.
    pub(super) fn start(&mut self, context: &mut Context<Slot>, now: Moment) {
        let Traffic { pacing, seed, .. } = &mut self.traffic;
        pacing.begin(now);
        for_each_client(context, |client| client.pacer.reschedule(pacing, *seed));
        self.dialler.start(&self.traffic, now);
    }

    /// Begins the measured part: messages that were due before it and have not left do not leave.
    pub(super) fn skip_backlog(&mut self, context: &mut Context<Slot>, now: Moment) {
        let pacing = &self.traffic.pacing;
        for_each_client(context, |client| client.pacer.skip_to(now, pacing));
        self.dialler.queue.for_each(|client| client.pacer.skip_to(now, pacing));
    }

    /// Lets each client send all that it may send now.
    pub(super) fn send_all(&mut self, context: &mut Context<Slot>) {
        let (mut around, streams, datagrams) = self.parts(context);
        for token in around.context.tokens().collect::<Vec<_>>() {
            match around.context.get(token) {
                Some(Slot::Stream(client)) if !client.is_ending => streams.send(&mut around, token),
                Some(Slot::Datagrams(_)) => datagrams.send(&mut around, token),
                _ => {}
            }
        }
    }

    /// Allows each client one more message, if messages leave on call.
    pub(super) fn call_all(&mut self, context: &mut Context<Slot>, now: Moment) {
        let pacing = &self.traffic.pacing;
        for_each_client(context, |client| client.pacer.call(pacing, now));
        self.send_all(context);
    }

    /// Forgets all messages sent so far: they do not count.
    pub(super) fn forget_messages(&mut self, context: &mut Context<Slot>) {
        self.traffic.figures.forget_messages();
        self.dialler.queue.for_each(Client::forget);
        for token in context.tokens().collect::<Vec<_>>() {
            match context.get_mut(token) {
                Some(Slot::Stream(client)) => client.client.forget(),
                // An answer to a message that was lost before may still come.
                Some(Slot::Datagrams(client)) => client.forget_messages(),
                Some(Slot::Stop(_)) | None => {}
            }
        }
    }

    /// Begins nothing new from now on. A message that was due until `end` and has not left stays unsent.
    pub(super) fn wind_down(&mut self, context: &Context<Slot>, end: Moment) {
        self.dialler.end();
        let Traffic { pacing, figures, .. } = &mut self.traffic;
        figures.outages.finish(end);
        if self.dialler.plan.messages.is_none() {
            let owed = |client: &Client| client.pacer.owed(pacing, figures.from, end);
            figures.messages.not_sent +=
                clients(context).chain(self.dialler.queue.clients()).map(owed).sum::<u64>();
        }
    }

    /// Completes the figures: judges differences without further evidence, and counts all clients. Returns the last
    /// interval, if replies came after the measured part.
    pub(super) fn settle(&mut self, context: &mut Context<Slot>) -> Option<Point> {
        self.dialler.queue.give_all_up();
        let (mut around, streams, _) = self.parts(context);
        streams.settle(&mut around);
        let figures = &mut self.traffic.figures;
        let last = figures.settle();
        for client in clients(context).chain(self.dialler.queue.clients()).filter(|client| client.was_open) {
            figures.fairness.add(client.completed);
        }
        last
    }

    /// Ends all connections. True if there is any peer's end to await.
    pub(super) fn end_all(&mut self, context: &mut Context<Slot>) -> bool {
        let (mut around, streams, _) = self.parts(context);
        streams.end_all(&mut around)
    }

    /// Connections that only await their peer's end.
    pub(super) fn ending(&self) -> usize {
        self.streams.ending()
    }
}

/// The clients in the reactor: all clients that have a connection or a datagram socket.
fn clients(context: &Context<Slot>) -> impl Iterator<Item = &Client> {
    context.tokens().filter_map(|token| match context.get(token)? {
        Slot::Stream(client) => (!client.is_ending).then_some(&client.client),
        Slot::Datagrams(client) => Some(&client.client),
        Slot::Stop(_) => None,
    })
}

fn for_each_client(context: &mut Context<Slot>, mut change: impl FnMut(&mut Client)) {
    for token in context.tokens().collect::<Vec<_>>() {
        match context.get_mut(token) {
            Some(Slot::Stream(client)) => change(&mut client.client),
            Some(Slot::Datagrams(client)) => change(&mut client.client),
            Some(Slot::Stop(_)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests;
