//! Many clients, and clients that ask for too much: the server serves everyone, and no client costs more than its
//! share.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::tempdir;

use crate::support::{
    Client, Server, assert_same, own_address, pattern, program, skip, socket_with_small_buffers,
};
use crate::trace::{Trace, bytes, named, nanoseconds};

const MEBIBYTE: usize = 1 << 20;

/// The number of clients that this process may have beside those of the other tests: its own limit, raised as far as it
/// goes.
pub(crate) fn possible_clients() -> usize {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).expect("up to the hard limit");
    hard.map_or(usize::MAX, |hard| hard as usize).saturating_sub(1000)
}

#[test]
fn thousands_of_clients_at_once_are_served() {
    let count = possible_clients().min(3000);
    if count < 1000 {
        return skip("thousands_of_clients_at_once_are_served", "the hard descriptor limit is below 2000");
    }
    let server = Server::on_ipv4(&["-q"]);
    let descriptors = server.descriptors();
    let source = own_address(1);
    let clients: Vec<Client> = (0..count).map(|_| Client::from_source(source, server.address())).collect();
    for round in 0..3 {
        let message = |number: usize| pattern(64, (round * count + number) as u64);
        for (number, client) in clients.iter().enumerate() {
            client.send(&message(number));
        }
        for (number, client) in clients.iter().enumerate() {
            assert_same(&client.receive(64), &message(number));
        }
    }
    assert_eq!(server.descriptors(), descriptors + count);
    assert_eq!(server.threads(), 1);
    // An orderly end would keep thousands of ports in TIME_WAIT for a minute.
    clients.into_iter().for_each(Client::reset);
    server.await_descriptors(descriptors);
}

#[test]
fn thousands_of_clients_that_come_and_go_leave_nothing() {
    let server = Server::on_ipv4(&["-q"]);
    let descriptors = server.descriptors();
    let source = own_address(2);
    for _ in 0..3000 {
        let client = Client::from_source(source, server.address());
        client.echo(b"here and gone");
        client.reset();
    }
    server.await_descriptors(descriptors);
    assert_eq!(server.stop().0.code(), Some(0));
}

/// The kernel stops clients that send without reading, and the server holds little for them.
#[test]
fn clients_that_never_read_are_held_back_and_the_others_are_served() {
    let server = Server::on_ipv4(&[]);
    let others: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    others.iter().for_each(|client| client.echo(b"before"));
    let before = server.resident_bytes();
    let message = pattern(64 * MEBIBYTE, 15);
    let greedy: Vec<Client> =
        (0..20).map(|_| Client::connect(socket_with_small_buffers(), server.address())).collect();
    let sent: usize = thread::scope(|scope| {
        let senders: Vec<_> =
            greedy.iter().map(|client| scope.spawn(|| client.send_until_stalled(&message))).collect();
        senders.into_iter().map(|sender| sender.join().expect("it sends")).sum()
    });
    assert!(sent < greedy.len() * message.len(), "nobody was held back");
    let grown = server.resident_bytes().saturating_sub(before);
    // Each holds a read (64 KiB) and the write limit (64 KiB) at most; buffers grow by doubling.
    assert!(grown < greedy.len() * 256 * 1024 + 2 * MEBIBYTE, "{grown} bytes for {} clients", greedy.len());
    let message = pattern(64 * 1024, 16);
    for client in &others {
        client.echo(&message);
    }
}

#[test]
fn all_buffers_together_have_a_bound_and_nobody_loses_a_byte_by_it() {
    const LIMIT: usize = 2 * MEBIBYTE;
    const CLIENTS: usize = 100;
    let server = Server::on_ipv4(&["--buffer-limit", "2MiB"]);
    let other = server.connect();
    other.echo(b"before");
    let before = server.resident_bytes();
    let message = pattern(64 * MEBIBYTE, 17);
    let greedy: Vec<Client> =
        (0..CLIENTS).map(|_| Client::connect(socket_with_small_buffers(), server.address())).collect();
    let sent: Vec<usize> = thread::scope(|scope| {
        let senders: Vec<_> =
            greedy.iter().map(|client| scope.spawn(|| client.send_until_stalled(&message))).collect();
        senders.into_iter().map(|sender| sender.join().expect("it sends")).collect()
    });
    assert!(sent.iter().all(|&sent| sent < message.len()), "all are held back");
    // Without the bound each holds 128 KiB: more than six times as much in all.
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < LIMIT + 2 * MEBIBYTE, "{grown} bytes for {CLIENTS} clients");
    let question = pattern(64 * 1024, 18);
    for _ in 0..10 {
        other.echo(&question);
    }
    // Clients that read again get all that they sent, in order.
    thread::scope(|scope| {
        for (client, sent) in greedy.iter().zip(sent) {
            let message = &message[..sent];
            scope.spawn(move || {
                client.end_sending();
                assert_same(&client.receive_rest(), message);
            });
        }
    });
}

/// The kernel's buffers for a client that never reads are memory, too.
#[test]
fn the_kernel_keeps_no_more_for_a_connection_than_it_may() {
    let message = pattern(64 * MEBIBYTE, 22);
    let taken = |options: &[&str]| {
        let server = Server::on_ipv4(&[&["--splice", "never"], options].concat());
        let client = Client::connect(socket_with_small_buffers(), server.address());
        client.send_until_stalled(&message)
    };
    let (bounded, usual) = (taken(&["--tcp-buffer", "16KiB"]), taken(&[]));
    // Both figures contain the buffers of both sides and of the server.
    assert!(bounded < 512 * 1024 && usual > 2 * bounded, "{bounded} and {usual} bytes");
}

/// The server would answer one read of 64 KiB with 64 MiB.
#[test]
fn an_answer_much_longer_than_its_question_is_made_only_as_it_is_taken() {
    let prefix = "p".repeat(1024);
    let server = Server::on_ipv4(&["--chunk", "1", "--prefix", &prefix]);
    server.connect().ask(b"x", format!("{prefix}x").as_bytes());
    let before = server.resident_bytes();
    let client = Client::connect(socket_with_small_buffers(), server.address());
    let message = pattern(64 * 1024, 17);
    assert_eq!(client.send_until_stalled(&message), message.len());
    server.connect().ask(b"x", format!("{prefix}x").as_bytes());
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 2 * MEBIBYTE, "{grown} bytes");
    client.end_sending();
    let expected: Vec<u8> =
        message.iter().flat_map(|byte| [prefix.as_bytes(), std::slice::from_ref(byte)].concat()).collect();
    assert_same(&client.receive_rest(), &expected);
}

#[test]
fn quiet_clients_are_served_beside_a_flooding_one() {
    let server = Server::on_ipv4(&[]);
    let (flooding, quiet) = (server.connect(), (0..50).map(|_| server.connect()).collect::<Vec<_>>());
    let (echoed, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let message = pattern(MEBIBYTE, 18);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                flooding.send(&message);
            }
            flooding.end_sending();
        });
        scope.spawn(|| {
            let (mut stream, mut buffer) = (&flooding, vec![0; 256 * 1024]);
            while let count @ 1.. = stream.read(&mut buffer).expect("the flood comes back") {
                echoed.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
        let rounds: Vec<_> = quiet
            .iter()
            .map(|client| {
                let echoed = &echoed;
                scope.spawn(move || {
                    let before = echoed.load(Ordering::Relaxed);
                    let mut rounds = 0;
                    // At least a hundred, and more until the flood has moved on beside them.
                    while rounds < 100 || echoed.load(Ordering::Relaxed) < before + MEBIBYTE as u64 {
                        client.echo(b"a quiet round trip");
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        let results: Vec<_> = rounds.into_iter().map(thread::ScopedJoinHandle::join).collect();
        // The flood must end even if a quiet client failed, or the test would not end.
        over.store(true, Ordering::Relaxed);
        for rounds in results {
            assert!(rounds.expect("every round trip is completed") >= 100);
        }
    });
    drop((quiet, flooding));
    let (_, log) = server.stop();
    assert!(log.contains("51 connections served, 51 at once at most"), "{log}");
    assert!(log.contains("0 connections cut off with 0 bytes"), "{log}");
}

/// The trace shows in which order the server looked at its clients, so the test needs no clock.
#[test]
fn a_small_client_waits_for_at_most_one_share_of_each_of_300_others() {
    const OTHERS: usize = 300;
    /// The bytes that a connection may move in a turn, in and out.
    const SHARE: usize = 256 * 1024;
    /// The most events of a turn, and the most connections that it resumes.
    const MOST_EVENTS: usize = 256;
    const MOST_RESUMED: usize = 16;
    let directory = tempdir().expect("a directory");
    let (file, socket) = (directory.path().join("trace.json"), directory.path().join("socket"));
    let mut command = program(&["-q", "--trace"]);
    command.arg(&file).arg(format!("unix:{}", socket.display()));
    let server = Server::spawn(command, 1);
    let small = Client::unix(&socket);
    small.echo(b"unix client 1");
    let others: Vec<Client> = (0..OTHERS).map(|_| Client::unix(&socket)).collect();
    let message = pattern(16 * MEBIBYTE, 21);
    for client in &others {
        client.echo(b"accepted");
        client.socket().set_send_buffer_size(MEBIBYTE).expect("as much as the system allows");
        client.socket().set_nonblocking(true).expect("O_NONBLOCK");
    }
    server.while_held(|| {
        for client in &others {
            let (mut stream, mut sent) = (client, 0);
            while let Ok(count) = stream.write(&message[sent..]) {
                sent += count;
            }
            assert!(sent > SHARE / 2, "{sent} bytes");
        }
        small.send(b"small");
    });
    assert_eq!(small.receive(5), b"small");
    drop((small, others));
    assert_eq!(server.stop().0.code(), Some(0));

    let trace = Trace::load(&file);
    let looked = named(trace.row("unix client 1"), "read 5").next().expect("it was read");
    let looked = nanoseconds(&looked["ts"]);
    let moved_before = |number: usize| {
        let row = trace.row(&format!("unix client {number}"));
        let before = &row[..row.partition_point(|event| nanoseconds(&event["ts"]) < looked)];
        bytes(before, "read ") + bytes(before, "write ")
    };
    let moved: usize = (2..OTHERS + 2).map(moved_before).sum();
    // One share for each client's event, in two or three turns, and the shares from the run queue in each turn but the
    // first.
    assert!(moved <= (OTHERS + 2 * MOST_RESUMED) * SHARE, "{} bytes each", moved / OTHERS);
    let longest = |part: &str| {
        let counts = named(trace.row("loop"), part).map(|event| event["args"]["count"].as_u64());
        counts.max().flatten().expect("it came up") as usize
    };
    // Nearly all clients have more to move, so the queue holds them.
    assert!(longest("batch") <= MOST_EVENTS);
    assert_eq!(longest("run queue"), MOST_RESUMED);
}

#[test]
fn there_is_one_thread_whatever_happens() {
    let server = Server::on_ipv4(&["--idle-timeout", "1h"]);
    assert_eq!(server.threads(), 1);
    let message = pattern(MEBIBYTE, 19);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_same(&server.connect().exchange(&message), &message));
        }
        for _ in 0..100 {
            assert_eq!(server.threads(), 1);
        }
    });
    assert_eq!(server.threads(), 1);
}

/// The server gives back the memory that a crowd of stalled clients took.
#[test]
fn memory_returns_when_stalled_clients_have_gone() {
    let server = Server::on_ipv4(&["--write-limit", "1MiB", "--splice", "never"]);
    let descriptors = server.descriptors();
    server.connect().echo(b"warm");
    let before = server.resident_bytes();
    let message = pattern(64 * MEBIBYTE, 20);
    let stalled: Vec<Client> =
        (0..32).map(|_| Client::connect(socket_with_small_buffers(), server.address())).collect();
    thread::scope(|scope| {
        for client in &stalled {
            scope.spawn(|| client.send_until_stalled(&message));
        }
    });
    let held = server.resident_bytes().saturating_sub(before);
    assert!(held > 16 * MEBIBYTE, "{held} bytes: they should hold about 1 MiB each");
    for client in stalled {
        client.reset();
    }
    server.await_descriptors(descriptors);
    let left = server.resident_bytes().saturating_sub(before);
    assert!(left < held / 4, "{left} of {held} bytes are left");
    server.connect().echo(b"and it serves");
}
