//! From a name to a connection: its addresses, raced as RFC 8305 ("Happy Eyeballs") says.
//!
//! A host may have an IPv6 and an IPv4 address, and one of them leads nowhere. The user must not wait the minutes that
//! the kernel waits for an answer. So the addresses start in turn, the families alternating, each with a head start before
//! the next one. A failure lets the next one start at once, and the first established connection wins. It all happens in
//! one loop: an attempt is a socket whose handshake is under way, and the head start is a deadline.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::outcome::{ClientError, Failure, Family};
use super::source::Source;
use crate::net::{
    Answer, CONNECTION_INTEREST, Connection, End, Limits, Next, Phase, Service, Target, Workspace, connect,
};
use crate::net::{Endpoint, Host};
use crate::reactor::{Context, Moment, Readiness, Stage, Token};
use crate::system::describe;

/// The time that an attempt has to itself: the "Connection Attempt Delay" of RFC 8305, section 5.
const HEAD_START: Duration = Duration::from_millis(250);

/// The addresses of an endpoint, in the order in which they are to be tried.
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
    Ok(addresses_of(host, port, family)?.into_iter().map(Target::Tcp).collect())
}

/// The addresses of a host, in the order in which they are to be tried.
pub(super) fn addresses_of(
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
        addresses.retain(|address| family_of(address) == family);
        if addresses.is_empty() {
            return Err(ClientError::NoAddress { host: name(), family });
        }
    }
    Ok(interleaved(addresses))
}

fn family_of(address: &SocketAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// The families take turns, beginning with the one that the resolver prefers; within a family its order is kept.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(family_of) else { return addresses };
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| family_of(address) == first);
    let mut others = other.into_iter();
    let mut order: Vec<SocketAddr> =
        preferred.into_iter().flat_map(|address| [Some(address), others.next()]).flatten().collect();
    order.extend(others);
    order
}

/// The state of a race.
#[derive(Debug)]
pub(super) enum Standing {
    /// Nobody has arrived yet.
    Racing,
    /// This one is connected; all others are gone.
    Won(Token, Target),
    /// All have failed, or time is up.
    Lost(Loss),
}

/// A race that nobody won.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) failures: Vec<Failure>,
    pub(super) timed_out: bool,
}

impl Loss {
    /// The race was for `endpoint`, and had this time.
    pub(super) fn into_error(self, endpoint: String, timeout: Option<Duration>) -> ClientError {
        let failures = self.failures;
        match timeout {
            Some(after) if self.timed_out => ClientError::ConnectTimeout { endpoint, after, failures },
            _ => ClientError::Connect { endpoint, failures },
        }
    }
}

struct Attempt {
    token: Token,
    target: Target,
    began: Moment,
}

/// The attempts to connect to one endpoint.
pub(super) struct Race {
    waiting: VecDeque<Target>,
    attempts: Vec<Attempt>,
    failures: Vec<Failure>,
    source: Option<IpAddr>,
    next_start: Moment,
    give_up: Option<Moment>,
    workspace: Workspace,
}

impl Race {
    /// Starts the first attempt; ask [`Race::standing`] at once, since it may fail at once.
    pub(super) fn begin(
        context: &mut Context<Source>,
        targets: Vec<Target>,
        source: Option<IpAddr>,
        timeout: Option<Duration>,
    ) -> Race {
        let now = Moment::now();
        let mut race = Race {
            waiting: targets.into(),
            attempts: Vec::new(),
            failures: Vec::new(),
            source,
            next_start: now,
            give_up: timeout.map(|timeout| now + timeout),
            // A budget of one unit: a pump establishes the connection and reads none of its bytes.
            workspace: Workspace::new(Limits { read_size: 1, write_limit: 1, turn_budget: 1 }),
        };
        race.start_next(context, now);
        race.arm(context);
        race
    }

    /// An attempt has an event.
    pub(super) fn ready(
        &mut self,
        context: &mut Context<Source>,
        token: Token,
        readiness: Readiness,
    ) -> Standing {
        let now = context.now();
        let Some(index) = self.attempts.iter().position(|attempt| attempt.token == token) else {
            return self.standing();
        };
        let Some(Source::Socket(connection)) = context.get_mut(token) else { return self.standing() };
        connection.note(readiness);
        match connection.pump(&mut Nobody, &mut self.workspace, now) {
            Next::Close(End::NotConnected(error) | End::Reset(error)) => {
                self.fail(context, index, error, now);
            }
            // Nothing else can have been done to it.
            Next::Close(_) => self.fail(context, index, ErrorKind::ConnectionAborted.into(), now),
            _ if connection.phase() == Phase::Connecting => {}
            _ if connection.transport().is_connected_to_itself() => {
                self.fail(context, index, ErrorKind::ConnectionRefused.into(), now);
            }
            _ => return self.win(context, index, now),
        }
        self.arm(context);
        self.standing()
    }

    /// A deadline of the race is due.
    pub(super) fn deadline(&mut self, context: &mut Context<Source>) -> Standing {
        let now = context.now();
        if self.give_up.is_some_and(|at| at <= now) {
            // A handshake may have ended while this process was stopped, and its event may be still to come.
            for token in self.attempts.iter().map(|attempt| attempt.token).collect::<Vec<_>>() {
                if let won @ Standing::Won(..) = self.ready(context, token, Readiness::WRITABLE) {
                    return won;
                }
            }
            for attempt in self.attempts.drain(..) {
                log::debug!("{}: no answer in {:.1?}", attempt.target, now.since(attempt.began));
                context.remove(attempt.token);
            }
            return Standing::Lost(Loss { failures: std::mem::take(&mut self.failures), timed_out: true });
        }
        if self.next_start <= now {
            self.start_next(context, now);
        }
        self.arm(context);
        self.standing()
    }

    /// The state of the race, if nobody has won just now.
    pub(super) fn standing(&mut self) -> Standing {
        if self.attempts.is_empty() {
            Standing::Lost(Loss { failures: std::mem::take(&mut self.failures), timed_out: false })
        } else {
            Standing::Racing
        }
    }

    /// Starts with the next address that can be tried at all.
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
                    self.next_start = now + HEAD_START;
                    return;
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

    fn win(&mut self, context: &mut Context<Source>, index: usize, now: Moment) -> Standing {
        let winner = self.attempts.swap_remove(index);
        log::debug!("{}: connected in {:.1?}", winner.target, now.since(winner.began));
        for attempt in self.attempts.drain(..) {
            log::debug!("{}: given up, another address was faster", attempt.target);
            context.remove(attempt.token);
        }
        context.clear_deadline(winner.token);
        Standing::Won(winner.token, winner.target)
    }

    /// The race has one deadline, the nearer of two. It hangs on the attempt that is there in any case, the oldest.
    fn arm(&self, context: &mut Context<Source>) {
        let start = (!self.waiting.is_empty()).then_some(self.next_start);
        let nearest = match (start, self.give_up) {
            (Some(start), Some(give_up)) => Some(start.min(give_up)),
            (start, give_up) => start.or(give_up),
        };
        if let (Some(attempt), Some(at)) = (self.attempts.first(), nearest) {
            context.set_deadline(attempt.token, at);
        }
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
    use crate::reactor::Reactor;

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
        assert_eq!(error.to_string(), "127.0.0.1 has no IPv6 address");
        assert_eq!(error.exit_code(), 3);
    }

    #[test]
    fn a_handshake_that_ended_while_nobody_looked_wins_though_the_time_is_over() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let target = Target::Tcp(listener.local_addr().expect("it is bound"));
        let mut reactor = Reactor::new().expect("descriptors");
        let mut race = Race::begin(reactor.context(), vec![target], None, None);
        let _server = listener.accept().expect("the handshake has ended");
        race.give_up = Some(reactor.context().now());
        let standing = race.deadline(reactor.context());
        assert!(matches!(standing, Standing::Won(..)), "{standing:?}");
    }

    #[test]
    fn a_handshake_that_has_not_ended_loses_when_the_time_is_over() {
        // A backlog of one place, and two who are not accepted: the third has to wait.
        let full =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        full.listen(0).expect("it is bound");
        let address = full.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        let mut reactor = Reactor::new().expect("descriptors");
        let mut races: Vec<Race> =
            (0..3).map(|_| Race::begin(reactor.context(), vec![Target::Tcp(address)], None, None)).collect();
        let mut last = races.pop().expect("there are three");
        last.give_up = Some(reactor.context().now());
        let standing = last.deadline(reactor.context());
        assert!(matches!(standing, Standing::Lost(Loss { timed_out: true, .. })), "{standing:?}");
    }
}
