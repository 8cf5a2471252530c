//! The descriptors that this process may have: they bound its connections.

use std::fs;
use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::message::describe;

/// Descriptors beside connections, listeners and UDP sockets: the three standard ones, the poll, the signals, the trace,
/// and some that libraries open for a moment (the time zone, the resolver).
const RESERVED: usize = 32;

/// The descriptor limit of this process, as it was found and as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The soft limit at the start.
    pub found: u64,
    /// The soft limit in force.
    pub soft: u64,
    /// The hard limit, up to which a process may raise its soft one.
    pub hard: u64,
}

impl DescriptorLimit {
    /// The limit in force.
    pub fn current() -> DescriptorLimit {
        let limit = getrlimit(Resource::Nofile);
        let soft = limit.current.unwrap_or(u64::MAX);
        DescriptorLimit { found: soft, soft, hard: limit.maximum.unwrap_or(u64::MAX) }
    }

    /// Raises the soft limit to the hard one, and never lowers it. A refusal is no failure: [`DescriptorLimit::soft`] is the
    /// limit in force.
    pub fn raise() -> DescriptorLimit {
        let before = DescriptorLimit::current();
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        if before.soft < before.hard
            && let Err(error) = setrlimit(Resource::Nofile, limit)
        {
            let reason = describe(&error.into());
            log::warn!("cannot raise the descriptor limit from {} to {}: {reason}", before.soft, before.hard);
        }
        DescriptorLimit { found: before.found, ..DescriptorLimit::current() }
    }

    /// The connections that it allows beside `others`: listeners, UDP sockets, and other open descriptors.
    pub fn connections(&self, others: usize) -> usize {
        let soft = usize::try_from(self.soft).unwrap_or(usize::MAX);
        // Under a very small limit, half of the descriptors must do for connections.
        soft.saturating_sub((RESERVED + others).min(soft / 2)).max(1)
    }

    /// The descriptors that are left when this many are open.
    pub(crate) fn left(&self, open: usize) -> usize {
        usize::try_from(self.soft).unwrap_or(usize::MAX).saturating_sub(open)
    }

    /// The remedy that makes room for this many connections beside `others`.
    pub fn remedy(&self, connections: usize, others: usize) -> String {
        let needed = connections.saturating_add(RESERVED + others);
        if u64::try_from(needed).is_ok_and(|needed| needed <= self.hard) {
            format!("`ulimit -n {needed}` allows them")
        } else {
            format!(
                "the hard limit is {}: root raises it with `ulimit -Hn {needed}`, systemd with `LimitNOFILE={needed}`",
                self.hard
            )
        }
    }
}

/// The number of descriptors that this process has open. The count takes longer the more there are.
///
/// # Errors
/// When the system has no directory of them.
pub(crate) fn open_descriptors() -> io::Result<usize> {
    // One of these descriptors is that of the directory itself.
    Ok(fs::read_dir("/dev/fd")?.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(soft: u64, hard: u64) -> DescriptorLimit {
        DescriptorLimit { found: soft, soft, hard }
    }

    #[test]
    fn connections_get_what_is_not_reserved() {
        assert_eq!(limit(20_000, 20_000).connections(2), 19_966);
        assert_eq!(limit(64, 64).connections(1), 32);
        assert_eq!(limit(20, 20).connections(1), 10);
        assert_eq!(limit(1, 1).connections(1), 1);
        assert!(limit(u64::MAX, u64::MAX).connections(1) > 1 << 30);
    }

    #[test]
    fn the_remedy_names_the_limit_that_stands_in_the_way() {
        assert!(limit(1024, 20_000).remedy(5000, 1).contains("`ulimit -n 5033`"));
        assert!(limit(1024, 20_000).remedy(100_000, 1).contains("LimitNOFILE=100033"));
    }
}
