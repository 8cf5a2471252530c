//! The ephemeral ports: the kernel gives one of them to each outgoing connection.

use std::ops::RangeInclusive;

/// The file that holds their range.
pub(crate) const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// `net.ipv4.ip_local_port_range`: the first and the last port.
pub(crate) fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next()?, numbers.next()?) {
        (Ok(first), Ok(last)) if first <= last => Some(first..=last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_two_ends() {
        assert_eq!(port_range("32768\t60999\n"), Some(32768..=60999));
        for nonsense in ["", "1", "60999 32768", "1 70000", "a b"] {
            assert_eq!(port_range(nonsense), None, "{nonsense}");
        }
    }
}
