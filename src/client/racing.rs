//! From a name to a connection: its addresses, raced as RFC 8305 ("Happy Eyeballs") says.
//!
//! A host may have an IPv6 and an IPv4 address, and one of them leads nowhere. The user must not wait the minutes that
//! the kernel waits for an answer. So the addresses start in turn, the families alternating, each with a head start before
//! the next one. A failure lets the next one start at once, and the first established connection wins. It all happens in
//! one loop: an attempt is a socket whose handshake is under way, and the head start is a timer.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::addresses::describe_socket;
use super::outcome::{ClientError, Failure, Family};
use super::source::{Source, socket};
use crate::net::{
    Answer, CONNECTION_INTEREST, Connection, End, Limits, Next, Phase, Service, Target, Workspace, connect,
};
use crate::net::{Endpoint, Host};
use crate::reactor::{Context, Handler, Moment, Reactor, Readiness, Stage, Timer, Token};
use crate::system::describe;

/// The time that an attempt has to itself: the "Connection Attempt Delay" of RFC 8305, section 5.
const HEAD_START: Duration = Duration::from_millis(250);

/// The addresses of an endpoint, in the order of the attempts.
///
/// `getaddrinfo(3)` resolves a name, and blocks as long as it likes: no timeout of ours covers it.
///
/// # Errors
/// When the name does not resolve, or has no address of the family.
pub fn candidates(endpoint: &Endpoint, family: Option<Family>) -> Result<Vec<Target>, ClientError> {
    let (host, port) = match endpoint {
        Endpoint::Unix(path) => return Ok(vec![Target::Unix(path.clone())]),
        Endpoint::Tcp { host, port } => (host, *port),
        Endpoint::Udp { .. } => return Err(ClientError::Datagrams { endpoint: endpoint.to_string() }),
    };
    Ok(addresses(host, port, family)?.into_iter().map(Target::Tcp).collect())
}

/// The addresses of a host, in the order of the attempts.
pub(super) fn addresses(
    host: &Host,
    port: u16,
    family: Option<Family>,
) -> Result<Vec<SocketAddr>, ClientError> {
    let name = || match host {
        Host::Name(name) => name.clone(),
        Host::Address(address) => address.to_string(),
        Host::Any => "localhost".into(),
    };
    let mut addresses =
        host.addresses(port).map_err(|source| ClientError::Resolve { host: name(), source })?;
    if let Some(family) = family {
        addresses.retain(|address| Family::of(address.ip()) == family);
        if addresses.is_empty() {
            return Err(ClientError::NoAddress { host: name(), family });
        }
    }
    Ok(interleaved(addresses))
}

/// The families take turns. The family that the resolver prefers begins, and within a family its order is kept.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv4) else { return addresses };
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first);
    let mut others = other.into_iter();
    let mut order: Vec<SocketAddr> =
        preferred.into_iter().flat_map(|address| [Some(address), others.next()]).flatten().collect();
    order.extend(others);
    order
}

/// Connects to the first of these targets that answers. The reactor owns the connection; errors name the endpoint for all
/// targets.
///
/// # Errors
/// When none can be connected to in time.
pub(super) fn race(
    reactor: &mut Reactor<Source>,
    endpoint: &Endpoint,
    targets: Vec<Target>,
    source: Option<IpAddr>,
    timeout: Option<Duration>,
) -> Result<(Token, Target), ClientError> {
    let context = reactor.context();
    let mut race = Race::new(targets, source);
    let now = Moment::now();
    if let Some(timeout) = timeout {
        context.set_timer(GIVE_UP, now + timeout);
    }
    race.start_next(context, now);
    while race.winner.is_none() && !race.attempts.is_empty() {
        reactor.turn(&mut race)?;
    }
    reactor.context().clear_timer(NEXT_START);
    reactor.context().clear_timer(GIVE_UP);
    let Race { winner, failures, timed_out, .. } = race;
    let endpoint = endpoint.to_string();
    winner.ok_or_else(|| match timeout.filter(|_| timed_out) {
        Some(after) => ClientError::ConnectTimeout { endpoint, after, failures },
        None => ClientError::Connect { endpoint, failures },
    })
}

/// The next attempt starts.
const NEXT_START: Timer = Timer(0);
/// Time is up.
const GIVE_UP: Timer = Timer(1);

/// The attempts to connect to one endpoint.
struct Race {
    waiting: VecDeque<Target>,
    attempts: Vec<Attempt>,
    failures: Vec<Failure>,
    source: Option<IpAddr>,
    workspace: Workspace,
    winner: Option<(Token, Target)>,
    timed_out: bool,
}

struct Attempt {
    token: Token,
    target: Target,
    began: Moment,
}

impl Handler for Race {
    type Source = Source;

    /// Handles an event of an attempt. (The winner removes all other attempts, so their events in the same batch find
    /// none.)
    fn ready(&mut self, context: &mut Context<Source>, token: Token, readiness: Readiness) {
        let now = context.now();
        let Some(index) = self.attempts.iter().position(|attempt| attempt.token == token) else { return };
        let Some(connection) = socket(context, token) else { return };
        connection.note(readiness);
        match connection.pump(&mut Nobody, &mut self.workspace, now) {
            Next::Close(End::NotConnected(error) | End::Reset(error) | End::NoMemory(error)) => {
                self.fail(context, index, error, now);
            }
            // An attempt moves no bytes, so it has no other way to end.
            Next::Close(_) => self.fail(context, index, ErrorKind::ConnectionAborted.into(), now),
            _ if connection.phase() == Phase::Connecting => {}
            _ if connection.transport().is_connected_to_itself() => {
                self.fail(context, index, ErrorKind::ConnectionRefused.into(), now);
            }
            _ => self.win(context, index, now),
        }
    }

    fn timer(&mut self, context: &mut Context<Source>, timer: Timer) {
        let now = context.now();
        if timer == NEXT_START {
            return self.start_next(context, now);
        }
        // A handshake may have ended while this process was stopped, and its event may be still to come.
        for token in self.attempts.iter().map(|attempt| attempt.token).collect::<Vec<_>>() {
            self.ready(context, token, Readiness::WRITABLE);
        }
        for attempt in self.attempts.drain(..) {
            log::debug!("{}: no answer in {:.1?}", attempt.target, now.since(attempt.began));
            context.remove(attempt.token);
            self.timed_out = true;
        }
    }
}

impl Race {
    fn new(targets: Vec<Target>, source: Option<IpAddr>) -> Race {
        Race {
            waiting: targets.into(),
            attempts: Vec::new(),
            failures: Vec::new(),
            source,
            // A budget of one unit: a pump establishes the connection and reads none of its bytes.
            workspace: Workspace::new(Limits { read_size: 1, write_limit: 1, turn_budget: 1 }),
            winner: None,
            timed_out: false,
        }
    }

    /// Starts an attempt at the next address that can be tried at all.
    fn start_next(&mut self, context: &mut Context<Source>, now: Moment) {
        while let Some(target) = self.waiting.pop_front() {
            log::debug!("connecting to {target}");
            let begun = connect(&target, self.source).and_then(|socket| {
                let connection = Connection::connecting(socket, now);
                context.insert(Source::Socket(connection), CONNECTION_INTEREST, Stage::Connections)
            });
            match begun {
                Ok(token) => {
                    self.attempts.push(Attempt { token, target, began: now });
                    return context.set_timer(NEXT_START, now + HEAD_START);
                }
                Err(error) => self.note_failure(target, error, Duration::ZERO),
            }
        }
    }

    fn fail(&mut self, context: &mut Context<Source>, index: usize, error: io::Error, now: Moment) {
        let Attempt { token, target, began } = self.attempts.remove(index);
        context.remove(token);
        self.note_failure(target, error, now.since(began));
        self.start_next(context, now);
    }

    fn note_failure(&mut self, target: Target, error: io::Error, after: Duration) {
        log::debug!("{target}: {} after {after:.1?}", describe(&error));
        self.failures.push(Failure { target, error });
    }

    fn win(&mut self, context: &mut Context<Source>, index: usize, now: Moment) {
        let winner = self.attempts.swap_remove(index);
        log::debug!("{}: connected in {:.1?}", winner.target, now.since(winner.began));
        if let Some(connection) = socket(context, winner.token) {
            log::debug!("{}", describe_socket(connection.transport()));
        }
        for attempt in self.attempts.drain(..) {
            log::debug!("{}: given up, another address was faster", attempt.target);
            context.remove(attempt.token);
        }
        self.winner = Some((winner.token, winner.target));
    }
}

/// The service of a connection that is not established yet.
struct Nobody;

impl Service for Nobody {
    fn chunk(&self) -> usize {
        usize::MAX
    }

    fn answer<'a>(&'a mut self, _: &'a [u8], _: &mut Vec<u8>) -> Answer<'a> {
        Answer::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn the_families_take_turns() {
        let four = ["1.0.0.1:7", "1.0.0.2:7", "1.0.0.3:7"];
        let six = ["[::1]:7", "[::2]:7"];
        let order = |texts: &[&[&str]]| interleaved(addresses(&texts.concat()));
        assert_eq!(
            order(&[&six, &four]),
            addresses(&["[::1]:7", "1.0.0.1:7", "[::2]:7", "1.0.0.2:7", "1.0.0.3:7"])
        );
        assert_eq!(
            order(&[&four, &six]),
            addresses(&["1.0.0.1:7", "[::1]:7", "1.0.0.2:7", "[::2]:7", "1.0.0.3:7"]),
            "the resolver's first comes first"
        );
        assert_eq!(order(&[&six]), addresses(&six));
        assert_eq!(order(&[]), []);
    }

    #[test]
    fn a_family_may_be_asked_for() {
        let endpoint: Endpoint = "127.0.0.1:7".parse().expect("an endpoint");
        let found = candidates(&endpoint, Some(Family::V4)).expect("it has one");
        assert_eq!(found, [Target::Tcp(([127, 0, 0, 1], 7).into())]);
        let error = candidates(&endpoint, Some(Family::V6)).expect_err("it has none");
        assert_eq!(
            error.to_string(),
            "127.0.0.1 has no IPv6 address, the only family that the options allow"
        );
        assert_eq!(error.exit_code(), 3);
    }

    /// A race whose time is up. No event was fetched meanwhile, so its handshake may have ended or not.
    fn race_whose_time_is_over(address: SocketAddr) -> Race {
        let mut reactor = Reactor::new().expect("descriptors");
        let mut race = Race::new(vec![Target::Tcp(address)], None);
        race.start_next(reactor.context(), Moment::now());
        race.timer(reactor.context(), GIVE_UP);
        race
    }

    #[test]
    fn a_handshake_that_ended_while_nobody_looked_wins_though_the_time_is_over() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        // Over loopback the handshake has ended when `connect` returns.
        let race = race_whose_time_is_over(listener.local_addr().expect("it is bound"));
        assert!(race.winner.is_some() && !race.timed_out);
    }

    #[test]
    fn a_handshake_that_has_not_ended_loses_when_the_time_is_over() {
        use socket2::{Domain, Socket, Type};
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        full.listen(0).expect("it is bound");
        let address = full.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        // A backlog for one, or for two on some systems, so a further one has to wait.
        let others = [(); 2].map(|()| Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket"));
        for other in &others {
            other.set_nonblocking(true).expect("it can be");
            let _ = other.connect(&address.into());
        }
        let race = race_whose_time_is_over(address);
        assert!(race.winner.is_none() && race.timed_out);
    }
}
