//! The system's own figures, read once. A figure that this can't read is noted, and bounds nothing.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::system::{
    DescriptorLimit, MemoryGroup, PORT_RANGE, describe, memory_entry, memory_limit, port_range,
};

/// The numbers that bound connections; `None` where the system does not tell.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) descriptors: DescriptorLimit,
    pub(super) nr_open: Option<u64>,
    pub(super) file_max: Option<u64>,
    pub(super) files_open: Option<u64>,
    pub(super) watches: Option<u64>,
    pub(super) somaxconn: Option<u64>,
    pub(super) ports: Option<RangeInclusive<u16>>,
    /// Ports in that range that the kernel never picks by itself.
    pub(super) ports_reserved: u64,
    /// The most pages that the buffers of all TCP sockets may hold, and the pages that they hold.
    pub(super) tcp_pages: Option<(u64, u64)>,
    pub(super) socket_size: Option<u64>,
    pub(super) memory_available: Option<u64>,
    /// The control group that leaves the least memory, if any bounds it.
    pub(super) group: Option<Group>,
    /// Tracked connections: the most, and the present number. `None` also where nothing is tracked.
    pub(super) tracked: Option<(u64, u64)>,
    /// ListenOverflows and ListenDrops.
    pub(super) overflows: Option<(u64, u64)>,
    /// The figures that can't be read, and why.
    pub(super) unread: Vec<String>,
}

/// A control group with a limit on memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) file: PathBuf,
    pub(super) limit: u64,
    pub(super) usage: u64,
}

impl Machine {
    /// This machine, as it is now.
    pub(super) fn read() -> Machine {
        Machine::from(DescriptorLimit::current(), &|path| fs::read_to_string(path))
    }

    /// The machine that these files describe.
    pub(super) fn from(descriptors: DescriptorLimit, read: &dyn Fn(&Path) -> io::Result<String>) -> Machine {
        let mut files = Files { read, unread: Vec::new() };
        let ports = files.get(PORT_RANGE, port_range);
        let reserved = "/proc/sys/net/ipv4/ip_local_reserved_ports";
        let ports_reserved =
            ports.as_ref().and_then(|range| files.get(reserved, |text| reserved_within(range, text)));
        let netstat = |name| move |text: &str| counter(text, "TcpExt", name);
        let machine = Machine {
            descriptors,
            nr_open: files.get("/proc/sys/fs/nr_open", number),
            file_max: files.get("/proc/sys/fs/file-max", number),
            files_open: files.get("/proc/sys/fs/file-nr", |text| column(text, 0)),
            watches: files.get("/proc/sys/fs/epoll/max_user_watches", number),
            somaxconn: files.get("/proc/sys/net/core/somaxconn", number),
            ports,
            ports_reserved: ports_reserved.unwrap_or(0),
            tcp_pages: files
                .get("/proc/sys/net/ipv4/tcp_mem", |text| column(text, 2))
                .zip(files.get("/proc/net/sockstat", tcp_pages)),
            socket_size: files.get("/proc/net/protocols", tcp_socket_size),
            memory_available: files.get("/proc/meminfo", |text| memory_entry(text, "MemAvailable")),
            group: files
                .get("/proc/self/cgroup", |text| Some(text.to_owned()))
                .and_then(|text| group(read, &text)),
            // Without the module, the files are not there and nothing is tracked.
            tracked: read(Path::new("/proc/sys/net/netfilter/nf_conntrack_max"))
                .ok()
                .and_then(|most| number(&most))
                .zip(
                    read(Path::new("/proc/sys/net/netfilter/nf_conntrack_count"))
                        .ok()
                        .and_then(|count| number(&count)),
                ),
            overflows: files
                .get("/proc/net/netstat", netstat("ListenOverflows"))
                .zip(files.get("/proc/net/netstat", netstat("ListenDrops"))),
            unread: Vec::new(),
        };
        Machine { unread: files.unread, ..machine }
    }
}

/// The tightest of the groups that have a limit. A group without readable files is outside our name space, or belongs to a
/// version of control groups that is not in use.
fn group(read: &dyn Fn(&Path) -> io::Result<String>, text: &str) -> Option<Group> {
    let limited = MemoryGroup::all(text).into_iter().filter_map(|group| {
        let file = group.limit_file();
        let limit = memory_limit(&read(&file).ok()?)??;
        let usage = number(&read(&group.usage_file()).ok()?)?;
        Some(Group { file, limit, usage })
    });
    limited.min_by_key(|group| group.limit.saturating_sub(group.usage))
}

struct Files<'a> {
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    unread: Vec<String>,
}

impl Files<'_> {
    fn get<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let problem = match (self.read)(Path::new(path)) {
            Ok(text) => match parse(&text) {
                Some(value) => return Some(value),
                None => "its text is not of the expected form".into(),
            },
            Err(error) => describe(&error),
        };
        let problem = format!("{path}: {problem}");
        if !self.unread.contains(&problem) {
            self.unread.push(problem);
        }
        None
    }
}

// The texts of `/proc` to numbers. Each function takes the whole text of one file, and returns `None` for a text that it
// does not understand.

/// A file with one number.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number at `index` among several on one line: `fs.file-nr`, `tcp_mem`.
fn column(text: &str, index: usize) -> Option<u64> {
    text.split_whitespace().nth(index)?.parse().ok()
}

/// `net.ipv4.ip_local_reserved_ports`, such as `8080,9000-9010`: how many of them lie in the range.
fn reserved_within(range: &RangeInclusive<u16>, text: &str) -> Option<u64> {
    let mut count = 0;
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        let (first, last) = (first.max(*range.start()), last.min(*range.end()));
        count += (u64::from(last) + 1).saturating_sub(first.into());
    }
    Some(count)
}

/// `/proc/net/sockstat`: the pages that the buffers of TCP hold.
fn tcp_pages(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: "))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

/// `/proc/net/protocols`: the bytes of a TCP socket in the kernel, the larger of IPv4 and IPv6.
fn tcp_socket_size(text: &str) -> Option<u64> {
    let is_tcp = |line: &&str| matches!(line.split_whitespace().next(), Some("TCP" | "TCPv6"));
    text.lines().filter(is_tcp).filter_map(|line| column(line, 1)).max()
}

/// `/proc/net/netstat`: a counter, named in one line and counted in the next.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let index = lines.next()?.split_whitespace().position(|word| word == name)?;
    column(lines.next()?, index)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const LIMIT: DescriptorLimit = DescriptorLimit { found: 1024, soft: 1024, hard: 20_000 };

    /// A machine with these files, and no others.
    pub(in crate::doctor) fn machine(files: &[(&str, &str)]) -> Machine {
        Machine::from(LIMIT, &|path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    #[test]
    fn what_is_there_is_read() {
        let machine = machine(&[
            ("/proc/sys/fs/nr_open", "1048576\n"),
            ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("/proc/sys/net/ipv4/ip_local_reserved_ports", "40000-40009\n"),
            ("/proc/sys/net/ipv4/tcp_mem", "1 2 3\n"),
            ("/proc/net/sockstat", "TCP: inuse 4 mem 1\n"),
            ("/proc/sys/net/netfilter/nf_conntrack_max", "131072\n"),
            ("/proc/sys/net/netfilter/nf_conntrack_count", "12\n"),
        ]);
        assert_eq!(machine.nr_open, Some(1_048_576));
        assert_eq!((machine.ports, machine.ports_reserved), (Some(32768..=60999), 10));
        assert_eq!(machine.tcp_pages, Some((3, 1)));
        assert_eq!(machine.tracked, Some((131_072, 12)));
    }

    #[test]
    fn what_is_not_there_is_said_once_and_bounds_nothing() {
        let machine = machine(&[("/proc/sys/fs/file-max", "lots\n")]);
        assert_eq!((machine.file_max, machine.overflows, machine.tracked), (None, None, None));
        let about = |path: &str| machine.unread.iter().filter(|line| line.starts_with(path)).count();
        assert_eq!((about("/proc/sys/fs/file-max"), about("/proc/net/netstat")), (1, 1));
        assert_eq!(about("/proc/sys/net/netfilter"), 0, "no tracking is no gap");
    }

    #[test]
    fn the_tightest_control_group_counts() {
        let machine = machine(&[
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/b/memory.current", "5\n"),
            ("/sys/fs/cgroup/a/memory.max", "1000\n"),
            ("/sys/fs/cgroup/a/memory.current", "400\n"),
        ]);
        let file = PathBuf::from("/sys/fs/cgroup/a/memory.max");
        assert_eq!(machine.group, Some(Group { file, limit: 1000, usage: 400 }));
    }

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
    fn reserved_ports_count_where_they_are_in_the_range() {
        let range = 32768..=60999;
        assert_eq!(reserved_within(&range, "\n"), Some(0));
        assert_eq!(reserved_within(&range, "8080,40000,50000-50009,60990-61010\n"), Some(21));
        assert_eq!(reserved_within(&(0..=65535), "0-65535"), Some(65536));
        assert_eq!(reserved_within(&range, "9-1,60000-50000"), Some(0));
        assert_eq!(reserved_within(&range, "a-b"), None);
    }
}
