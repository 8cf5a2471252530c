//! Ends of connections: half-closes, resets in every phase, and urgent bytes and descriptors along a stream.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::tempdir;

use crate::support::{
    Client, Server, TcpRow, assert_same, eventually, pattern, program, skip, socket_with_small_buffers,
};

/// How often a test repeats events that depend on timing, so that it meets more than one order of them.
const ROUNDS: usize = 20;
/// The same, for slow tests.
const FEW_ROUNDS: usize = 4;

/// The client sends everything, or as much as the kernel and the server take, before it reads the first byte.
#[test]
fn a_slow_reader_gets_every_byte_after_its_half_close() {
    let server = Server::on_ipv4(&[]);
    for (length, greed) in [(256 << 10, 100), (8 << 20, 4000)] {
        let message = pattern(length, 4);
        let client = Client::connect(socket_with_small_buffers(), server.address());
        let sent = AtomicUsize::new(0);
        let reply = thread::scope(|scope| {
            scope.spawn(|| {
                for piece in message.chunks(4096) {
                    client.send(piece);
                    sent.fetch_add(piece.len(), Ordering::SeqCst);
                }
                client.end_sending();
            });
            let mut seen = usize::MAX;
            eventually("the sender is done, or stalled", || {
                // No event reports that the sender has stalled. It has if nothing moved between two looks.
                thread::sleep(std::time::Duration::from_millis(100));
                let now = sent.load(Ordering::SeqCst);
                now > 0 && std::mem::replace(&mut seen, now) == now
            });
            let (mut stream, mut reply, mut sip) = (&client, Vec::new(), vec![0; greed]);
            loop {
                match stream.read(&mut sip).expect("the reply comes, and then its end") {
                    0 => break reply,
                    count => reply.extend_from_slice(&sip[..count]),
                }
            }
        });
        assert_same(&reply, &message);
    }
}

/// The end of input can arrive together with the last bytes, and then one event reports both.
#[test]
fn a_message_and_its_end_in_one_go_are_answered() {
    let server = Server::on_ipv4(&[]);
    for round in 0..200 {
        let message = pattern(100, round);
        let client = server.connect();
        let send = || {
            client.send(&message);
            client.end_sending();
        };
        if round % 10 == 0 {
            server.while_held(send);
        } else {
            send();
        }
        assert_same(&client.receive_rest(), &message);
    }
    let (_, log) = server.stop();
    assert!(log.contains("stopped: 200 connections served, "), "{log}");
    assert!(log.contains("20000 bytes in, 20000 bytes out, 0 connections cut off with 0 bytes"), "{log}");
}

/// Resets connections in one phase, and checks that the server keeps nothing of them.
#[track_caller]
fn survives_resets(options: &[&str], rounds: usize, phase: impl Fn(&Server) -> Client) {
    let server = Server::on_ipv4(options);
    let bystander = server.connect();
    bystander.echo(b"before");
    let descriptors = server.descriptors();
    for _ in 0..rounds {
        phase(&server).reset();
    }
    server.await_descriptors(descriptors);
    // After the peer's end, Linux calls its reset a broken pipe.
    let resets = || {
        let log = server.log();
        ["connection reset by peer", "broken pipe"]
            .map(|name| log.matches(&format!(": broken: {name}; ")).count())
            .iter()
            .sum::<usize>()
    };
    eventually("every reset is logged as one", || resets() == rounds);
    bystander.echo(b"after");
    server.connect().echo(b"later");
}

#[test]
fn a_reset_before_anything_was_sent() {
    survives_resets(&[], ROUNDS, Server::connect);
}

#[test]
fn a_reset_right_after_sending() {
    survives_resets(&[], ROUNDS, |server| {
        let client = server.connect();
        client.send(&pattern(1000, 5));
        client
    });
}

#[test]
fn a_reset_with_the_echo_unread() {
    survives_resets(&[], ROUNDS, |server| {
        let client = server.connect();
        client.send(b"never read");
        eventually("the echo has come", || client.has_input());
        client
    });
}

#[test]
fn a_reset_between_two_round_trips() {
    survives_resets(&[], ROUNDS, |server| {
        let client = server.connect();
        client.echo(b"read");
        client
    });
}

#[test]
fn a_reset_in_the_middle_of_8_mebibytes() {
    let message = pattern(8 << 20, 6);
    // Pipes for splicing stay open for the next connection, so the test would count them.
    survives_resets(&["--splice", "never"], ROUNDS, |server| {
        let client = Client::connect(socket_with_small_buffers(), server.address());
        client.socket().set_nonblocking(true).expect("O_NONBLOCK");
        let (mut stream, mut sent, mut received) = (&client, 0, 0);
        let mut buffer = vec![0; 4096];
        // Moves bytes both ways until a good part has come back. Then bytes are under way in each direction.
        while received < 200_000 {
            match stream.write(&message[sent..]) {
                Ok(count) => sent += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            match stream.read(&mut buffer) {
                Ok(count) => received += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(sent < message.len());
        client
    });
}

#[test]
fn a_reset_while_the_server_can_send_no_more() {
    let message = pattern(64 << 20, 7);
    survives_resets(&["--splice", "never"], FEW_ROUNDS, |server| {
        let client = Client::connect(socket_with_small_buffers(), server.address());
        assert!(client.send_until_stalled(&message) < message.len());
        client
    });
}

/// The server has read the end of the input, and has more to send than the kernel takes.
#[test]
fn a_reset_after_the_half_close() {
    let message = pattern(16 << 20, 8);
    survives_resets(&["--write-limit", "64MiB"], FEW_ROUNDS, |server| {
        let client = Client::connect(socket_with_small_buffers(), server.address());
        client.send(&message);
        client.end_sending();
        eventually("the end was read", || {
            let row = TcpRow::find(server.address(), client.local_address()).expect("it is connected");
            row.state == TcpRow::CLOSE_WAIT && row.unread <= 1
        });
        client
    });
}

/// A reset can overtake a connection that still waits in the backlog: `accept` succeeds then, and returns a dead
/// connection.
#[test]
fn a_reset_before_the_connection_was_accepted() {
    let server = Server::on_ipv4(&["--max-connections", "1"]);
    let first = server.connect();
    first.echo(b"first");
    server.connect().reset();
    let third = server.connect();
    third.send(b"third");
    first.echo(b"still the first");
    assert!(!third.has_input(), "there may be one at a time");
    drop(first);
    assert_eq!(third.receive(5), b"third");
    server.await_log(": broken: connection reset by peer; 0 bytes in");
}

/// The server echoes the urgent byte in its place, and reads the bytes that follow it.
#[test]
fn urgent_bytes_are_echoed_in_their_place() {
    let server = Server::on_ipv4(&[]);
    let client = server.connect();
    let send = || {
        client.send(b"abc");
        assert_eq!(client.socket().send_out_of_band(b"X").expect("an urgent byte"), 1);
        client.send(b"def");
    };
    // The client waits for each of these, then sends many on top of each other, in whatever order timing makes.
    for _ in 0..300 {
        send();
        assert_eq!(client.receive(7).escape_ascii().to_string(), "abcXdef");
    }
    for _ in 0..ROUNDS {
        server.while_held(|| (0..50).for_each(|_| send()));
        assert_same(&client.receive(350), &b"abcXdef".repeat(50));
    }
    client.end_sending();
    assert_same(&client.receive_rest(), b"");
}

/// A kernel without urgent bytes on Unix sockets has none to lose.
#[test]
fn urgent_bytes_of_a_unix_client_are_echoed_in_their_place() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let server = Server::start(&[&format!("unix:{}", path.display())]);
    for _ in 0..100 {
        let client = Client::unix(&path);
        client.send(b"abc");
        if let Err(error) = client.socket().send_out_of_band(b"X") {
            return skip("urgent_bytes_of_a_unix_client_are_echoed_in_their_place", &error.to_string());
        }
        client.send(b"def");
        client.end_sending();
        assert_same(&client.receive_rest(), b"abcXdef");
    }
    // An urgent byte that came before the server accepted the client, too.
    let early = server.while_held(|| {
        let early = Client::unix(&path);
        early.send(b"abc");
        early.socket().send_out_of_band(b"X").expect("an urgent byte");
        early.send(b"def");
        early
    });
    assert_same(&early.receive(7), b"abcXdef");
}

#[test]
fn an_urgent_byte_alone_is_echoed() {
    let server = Server::on_ipv4(&[]);
    for _ in 0..ROUNDS {
        let client = server.connect();
        client.socket().send_out_of_band(b"X").expect("an urgent byte");
        assert_eq!(client.receive(1), b"X");
        client.echo(b"and more");
    }
}

/// A read of a Unix stream ends at a passed descriptor, although more bytes are there.
#[test]
fn bytes_behind_a_passed_descriptor_are_echoed_and_the_descriptor_is_not_kept() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let server = Server::start(&[&format!("unix:{}", path.display())]);
    let client = Client::unix(&path);
    client.echo(b"before");
    let descriptors = server.descriptors();
    let passed = std::fs::File::open("/dev/null").expect("it is everywhere");
    let passed = [std::os::fd::AsFd::as_fd(&passed)];
    for round in 0..200 {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&passed)));
        let mut send = || {
            client.send(b"one ");
            let bytes = std::io::IoSlice::new(b"two ");
            assert_eq!(sendmsg(&client, &[bytes], &mut control, SendFlags::empty()), Ok(4));
            client.send(b"three");
        };
        // Now and then all of it is there before the first read, and one event reports everything. The client reads
        // nothing before the reply is complete: the room that this makes would be an event for the server.
        if round % 10 == 0 {
            server.while_held(send);
            eventually("the reply is complete", || rustix::io::ioctl_fionread(&client) == Ok(13));
        } else {
            send();
        }
        assert_eq!(client.receive(13).escape_ascii().to_string(), "one two three", "round {round}");
    }
    assert_eq!(server.descriptors(), descriptors);
}

#[test]
fn nothing_is_left_open_when_all_clients_have_left() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let server = Server::spawn(program(&["127.0.0.1:0", &format!("unix:{}", path.display())]), 2);
    let descriptors = server.descriptors();
    let clients: Vec<Client> =
        (0..100).map(|number| if number % 2 == 0 { server.connect() } else { Client::unix(&path) }).collect();
    for client in &clients {
        client.echo(b"one of many");
    }
    assert_eq!(server.descriptors(), descriptors + clients.len());
    drop(clients);
    server.await_descriptors(descriptors);
}
