//! The addresses to connect from: one, a list, or whole networks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Source addresses, dealt out to connections in turn.
///
/// ```
/// use echoloop::load::Sources;
///
/// let sources: Sources = "10.0.0.7,127.0.0.0/8".parse()?;
/// assert_eq!(sources.count(true), 1 + (1 << 24) - 2);
/// assert_eq!(sources.nth(true, 1), Some("127.0.0.1".parse().expect("an address")));
/// # Ok::<(), echoloop::load::SourcesError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    networks: Vec<IpNet>,
}

/// Text that is no list of source addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address nor a network: write 127.0.0.2, 127.0.0.0/8 or a list of such")]
pub struct SourcesError(String);

impl FromStr for Sources {
    type Err = SourcesError;

    fn from_str(text: &str) -> Result<Sources, SourcesError> {
        let one = |part: &str| {
            let part = part.trim();
            let address = || part.parse::<IpAddr>().map(IpNet::from);
            part.parse::<IpNet>().or_else(|_| address()).map_err(|_| SourcesError(part.into()))
        };
        Ok(Sources { networks: text.split(',').map(one).collect::<Result<_, _>>()? })
    }
}

impl Sources {
    /// How many addresses of the family there are.
    pub fn count(&self, ipv4: bool) -> u64 {
        self.of_family(ipv4).map(usable).fold(0, u64::saturating_add)
    }

    /// The address that the connection with this number uses, if there is one of the family.
    pub fn nth(&self, ipv4: bool, number: u64) -> Option<IpAddr> {
        let mut number = number.checked_rem(self.count(ipv4))?;
        for network in self.of_family(ipv4) {
            if number < usable(network) {
                return Some(address(network, number));
            }
            number -= usable(network);
        }
        None
    }

    fn of_family(&self, ipv4: bool) -> impl Iterator<Item = &IpNet> {
        self.networks.iter().filter(move |network| network.addr().is_ipv4() == ipv4)
    }
}

/// How many addresses of a network a host can have: neither the network address nor the broadcast address.
fn usable(network: &IpNet) -> u64 {
    let bits = network.max_prefix_len() - network.prefix_len();
    match (network, bits) {
        (IpNet::V4(_), 2..) => (1 << bits) - 2,
        (IpNet::V6(_), 64..) => u64::MAX,
        _ => 1 << bits,
    }
}

fn address(network: &IpNet, number: u64) -> IpAddr {
    match network {
        IpNet::V4(network) => {
            let first = u32::from(network.network()) + u32::from(network.prefix_len() < 31);
            IpAddr::V4((first + number as u32).into())
        }
        IpNet::V6(network) => IpAddr::V6((u128::from(network.network()) + u128::from(number)).into()),
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, network) in self.networks.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            if network.prefix_len() == network.max_prefix_len() {
                write!(f, "{comma}{}", network.addr())?;
            } else {
                write!(f, "{comma}{network}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(text: &str, ipv4: bool, numbers: &[u64]) -> Vec<String> {
        let sources: Sources = text.parse().expect("sources");
        numbers
            .iter()
            .flat_map(|&number| sources.nth(ipv4, number))
            .map(|address| address.to_string())
            .collect()
    }

    #[test]
    fn every_form_is_understood() {
        assert_eq!(addresses("127.0.0.2", true, &[0, 1]), ["127.0.0.2", "127.0.0.2"]);
        assert_eq!(
            addresses("127.0.0.2, 10.0.0.1", true, &[0, 1, 2]),
            ["127.0.0.2", "10.0.0.1", "127.0.0.2"]
        );
        assert_eq!(addresses("10.0.0.0/30", true, &[0, 1, 2]), ["10.0.0.1", "10.0.0.2", "10.0.0.1"]);
        assert_eq!(addresses("10.0.0.4/31", true, &[0, 1]), ["10.0.0.4", "10.0.0.5"]);
        assert_eq!(addresses("fd00::/120", false, &[0, 255]), ["fd00::", "fd00::ff"]);
        assert_eq!(addresses("::1,127.0.0.1", false, &[0, 1]), ["::1", "::1"]);
        assert!(addresses("::1", true, &[0]).is_empty(), "no address of that family");
    }

    #[test]
    fn what_is_no_address_is_said() {
        for nonsense in ["", "127.0.0.1,", "localhost", "127.0.0.0/33", "127.0.0.1-9"] {
            assert!(nonsense.parse::<Sources>().is_err(), "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_shown_again(text in "[0-9a-f.:/, ]{0,30}|[0-9]{1,3}\\.0\\.0\\.0/[0-9]{1,2}", number: u64) {
            if let Ok(sources) = text.parse::<Sources>() {
                prop_assert_eq!(sources.to_string().parse::<Sources>(), Ok(sources.clone()));
                for ipv4 in [true, false] {
                    prop_assert_eq!(sources.nth(ipv4, number).is_some(), sources.count(ipv4) > 0);
                }
            }
        }
    }
}
