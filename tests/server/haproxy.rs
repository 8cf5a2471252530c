//! Behind a balancer: the configuration in `deploy/haproxy`, with a real HAProxy.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::{TempDir, tempdir};

use crate::support::{
    Client, DEADLINE, Process, Server, assert_same, eventually, installed, own_address, pattern, program,
    run, skip,
};

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy/haproxy.cfg");
const VERSIONS: [&str; 2] = ["send-proxy", "send-proxy-v2"];

/// HAProxy with two servers, all of them on addresses that no other process is likely to use.
struct Balancer {
    _process: Process,
    directory: TempDir,
    address: SocketAddr,
    servers: [SocketAddr; 2],
}

/// The path of HAProxy. Debian has it in a directory that only root's PATH names.
fn haproxy() -> Option<PathBuf> {
    installed("haproxy").or_else(|| Some(PathBuf::from("/usr/sbin/haproxy")).filter(|file| file.is_file()))
}

/// HAProxy does not say which port it got, and servers come back to their ports. So the test chooses ports beforehand,
/// on addresses of our own, where nobody takes them meanwhile.
fn free_address(number: u8) -> SocketAddr {
    let listener = TcpListener::bind((own_address(number), 0)).expect("a loopback address of our own");
    listener.local_addr().expect("it is bound")
}

impl Balancer {
    /// `None` if HAProxy is not installed. Each test has numbers of its own for its addresses.
    #[track_caller]
    fn start(test: &str, number: u8, version: &str) -> Option<Balancer> {
        Balancer::configured(test, number, version, |text| text)
    }

    /// HAProxy with a changed configuration.
    #[track_caller]
    fn configured(
        test: &str,
        number: u8,
        version: &str,
        configure: impl FnOnce(String) -> String,
    ) -> Option<Balancer> {
        let Some(haproxy) = haproxy() else {
            skip(test, "haproxy is not installed");
            return None;
        };
        let directory = tempdir().expect("a directory");
        let [address, first, second] = [0, 1, 2].map(|index| free_address(number + index));
        let text = fs::read_to_string(CONFIGURATION).expect("it comes with the source");
        let file = directory.path().join("haproxy.cfg");
        fs::write(&file, configure(text)).expect("a file can be written");
        let log = fs::File::create(directory.path().join("log")).expect("a file can be written");
        let mut command = Command::new(haproxy);
        command.args(["-db", "-f"]).arg(file);
        command.env("ECHO_BIND", address.to_string()).env("ECHO_SEND", version);
        command.env("ECHO_FIRST", first.to_string()).env("ECHO_SECOND", second.to_string());
        command.env("ECHO_ADMIN", directory.path().join("admin"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let process = Process::spawn(&mut command);
        Some(Balancer { _process: process, directory, address, servers: [first, second] })
    }

    /// A server on the address that the configuration keeps for it.
    #[track_caller]
    fn server(&self, index: usize, arguments: &[&str]) -> Server {
        let endpoint = self.servers[index].to_string();
        Server::start(&[&["--proxy-protocol=require", &endpoint], arguments].concat())
    }

    /// HAProxy's answer to a command; empty as long as nobody can ask HAProxy.
    fn ask(&self, command: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = UnixStream::connect(self.directory.path().join("admin")) {
            stream.set_read_timeout(Some(DEADLINE)).expect("a positive time");
            writeln!(stream, "{command}").expect("it takes the command");
            stream.read_to_string(&mut answer).expect("it answers");
        }
        answer
    }

    /// A column of its statistics for one of the servers.
    fn statistic(&self, server: &str, column: &str) -> String {
        let table = self.ask("show stat");
        let mut rows = table.lines().map(|line| line.trim_start_matches("# ").split(',').collect::<Vec<_>>());
        let place = rows.next().and_then(|head| head.iter().position(|name| *name == column));
        let row = rows.find(|row| row.get(1) == Some(&server));
        row.zip(place).and_then(|(row, place)| row.get(place).copied()).unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn await_statistic(&self, server: &str, column: &str, value: &str) {
        eventually(&format!("{server}: {column} is {value}"), || self.statistic(server, column) == value);
    }

    /// Waits until both servers have passed a health check, with this result.
    #[track_caller]
    fn await_health(&self, check: &str) {
        for server in ["first", "second"] {
            self.await_statistic(server, "check_status", check);
            self.await_statistic(server, "status", "UP");
        }
    }
}

#[test]
fn through_haproxy_the_server_sees_the_client() {
    let test = "through_haproxy_the_server_sees_the_client";
    // Version 2 can say more than the addresses: a checksum, a name for the connection.
    let extended = "send-proxy-v2 proxy-v2-options crc32c,unique-id";
    for (version, number) in [(VERSIONS[0], 10), (VERSIONS[1], 20), (extended, 90)] {
        let configure = |text: String| {
            let text = text.replace("    bind ", "    unique-id-format %[uuid()]\n    bind ");
            text.replace("\"${ECHO_SEND-send-proxy-v2}\"", version)
        };
        let Some(balancer) = Balancer::configured(test, number, version, configure) else { return };
        let servers = [0, 1].map(|index| balancer.server(index, &[]));
        balancer.await_health("L7OK");
        let message = pattern(1 << 20, u64::from(number));
        let clients: Vec<Client> =
            (3..7).map(|index| Client::from_source(own_address(number + index), balancer.address)).collect();
        for client in &clients {
            client.echo(b"This is the message.");
            assert_same(&client.exchange(&message), &message);
            let line = format!("connection from {} (by way of 127.", client.local_address());
            let known = |server: &&Server| server.log().contains(&line);
            eventually(&format!("{version}: {line}"), || servers.iter().filter(known).count() == 1);
        }
        for server in servers {
            let (status, log) = server.stop();
            assert_eq!(status.code(), Some(0));
            assert_eq!(log.matches(" (by way of ").count(), 2, "they take turns:\n{log}");
            // HAProxy speaks for itself in health checks. The server serves them and does not log them.
            let served = log.split_once("stopped: ").and_then(|(_, rest)| rest.split_once(' '));
            let served: u64 = served.expect("a summary").0.parse().expect("a number");
            assert!(served > 2 && !log.contains("13 bytes in"), "{version}:\n{log}");
            assert!(!log.contains("no PROXY header"), "{version}:\n{log}");
        }
    }
}

/// HAProxy checks its servers in several ways. The server must not take a check for a client without a header.
#[test]
fn health_checks_of_every_kind_find_the_server_well() {
    let test = "health_checks_of_every_kind_find_the_server_well";
    for (version, number) in VERSIONS.into_iter().zip([60, 70]) {
        // The first check sends the header that HAProxy sends to the server anyway; the second only connects.
        for (check, number) in [("L7OK", number), ("L4OK", number + 3)] {
            let configure = |text: String| {
                let text = text.replace(" check-send-proxy ", " ");
                if check == "L7OK" {
                    text
                } else {
                    text.replace("option tcp-check", "").replace(" tcp-check ", " # ")
                }
            };
            let Some(balancer) = Balancer::configured(test, number, version, configure) else { return };
            let servers = [0, 1].map(|index| balancer.server(index, &["-v"]));
            balancer.await_health(check);
            for server in servers {
                server.await_log("connection from 127.0.0.1:");
                let (_, log) = server.stop();
                assert!(!log.contains("by way of") && !log.contains("no PROXY header"), "{version}:\n{log}");
            }
        }
    }
}

/// The address of a server is no secret.
#[test]
fn whoever_comes_past_haproxy_is_not_served() {
    let Some(balancer) = Balancer::start("whoever_comes_past_haproxy_is_not_served", 30, VERSIONS[1]) else {
        return;
    };
    let servers = [0, 1].map(|index| balancer.server(index, &[]));
    balancer.await_health("L7OK");
    Client::tcp(balancer.address).echo(b"this way");
    let client = Client::tcp(balancer.servers[0]);
    client.send(b"and not that way");
    servers[0].await_log("no PROXY header: it began with b'and not that way'");
}

/// `{local}` tells these servers apart. `{host}`, for servers on different machines, is the same for both here.
#[test]
fn who_answers_is_seen_by_its_greeting() {
    let Some(balancer) = Balancer::start("who_answers_is_seen_by_its_greeting", 80, VERSIONS[0]) else {
        return;
    };
    let servers = [0, 1].map(|index| balancer.server(index, &["-q", "--greeting", "{local}\\n"]));
    // A server that greets before it echoes passes the health check.
    balancer.await_health("L7OK");
    // Both greetings are equally long: the ports that the system gives have five digits.
    let greetings = servers.each_ref().map(|server| format!("{}\n", server.address()));
    let (length, address) = (greetings[0].len().to_string(), balancer.address.to_string());
    let mut load = program(&["load", "--json", "--connect-per-message", "--reset", "-c", "1", "-m", "100"]);
    load.args(["--greeting", &length, &address]);
    let finished = run(load);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let count = |greeting: &String| report["greetings"][greeting].as_u64().expect("it greeted somebody");
    // The servers take turns; only a health check may come between.
    assert!(greetings.iter().all(|greeting| (45..=55).contains(&count(greeting))), "{report}");
    assert!(greetings.iter().map(count).sum::<u64>() == 100, "{report}");
}

#[test]
fn servers_are_replaced_under_load_and_nothing_is_lost() {
    let test = "servers_are_replaced_under_load_and_nothing_is_lost";
    for (version, number) in VERSIONS.into_iter().zip([40, 50]) {
        let Some(balancer) = Balancer::start(test, number, version) else { return };
        let mut servers = [0, 1].map(|index| Some(balancer.server(index, &["-q"])));
        balancer.await_health("L7OK");
        let mut load = program(&["load", "--json", "--connect-per-message", "--reset", "--duration", "1h"]);
        load.arg(balancer.address.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut load = Process::spawn(&mut load);
        for (index, name) in ["first", "second"].into_iter().enumerate() {
            let served =
                |least: u64| balancer.statistic(name, "stot").parse().is_ok_and(|now: u64| now >= least);
            eventually("it is in use", || served(100));
            balancer.ask(&format!("set server echo/{name} state drain"));
            balancer.await_statistic(name, "scur", "0");
            let (status, log) = servers[index].take().expect("it is running").stop();
            assert_eq!((status.code(), log.as_str()), (Some(0), ""));
            servers[index] = Some(balancer.server(index, &["-q"]));
            balancer.ask(&format!("set server echo/{name} state ready"));
            let before = balancer.statistic(name, "stot").parse::<u64>().expect("a number");
            eventually("the new one is in use", || served(before + 100));
        }
        load.signal(Signal::INT);
        let mut report = String::new();
        let mut stdout = load.child.stdout.take().expect("it is piped");
        stdout.read_to_string(&mut report).expect("a pipe can be read");
        assert_eq!(load.wait().code(), Some(0), "{version}: {report}");
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        assert!(report["messages"]["received"].as_u64() > Some(400), "{version}: {report}");
        assert_eq!(report["failures"], serde_json::json!([]), "{version}");
        assert_eq!(report["connections"]["lost"], 0, "{version}");
    }
}
