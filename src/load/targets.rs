//! Where to connect to and from, resolved before the loop runs, and how many connections that allows.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;

use super::error::LoadError;
use super::plan::{Plan, Usage};
use crate::net::Target;
use crate::net::{Endpoint, Host};
use crate::system::{DescriptorLimit, PORT_RANGE, port_range};

/// The ports that Linux gives out by default.
const USUAL_PORTS: u64 = 60_999 - 32_768 + 1;

/// The endpoints with their addresses.
#[derive(Debug)]
pub(super) struct Targets {
    candidates: Vec<Candidates>,
}

/// The addresses of one endpoint. Its first is used, unless nobody listens there and another one is left.
#[derive(Debug)]
struct Candidates {
    addresses: Vec<Target>,
    chosen: Choice,
    proven: bool,
}

/// The place of an address among those of its endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice(u32);

impl Targets {
    /// Asks the resolver, which may block.
    pub(super) fn resolve(plan: &Plan) -> Result<Targets, LoadError> {
        let mut candidates = Vec::new();
        for endpoint in &plan.endpoints {
            let mut addresses = match endpoint {
                Endpoint::Unix(path) => vec![Target::Unix(path.clone())],
                Endpoint::Tcp { host, port } | Endpoint::Udp { host, port } => {
                    let addresses = host.addresses(*port).map_err(|source| {
                        let host =
                            if let Host::Name(name) = host { name.clone() } else { endpoint.to_string() };
                        LoadError::Resolve { host, source }
                    })?;
                    let datagrams = matches!(endpoint, Endpoint::Udp { .. });
                    let target = if datagrams { Target::Udp } else { Target::Tcp };
                    addresses.into_iter().map(target).collect()
                }
            };
            if let Some(sources) = &plan.sources {
                let reachable = |target: &Target| match target {
                    Target::Tcp(address) | Target::Udp(address) => sources.count(address.is_ipv4()) > 0,
                    Target::Unix(_) => true,
                };
                addresses.retain(reachable);
                if addresses.is_empty() {
                    let (target, addresses) = (endpoint.to_string(), sources.to_string());
                    return Err(LoadError::SourceFamily { target, addresses });
                }
            }
            candidates.push(Candidates { addresses, chosen: Choice::default(), proven: false });
        }
        Ok(Targets { candidates })
    }

    /// Where the connection with this number goes.
    pub(super) fn of(&self, connection: u64) -> Option<&Target> {
        self.at(connection, self.choice(connection))
    }

    /// The address that a connection tries, among those of its endpoint. Until one address is proven, two connections
    /// may try different ones.
    pub(super) fn choice(&self, connection: u64) -> Choice {
        self.candidates[self.endpoint(connection)].chosen
    }

    /// The target of a connection that had this choice.
    pub(super) fn at(&self, connection: u64, choice: Choice) -> Option<&Target> {
        self.candidates[self.endpoint(connection)].at(choice)
    }

    /// One endpoint with these addresses.
    #[cfg(test)]
    pub(super) fn of_addresses(addresses: Vec<Target>) -> Targets {
        Targets { candidates: vec![Candidates { addresses, chosen: Choice::default(), proven: false }] }
    }

    /// Proves the endpoint's address: a connection to it has been established.
    pub(super) fn prove(&mut self, connection: u64) {
        let endpoint = self.endpoint(connection);
        self.candidates[endpoint].proven = true;
    }

    /// A connection was refused. True if the endpoint has another address to try.
    pub(super) fn try_next(&mut self, connection: u64, refused: &Target) -> bool {
        let endpoint = self.endpoint(connection);
        let candidates = &mut self.candidates[endpoint];
        let next = Choice(candidates.chosen.0 + 1);
        // Other connections may have found out before that this address is of no use.
        if candidates.at(candidates.chosen) == Some(refused)
            && !candidates.proven
            && let Some(other) = candidates.at(next)
        {
            log::info!("nobody listens on {refused}, trying {other}");
            candidates.chosen = next;
        }
        candidates.at(candidates.chosen) != Some(refused)
    }

    fn endpoint(&self, connection: u64) -> usize {
        (connection % self.candidates.len() as u64) as usize
    }

    /// The addresses that ports limit: all but Unix sockets.
    fn with_ports(&self) -> impl Iterator<Item = SocketAddr> {
        self.candidates.iter().filter_map(|candidates| match candidates.at(candidates.chosen)? {
            Target::Tcp(address) | Target::Udp(address) => Some(*address),
            Target::Unix(_) => None,
        })
    }
}

impl Candidates {
    fn at(&self, choice: Choice) -> Option<&Target> {
        self.addresses.get(choice.0 as usize)
    }
}

/// The number of connections that are possible at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ceiling {
    /// Ports of a pair of addresses.
    ports: u64,
    /// Pairs of a source address and a target.
    pairs: u64,
    descriptors: u64,
    endpoints: u64,
    /// Whether all endpoints are TCP or UDP, so that ports limit them.
    all_have_ports: bool,
}

impl Ceiling {
    pub(super) fn of(plan: &Plan, targets: &Targets) -> Ceiling {
        let mut distinct: Vec<_> = targets.with_ports().collect();
        distinct.sort();
        distinct.dedup();
        if plan.is_over_udp() {
            // A datagram socket occupies its port towards all targets: further targets bring no further ports.
            distinct.truncate(1);
        }
        let sources =
            |target: &SocketAddr| plan.sources.as_ref().map_or(1, |sources| sources.count(target.is_ipv4()));
        Ceiling {
            ports: ephemeral_ports(),
            pairs: distinct.iter().map(sources).fold(0, u64::saturating_add),
            descriptors: DescriptorLimit::current().connections(1) as u64,
            endpoints: plan.endpoints.len() as u64,
            all_have_ports: targets.with_ports().count() == plan.endpoints.len(),
        }
    }

    fn by_ports(&self) -> u64 {
        if self.all_have_ports { self.ports.saturating_mul(self.pairs) } else { u64::MAX }
    }

    /// Refuses more connections than ports or this process's descriptors allow.
    pub(super) fn check(&self, connections: usize) -> Result<(), LoadError> {
        self.check_ports(connections)?;
        if connections as u64 <= self.descriptors {
            return Ok(());
        }
        let limit = DescriptorLimit::current();
        let remedy = limit.remedy(connections, 1);
        let ceiling = format!("{} descriptors allow {} ({remedy})", limit.soft, self.descriptors);
        Err(LoadError::TooMany { asked: connections, ceiling })
    }

    /// Refuses more connections than ports allow. All processes of a machine share its ports.
    pub(super) fn check_ports(&self, connections: usize) -> Result<(), LoadError> {
        if connections as u64 <= self.by_ports() {
            return Ok(());
        }
        let ceiling = format!(
            "{} ports × {} pairs of source and target address allow {} (--source with more addresses, more \
             endpoints, or a larger net.ipv4.ip_local_port_range)",
            self.ports,
            self.pairs,
            self.by_ports()
        );
        Err(LoadError::TooMany { asked: connections, ceiling })
    }

    /// An obstacle that the plan may meet.
    pub(super) fn warning(&self, plan: &Plan) -> Option<String> {
        let most = self.by_ports();
        let few = plan.messages.is_some_and(|messages| messages < most / 2);
        if plan.usage == Usage::Churn && !plan.reset && !few && most < u64::MAX {
            return Some(format!(
                "each connection may leave its port in TIME_WAIT for a minute: {most} ports allow {most} connections \
                 a minute then; --reset leaves none, --source adds addresses"
            ));
        }
        (plan.clients as u64 > most / 10 * 9).then(|| {
            format!(
                "{} connections take nearly all of the {most} ports; others in use, or in TIME_WAIT, may be missing \
                 (--source adds addresses)",
                plan.clients
            )
        })
    }

    /// Whether other pairs of addresses may have ports, although this error says that one pair has none.
    pub(super) fn others_may_have_ports(&self, error: &io::Error) -> bool {
        Errno::from_io_error(error) == Some(Errno::ADDRNOTAVAIL) && self.pairs > 1
    }

    /// The ceiling as a number of connections.
    pub(super) fn connections(&self) -> u64 {
        self.by_ports().min(self.descriptors)
    }
}

fn ephemeral_ports() -> u64 {
    let text = std::fs::read_to_string(PORT_RANGE).unwrap_or_default();
    port_range(&text).map_or(USUAL_PORTS, |range| range.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(endpoints: &[&str], sources: Option<&str>, clients: usize) -> Plan {
        let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().expect("an endpoint")).collect();
        let sources = sources.map(|sources| sources.parse().expect("sources"));
        Plan { sources, clients, ..Plan::new(endpoints) }
    }

    fn ceiling(plan: &Plan) -> Ceiling {
        let targets = Targets::resolve(plan).expect("addresses resolve");
        Ceiling { ports: 100, descriptors: 1000, ..Ceiling::of(plan, &targets) }
    }

    #[test]
    fn the_ceiling_is_sources_times_ports_times_targets() {
        assert_eq!(ceiling(&plan(&["127.0.0.1:7"], None, 1)).connections(), 100);
        assert_eq!(ceiling(&plan(&["127.0.0.1:7", "127.0.0.1:8"], None, 1)).connections(), 200);
        assert_eq!(ceiling(&plan(&["127.0.0.1:7", "127.0.0.1:7"], None, 1)).connections(), 100);
        let many = plan(&["127.0.0.1:7", "127.0.0.1:8"], Some("127.0.0.0/30"), 1);
        assert_eq!(ceiling(&many).connections(), 400);
        assert_eq!(ceiling(&plan(&["unix:/tmp/x"], None, 1)).connections(), 1000);
    }

    #[test]
    fn what_is_impossible_is_refused_with_the_remedy() {
        let ceiling = ceiling(&plan(&["127.0.0.1:7"], None, 1));
        assert!(ceiling.check(100).is_ok());
        let error = ceiling.check(101).expect_err("only 100 ports").to_string();
        assert!(error.contains("allow 100") && error.contains("--source"), "{error}");
        let wide = Ceiling { ports: 100_000, ..ceiling };
        let error = wide.check(1001).expect_err("only 1000 descriptors").to_string();
        assert!(error.contains("descriptors allow 1000"), "{error}");
    }

    #[test]
    fn what_may_stand_in_the_way_is_said_before() {
        let few = plan(&["127.0.0.1:7"], None, 91);
        assert!(ceiling(&few).warning(&few).expect("nearly all").contains("nearly all"));
        let churn = Plan { usage: Usage::Churn, ..plan(&["127.0.0.1:7"], None, 1) };
        assert!(ceiling(&churn).warning(&churn).expect("TIME_WAIT").contains("--reset"));
        let reset = Plan { reset: true, ..churn };
        assert_eq!(ceiling(&reset).warning(&reset), None);
        let fine = plan(&["127.0.0.1:7"], None, 50);
        assert_eq!(ceiling(&fine).warning(&fine), None);
        assert!(!ceiling(&fine).others_may_have_ports(&Errno::ADDRNOTAVAIL.into()));
        let two = plan(&["127.0.0.1:7", "127.0.0.1:8"], None, 50);
        assert!(ceiling(&two).others_may_have_ports(&Errno::ADDRNOTAVAIL.into()));
        assert!(!ceiling(&two).others_may_have_ports(&Errno::MFILE.into()));
    }

    #[test]
    fn families_must_fit() {
        let wrong = plan(&["127.0.0.1:7"], Some("::1"), 1);
        assert!(matches!(Targets::resolve(&wrong), Err(LoadError::SourceFamily { .. })));
    }

    #[test]
    fn a_refused_address_gives_way_to_the_next_until_one_is_proven() {
        let address = |port| Target::Tcp(([127, 0, 0, 1], port).into());
        let candidates =
            Candidates { addresses: vec![address(1), address(2)], chosen: Choice::default(), proven: false };
        let mut targets = Targets { candidates: vec![candidates] };
        assert!(targets.try_next(0, &address(1)));
        assert!(targets.try_next(5, &address(1)), "another connection that had been begun before");
        assert_eq!(targets.of(0), Some(&address(2)));
        assert!(!targets.try_next(0, &address(2)), "there is no third");
        targets.prove(0);
        assert!(!targets.try_next(0, &address(2)));
    }
}
