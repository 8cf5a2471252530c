//! The ways to send: closed and open loop, churn, hold. What does each show, and what does it hide?

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Server, eventually};
use crate::toys::{Toy, load};

/// Echoes, but answers nobody for one second. This second begins one second after the first byte.
fn stalling() -> Toy {
    let first: Arc<(Mutex<Option<Instant>>, Condvar)> = Arc::default();
    Toy::start(move |mut stream: TcpStream| {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let mut first = first.0.lock().expect("not poisoned");
            let since = first.get_or_insert_with(Instant::now).elapsed();
            drop(first);
            let second = Duration::from_secs(1);
            if since >= second && since < 2 * second {
                // The test measures this stall; nothing waits for its end.
                thread::sleep(2 * second - since);
            }
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_stall_shows_in_the_open_loop_as_arithmetic_says() {
    // A number of messages and not a time, so that a busy machine can send all of them.
    let run = load(&[&stalling().endpoint(), "--rate", "500", "-c", "10", "-m", "1500"]);
    assert_eq!((run.status, run.number("/messages/sent")), (0, 1500.0), "{:#}", run.report);
    assert_eq!(run.number("/messages/received"), 1500.0);
    // A third of all messages was due in the stall and waited for the rest of it: latencies are spread evenly from one
    // second down to nothing. So the percentile `q` is `1 - 3 (1 - q)` seconds.
    for (percentile, seconds) in [("p90", 0.7), ("p99", 0.97), ("max", 1.0)] {
        let measured = run.number(&format!("/latency_us/{percentile}")) / 1e6;
        assert!((measured - seconds).abs() < 0.1, "{percentile} is {measured}, should be {seconds}");
    }
    // The stall delays the one message that is under way on each connection. The other messages had not left yet.
    assert!(run.number("/service_time_us/p90") < 0.1e6, "{:#}", run.report["service_time_us"]);
}

#[test]
fn the_same_stall_hides_in_the_closed_loop() {
    let server = stalling();
    let run = load(&[&server.endpoint(), "-c", "10", "-d", "3s"]);
    assert_eq!(run.status, 0, "{:#}", run.report);
    assert!(run.number("/latency_us/max") > 0.9e6, "each connection was hit once");
    assert!(run.number("/latency_us/p99") < 0.1e6, "and still one message in a hundred did not see it");
}

#[test]
fn the_schedule_is_kept_within_a_percent() {
    let server = Server::plain();
    for arrivals in ["fixed", "poisson"] {
        let run =
            load(&[server.endpoint(), "--rate", "4000", "--arrivals", arrivals, "-d", "1s", "-c", "500"]);
        assert_eq!(run.status, 0, "{:#}", run.report);
        // Chance moves the number of 4000 arrivals by up to four times its root.
        let tolerance = if arrivals == "fixed" { 40.0 } else { 40.0 + 253.0 };
        let sent = run.number("/messages/sent");
        let due = sent + run.number("/messages/not_sent");
        assert!((due - 4000.0).abs() <= tolerance, "{arrivals}: {due}");
        assert_eq!(sent, run.number("/messages/received"));
    }
}

#[test]
fn the_number_of_messages_is_exact_in_every_loop() {
    let server = Server::plain();
    for arguments in [
        vec!["-c", "7", "--depth", "5", "--size", "1-3000"],
        vec!["-c", "3", "--think", "1ms"],
        vec!["-c", "3", "--rate", "5000"],
        vec!["-c", "3", "--connect-per-message"],
        vec!["-c", "3", "--connect-per-message", "--reset", "--rate", "2000"],
        vec!["-c", "2", "--size", "300KiB", "--depth", "3"],
    ] {
        let run = load(&[&[server.endpoint(), "-m", "101"], &arguments[..]].concat());
        assert_eq!(run.status, 0, "{arguments:?}: {:#}", run.report);
        assert_eq!(run.number("/messages/sent"), 101.0, "{arguments:?}");
        assert_eq!(run.number("/messages/received"), 101.0, "{arguments:?}");
        assert_eq!(run.number("/bytes/sent"), run.number("/bytes/received"), "{arguments:?}");
    }
}

#[test]
fn churn_opens_a_connection_for_each_message() {
    let server = Server::plain();
    let run = load(&[server.endpoint(), "--connect-per-message", "--reset", "-c", "4", "-m", "200"]);
    assert_eq!(run.status, 0, "{:#}", run.report);
    assert!(run.number("/connections/opened") >= 200.0);
    assert!(run.number("/connect_us/p50") > 0.0);
    assert_eq!(run.number("/connections/lost"), 0.0);
}

#[test]
fn held_connections_are_verified_twice() {
    let server = Server::plain();
    let run = load(&[server.endpoint(), "--hold", "-c", "50", "-d", "200ms"]);
    assert_eq!(run.status, 0, "{:#}", run.report);
    assert_eq!(run.number("/messages/received"), 100.0);
    assert_eq!(run.number("/connections/lost"), 0.0);
}

#[test]
fn the_warm_up_is_left_out_of_the_figures() {
    let server = Server::plain();
    let run = load(&[server.endpoint(), "--rate", "1000", "--warmup", "300ms", "-d", "500ms"]);
    assert_eq!(run.status, 0, "{:#}", run.report);
    let due = run.number("/messages/sent") + run.number("/messages/not_sent");
    assert!((due - 500.0).abs() <= 5.0, "{:#}", run.report["messages"]);
    assert!((run.number("/seconds") - 0.5).abs() < 0.05);
}

#[test]
fn what_is_under_way_when_the_warm_up_ends_belongs_to_it() {
    let server = Server::plain();
    let run = load(&[server.endpoint(), "-c", "50", "--depth", "4", "--warmup", "100ms", "-d", "200ms"]);
    assert_eq!(run.status, 0, "{:#}", run.report);
    assert_eq!(
        run.number("/messages/sent"),
        run.number("/messages/received"),
        "{:#}",
        run.report["messages"]
    );
    assert_eq!(run.number("/messages/cut_off"), 0.0);
}

#[test]
fn unix_sockets_and_several_endpoints() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = format!("unix:{}", directory.path().join("echo.sock").display());
    let (unix, tcp) = (Server::start(&[&path]), Server::plain());
    let run = load(&[unix.endpoint(), tcp.endpoint(), "-c", "10", "-m", "1000", "--size", "1-20000"]);
    assert_eq!((run.status, run.number("/messages/received")), (0, 1000.0), "{:#}", run.report);
}

#[test]
fn the_same_seed_sends_the_same_bytes() {
    let received: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let seen = Arc::clone(&received);
    let server = Toy::start(move |mut stream| {
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            all.extend_from_slice(&buffer[..count]);
            let _ = stream.write_all(&buffer[..count]);
        }
        seen.lock().expect("not poisoned").push(all);
    });
    for (round, seed) in ["5", "5", "6"].into_iter().enumerate() {
        load(&[&server.endpoint(), "-c", "1", "-m", "20", "-s", "10-90", "--seed", seed]);
        eventually("the end of the connection", || received.lock().expect("not poisoned").len() > round);
    }
    let received = received.lock().expect("not poisoned");
    assert_eq!(received[0], received[1]);
    assert_ne!(received[0], received[2]);
}

#[test]
fn with_reset_every_connection_ends_by_a_reset_whatever_it_was_used_for() {
    for (arguments, is_reset) in [
        (&["--reset", "-m", "40"] as &[_], true),
        (&["--reset", "-m", "40", "--connect-per-message"], true),
        (&["--reset", "--hold", "-d", "50ms"], true),
        (&["-m", "40"], false),
    ] {
        let ends: Arc<Mutex<Vec<bool>>> = Arc::default();
        let seen = Arc::clone(&ends);
        let server = Toy::start(move |mut stream| {
            let mut buffer = [0; 4096];
            let end = loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break false,
                    Ok(count) => drop(stream.write_all(&buffer[..count])),
                    Err(error) => break error.kind() == ErrorKind::ConnectionReset,
                }
            };
            seen.lock().expect("not poisoned").push(end);
        });
        let run = load(&[&[server.endpoint().as_str(), "-c", "4"], arguments].concat());
        assert_eq!(run.status, 0, "{arguments:?}: {:#}", run.report);
        let opened = run.number("/connections/opened") as usize;
        eventually("the end of all connections", || ends.lock().expect("not poisoned").len() >= opened);
        let ends = ends.lock().expect("not poisoned");
        assert!(ends.iter().all(|end| *end == is_reset), "{arguments:?}: {ends:?}");
    }
}

#[test]
fn what_was_due_in_the_warm_up_is_not_owed() {
    let silent = Toy::start(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let arguments = ["--rate", "100", "-c", "2", "--warmup", "500ms", "-d", "500ms", "--timeout", "3s"];
    let run = load(&[&[silent.endpoint().as_str()], &arguments[..]].concat());
    assert_eq!(run.number("/messages/sent"), 0.0, "one each, in the warm-up: {:#}", run.report["messages"]);
    let owed = run.number("/messages/not_sent");
    assert!((owed - 50.0).abs() <= 2.0, "{owed}");
}

#[test]
fn clients_without_a_connection_owe_what_was_due() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let endpoint = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    let run = load(&[&endpoint, "--connect-per-message", "--rate", "100", "-c", "4", "-d", "500ms"]);
    assert_eq!((run.status, run.number("/messages/sent")), (4, 0.0), "{:#}", run.report);
    let owed = run.number("/messages/not_sent");
    assert!((owed - 50.0).abs() <= 4.0, "{owed}");
}

#[test]
fn connections_of_the_warm_up_are_left_out_of_the_figures() {
    let server = Server::plain();
    let arguments = ["--connect-per-message", "--reset", "-c", "2", "--warmup", "300ms", "-m", "20"];
    let run = load(&[&[server.endpoint()], &arguments[..]].concat());
    assert_eq!((run.status, run.number("/messages/sent")), (0, 20.0), "{:#}", run.report);
    let connections = &run.report["connections"];
    let (requested, opened) = (run.number("/connections/requested"), run.number("/connections/opened"));
    // One connection for each message, and the one that each client had when the warm-up ended.
    assert!((20.0..=24.0).contains(&opened) && requested >= opened, "{connections:#}");
}

#[test]
fn no_connection_is_opened_for_a_message_that_is_due_after_the_end() {
    let server = Server::plain();
    let run = load(&[server.endpoint(), "--connect-per-message", "--rate", "10", "-c", "8", "-d", "1s"]);
    let (sent, opened) = (run.number("/messages/sent"), run.number("/connections/opened"));
    // If the machine was busy at the beginning, one more message is due at the very end, and its client connects for
    // it. The rest of the eight clients have nothing to connect for.
    assert_eq!(run.status, 0, "{:#}", run.report);
    assert!((10.0..=11.0).contains(&sent) && (sent..=11.0).contains(&opened), "{:#}", run.report);
    assert!((run.number("/seconds") - 1.0).abs() < 0.05, "the measured part is as long as was asked for");
}

#[test]
fn holding_begins_when_all_are_open() {
    let server = Server::plain();
    let run =
        load(&[server.endpoint(), "--hold", "-c", "20", "--connect-rate", "20", "-d", "200ms", "--reset"]);
    assert_eq!((run.status, run.number("/messages/received")), (0, 40.0), "{:#}", run.report);
    let seconds = run.number("/seconds");
    assert!((0.2..0.7).contains(&seconds), "opening alone takes a second: {seconds}");
}

#[test]
fn the_backlog_of_the_warm_up_takes_nothing_from_the_measured_part() {
    // The server takes at least ten milliseconds a message, so it answers at most a hundredth of the due messages.
    let server = Toy::start(|mut stream| {
        let mut message = [0; 64];
        while stream.read_exact(&mut message).is_ok() {
            thread::sleep(Duration::from_millis(10));
            if stream.write_all(&message).is_err() {
                return;
            }
        }
    });
    let arguments = ["-c", "1", "--rate", "10000", "--warmup", "500ms"];
    let run = load(&[&[server.endpoint().as_str(), "-m", "20"], &arguments[..]].concat());
    assert_eq!((run.status, run.number("/messages/received")), (0, 20.0), "{:#}", run.report);
    let run = load(&[&[server.endpoint().as_str(), "-d", "2s"], &arguments[..]].concat());
    assert!(run.number("/rate") > 1.0, "replies came all the time: {:#}", run.report);
    // A message that was due in the warm-up would be older.
    assert!(run.number("/latency_us/max") / 1e6 < 30.0 && run.number("/messages/received") > 2.0);
}

#[test]
fn each_run_has_a_seed_of_its_own_and_says_it() {
    let server = Server::plain();
    let seed = || load(&[server.endpoint(), "-m", "10"]).number("/settings/seed");
    assert!((0..9).any(|_| seed() != seed()));
}

#[test]
fn a_seed_repeats_each_connections_bytes_whatever_the_order_of_sending() {
    let messages = |think: u64| {
        let received: Arc<Mutex<Vec<Vec<usize>>>> = Arc::default();
        let seen = Arc::clone(&received);
        let server = Toy::start(move |mut stream| {
            let (mut lengths, mut buffer) = (Vec::new(), [0; 65_536]);
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                lengths.push(count);
                // The server's delays change the order in which the clients send.
                thread::sleep(Duration::from_millis(think * lengths.len() as u64 % 3));
                let _ = stream.write_all(&buffer[..count]);
            }
            seen.lock().expect("not poisoned").push(lengths);
        });
        let arguments = ["-c", "4", "-m", "40", "-s", "10-9000", "--seed", "7", "--think", "1ms"];
        load(&[&[server.endpoint().as_str()], &arguments[..]].concat());
        eventually("the end of all", || received.lock().expect("not poisoned").len() == 4);
        let mut lengths = received.lock().expect("not poisoned").clone();
        // The first lengths tell the connections apart; how many messages each had is up to chance.
        lengths.iter_mut().for_each(|lengths| lengths.truncate(3));
        lengths.sort();
        lengths
    };
    assert_eq!(messages(0), messages(5));
}
