//! A client over UDP: a socket, and when it sends its next message. What becomes of messages is judged in
//! [`DatagramExchange`].

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;

use super::cause::{Cause, remedy};
use super::datagram_exchange::{Answer, DatagramExchange, Flight, Order};
use super::fault::Mismatch;
use super::figures::MOST_DESCRIBED;
use super::schedule::Turn;
use super::session::Session;
use super::shared::{Pacing, Run};
use super::{Source, State, TURN_BUDGET};
use crate::net::{ConnectedDatagramSocket, LONGEST_DATAGRAM, Target};
use crate::reactor::{Context, Interest, Moment, Stage, Token};
use crate::system::describe;

/// Datagrams that one socket may take in a turn, before it is the others' turn.
const DATAGRAMS_PER_TURN: usize = 64;

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
        self.exchange.under_way()
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

    /// A socket to the address that the endpoint has now, or to the next one to which there is a way.
    fn insert_datagrams(
        &mut self,
        context: &mut Context<Source>,
        client: u32,
        number: u64,
        mut turn: Option<Turn>,
    ) -> Option<Token> {
        loop {
            let Some(&Target::Udp(peer)) = self.targets.of(number) else { return None };
            let sources = self.plan.sources.as_ref();
            let source = sources.and_then(|sources| sources.nth(peer.is_ipv4(), number));
            let inserted = ConnectedDatagramSocket::connect(peer, source).and_then(|socket| {
                let client = DatagramClient::new(socket, client, number, self.plan.clients, turn.take());
                let interest = Interest::READABLE | Interest::WRITABLE;
                context.insert(Source::Datagrams(client), interest, Stage::Connections)
            });
            let error = match inserted {
                Ok(token) => return Some(token),
                Err(error) => error,
            };
            if !is_want(&error) && self.targets.try_next(number, &Target::Udp(peer)) {
                continue;
            }
            self.fail(Cause::of(&error), || cannot_send(peer, &error, ""));
            return None;
        }
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
        let words = self.run.figures.keep_mismatch(number, described);
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

    /// The name has another address: what was sent to this one was sent to nobody. Another message is sent instead; but
    /// a schedule goes on, and if it is a time that ends it, nothing takes the place of what was due before.
    fn try_other_address(&mut self, context: &mut Context<Source>, token: Token) {
        let Some(Source::Datagrams(client)) = context.get_mut(token) else { return };
        let is_owed = matches!(self.run.pacing, Pacing::Scheduled(_)) && self.plan.messages.is_none();
        for Flight { size, intended, .. } in client.exchange.take_back() {
            let counted = self.run.figures.unsent(size, intended);
            self.run.figures.not_sent += u64::from(counted && is_owed);
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

    /// Nothing that it has sent counts.
    pub(super) fn forget_messages(&mut self) {
        self.completed = 0;
        self.exchange.forget();
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

/// Whether there are too few descriptors or too little memory, which another address does not help.
fn is_want(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|code| wants.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::super::plan::{Arrivals, Pace, Plan};
    use super::super::targets::Targets;
    use super::super::{Load, Verdict};
    use super::*;
    use crate::system::StopSignal;

    #[test]
    fn where_nobody_listens_the_next_address_is_tried_and_no_message_is_missing() {
        for pace in
            [Pace::Closed { think: Duration::ZERO }, Pace::Open { rate: 2000.0, arrivals: Arrivals::Fixed }]
        {
            let [dead, alive] =
                [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback"));
            let addresses = [&dead, &alive].map(|socket| socket.local_addr().expect("it is bound"));
            drop(dead);
            alive.set_read_timeout(Some(Duration::from_secs(60))).expect("a positive time");
            let server = std::thread::spawn(move || {
                let mut buffer = [0; 100];
                for _ in 0..100 {
                    let (length, from) = alive.recv_from(&mut buffer).expect("a datagram comes");
                    alive.send_to(&buffer[..length], from).expect("it can be sent");
                }
            });
            let endpoint = "udp://localhost:7".parse().expect("an endpoint");
            let timeout = Duration::from_secs(60);
            let plan = Plan {
                messages: Some(100),
                depth: 2,
                clients: 3,
                timeout,
                pace,
                ..Plan::new(vec![endpoint])
            };
            let mut load = Load::new(plan, StopSignal::new().expect("a pipe")).expect("it is possible");
            load.state.targets = Targets::of_addresses(addresses.map(Target::Udp).into());
            let report = load.run().expect("the loop runs");
            server.join().expect("no panic");
            assert_eq!(Verdict::of(&report, &[]), Verdict::Good, "{report:?}");
            assert_eq!((report.messages.sent, report.messages.received, report.bytes.sent), (100, 100, 6400));
        }
    }

    /// An echo over UDP until a datagram without bytes comes.
    fn echo() -> (SocketAddr, std::thread::JoinHandle<()>) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = socket.local_addr().expect("it is bound");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a positive time");
        let serving = std::thread::spawn(move || {
            let mut buffer = [0; 100];
            while let Ok((1.., from)) = socket.recv_from(&mut buffer) {
                // All messages have the same length.
                socket.send_to(&buffer[..64], from).expect("it can be sent");
            }
        });
        (address, serving)
    }

    fn stop(address: SocketAddr, serving: std::thread::JoinHandle<()>) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        socket.send_to(&[], address).expect("it can be sent");
        serving.join().expect("no panic");
    }

    #[test]
    fn where_no_way_leads_the_next_address_is_tried() {
        let (alive, serving) = echo();
        // To everyone: the system forbids that to a socket that has not asked for leave.
        let forbidden = SocketAddr::from((Ipv4Addr::BROADCAST, alive.port()));
        let endpoint = "udp://localhost:7".parse().expect("an endpoint");
        let plan = Plan { messages: Some(50), clients: 3, ..Plan::new(vec![endpoint]) };
        let mut load = Load::new(plan, StopSignal::new().expect("a pipe")).expect("it is possible");
        load.state.targets = Targets::of_addresses([forbidden, alive].map(Target::Udp).into());
        let report = load.run().expect("the loop runs");
        stop(alive, serving);
        assert_eq!(Verdict::of(&report, &[]), Verdict::Good, "{report:?}");
        assert_eq!((report.connections.opened, report.messages.received), (3, 50), "{report:?}");
    }

    #[test]
    fn what_was_taken_back_and_is_not_due_again_is_not_sent() {
        let (alive, serving) = echo();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let dead = socket.local_addr().expect("it is bound");
        drop(socket);
        let endpoint = "udp://localhost:7".parse().expect("an endpoint");
        let plan = Plan {
            duration: Duration::from_millis(500),
            pace: Pace::Open { rate: 200.0, arrivals: Arrivals::Fixed },
            clients: 4,
            timeout: Duration::from_secs(60),
            ..Plan::new(vec![endpoint])
        };
        let mut load = Load::new(plan, StopSignal::new().expect("a pipe")).expect("it is possible");
        load.state.targets = Targets::of_addresses([dead, alive].map(Target::Udp).into());
        let report = load.run().expect("the loop runs");
        stop(alive, serving);
        let messages = report.messages;
        assert_eq!((messages.sent + messages.not_sent, report.errors.total()), (100, 0), "{report:?}");
        assert!((1..=4).contains(&messages.not_sent), "one of each client that had sent: {report:?}");
    }
}
