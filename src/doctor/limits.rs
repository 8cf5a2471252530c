//! From numbers to limits: the connections that each limit allows, and the command that raises it.

use bytesize::ByteSize;
use rustix::param::page_size;
use serde::Serialize;

use super::machine::Machine;
use crate::net::{ListenerOptions, backlog_remedy};
use crate::system::DescriptorLimit;

/// Bytes that the kernel keeps for a connection beside the socket: the inode (832 bytes), the directory entry (192), the
/// file (256), the epoll watch (128), its place in the descriptor table (8), rounded up for the waste of slabs.
const BESIDE_THE_SOCKET: u64 = 1600;
/// The size of a socket where the kernel doesn't tell.
const USUAL_SOCKET: u64 = 2560;
/// The server's own memory for an idle connection.
const IN_USER_SPACE: u64 = 128;
/// The listening sockets that a server is assumed to have.
const LISTENERS: usize = 1;
/// The backlog that `echoloop serve` asks for.
const BACKLOG: u64 = ListenerOptions::USUAL_BACKLOG as u64;
/// Ports from 1024 on are for everyone.
const MOST_PORTS: u64 = 65535 - 1024 + 1;

/// A question about this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The connections to hold at once; `None`: as many as possible.
    pub connections: Option<u64>,
    /// The role of this machine; `None`: both roles, each for itself.
    pub role: Option<Role>,
    /// How many pairs of source address and target (address and port) a client has: each pair has all ephemeral ports.
    pub sources: u64,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The end that accepts.
    Server,
    /// The end that connects.
    Client,
}

/// One of the limits of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// The limited resource.
    pub name: &'static str,
    /// The setting, and how much of it is in use.
    pub setting: String,
    /// The connections that it allows.
    pub connections: u64,
    /// The ends that it bounds.
    pub roles: &'static [Role],
    /// Whether it makes more connections impossible; if not, the server only serves them worse.
    pub binding: bool,
    /// The remedy that raises it as far as wanted; `None` if it is high enough.
    pub remedy: Option<String>,
}

const BOTH: &[Role] = &[Role::Server, Role::Client];
const SERVER: &[Role] = &[Role::Server];
const CLIENT: &[Role] = &[Role::Client];

/// The limits for `wanted` connections, with `sources` pairs of source address and target.
pub(super) fn limits(machine: &Machine, wanted: u64, sources: u64) -> Vec<Limit> {
    let mut found = Found { wanted, limits: Vec::new() };
    found.add_descriptors(machine);
    found.add_ports(machine, sources);
    found.add_memory(machine);
    found.add_network(machine);
    found.limits
}

/// The limits that were found so far.
struct Found {
    wanted: u64,
    limits: Vec<Limit>,
}

impl Found {
    fn add(
        &mut self,
        name: &'static str,
        setting: String,
        connections: u64,
        roles: &'static [Role],
        binding: bool,
        remedy: impl FnOnce() -> String,
    ) {
        let remedy = (connections < self.wanted).then(remedy);
        self.limits.push(Limit { name, setting, connections, roles, binding, remedy });
    }

    /// The descriptors of this process, and of all processes.
    fn add_descriptors(&mut self, machine: &Machine) {
        let wanted = self.wanted;
        let descriptors = machine.descriptors;
        let wanted_descriptors = wanted.saturating_add(allowance());
        self.add(
            "descriptors of a process",
            format!("{} (soft {})", unlimited(descriptors.hard), unlimited(descriptors.soft)),
            allowed(descriptors.hard),
            BOTH,
            true,
            || descriptors.remedy(usize::try_from(wanted).unwrap_or(usize::MAX), LISTENERS),
        );
        if let Some(most) = machine.nr_open {
            self.add("fs.nr_open", most.to_string(), allowed(most), BOTH, true, || {
                format!(
                    "`sysctl -w fs.nr_open={wanted_descriptors}` lets root raise the hard descriptor limit that far"
                )
            });
        }
        if let (Some(most), Some(open)) = (machine.file_max, machine.files_open) {
            let setting = format!("{} ({open} in use)", unlimited(most));
            self.add("fs.file-max", setting, allowed(most.saturating_sub(open)), BOTH, true, || {
                format!("`sysctl -w fs.file-max={}` raises it", wanted_descriptors.saturating_add(open))
            });
        }
        if let Some(most) = machine.watches {
            self.add("fs.epoll.max_user_watches", most.to_string(), allowed(most), BOTH, true, || {
                format!("`sysctl -w fs.epoll.max_user_watches={wanted_descriptors}` raises it")
            });
        }
    }

    /// The ephemeral ports, which tell one connection of a client from another.
    fn add_ports(&mut self, machine: &Machine, sources: u64) {
        let wanted = self.wanted;
        if let Some(range) = &machine.ports {
            let count = u64::from(range.end() - range.start()) + 1;
            let ports = count.saturating_sub(machine.ports_reserved);
            let setting = format!("{} to {} (times {sources})", range.start(), range.end());
            self.add("ephemeral ports", setting, ports.saturating_mul(sources), CLIENT, true, || {
                let most = MOST_PORTS.saturating_sub(machine.ports_reserved).max(1);
                match wanted.div_ceil(most) {
                    needed if needed <= sources => {
                        "`sysctl -w net.ipv4.ip_local_port_range='1024 65535'` allows them".into()
                    }
                    _ => format!(
                        "{} source addresses have that many ports, or {} after `sysctl -w \
                         net.ipv4.ip_local_port_range='1024 65535'` (`load --source 127.0.0.0/8` takes as many as it needs)",
                        wanted.div_ceil(ports.max(1)),
                        wanted.div_ceil(most)
                    ),
                }
            });
        }
    }

    /// The memory of idle connections.
    fn add_memory(&mut self, machine: &Machine) {
        let wanted = self.wanted;
        let each = machine.socket_size.unwrap_or(USUAL_SOCKET) + BESIDE_THE_SOCKET + IN_USER_SPACE;
        let needed = wanted.saturating_mul(each);
        if let Some(available) = machine.memory_available {
            let setting = format!("{}, {each} bytes each", ByteSize(available));
            self.add("memory", setting, available / each, BOTH, true, || {
                format!(
                    "they need about {} while idle: `ps -eo rss,comm --sort -rss` lists the largest users of memory",
                    ByteSize(needed)
                )
            });
        }
        if let Some(group) = &machine.group {
            let setting = format!("{} ({} in use)", ByteSize(group.limit), ByteSize(group.usage));
            let left = group.limit.saturating_sub(group.usage);
            self.add("memory of the control group", setting, left / each, BOTH, true, || {
                format!("`echo {} > {}` raises it", needed.saturating_add(group.usage), group.file.display())
            });
        }
    }

    /// Tables and queues of the network.
    fn add_network(&mut self, machine: &Machine) {
        let wanted = self.wanted;
        if let Some((most, count)) = machine.tracked {
            // On most servers without a firewall the table exists but tracks no connection. Then it limits nothing.
            let binding = count > 0;
            let setting = format!("{most} ({count} in use)");
            self.add("net.netfilter.nf_conntrack_max", setting, most.saturating_sub(count), BOTH, binding, || {
                format!(
                    "`sysctl -w net.netfilter.nf_conntrack_max={}` raises it, if the firewall tracks these connections",
                    wanted.saturating_add(count)
                )
            });
        }
        if let Some((most, used)) = machine.tcp_pages {
            let setting = format!("{most} pages ({used} in use)");
            self.add("net.ipv4.tcp_mem", setting, most.saturating_sub(used), BOTH, false, || {
                let pages = wanted.saturating_add(used);
                format!(
                    "`sysctl -w net.ipv4.tcp_mem='{} {} {pages}'` lets that many have a page ({} bytes) under way at once",
                    pages / 2,
                    pages / 4 * 3,
                    page_size()
                )
            });
        }
        if let Some(most) = machine.somaxconn {
            // The backlog holds only a burst of new connections, so a limit above the server's own backlog is of no
            // use.
            let remedy = (most < BACKLOG.min(wanted)).then(|| backlog_remedy(BACKLOG as i32));
            let setting = format!("{most} a burst (--backlog {BACKLOG})");
            let connections = most.min(BACKLOG);
            self.limits.push(Limit {
                name: "net.core.somaxconn",
                setting,
                connections,
                roles: SERVER,
                binding: false,
                remedy,
            });
        }
    }
}

/// Descriptors beside those of connections.
fn allowance() -> u64 {
    const MANY: u64 = 1 << 20;
    MANY - allowed(MANY)
}

/// The connections that this number of descriptors, files or watches allows, by the server's own count.
fn allowed(descriptors: u64) -> u64 {
    let limit = DescriptorLimit { found: descriptors, soft: descriptors, hard: descriptors };
    (limit.connections(LISTENERS) as u64).min(descriptors)
}

/// Linux writes "unlimited" as the largest number that it knows, of 63 or 64 bits.
pub(super) fn unlimited(limit: u64) -> String {
    if limit >= i64::MAX as u64 / 2 { "unlimited".into() } else { limit.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::machine;
    use super::*;

    const MACHINE: &[(&str, &str)] = &[
        ("/proc/sys/fs/nr_open", "1048576\n"),
        ("/proc/sys/fs/file-max", "2466177\n"),
        ("/proc/sys/fs/file-nr", "485\t0\t2466177\n"),
        ("/proc/sys/fs/epoll/max_user_watches", "5491511\n"),
        ("/proc/sys/net/core/somaxconn", "128\n"),
        ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
        ("/proc/sys/net/ipv4/ip_local_reserved_ports", "\n"),
        ("/proc/sys/net/ipv4/tcp_mem", "287901\t383868\t575802\n"),
        ("/proc/net/sockstat", "TCP: inuse 4 orphan 0 tw 0 alloc 4 mem 186\n"),
        ("/proc/net/protocols", "TCP 2304 4\nTCPv6 2432 0\n"),
        ("/proc/meminfo", "MemAvailable:   23326728 kB\n"),
        ("/proc/sys/net/netfilter/nf_conntrack_max", "131072\n"),
        ("/proc/sys/net/netfilter/nf_conntrack_count", "72\n"),
        ("/proc/self/cgroup", "0::/echo\n"),
        ("/sys/fs/cgroup/echo/memory.max", "536870912\n"),
        ("/sys/fs/cgroup/echo/memory.current", "36870912\n"),
    ];

    #[track_caller]
    fn assert_limit(wanted: u64, sources: u64, name: &str, connections: u64, remedy: &str) {
        let limits = limits(&machine(MACHINE), wanted, sources);
        let limit = limits.iter().find(|limit| limit.name.starts_with(name)).expect(name);
        assert_eq!(limit.connections, connections, "{limit:?}");
        match &limit.remedy {
            Some(text) => assert!(!remedy.is_empty() && text.contains(remedy), "{text}"),
            None => assert_eq!(remedy, "", "{limit:?}"),
        }
    }

    #[test]
    fn each_limit_is_counted_in_connections_and_names_what_raises_it() {
        for (name, connections, remedy) in [
            ("descriptors", 19_967, "LimitNOFILE=3000033"),
            ("fs.nr_open", 1_048_543, "`sysctl -w fs.nr_open=3000033`"),
            ("fs.file-max", 2_465_659, "`sysctl -w fs.file-max=3000518`"),
            ("fs.epoll", 5_491_478, ""),
            ("ephemeral", 28_232, "107 source addresses have that many ports, or 47 after `sysctl"),
            ("memory of", 120_192, "`echo 12516870912 > /sys/fs/cgroup/echo/memory.max`"),
            ("net.netfilter", 131_000, "`sysctl -w net.netfilter.nf_conntrack_max=3000072`"),
            ("net.ipv4.tcp_mem", 575_616, "`sysctl -w net.ipv4.tcp_mem='1500093 2250138 3000186'`"),
            ("net.core.somaxconn", 128, "`sysctl -w net.core.somaxconn=4096`"),
        ] {
            assert_limit(3_000_000, 1, name, connections, remedy);
        }
    }

    #[test]
    fn what_is_allowed_needs_no_remedy() {
        for limit in limits(&machine(MACHINE), 100, 1) {
            assert_eq!(limit.remedy, None, "{limit:?}");
        }
        assert!(
            limits(&machine(&[]), u64::MAX, u64::MAX).len() == 1,
            "only the descriptors are always known"
        );
    }

    #[test]
    fn ports_are_widened_before_addresses_are_added() {
        assert_limit(
            60_000,
            1,
            "ephemeral",
            28_232,
            "`sysctl -w net.ipv4.ip_local_port_range='1024 65535'` allows",
        );
        assert_limit(60_000, 3, "ephemeral", 84_696, "");
    }

    #[test]
    fn a_table_in_which_nothing_is_tracked_binds_nobody() {
        let mut files = MACHINE.to_vec();
        files.retain(|(name, _)| !name.ends_with("nf_conntrack_count"));
        files.push(("/proc/sys/net/netfilter/nf_conntrack_count", "0\n"));
        let is_binding = |files: &[(&str, &str)]| {
            let limits = limits(&machine(files), 1, 1).into_iter();
            limits.filter(|limit| limit.name.contains("conntrack")).any(|limit| limit.binding)
        };
        assert!(is_binding(MACHINE) && !is_binding(&files));
    }
}
