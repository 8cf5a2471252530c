//! Time: clients that the server drops for being silent or for taking nothing, and clients that it keeps, however late
//! it looks.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use crate::fairness::possible_clients;
use crate::support::{
    Client, Server, TcpRow, assert_same, eventually, own_address, pattern, skip, socket_with_small_buffers,
};

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let server = Server::on_ipv4(&["--idle-timeout", "2s"]);
    let (idle, busy) = (server.connect(), server.connect());
    idle.echo(b"and silent ever after");
    eventually("the idle one has got something", || {
        busy.echo(b"busy");
        idle.has_input()
    });
    assert_same(&idle.receive_rest(), b"");
    busy.echo(b"still here");
    server.await_log(&format!("{}: idle for too long; 21 bytes in, 21 bytes out", idle.local_address()));
    // A client that never said anything is idle as well.
    assert_same(&server.connect().receive_rest(), b"");
}

/// More clients than a batch has events, so that the deadlines of some are due before the loop has read their bytes.
#[test]
fn a_server_that_was_stopped_for_longer_than_the_idle_timeout_closes_nobody_who_has_sent() {
    let count = possible_clients().min(1500);
    if count < 1100 {
        return skip(
            "a_server_that_was_stopped_for_longer_than_the_idle_timeout_closes_nobody_who_has_sent",
            "the hard descriptor limit is too low",
        );
    }
    let server = Server::on_ipv4(&["-q", "--idle-timeout", "5s"]);
    let source = own_address(9);
    let clients: Vec<Client> = (0..count).map(|_| Client::from_source(source, server.address())).collect();
    server.while_held(|| {
        clients.iter().for_each(|client| client.send(b"x"));
        // The test is about this time: all deadlines pass while the server can't run.
        thread::sleep(Duration::from_millis(5500));
    });
    for client in &clients {
        assert_eq!(client.receive(1), b"x");
    }
    clients.into_iter().for_each(Client::reset);
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_after_the_write_timeout() {
    let server = Server::on_ipv4(&["--write-timeout", "1s"]);
    let descriptors = server.descriptors();
    let message = pattern(64 << 20, 14);
    let client = Client::connect(socket_with_small_buffers(), server.address());
    let error = (&client).write_all(&message).expect_err("the server takes a part, and then goes");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    server.await_log(": the peer took nothing for too long; ");
    server.await_descriptors(descriptors);
    // Bytes that the kernel had taken by then may still come, then an end of some kind.
    let (mut stream, mut received) = (&client, Vec::new());
    let _ = stream.read_to_end(&mut received);
    assert_same(&received, &message[..received.len()]);
    server.connect().echo(b"the others are served");
}

/// The kernel reports room only when a third of its send buffer of some megabytes is free. At the pace of this client
/// that takes longer than the timeout.
#[test]
fn a_steady_slow_reader_outlives_the_write_timeout_and_gets_every_byte() {
    const SIP: usize = 20_000;
    let server = Server::on_ipv4(&["--write-timeout", "3s"]);
    let message = pattern(64 << 20, 24);
    let slow = server.connect();
    let sent = slow.send_until_stalled(&message);
    assert!(sent < message.len(), "the server stops a client that takes nothing");
    // The end of a client that takes nothing shows that the time has passed for both.
    let deaf = Client::connect(socket_with_small_buffers(), server.address());
    let dropped = format!("{}: the peer took nothing for too long; ", deaf.local_address());
    let mut taken = 0;
    thread::scope(|scope| {
        scope.spawn(|| (&deaf).write_all(&message).expect_err("the server drops it"));
        eventually("the other one is dropped", || {
            assert_same(&slow.receive(SIP), &message[taken..taken + SIP]);
            taken += SIP;
            // The test is about this pace.
            thread::sleep(Duration::from_millis(100));
            server.log().contains(&dropped)
        });
    });
    assert_eq!(server.log().matches("took nothing").count(), 1, "{}", server.log());
    slow.end_sending();
    assert_same(&slow.receive_rest(), &message[taken..sent]);
}

#[test]
fn a_silent_peer_is_asked_for_a_sign_of_life_unless_it_is_not_wished() {
    for (options, timer) in [(&["--keepalive", "none"] as &[_], 0), (&[], TcpRow::KEEPALIVE)] {
        let server = Server::on_ipv4(options);
        let client = server.connect();
        client.echo(b"accepted");
        let row = || TcpRow::find(server.address(), client.local_address()).expect("it is connected");
        // The acknowledgement of the echo can be under way for a moment, with a timer of its own.
        eventually("the timer is that of an idle connection", || row().timer == timer);
    }
}
