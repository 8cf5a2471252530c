//! The limits for people and for programs.

use std::fmt;

use serde::Serialize;

use super::limits::{Limit, Question, Role, limits, unlimited};
use super::machine::Machine;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The connections that were asked for.
    pub connections: Option<u64>,
    /// This machine as a server, if the question was about that.
    pub server: Option<Outlook>,
    /// This machine as a client, if the question was about that.
    pub client: Option<Outlook>,
    /// Every limit that could be read.
    pub limits: Vec<Limit>,
    /// Connections that found the backlog of a listener full, since the start of the machine.
    pub listen_overflows: Option<u64>,
    /// Connections that a listener dropped, for that reason or for another one.
    pub listen_drops: Option<u64>,
    /// The figures that can't be read, and why; they may bound more than the rest.
    pub unread: Vec<String>,
}

/// The reach of one end of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Outlook {
    /// The connections that are possible at once; `None` if no bound is known.
    pub reachable: Option<u64>,
    /// The limit that comes first.
    pub first_limit: Option<&'static str>,
    /// Whether the reachable connections are enough for the question.
    pub enough: bool,
}

impl Report {
    pub(super) fn new(question: &Question, machine: Machine) -> Report {
        let sources = question.sources.max(1);
        let asked = |role| question.role.is_none_or(|only| only == role);
        let concerns_us = |limit: &Limit| limit.roles.iter().any(|&role| asked(role));
        let mut all = limits(&machine, question.connections.unwrap_or(0), sources);
        all.retain(concerns_us);
        let outlook = |role| {
            let first = all.iter().filter(|limit| limit.binding && limit.roles.contains(&role));
            let first = first.min_by_key(|limit| limit.connections);
            Outlook {
                reachable: first.map(|limit| limit.connections),
                first_limit: first.map(|limit| limit.name),
                enough: first
                    .zip(question.connections)
                    .is_none_or(|(limit, asked)| limit.connections >= asked),
            }
        };
        let [server, client] = [Role::Server, Role::Client].map(|role| asked(role).then(|| outlook(role)));
        if question.connections.is_none()
            && let Some(reachable) =
                [server, client].into_iter().flatten().filter_map(|end| end.reachable).min()
        {
            // Without a number in the question, say how to reach twice as many.
            all = limits(&machine, reachable.saturating_mul(2), sources);
            all.retain(concerns_us);
        }
        let (listen_overflows, listen_drops) = machine.overflows.unzip();
        Report {
            connections: question.connections,
            server,
            client,
            limits: all,
            listen_overflows,
            listen_drops,
            unread: machine.unread,
        }
    }

    /// Whether the connections of the question are possible.
    pub fn is_reachable(&self) -> bool {
        self.ends().all(|(_, end)| end.enough)
    }

    /// As one JSON object, on several lines.
    pub fn to_json(&self) -> String {
        // A report is numbers and texts, and JSON has both: this does not fail.
        serde_json::to_string_pretty(self).map_or_else(|_| String::new(), |json| json + "\n")
    }

    fn ends(&self) -> impl Iterator<Item = (&'static str, Outlook)> {
        [("server", self.server), ("client", self.client)]
            .into_iter()
            .filter_map(|(name, end)| end.map(|end| (name, end)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |limit: &Limit| match *limit.roles {
            [Role::Server] => format!("{} (server)", limit.name),
            [Role::Client] => format!("{} (client)", limit.name),
            _ => limit.name.to_owned(),
        };
        let names = self.limits.iter().map(|limit| name(limit).len()).max().unwrap_or(0);
        let settings = self.limits.iter().map(|limit| limit.setting.len()).max().unwrap_or(0);
        writeln!(f, "{:names$}  {:settings$}  {:>11}", "limit", "setting", "connections")?;
        for limit in &self.limits {
            let (name, connections) = (name(limit), unlimited(limit.connections));
            writeln!(f, "{name:names$}  {:settings$}  {connections:>11}", limit.setting)?;
        }
        if let (Some(overflows), Some(drops)) = (self.listen_overflows, self.listen_drops) {
            writeln!(
                f,
                "\nsince the start of the machine: ListenOverflows {overflows}, ListenDrops {drops}"
            )?;
            if overflows > 0 {
                writeln!(
                    f,
                    "  some listener's backlog was full: `ss -ltn` shows which one is full (Recv-Q, Send-Q)"
                )?;
            }
        }
        writeln!(f)?;
        for (name, end) in self.ends() {
            match (end.reachable, end.first_limit) {
                (Some(reachable), Some(first)) => {
                    let verdict = match (self.connections, end.enough) {
                        (Some(asked), true) => format!(", enough for {asked}"),
                        (Some(asked), false) => format!(", not {asked}"),
                        (None, _) => String::new(),
                    };
                    writeln!(f, "as a {name}: {reachable} connections{verdict}; the first limit: {first}")?;
                }
                _ => writeln!(f, "as a {name}: nothing that bounds its connections can be read")?,
            }
        }
        self.write_remedies(f, true)?;
        self.write_remedies(f, false)?;
        if !self.unread.is_empty() {
            writeln!(f, "\nnot readable here, and so not counted:")?;
            self.unread.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        Ok(())
    }
}

impl Report {
    fn write_remedies(&self, f: &mut fmt::Formatter<'_>, binding: bool) -> fmt::Result {
        let mut first = true;
        for limit in self.limits.iter().filter(|limit| limit.binding == binding) {
            let Some(remedy) = &limit.remedy else { continue };
            if std::mem::take(&mut first) {
                match (binding, self.connections) {
                    (true, Some(asked)) => writeln!(f, "\nto reach {asked}:")?,
                    (true, None) => writeln!(f, "\nto reach twice as many:")?,
                    (false, _) => writeln!(f, "\nbetter for that many:")?,
                }
            }
            writeln!(f, "  {}: {remedy}", limit.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::machine;
    use super::*;

    fn report(connections: Option<u64>, role: Option<Role>, sources: u64) -> Report {
        let machine = machine(&[
            ("/proc/sys/net/ipv4/ip_local_port_range", "50000 59999\n"),
            ("/proc/sys/net/core/somaxconn", "128\n"),
            ("/proc/net/netstat", "TcpExt: ListenOverflows ListenDrops\nTcpExt: 3 4\n"),
        ]);
        Report::new(&Question { connections, role, sources }, machine)
    }

    #[test]
    fn the_first_limit_of_each_end_is_what_it_can_reach() {
        let both = report(Some(15_000), None, 1);
        let server =
            Outlook { reachable: Some(19_967), first_limit: Some("descriptors of a process"), enough: true };
        let client = Outlook { reachable: Some(10_000), first_limit: Some("ephemeral ports"), enough: false };
        assert_eq!((both.server, both.client), (Some(server), Some(client)));
        assert!(!both.is_reachable());
        assert!(report(Some(15_000), Some(Role::Server), 1).is_reachable());
        assert!(report(Some(15_000), Some(Role::Client), 2).is_reachable());
        assert!(!report(Some(20_000), Some(Role::Server), 1).is_reachable());
        assert!(report(None, None, 1).is_reachable(), "nothing was asked for");
    }

    #[test]
    fn people_are_told_what_to_do() {
        let text = report(Some(15_000), None, 1).to_string();
        for part in [
            "as a server: 19967 connections, enough for 15000; the first limit: descriptors of a process\n",
            "as a client: 10000 connections, not 15000; the first limit: ephemeral ports\n",
            "to reach 15000:\n  ephemeral ports: `sysctl -w net.ipv4.ip_local_port_range='1024 65535'` allows them\n",
            "better for that many:\n  net.core.somaxconn: `sysctl -w net.core.somaxconn=4096` raises it\n",
            "ListenOverflows 3, ListenDrops 4",
            "not readable here, and so not counted:\n",
            "  /proc/sys/fs/nr_open: entity not found\n",
        ] {
            assert!(text.contains(part), "nothing of {part:?} in\n{text}");
        }
        assert!(!report(Some(5), Some(Role::Server), 1).to_string().contains("client"));
        assert!(
            report(None, Some(Role::Server), 1)
                .to_string()
                .contains("to reach twice as many:\n  descriptors")
        );
    }

    #[test]
    fn the_table_fits_80_columns_on_a_large_machine() {
        let machine = machine(&[
            ("/proc/sys/fs/file-max", "9223372036854775807\n"),
            ("/proc/sys/fs/file-nr", "123456\t0\t9223372036854775807\n"),
            ("/proc/sys/net/core/somaxconn", "2147483647\n"),
            ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("/proc/sys/net/ipv4/tcp_mem", "287901\t383868\t1234567890\n"),
            ("/proc/net/sockstat", "TCP: inuse 4 orphan 0 tw 0 alloc 4 mem 1234567\n"),
            ("/proc/meminfo", "MemAvailable:   1023326728 kB\n"),
            ("/proc/sys/net/netfilter/nf_conntrack_max", "1310720000\n"),
            ("/proc/sys/net/netfilter/nf_conntrack_count", "7200000\n"),
            ("/proc/self/cgroup", "0::/echo\n"),
            ("/sys/fs/cgroup/echo/memory.max", "536870912\n"),
            ("/sys/fs/cgroup/echo/memory.current", "36870912\n"),
        ]);
        let text = Report::new(&Question { connections: None, role: None, sources: 1 }, machine).to_string();
        let table: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
        assert!(table.len() > 8 && table.iter().all(|line| line.len() <= 80), "{text}");
        assert!(text.contains("unlimited (123456 in use)"), "{text}");
    }

    #[test]
    fn programs_get_numbers() {
        let json: serde_json::Value =
            serde_json::from_str(&report(Some(15_000), None, 1).to_json()).expect("JSON");
        assert_eq!(json["client"]["reachable"], 10_000);
        assert_eq!(json["server"]["enough"], true);
        assert_eq!(json["limits"][1]["roles"][0], "client");
        assert_eq!(json["listen_drops"], 4);
    }
}
