//! The PROXY protocol: the clients that the server serves, their names in the log, and the clients that it refuses. The
//! parser's own tests have the forms of a header; here headers cross sockets.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::tempdir;

use crate::support::{Client, Server, assert_same, eventually, pattern, program, run};

const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 7\r\n";
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xcb\0\x71\x07\xc0\0\x02\x01\x12\x67\0\x07\x04\0\x02ab";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const REQUIRE: &str = "--proxy-protocol=require";

/// The server ended the connection, or reset it: a header that it did not understand is still unread when it closes the
/// socket, and that makes a reset.
#[track_caller]
fn assert_closed(client: &Client) {
    let (mut stream, mut byte) = (client, [0]);
    match stream.read(&mut byte) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?} instead of the end"),
    }
}

#[test]
fn the_client_is_known_by_the_name_that_the_header_gives() {
    let server = Server::on_ipv4(&[REQUIRE]);
    for header in [LINE, BINARY] {
        let client = server.connect();
        // Bytes behind the header in the same packet are the client's.
        client.send(&[header, b"This is the message."].concat());
        assert_same(&client.receive(20), b"This is the message.");
        assert_same(&client.exchange(&pattern(1 << 20, 1)), &pattern(1 << 20, 1));
        server.await_log(&format!("connection from 203.0.113.7:4711 (by way of {})", client.local_address()));
        server.await_log("203.0.113.7:4711: end of input, all answered; 1048596 bytes in, 1048596 bytes out");
    }
    let (_, log) = server.stop();
    assert!(log.contains("2 connections served"), "{log}");
}

#[test]
fn a_proxy_that_names_nobody_is_served_under_its_own_address() {
    let server = Server::on_ipv4(&["-v", REQUIRE]);
    for header in [LOCAL, UNKNOWN] {
        let client = server.connect();
        client.send(header);
        client.echo(b"a health check");
        server.await_log(&format!("connection from {}\n", client.local_address()));
    }
}

/// A balancer makes checks all day, so only a more detailed log shows them.
#[test]
fn health_checks_are_not_in_the_log() {
    let server = Server::on_ipv4(&[REQUIRE, "--drain", "0s"]);
    for header in [LOCAL, UNKNOWN] {
        let client = server.connect();
        client.send(header);
        client.echo(b"a health check");
        assert_same(&client.exchange(b""), b"");
        // As HAProxy ends a check.
        let client = server.connect();
        client.send(header);
        client.echo(b"a health check");
        client.reset();
    }
    for _ in 0..2 {
        drop(server.connect());
        server.connect().reset();
    }
    // The log shows this client, and no check that came before it.
    let client = server.connect();
    client.send(LINE);
    client.echo(b"a client");
    drop(client);
    let (_, log) = server.stop();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("127.0.0.1:")).collect();
    assert!(told.iter().all(|line| line.contains("listening") || line.contains("by way of")), "{told:#?}");
    assert!(log.contains("connection from 203.0.113.7:4711 (by way of "), "{log}");
    assert!(log.contains("5 connections served") && log.contains(", 4 without a PROXY header"), "{log}");
}

/// The server looks at each byte before the next one leaves.
#[test]
fn a_header_may_come_byte_by_byte_over_tcp_and_unix() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let endpoint = format!("unix:{}", path.display());
    for header in [LINE, BINARY, LOCAL, UNKNOWN] {
        let server = Server::spawn(program(&["-vv", REQUIRE, "127.0.0.1:0", &endpoint]), 2);
        for (count, client) in [(1, server.connect()), (2, Client::unix(&path))] {
            for length in 1..header.len() {
                client.send(&header[length - 1..length]);
                let look = format!("peek of 4112 bytes: Ok({length})\n");
                eventually("it is looked at", || server.log().matches(&look).count() >= count);
                assert!(!client.has_input());
            }
            client.send(&[&header[header.len() - 1..], b"with the last byte"].concat());
            assert_same(&client.receive(18), b"with the last byte");
            assert_same(&client.exchange(b"to the end"), b"to the end");
        }
        server.stop();
    }
}

#[test]
fn an_end_right_behind_the_message_is_seen() {
    let server = Server::on_ipv4(&[REQUIRE]);
    for header in [LINE, BINARY, LOCAL, UNKNOWN] {
        let client = server.connect();
        // All of it is there before the server looks for the first time.
        server.while_held(|| {
            client.send(&[header, b"and goodbye"].concat());
            client.end_sending();
        });
        assert_same(&client.receive_rest(), b"and goodbye");
    }
}

#[test]
fn whoever_does_not_begin_with_a_header_is_closed_with_a_reason() {
    let server = Server::on_ipv4(&["-v", REQUIRE, "--greeting", "hello"]);
    let long = [&BINARY[..14], &[0xff, 0xff]].concat();
    for (bytes, reason) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "it began with b'GET / HTTP/1.1\\r\\n'"),
        (b"PROXY TCP4 nobody nowhere 0 0\r\n".to_vec(), "invalid IP address for the source"),
        ([b"PROXY ".as_slice(), &[b'x'; 200]].concat(), "no end within 107 bytes"),
        (long, "its header of version 2 is 65535 bytes long; the server accepts at most 4096"),
        ([&BINARY[..14], b"\0\x01x"].concat(), "cannot store the 12 bytes"),
    ] {
        let client = server.connect();
        client.send(&bytes);
        assert_closed(&client);
        server.await_log(&format!("{}: no PROXY header: ", client.local_address()));
        server.await_log(reason);
    }
    let client = server.connect();
    client.send(&LINE[..20]);
    client.end_sending();
    assert_closed(&client);
    server.await_log("no PROXY header: the connection ended before it was complete");
    drop(server.connect());
    eventually("its end is seen", || server.log().matches("the connection ended before").count() == 2);
    server.connect().reset();
    eventually("all are gone", || server.log().matches("no PROXY header").count() == 8);
    // The server has taken no harm, and greets a client only when it knows which one.
    let client = server.connect();
    client.send(LINE);
    assert_same(&client.receive(5), b"hello");
    client.echo(b"served");
    drop(client);
    server.await_log("end of input");
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("1 connections served") && log.contains(", 8 without a PROXY header"), "{log}");
}

#[test]
fn a_header_that_does_not_come_in_time_is_not_waited_for() {
    let server = Server::on_ipv4(&[REQUIRE, "--proxy-timeout", "100ms"]);
    let (silent, slow) = (server.connect(), server.connect());
    slow.send(&LINE[..LINE.len() - 1]);
    assert_closed(&silent);
    assert_closed(&slow);
    eventually("both are closed", || server.log().matches("it was not complete in time").count() == 2);
    // A client that was in time has no further deadline.
    let client = server.connect();
    client.send(LINE);
    client.echo(b"in time");
    let waiting = client.socket();
    waiting.set_read_timeout(Some(Duration::from_millis(400))).expect("a positive time");
    let mut byte = [std::mem::MaybeUninit::uninit()];
    let error = waiting.recv(&mut byte).expect_err("nothing comes, and no end");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    waiting.set_read_timeout(Some(crate::support::DEADLINE)).expect("a positive time");
    client.echo(b"still there");
}

#[test]
fn without_it_a_header_is_echoed_like_anything_else() {
    let server = Server::on_ipv4(&[]);
    server.connect().echo(LINE);
    let (_, log) = server.stop();
    assert!(!log.contains("203.0.113.7"), "{log}");
}

/// A connection counts from the beginning, even before its header.
#[test]
fn connections_that_are_not_announced_yet_count_towards_the_limits() {
    let server = Server::on_ipv4(&[REQUIRE, "--max-connections", "2", "--idle-timeout", "500ms"]);
    let (silent, client) = (server.connect(), server.connect());
    server.await_log("descriptor limit");
    client.send(LINE);
    client.echo(b"served");
    let third = server.connect();
    third.send(&[LINE, b"waits"].concat());
    server.await_log("the limit of 2 connections is reached");
    assert!(!third.has_input());
    drop(silent);
    assert_same(&third.receive(5), b"waits");
    // The idle timeout is the same as for any other client.
    assert_same(&client.receive_rest(), b"");
    server.await_log("203.0.113.7:4711: idle for too long");
}

#[test]
fn whoever_is_being_announced_when_it_stops_is_answered_first() {
    let server = Server::on_ipv4(&[REQUIRE, "--proxy-timeout", "1min"]);
    let (half, late) = (server.connect(), server.connect());
    half.send(&LINE[..10]);
    // The server has accepted the half-announced client, since it accepts in order.
    let served = server.connect();
    served.send(LINE);
    served.echo(b"served");
    server.signal(Signal::TERM);
    server.await_log("stopping: 3 connections have 10s to end");
    assert_same(&served.receive_rest(), b"");
    half.send(&[&LINE[10..], b"what came with the header"].concat());
    assert_same(&half.receive_rest(), b"what came with the header");
    late.send(b"no header at all");
    assert_closed(&late);
    drop((served, half));
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("2 connections served") && log.contains("0 connections cut off"), "{log}");
}

#[test]
fn who_never_announces_anybody_does_not_keep_it_from_stopping() {
    let server = Server::on_ipv4(&[REQUIRE, "--proxy-timeout", "1h", "--drain", "200ms"]);
    let client = server.connect();
    let served = server.connect();
    served.send(LINE);
    served.echo(b"so the other one was accepted as well");
    drop(served);
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_closed(&client);
    assert!(log.contains("no PROXY header: the time to drain is over"), "{log}");
    // The server's patience ended, and not the client's, so the connection counts as cut off.
    assert!(log.contains(", 1 connections cut off with 0 bytes"), "{log}");
    assert!(!log.contains("without a PROXY header"), "{log}");
}

#[test]
fn our_own_client_announces_itself() {
    let directory = tempdir().expect("a directory");
    let path = format!("unix:{}", directory.path().join("echo.sock").display());
    let server = Server::spawn(program(&["-v", REQUIRE, "127.0.0.1:0", &path]), 2);
    let endpoint = server.address().to_string();
    for version in ["v1", "v2"] {
        for endpoint in [&endpoint, &path] {
            let finished = run(program(&["send", "--proxy-protocol", version, "-N", endpoint, "hello"]));
            assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), "hello"), "{finished:?}");
        }
    }
    let (_, log) = server.stop();
    let announced: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("connection from ")).map(|(_, who)| who).collect();
    // No address here has "by way of" behind it, since each client announces its own address.
    let [first, "unix client 1", second, "unix client 2"] = announced[..] else { panic!("{log}") };
    for who in [first, second] {
        who.parse::<std::net::SocketAddr>().expect("an address and nothing else");
    }
    assert!(log.contains("4 connections served"), "{log}");
}

#[test]
fn the_header_of_our_client_is_seen_in_its_dump() {
    let server = Server::on_ipv4(&[]);
    let endpoint = server.address().to_string();
    let finished = run(program(&["send", "--proxy-protocol=v1", "--expect=line", "--hex", &endpoint, "x"]));
    // A server that does not know the protocol echoes the line.
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.matches("PROXY TCP4").count() == 2, "{finished:?}");
}

#[test]
fn datagrams_have_no_header_and_that_is_said() {
    let server = Server::spawn(program(&[REQUIRE, "127.0.0.1:0", "udp://127.0.0.1:0"]), 2);
    server.await_log("udp://127.0.0.1:");
    let warned = "--proxy-protocol is about connections: the server answers datagrams without a header";
    assert_eq!(server.log().matches(warned).count(), 1, "{}", server.log());
    let (_, log) = Server::on_ipv4(&[REQUIRE]).stop();
    assert!(!log.contains(warned), "{log}");
}
