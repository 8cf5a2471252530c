//! Connections begin: as fast as the ramp allows, each to its target and from its source.

use std::cmp::Ordering;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;

use super::cause::{Cause, remedy};
use super::figures::MOST_DESCRIBED;
use super::plan::Usage;
use super::schedule::Turn;
use super::session::Session;
use super::shared::Pacing;
use super::{Client, Source, State};
use crate::net::{CONNECTION_INTEREST, Connection, Phase, Target, connect};
use crate::reactor::{Context, Moment, Stage, Token};
use crate::system::describe;

/// How long a client waits before it tries again what has just failed.
const RETRY: Duration = Duration::from_millis(100);
/// How long a client waits for room in the backlog of a Unix socket, which does not tell when there is some.
const BACKLOG_RETRY: Duration = Duration::from_millis(2);

/// A client that is to connect at some time.
pub(super) struct Waiting {
    at: Moment,
    session: Session,
    /// It has tried since then: this is another try, and not another connection.
    trying_since: Option<Moment>,
}

impl State {
    /// Begins as many connections as may be begun now.
    pub(super) fn ramp_up(&mut self, context: &mut Context<Source>) {
        let now = Moment::now();
        while self.somebody_waits(now) && self.ramp.take(now) {
            let (session, since) = match self.fresh.next() {
                Some(client) => (self.fresh_session(client, now), None),
                None => match self.waiting.pop() {
                    Some(waiting) => (waiting.session, waiting.trying_since),
                    None => break,
                },
            };
            self.connect(context, session, since);
        }
    }

    /// When the next connection may be begun, if it is time that is in its way.
    pub(super) fn next_connect(&self) -> Option<Moment> {
        let wanted = if self.fresh.is_empty() { self.waiting.peek()?.at } else { self.conductor.started };
        Some(wanted.max(self.ramp.waits_until()?))
    }

    /// No connection is under way, nobody waits for one, and everyone was greeted who is to be.
    pub(super) fn all_have_connected(&self) -> bool {
        self.fresh.is_empty()
            && self.waiting.is_empty()
            && self.ramp.under_way() == 0
            && self.run.ungreeted == 0
    }

    fn somebody_waits(&self, now: Moment) -> bool {
        !self.fresh.is_empty() || self.waiting.peek().is_some_and(|waiting| waiting.at <= now)
    }

    fn fresh_session(&mut self, client: u32, now: Moment) -> Session {
        let mut session = Session::new(client, now);
        session.number = self.next_number();
        session
    }

    /// All clients of a churn, each from when its first message is due.
    pub(super) fn queue_churn(&mut self, now: Moment) {
        for client in std::mem::take(&mut self.fresh) {
            let mut session = self.fresh_session(client, now);
            if let Pacing::Scheduled(schedule) = &self.run.pacing {
                session.turn = Some(schedule.first(client, self.plan.seed));
            }
            self.queue(session, now);
        }
    }

    /// A client that has done with a connection wants the next one.
    pub(super) fn queue(&mut self, session: Session, now: Moment) {
        if self.run.budget == 0 {
            self.run.figures.fairness.add(session.completed);
            return;
        }
        let at = match (&self.run.pacing, &session.turn) {
            // Also if that is after the end: then there is no connection any more.
            (Pacing::Scheduled(_), Some(turn)) => turn.due,
            _ => session.wakes_at(&self.run).unwrap_or(now),
        };
        self.waiting.push(Waiting { at, session, trying_since: None });
    }

    /// The places in the schedule of those that wait.
    pub(super) fn waiting_turns(&self) -> impl Iterator<Item = &Turn> {
        self.waiting.iter().filter_map(|waiting| waiting.session.turn.as_ref())
    }

    /// Nobody connects any more.
    pub(super) fn forget_waiting(&mut self) {
        for waiting in self.waiting.drain() {
            self.run.figures.fairness.add(waiting.session.completed);
        }
    }

    /// The number of another connection.
    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers - 1
    }

    fn connect(&mut self, context: &mut Context<Source>, mut session: Session, since: Option<Moment>) {
        let number = session.number;
        let choice = self.targets.choice(number);
        let Some(target) = self.targets.at(number, choice) else { return };
        let source = match (target, &self.plan.sources) {
            (Target::Tcp(address), Some(sources)) => sources.nth(address.is_ipv4(), number),
            _ => None,
        };
        if let Target::Udp(_) = target {
            return self.open_datagrams(context, &session);
        }
        let now = Moment::now();
        session.begin(choice, self.plan.greeting, &self.run.pattern, since.unwrap_or(now));
        self.run.figures.attempted += u64::from(since.is_none());
        match connect(target, source) {
            Ok(socket) => {
                if self.plan.reset {
                    // From the beginning, so that it holds whatever ends the connection. Best effort: one that is not
                    // reset is closed.
                    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                }
                let client = Client { connection: Connection::connecting(socket, now), session };
                if let Err(error) =
                    context.insert(Source::Client(client), CONNECTION_INTEREST, Stage::Connections)
                {
                    self.ramp.ended();
                    self.fail(Cause::Local, || format!("cannot watch a connection: {}", describe(&error)));
                }
            }
            Err(error) => {
                let target = target.clone();
                self.not_connected(session, &target, &error);
            }
        }
    }

    /// The handshake of a connection has ended well.
    pub(super) fn established(&mut self, context: &mut Context<Source>, token: Token) {
        let now = Moment::now();
        let Some(Source::Client(client)) = context.get_mut(token) else { return };
        let (number, began) = (client.session.number, client.session.began);
        client.session.established(now);
        // It may be known in the very same turn.
        self.run.ungreeted += u64::from(client.session.is_ungreeted());
        self.run.figures.connected(began, now);
        let ended = client.connection.phase() == Phase::Ended;
        self.targets.prove(number);
        self.ramp.ended();
        if self.plan.usage != Usage::Exchange && !ended {
            self.send(context, token);
        }
    }

    /// A connection could not be established.
    pub(super) fn not_connected(&mut self, mut session: Session, target: &Target, error: &io::Error) {
        self.ramp.ended();
        let now = Moment::now();
        let mut cause = Cause::of(error);
        let trying_since = Some(session.began);
        if Errno::from_io_error(error) == Some(Errno::AGAIN) {
            // A Unix socket with a full backlog. As with TCP, that is a matter of waiting.
            if now.since(session.began) < self.plan.connect_timeout && !self.conductor.is_ending() {
                self.waiting.push(Waiting { at: now + BACKLOG_RETRY, session, trying_since });
                return;
            }
            cause = Cause::Timeout;
        }
        // Once the last message has left, a client of a churn needs no connection any more.
        let is_needless = self.run.churn && self.run.budget == 0;
        if cause == Cause::Refused && !is_needless && self.targets.try_next(session.number, target) {
            self.waiting.push(Waiting { at: now, session, trying_since });
            return;
        }
        self.fail(cause, || format!("cannot connect to {target}: {}{}", describe(error), remedy(error)));
        if is_needless {
            self.run.figures.fairness.add(session.completed);
        } else if self.run.churn {
            session.number = self.next_number();
            self.waiting.push(Waiting { at: now + RETRY, session, trying_since: None });
        } else if cause == Cause::Local && !self.ceiling.others_may_have_ports(error) {
            // The next one would not find more ports or descriptors, and looking for them is slow.
            self.fresh = 0..0;
        }
    }

    /// Counts a failure, and keeps the words for the first few.
    pub(super) fn fail(&mut self, cause: Cause, describe: impl FnOnce() -> String) {
        let figures = &mut self.run.figures;
        figures.failed(cause, Moment::now());
        let kept = figures.failures.len() < MOST_DESCRIBED;
        if kept || log::log_enabled!(log::Level::Debug) {
            let description = describe();
            log::debug!("{description}");
            if kept && !figures.failures.contains(&description) {
                figures.failures.push(description);
            }
        }
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.at == other.at
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    /// The earliest is the greatest: it is what the heap gives first.
    fn cmp(&self, other: &Waiting) -> Ordering {
        other.at.cmp(&self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use super::super::plan::Plan;
    use super::super::targets::Targets;
    use super::super::{Load, Verdict};
    use super::*;
    use crate::net::Socket;
    use crate::{Server, ServerOptions, StopSignal};

    #[test]
    fn where_nobody_listens_the_next_address_is_tried_by_all_who_were_refused() {
        for usage in [Usage::Exchange, Usage::Churn] {
            let stop = StopSignal::new().expect("a socket pair");
            let handle = stop.handle().expect("a descriptor");
            let any = "127.0.0.1:0".parse().expect("an endpoint");
            let server = Server::bind(&[any], ServerOptions::default(), stop).expect("loopback");
            let alive = server.endpoints()[0].trim_start_matches("tcp://").parse().expect("an address");
            let server = std::thread::spawn(move || server.run());
            let dead = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback"));
            let [first, second] = dead.map(|listener| listener.local_addr().expect("it is bound"));
            let endpoint = "localhost:7".parse().expect("an endpoint");
            let plan = Plan { messages: Some(100), clients: 8, usage, ..Plan::new(vec![endpoint]) };
            let mut load = Load::new(plan, StopSignal::new().expect("a pipe")).expect("it is possible");
            load.state.targets = Targets::of_addresses([first, second, alive].map(Target::Tcp).into());
            let report = load.run().expect("the loop runs");
            handle.stop();
            server.join().expect("no panic").expect("it served");
            assert_eq!(Verdict::of(&report, &[]), Verdict::Good, "{report:?}");
            assert_eq!((report.messages.sent, report.messages.received), (100, 100));
        }
    }

    #[test]
    fn a_connection_to_itself_is_a_refusal() {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback");
        let own = socket.local_addr().expect("it is bound");
        socket.connect(&own).expect("a simultaneous open");
        socket.set_nonblocking(true).expect("it can be");
        let endpoint = own.as_socket().expect("an address").to_string().parse().expect("an endpoint");
        let plan = Plan { messages: Some(10), clients: 1, ..Plan::new(vec![endpoint]) };
        let mut load = Load::new(plan, StopSignal::new().expect("a socket pair")).expect("it is possible");
        let now = Moment::now();
        assert!(load.state.fresh.next().is_some() && load.state.ramp.take(now));
        let stream = mio::net::TcpStream::from_std(socket.into());
        let (connection, session) = (Connection::connecting(Socket::Tcp(stream), now), Session::new(0, now));
        let client = Source::Client(Client { connection, session });
        load.reactor
            .context()
            .insert(client, CONNECTION_INTEREST, Stage::Connections)
            .expect("it is watched");
        let report = load.run().expect("the loop runs");
        assert_eq!((report.connections.opened, report.errors.refused), (0, 1), "{report:?}");
    }
}
