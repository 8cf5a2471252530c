//! The servers and clients of `docs/rows.md`, each by the options that reproduce it: the exact bytes on the wire.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{FixedOffset, TimeZone};
use rustix::process::Signal;

use crate::support::{Client, Server, own_address, program, run};

const MESSAGE: &[u8] = b"This is the message. It will be repeated.";
/// With two spaces after the full stop the chunks are as the text prints them.
const MESSAGE_OF_42: &[u8] = b"This is the message.  It will be repeated.";

/// The chunks in a server's log, as the log shows them.
fn chunks_in(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| line.split_once(": received ")).map(|(_, chunk)| chunk.trim()).collect()
}

#[test]
fn row_a1_the_message_comes_back_and_its_chunks_of_16_bytes_are_logged() {
    for (message, chunks) in [
        (MESSAGE, ["b'This is the mess'", "b'age. It will be '", "b'repeated.'"]),
        (MESSAGE_OF_42, ["b'This is the mess'", "b'age.  It will be'", "b' repeated.'"]),
    ] {
        let server = Server::start(&["-v", "localhost:0"]);
        let client = server.connect();
        let peer = client.local_address();
        client.echo(message);
        client.end_sending();
        assert_eq!(client.receive_rest(), b"");
        let (status, log) = server.stop();
        assert_eq!(status.code(), Some(0));
        assert_eq!(chunks_in(&log), chunks);
        for line in [
            "waiting for a connection".to_owned(),
            format!("connection from {peer}"),
            format!("{peer}: sending 16 bytes back"),
            format!("{peer}: end of input, all answered; {0} bytes in, {0} bytes out", message.len()),
        ] {
            assert!(log.contains(&line), "nothing of {line:?} in the log:\n{log}");
        }
    }
}

#[test]
fn row_a4_the_host_is_an_argument_and_the_port_is_10000_if_none_is_given() {
    let host = own_address(104).to_string();
    let server = Server::start(&[&host]);
    assert_eq!(server.endpoints(), [format!("tcp://{host}:10000")]);
    server.connect().echo(MESSAGE);

    let server = Server::start(&["localhost:0"]);
    assert!(server.address().ip().is_loopback());
    server.connect().echo(MESSAGE);
}

#[test]
fn row_a5_an_empty_host_is_every_interface_and_the_bound_address_is_printed() {
    for host in ["0.0.0.0:0", ":0"] {
        let server = Server::start(&[host]);
        let bound = server.address();
        assert!(bound.ip().is_unspecified() && bound.port() != 0, "{bound}");
        // All of 127/8 is this machine: two addresses that have nothing but the server's port in common.
        for address in ["127.0.0.1", "127.45.67.89"] {
            let address = address.parse().expect("an address");
            Client::tcp(SocketAddr::new(address, bound.port())).echo(MESSAGE);
        }
    }
}

#[test]
fn row_b1_prefix_each_chunk_of_up_to_1024_bytes_gets_it() {
    let server = Server::start(&["--prefix", "Echo=>", "--chunk", "1024", "--backlog", "5", ":0"]);
    let address = format!("127.0.0.1:{}", server.address().port()).parse().expect("an address");
    // One client after the other, for as long as they come.
    for _ in 0..3 {
        let client = Client::tcp(address);
        client.ask(b"Hello network world", b"Echo=>Hello network world");
        client.ask(b"spam", b"Echo=>spam");
        client.ask(&[b's'; 1024], &[b"Echo=>", &[b's'; 1024] as &[u8]].concat());
        client.ask(&[b's'; 1025], &[b"Echo=>", &[b's'; 1024] as &[u8], b"Echo=>s"].concat());
        client.end_sending();
        assert_eq!(client.receive_rest(), b"");
    }
}

#[test]
fn row_b4_failures_are_said_by_name_and_an_interrupt_ends_the_server() {
    let server = Server::on_ipv4(&[]);
    let second = run(program(&[&server.address().to_string()]));
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.to_lowercase().contains("address already in use"), "{second:?}");
    assert_eq!(second.stdout, "");
    server.connect().echo(b"the first one goes on");

    let unknown = run(program(&["no-such-host.invalid:0"]));
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("cannot resolve no-such-host.invalid: "), "{unknown:?}");

    server.signal(Signal::INT);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn row_c1_timestamp_each_chunk_gets_the_local_time_as_ctime_writes_it() {
    // Three hours east of Greenwich, so that local time differs from UTC.
    let mut command = program(&["--timestamp", "--chunk", "1024", "--backlog", "50", "127.0.0.1:0"]);
    command.env("TZ", "TST-3");
    let server = Server::spawn(command, 1);
    let client = server.connect();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    for message in ["hello", "again"] {
        let before = now();
        client.send(message.as_bytes());
        let reply = client.receive(27 + message.len());
        let possible: Vec<String> = (before..=now())
            .map(|second| {
                let zone = FixedOffset::east_opt(3 * 3600).expect("a zone");
                let time = zone.timestamp_opt(second, 0).single().expect("a time");
                format!("[{}] {message}", time.format("%a %b %e %H:%M:%S %Y"))
            })
            .collect();
        let reply = String::from_utf8(reply).expect("text");
        assert!(possible.contains(&reply), "{reply:?} is none of {possible:?}");
    }
}

const WELCOME: &[u8] = b"Welcome to the server. Type something and hit enter\n";
const GREETING: [&str; 6] = [
    "--greeting",
    "Welcome to the server. Type something and hit enter\\n",
    "--prefix",
    "OK...",
    "--chunk",
    "1024",
];

#[test]
fn row_d1_greeting_every_client_is_welcomed_and_served_for_as_long_as_it_likes() {
    let server = Server::on_ipv4(&[&GREETING as &[_], &["--backlog", "10"]].concat());
    let clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &clients {
        assert_eq!(client.receive(WELCOME.len()), WELCOME);
    }
    for _ in 0..3 {
        for client in &clients {
            client.ask(b"hello\r\n", b"OK...hello\r\n");
        }
    }
    for client in clients {
        client.end_sending();
        assert_eq!(client.receive_rest(), b"");
    }
}

#[test]
fn row_d2_one_shot_one_client_gets_one_answer_and_the_server_ends() {
    let server = Server::on_ipv4(&["--once", "--max-accepts", "1", "--chunk", "1024"]);
    let client = server.connect();
    client.send(b"one");
    assert_eq!(client.receive_rest(), b"one");
    drop(client);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopped: 1 connections served"), "{log}");
}

/// The bytes of an unmodified telnet; the program itself is in `clients.rs`.
#[test]
fn row_d3_telnet_hi_gets_ok_hi() {
    let server = Server::on_ipv4(&GREETING);
    let client = server.connect();
    client.ask(b"hi\r\n", &[WELCOME, b"OK...hi\r\n"].concat());
}

#[test]
fn row_d5_each_client_is_answered_once_and_those_that_wait_in_their_turn() {
    let options = ["--once", "--prefix", "OK...", "--chunk", "1024", "--max-connections", "1"];
    let server = Server::on_ipv4(&options);
    let clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for (number, client) in clients.into_iter().enumerate() {
        client.send(format!("client {number}").as_bytes());
        assert_eq!(client.receive_rest(), format!("OK...client {number}").as_bytes());
    }
}
