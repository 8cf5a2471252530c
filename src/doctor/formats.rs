//! The texts of `/proc` and `/sys` to numbers. Each function takes the whole text of one file, and answers `None` to
//! what it does not understand.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// A control group without a memory limit says "max", or, in version 1, the largest number of pages in bytes.
const NO_LIMIT: u64 = 1 << 60;

/// A file with one number.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// One of several numbers on one line: `fs.file-nr`, `tcp_mem`.
pub(super) fn column(text: &str, index: usize) -> Option<u64> {
    text.split_whitespace().nth(index)?.parse().ok()
}

/// `net.ipv4.ip_local_port_range`: the first and the last port.
pub(super) fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next()?, numbers.next()?) {
        (Ok(first), Ok(last)) if first <= last => Some(first..=last),
        _ => None,
    }
}

/// `net.ipv4.ip_local_reserved_ports`, such as `8080,9000-9010`: how many of them lie in the range.
pub(super) fn reserved_within(range: &RangeInclusive<u16>, text: &str) -> Option<u64> {
    let mut count = 0;
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        let (first, last) = (first.max(*range.start()), last.min(*range.end()));
        count += (u64::from(last) + 1).saturating_sub(first.into());
    }
    Some(count)
}

/// `/proc/meminfo`: the bytes of an entry.
pub(super) fn memory(text: &str, entry: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(entry)?.strip_prefix(':'))?;
    number(line.trim().strip_suffix("kB")?)?.checked_mul(1024)
}

/// `/proc/net/sockstat`: the pages that the buffers of TCP hold.
pub(super) fn tcp_pages(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: "))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

/// `/proc/net/protocols`: the bytes of a TCP socket in the kernel, the larger of IPv4 and IPv6.
pub(super) fn tcp_socket_size(text: &str) -> Option<u64> {
    let is_tcp = |line: &&str| matches!(line.split_whitespace().next(), Some("TCP" | "TCPv6"));
    text.lines().filter(is_tcp).filter_map(|line| column(line, 1)).max()
}

/// `/proc/net/netstat`: a counter, named in one line and counted in the next.
pub(super) fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let index = lines.next()?.split_whitespace().position(|word| word == name)?;
    column(lines.next()?, index)
}

/// A limit on memory in bytes; `Some(None)` is "no limit".
pub(super) fn memory_limit(text: &str) -> Option<Option<u64>> {
    match text.trim() {
        "max" => Some(None),
        digits => digits.parse().ok().map(|limit| (limit < NO_LIMIT).then_some(limit)),
    }
}

/// A directory of a control group that may limit memory, with the names of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemoryGroup {
    pub(super) directory: PathBuf,
    pub(super) limit: &'static str,
    pub(super) usage: &'static str,
}

/// `/proc/self/cgroup`: the control groups that bound our memory, of both versions, up to the root: the limit of each
/// of them counts.
pub(super) fn memory_groups(text: &str) -> Vec<MemoryGroup> {
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (mount, limit, usage) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max", "memory.current")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            continue;
        };
        for ancestor in Path::new(path).ancestors() {
            let directory = Path::new(mount).join(ancestor.strip_prefix("/").unwrap_or(ancestor));
            groups.push(MemoryGroup { directory, limit, usage });
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_alone_or_in_columns() {
        assert_eq!(number("1048576\n"), Some(1_048_576));
        assert_eq!(column("485\t0\t2466177\n", 0), Some(485));
        assert_eq!(column("287901\t383868\t575802\n", 2), Some(575_802));
        for nonsense in ["", "many", "-1", "1.5"] {
            assert_eq!((number(nonsense), column(nonsense, 0)), (None, None), "{nonsense}");
        }
        assert_eq!(column("1 2", 2), None);
    }

    #[test]
    fn ports_are_a_range_less_the_reserved_ones() {
        let range = ports("32768\t60999\n").expect("a range");
        assert_eq!(range, 32768..=60999);
        for nonsense in ["", "1", "60999 32768", "1 70000", "a b"] {
            assert_eq!(ports(nonsense), None, "{nonsense}");
        }
        assert_eq!(reserved_within(&range, "\n"), Some(0));
        assert_eq!(reserved_within(&range, "8080,40000,50000-50009,60990-61010\n"), Some(21));
        assert_eq!(reserved_within(&(0..=65535), "0-65535"), Some(65536));
        assert_eq!(reserved_within(&range, "9-1,60000-50000"), Some(0));
        assert_eq!(reserved_within(&range, "a-b"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let text = "MemTotal:       24684092 kB\nMemFree:  1 kB\nMemAvailable:   23326728 kB\n";
        assert_eq!(memory(text, "MemAvailable"), Some(23_326_728 * 1024));
        assert_eq!(memory(text, "Mem"), None);
        assert_eq!(memory("MemAvailable: 99999999999999999999 kB", "MemAvailable"), None);
        assert_eq!(memory("MemAvailable: 18446744073709551615 kB", "MemAvailable"), None);
    }

    #[test]
    fn sockets_and_their_buffers_are_found_by_name() {
        let sockstat =
            "sockets: used 28\nTCP: inuse 4 orphan 0 tw 21066 alloc 4 mem 186\nUDP: inuse 0 mem 3\n";
        assert_eq!(tcp_pages(sockstat), Some(186));
        assert_eq!(tcp_pages("TCP: inuse 4 mem"), None);
        let protocols = "protocol  size sockets  memory press\n\
                         MPTCPv6   2064      0     186   no\nTCPv6     2432      0     186   no\n\
                         UDP       1344      0       0   NI\nTCP       2304      4     186   no\n";
        assert_eq!(tcp_socket_size(protocols), Some(2432));
        assert_eq!(tcp_socket_size("protocol size"), None);
    }

    #[test]
    fn counters_are_named_in_one_line_and_counted_in_the_next() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 560 1313\nIpExt: InNoRoutes\nIpExt: 7\n";
        assert_eq!(counter(text, "TcpExt", "ListenOverflows"), Some(560));
        assert_eq!(counter(text, "TcpExt", "ListenDrops"), Some(1313));
        assert_eq!(counter(text, "IpExt", "InNoRoutes"), Some(7));
        for (group, name) in [("TcpExt", "Nothing"), ("Tcp", "ListenDrops"), ("MPTcpExt", "ListenDrops")] {
            assert_eq!(counter(text, group, name), None, "{group} {name}");
        }
        assert_eq!(counter("TcpExt: ListenDrops\n", "TcpExt", "ListenDrops"), None);
    }

    #[test]
    fn every_ancestor_of_a_control_group_may_have_the_limit() {
        let directories = |text: &str| -> Vec<String> {
            let groups = memory_groups(text).into_iter();
            groups.map(|group| group.directory.join(group.limit).display().to_string()).collect()
        };
        assert_eq!(
            directories("0::/user.slice/session.scope\n"),
            [
                "/sys/fs/cgroup/user.slice/session.scope/memory.max",
                "/sys/fs/cgroup/user.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            directories("8:pids:/\n4:hugetlb,memory:/a:b\nnonsense\n"),
            [
                "/sys/fs/cgroup/memory/a:b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
    }

    #[test]
    fn a_control_group_may_have_no_limit() {
        assert_eq!(memory_limit("max\n"), Some(None));
        assert_eq!(memory_limit("9223372036854771712\n"), Some(None));
        assert_eq!(memory_limit("536870912\n"), Some(Some(536_870_912)));
        assert_eq!(memory_limit("much"), None);
    }
}
