//! Limits of connections and of descriptors. No client is lost, nothing spins, and the log says it once.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::support::{Client, Server, assert_same, eventually, pattern, program, run, with_descriptors};

/// Descriptors beyond the standard three that every child gets from us, because we got them from our parent.
pub(crate) fn inherited_descriptors() -> usize {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let is_inherited = |entry: &std::fs::DirEntry| {
        let number: u32 = entry.file_name().to_string_lossy().parse().unwrap_or_default();
        // A descriptor that another thread closes meanwhile was not inherited.
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        number > 2 && flags.is_some_and(|flags| flags & CLOSE_ON_EXEC == 0)
    };
    std::fs::read_dir("/proc/self/fdinfo").expect("Linux").flatten().filter(is_inherited).count()
}

/// Lowers or raises the soft limit of a running server behind its back.
pub(crate) fn allow_descriptors(server: &Server, limit: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: Some(limit), maximum };
    prlimit(Some(server.pid()), Resource::Nofile, limit).expect("our child's limit");
}

/// Connects clients until the server's descriptors have no gap. Then their number can be the server's limit, and the
/// next client fails.
pub(crate) fn clients_without_a_gap(server: &Server) -> Vec<Client> {
    let mut clients = Vec::new();
    while clients.len() < 2 || server.next_descriptor() != server.descriptors() {
        let client = server.connect();
        client.echo(b"inside");
        clients.push(client);
    }
    clients
}

/// Waits for as long as a spinning server would need to show it. This server has nothing to do meanwhile.
#[track_caller]
pub(crate) fn assert_it_sleeps(server: &Server, waiting: &Client) {
    let before = server.cpu_time();
    let waiting = waiting.socket();
    waiting.set_read_timeout(Some(Duration::from_secs(2))).expect("a positive time");
    let mut byte = [std::mem::MaybeUninit::uninit()];
    waiting.recv(&mut byte).expect_err("it waits, so nothing comes");
    let spent = server.cpu_time() - before;
    // A spinning process uses this much even if it shares its processor with eight others.
    assert!(spent < Duration::from_millis(200), "{spent:?} of processor time for nothing");
    waiting.set_read_timeout(Some(crate::support::DEADLINE)).expect("a positive time");
}

#[test]
fn two_hundred_clients_are_all_served_with_64_descriptors() {
    let server = Server::spawn(with_descriptors(64, &["127.0.0.1:0"]), 1);
    let clients: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(format!("client {number:03}").as_bytes());
    }
    server.await_log("the limit of 32 connections is reached: new ones wait");
    eventually("as many as may be are served", || {
        clients.iter().filter(|client| client.has_input()).count() == 32
    });
    let last = clients.last().expect("there are 200");
    assert_it_sleeps(&server, last);
    let served = |(number, client): (usize, &Client)| {
        assert_eq!(client.receive(10), format!("client {number:03}").as_bytes());
    };
    // The clients inside leave at once, and another one comes in the same moment: the leaving clients' descriptors are
    // all still open when the server looks for new clients.
    let (inside, waiting) = clients.split_at(32);
    inside.iter().enumerate().for_each(served);
    let another = server.while_held(|| {
        inside.iter().for_each(Client::end_sending);
        server.connect()
    });
    for (number, client) in (32..).zip(waiting) {
        served((number, client));
        client.end_sending();
    }
    another.echo(b"the last one");
    drop((clients, another));
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("descriptor limit 64 (it was 64, the hard limit is 64)"), "{log}");
    assert!(log.contains("stopped: 201 connections served, 32 at once at most"), "{log}");
    assert_eq!(log.matches("the limit of 32 connections is reached").count(), 1, "{log}");
    assert!(
        !log.contains("the server pauses accepting"),
        "the limit keeps it from running out of descriptors:\n{log}"
    );
}

#[test]
fn out_of_descriptors_it_pauses_and_goes_on_when_a_connection_closes() {
    let server = Server::on_ipv4(&[]);
    let mut inside = clients_without_a_gap(&server);
    allow_descriptors(&server, server.descriptors() as u64);
    let outside: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    outside.iter().for_each(|client| client.send(b"outside"));
    server.await_log("the server pauses accepting: too many open files");
    assert_it_sleeps(&server, &outside[4]);
    assert!(!outside.iter().any(Client::has_input));
    for client in &inside {
        client.echo(b"served as before");
    }
    assert_eq!(server.log().matches("the server pauses accepting").count(), 1, "{}", server.log());

    // Each client that leaves lets one in.
    drop(inside.pop());
    assert_eq!(outside[0].receive(7), b"outside");
    inside.iter().for_each(|client| client.echo(b"still here"));
    for pair in outside.windows(2) {
        pair[0].socket().shutdown(std::net::Shutdown::Both).expect("it is connected");
        assert_eq!(pair[1].receive(7), b"outside");
    }
    drop(outside);
    server.connect().echo(b"a later one");
    server.await_log("the server accepts again after ");
    assert_eq!(
        server.log().matches("the server pauses accepting").count(),
        1,
        "one episode:\n{}",
        server.log()
    );
}

#[test]
fn out_of_descriptors_it_goes_on_when_the_limit_is_raised() {
    let server = Server::on_ipv4(&[]);
    let inside = clients_without_a_gap(&server);
    let limit = server.descriptors() as u64;
    for _ in 0..2 {
        allow_descriptors(&server, limit);
        let outside: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        outside.iter().for_each(|client| client.send(b"outside"));
        eventually("it has run out", || {
            let log = server.log();
            log.matches("the server pauses accepting").count()
                == log.matches("the server accepts again").count() + 1
        });
        // No connection closes, and no other client comes: only a timer can find out.
        allow_descriptors(&server, limit + 100);
        for client in &outside {
            assert_eq!(client.receive(7), b"outside");
        }
        drop(outside);
        server.await_descriptors(limit as usize);
        // Failures that follow at once would belong to the same episode.
        eventually("the episode is over", || {
            let log = server.log();
            log.matches("the server accepts again").count()
                == log.matches("the server pauses accepting").count()
        });
    }
    inside.iter().for_each(|client| client.echo(b"still here"));
    drop(inside);
    let (_, log) = server.stop();
    assert_eq!(log.matches("the server pauses accepting").count(), 2, "once an episode:\n{log}");
    assert_eq!(log.matches("the server accepts again after ").count(), 2, "once an episode:\n{log}");
}

#[test]
fn out_of_descriptors_again_and_again_it_says_so_once_an_episode() {
    // With so few descriptors the limit of connections is higher than the number of free descriptors: each client that
    // leaves lets one in, and the next one fails.
    let server = Server::spawn(with_descriptors(20, &["-q", "127.0.0.1:0"]), 1);
    for _ in 0..200 {
        let clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        clients.iter().for_each(|client| client.send(b"in turn"));
        for client in clients {
            assert_eq!(client.receive(7), b"in turn");
        }
    }
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0));
    let (paused, full) =
        (log.matches("the server pauses accepting").count(), log.matches("is reached").count());
    assert!(paused + full >= 1 && log.lines().count() <= 20, "not a line for each failure:\n{log}");
}

#[test]
fn one_connection_beyond_the_limit_waits_for_another_to_end() {
    let server = Server::on_ipv4(&["--max-connections", "2"]);
    let (first, second) = (server.connect(), server.connect());
    first.echo(b"first");
    second.echo(b"second");
    let third = server.connect();
    third.send(b"third");
    server.await_log("the limit of 2 connections is reached: new ones wait");
    for _ in 0..100 {
        first.echo(b"first");
        assert!(!third.has_input(), "there may be two at a time");
    }
    drop(second);
    assert_eq!(third.receive(5), b"third");
}

#[test]
fn at_the_limit_no_listener_takes_every_place() {
    let server = Server::spawn(program(&["--max-connections", "1", "127.0.0.1:0", "127.0.0.1:0"]), 2);
    let connect = |endpoint: &String| {
        let address = endpoint.trim_start_matches("tcp://").parse().expect("an address");
        let client = Client::tcp(address);
        client.send(b"x");
        client
    };
    let [crowded, other] = server.endpoints() else { panic!("{:?}", server.endpoints()) };
    let mut served = connect(crowded);
    assert_eq!(served.receive(1), b"x");
    let mut crowd: VecDeque<Client> = (0..6).map(|_| connect(crowded)).collect();
    let other = connect(other);
    for _ in 0..2 {
        drop(served);
        served = crowd.pop_front().expect("there are six");
        eventually("the next one is served", || served.has_input() || other.has_input());
    }
    assert_eq!(other.receive(1), b"x");
}

#[test]
fn one_connection_beyond_the_limit_is_refused_if_so_wished() {
    let server = Server::on_ipv4(&["--max-connections", "1", "--when-full", "refuse"]);
    let first = server.connect();
    first.echo(b"first");
    for _ in 0..3 {
        assert_same(&server.connect().receive_rest(), b"");
    }
    first.echo(b"still the first");
    server.await_log("the limit of 1 connections is reached: new ones are refused");
    let descriptors = server.descriptors();
    drop(first);
    server.await_descriptors(descriptors - 1);
    server.connect().echo(b"there is room again");
    let (_, log) = server.stop();
    assert!(log.contains("stopped: 2 connections served, 1 at once at most"), "{log}");
    assert!(log.trim_end().ends_with(", 3 refused"), "{log}");
    assert_eq!(log.matches("the limit of 1 connections is reached").count(), 1, "{log}");
}

#[test]
fn more_connections_than_descriptors_are_refused_with_the_remedy() {
    let refused = run(with_descriptors(100, &["--max-connections", "5000", "127.0.0.1:0"]));
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("cannot hold 5000 connections: 100 descriptors are allowed"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("ulimit -Hn 5033"), "{refused:?}");
    assert_eq!(refused.stdout, "");
}

#[test]
fn the_soft_descriptor_limit_is_raised_to_the_hard_one() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 50 && ulimit -Hn 300 && exec \"$0\" 127.0.0.1:0"]);
    command.arg(env!("CARGO_BIN_EXE_echoloop"));
    let server = Server::spawn(command, 1);
    let clients: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    clients.iter().for_each(|client| client.echo(b"all at once"));
    server.await_log("descriptor limit 300 (it was 50, the hard limit is 300)");
}

#[test]
fn it_ends_by_itself_after_so_many_connections() {
    let server = Server::on_ipv4(&["--max-accepts", "3"]);
    let address = server.address();
    let clients = [server.connect(), server.connect(), server.connect()];
    for client in &clients {
        client.echo(b"one of three");
    }
    eventually("nothing listens any more", || std::net::TcpStream::connect(address).is_err());
    for client in &clients {
        client.echo(b"served to its end");
    }
    drop(clients);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("stopped: 3 connections served, 3 at once at most"), "{log}");
}

#[test]
fn a_connection_ends_after_its_first_answer_if_so_wished() {
    let server = Server::on_ipv4(&["--once"]);
    let client = server.connect();
    // The server answers the first chunk. It reads the rest, so that unread bytes do not reset the connection, and
    // throws it away.
    let message = pattern(100_000, 13);
    assert_same(&client.exchange(&message), &message[..16]);
    drop(client);
    let silent = server.connect();
    silent.end_sending();
    assert_same(&silent.receive_rest(), b"");
}

#[test]
fn one_listener_takes_as_many_as_the_backlog_says() {
    // With a limit of one, the other clients stay in the kernel's backlog, which holds one more than its number.
    let server = Server::on_ipv4(&["--max-connections", "1", "--backlog", "3"]);
    let first = server.connect();
    first.echo(b"first");
    let waiting: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    let late = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let error =
        late.connect_timeout(&server.address().into(), Duration::from_millis(500)).expect_err("it is full");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(first);
    for client in waiting {
        client.echo(b"served in turn");
    }
}
