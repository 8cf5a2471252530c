//! Stopping: the server answers the input that had arrived, every answer arrives, and no client can keep the server.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::tempdir;

use crate::support::{Client, Server, assert_same, pattern, program, socket_with_small_buffers};

const MEBIBYTE: usize = 1 << 20;

/// Sends without end, or until the server has gone.
fn flood(client: &Client, message: &[u8]) {
    let mut stream = client;
    while stream.write_all(message).is_ok() {}
}

/// An exact prefix and then a clean end, not a reset that would destroy what is still under way.
#[test]
fn a_signal_in_the_middle_of_8_mebibytes_leaves_an_exact_prefix_and_a_clean_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::on_ipv4(&[]);
        let message = pattern(8 << 20, 9);
        let client = Client::connect(socket_with_small_buffers(), server.address());
        let reply = thread::scope(|scope| {
            scope.spawn(|| {
                client.send(&message);
                client.end_sending();
            });
            let mut reply = client.receive(100_000);
            server.signal(signal);
            server.await_log("stopping: 1 connections have 10s to end");
            reply.extend(client.receive_rest());
            reply
        });
        drop(client);
        assert!((100_000..message.len()).contains(&reply.len()), "{} bytes", reply.len());
        assert_same(&reply, &message[..reply.len()]);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        // The server read the rest, so that unread bytes could not reset the connection, and the summary counts it as
        // lost.
        let (bytes, lost) = (message.len(), message.len() - reply.len());
        let summary = format!(
            "stopped: 1 connections served, 1 at once at most, {bytes} bytes in, {} bytes out, \
             1 connections cut off with {lost} bytes",
            reply.len()
        );
        assert!(log.contains(&summary), "nothing of {summary:?} in the log:\n{log}");
    }
}

/// The clients send more than the server can answer before the signal comes, since nobody takes the answers.
#[test]
fn what_had_arrived_is_answered_before_the_end() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let server = Server::start(&[&format!("unix:{}", path.display())]);
    let clients: Vec<Client> = (0..3).map(|_| Client::unix(&path)).collect();
    let message = pattern(4 * MEBIBYTE, 10);
    // Bytes sent over a Unix socket have arrived. Each client sends as many as there is room for, so that some still
    // wait when the signal comes.
    let mut sent = vec![0; clients.len()];
    for (client, sent) in clients.iter().zip(&mut sent) {
        client.echo(b"accepted");
        *sent += client.send_until_stalled(&message);
    }
    server.signal(Signal::TERM);
    server.await_log("stopping: 3 connections have 10s to end");
    for (client, sent) in clients.into_iter().zip(&sent) {
        assert_same(&client.receive_rest(), &message[..*sent]);
    }
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    let total = sent.iter().sum::<usize>() + 24;
    let summary = format!("3 connections served, 3 at once at most, {total} bytes in, {total} bytes out, 0 ");
    assert!(log.contains(&summary), "nothing of {summary:?} in {log}");
}

#[test]
fn idle_connections_end_cleanly_and_new_ones_are_refused() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let server = Server::spawn(program(&["127.0.0.1:0", &format!("unix:{}", path.display())]), 2);
    let address = server.address();
    let clients = [server.connect(), server.connect(), Client::unix(&path)];
    clients[0].echo(b"used");
    clients[2].echo(b"used");
    server.signal(Signal::TERM);
    for client in &clients {
        assert_same(&client.receive_rest(), b"");
    }
    // The clients have not ended yet, so the server still runs, but nobody can reach it any more.
    let error = std::net::TcpStream::connect(address).expect_err("nothing listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(fs::symlink_metadata(&path).is_err(), "the socket file has gone");
    drop(clients);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("stopped: 3 connections served"), "{log}");
    assert!(log.contains("0 connections cut off with 0 bytes"), "{log}");
}

#[test]
fn a_server_without_connections_stops_at_once() {
    // The server would drain for a year, if there were anything to drain.
    let (status, log) = Server::on_ipv4(&["--drain", "1year"]).stop();
    assert_eq!(status.code(), Some(0));
    assert!(
        log.contains("stopped: 0 connections served, 0 at once at most, 0 bytes in, 0 bytes out, 0 "),
        "{log}"
    );
}

#[test]
fn a_peer_that_never_ends_is_cut_off_when_the_time_to_drain_is_over() {
    for drain in ["1s", "0s"] {
        let server = Server::on_ipv4(&["--drain", drain]);
        let client = server.connect();
        client.echo(b"and silent ever after");
        server.signal(Signal::TERM);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert_same(&client.receive_rest(), b"");
        let cut_off = log.contains("cut off: the time to drain is over")
            || log.contains("the peer did not follow in time");
        assert!(cut_off, "{log}");
    }
}

#[test]
fn a_peer_that_takes_nothing_is_cut_off_when_the_time_to_drain_is_over() {
    let server = Server::on_ipv4(&["--drain", "500ms"]);
    let message = pattern(64 << 20, 11);
    let client = Client::connect(socket_with_small_buffers(), server.address());
    let sent = client.send_until_stalled(&message);
    assert!(sent < message.len());
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("cut off: the time to drain is over; "), "{log}");
    assert!(log.contains(" bytes of answers not taken"), "{log}");
    assert!(log.contains(", 1 connections cut off with "), "{log}");
}

#[test]
fn a_flooding_peer_does_not_keep_the_server() {
    // The server answers each byte with 256, over a Unix socket, where the kernel keeps as much in each direction. So
    // more input always waits than the server can answer. The drain is longer than the deadline of the test, so
    // the end of the drain can't end the connection.
    let prefix = "p".repeat(255);
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let endpoint = format!("unix:{}", path.display());
    let server = Server::start(&["--drain", "10min", "--chunk", "1", "--prefix", &prefix, &endpoint]);
    let message = pattern(MEBIBYTE, 12);
    let client = Client::unix(&path);
    thread::scope(|scope| {
        scope.spawn(|| flood(&client, &message));
        let mut replies = client.receive(MEBIBYTE);
        server.signal(Signal::TERM);
        // Far more than the answers to all bytes that the kernel keeps: the connection ends while the flood goes on.
        let most = 256 * MEBIBYTE;
        (&client).take(most as u64).read_to_end(&mut replies).expect("a clean end");
        // Now the flood ends as well, whatever happened to the server.
        client.end_sending();
        assert!(replies.len() < most, "it goes on for ever");
        for (reply, byte) in replies.chunks(256).zip(message.iter().cycle()) {
            assert_same(reply, &[prefix.as_bytes(), &[*byte]].concat()[..reply.len()]);
        }
    });
    drop(client);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("we ended it, and so did the peer"), "{log}");
}

/// More clients than a batch has events: when the server goes on, the time to drain is over before it has seen all
/// clients end.
#[test]
fn clients_that_end_while_the_server_is_stopped_are_not_cut_off() {
    let server = Server::on_ipv4(&["--drain", "3s"]);
    let clients: Vec<Client> = (0..400).map(|_| server.connect()).collect();
    clients.iter().for_each(|client| client.echo(b"accepted"));
    server.signal(Signal::TERM);
    for client in &clients {
        assert_same(&client.receive_rest(), b"");
    }
    server.while_held(|| {
        clients.iter().for_each(Client::end_sending);
        // The time to drain passes meanwhile.
        thread::sleep(Duration::from_millis(3100));
    });
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("0 connections cut off with 0 bytes"), "{log}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let server = Server::on_ipv4(&["--drain", "1year"]);
    let client = server.connect();
    client.echo(b"and silent ever after");
    server.signal(Signal::TERM);
    server.await_log("stopping: 1 connections have 1year to end");
    server.signal(Signal::INT);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("echoloop: stopped at once by a second signal: 1 connections cut off"), "{log}");
    // Our side had ended cleanly at the first signal, and the second signal did not reset the connection.
    let mut byte = [0];
    assert_eq!((&client).read(&mut byte).expect("a clean end"), 0);
}

#[test]
fn two_signals_at_once_are_one_request() {
    let server = Server::on_ipv4(&["--drain", "1year"]);
    let client = server.connect();
    client.echo(b"before the signals");
    server.while_held(|| {
        client.send(b"sent by then");
        server.signal(Signal::TERM);
        server.signal(Signal::INT);
    });
    assert_same(&client.receive_rest(), b"sent by then");
    drop(client);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("0 connections cut off with 0 bytes") && !log.contains("second signal"), "{log}");
}

#[test]
fn two_signals_at_once_are_no_failure_if_nobody_is_connected() {
    let server = Server::on_ipv4(&["--drain", "1year"]);
    server.while_held(|| {
        server.signal(Signal::TERM);
        server.signal(Signal::INT);
    });
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("second signal"), "{log}");
}
