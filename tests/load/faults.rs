//! Servers that do one thing wrong: `load` finds each fault, and names it rightly.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::toys::{Run, Toy, load, reset, run};

/// Runs against the server and expects mismatches of the kind, with status 7.
#[track_caller]
fn finds(looks_like: &str, server: &Toy, arguments: &[&str]) -> Run {
    let run = load(&[&[server.endpoint().as_str(), "-c", "2", "-m", "200"], arguments].concat());
    assert_eq!(run.status, 7, "{:#}", run.report);
    assert_eq!(run.number("/errors/mismatch"), 2.0, "{:#}", run.report["errors"]);
    for mismatch in run.report["mismatches"].as_array().expect("an array") {
        assert_eq!(mismatch["looks_like"], looks_like, "{mismatch:#}");
    }
    run
}

#[test]
fn one_corrupt_byte() {
    let server = Toy::changing(|offset, bytes| {
        if (offset..offset + bytes.len()).contains(&1000) {
            bytes[1000 - offset] ^= 0x20;
        }
    });
    let run = finds("corruption", &server, &["-s", "100"]);
    let first = &run.report["mismatches"][0];
    assert_eq!((first["offset"].as_u64(), first["bytes"].as_u64()), (Some(1000), Some(1)));
    let byte = |name: &str| u8::from_str_radix(&first[name].as_str().expect("text")[..2], 16).expect("hex");
    assert_eq!(byte("expected") ^ 0x20, byte("received"));
}

#[test]
fn a_dropped_piece() {
    let server = Toy::changing(|offset, bytes| {
        if (offset..offset + bytes.len()).contains(&1000) {
            bytes.drain(20..70);
        }
    });
    let run = finds("loss", &server, &["-s", "100"]);
    assert_eq!(run.number("/mismatches/0/bytes"), 50.0);
    finds("loss", &server, &["-s", "200", "--depth", "4"]);
}

#[test]
fn a_doubled_piece() {
    let server = Toy::changing(|offset, bytes| {
        if (offset..offset + bytes.len()).contains(&1000) {
            bytes.extend_from_within(..);
        }
    });
    let run = finds("duplication", &server, &["-s", "100"]);
    assert_eq!(run.number("/mismatches/0/bytes"), 100.0);
}

#[test]
fn two_pieces_that_change_places() {
    let server = Toy::changing(|offset, bytes| {
        if (offset..offset + bytes.len()).contains(&1000) {
            let middle = bytes.len() / 2;
            bytes.rotate_left(middle);
        }
    });
    let run = finds("reordering", &server, &["-s", "128"]);
    assert_eq!(run.number("/mismatches/0/bytes"), 64.0);
}

#[test]
fn another_connections_bytes() {
    let server = Toy::start(|mut stream| {
        let mut message = [0; 64];
        while stream.read_exact(&mut message).is_ok() && stream.write_all(&[0; 64]).is_ok() {}
    });
    finds("corruption", &server, &[]);
    let unverified = load(&[&server.endpoint(), "-m", "100", "--no-verify"]);
    assert_eq!(unverified.status, 0, "nobody looked");
}

#[test]
fn a_truncated_reply() {
    let server = Toy::start(|mut stream| {
        let mut message = [0; 64];
        if stream.read_exact(&mut message).is_ok() {
            let _ = stream.write_all(&message[..40]);
        }
    });
    let run = load(&[&server.endpoint(), "-c", "3", "-m", "30", "--no-reconnect"]);
    assert_eq!((run.status, run.number("/errors/closed")), (1, 3.0), "{:#}", run.report);
    assert_eq!((run.number("/connections/lost"), run.number("/messages/cut_off")), (3.0, 3.0));
    let words = run.report["failures"][0].as_str().expect("text");
    assert!(words.contains("closed it with 24 bytes of replies still to come"), "{words}");
}

#[test]
fn a_lost_end_is_missed_although_nothing_comes_after_it() {
    let server = Toy::changing(|offset, bytes| {
        if offset + bytes.len() >= 640 {
            bytes.pop();
        }
    });
    // Long, so that a busy machine delays none of the nine replies by as much.
    let run = load(&[&server.endpoint(), "-c", "1", "-m", "10", "--timeout", "3s"]);
    assert_eq!((run.status, run.number("/errors/timeout")), (1, 1.0), "{:#}", run.report);
    assert_eq!((run.number("/messages/received"), run.number("/messages/cut_off")), (9.0, 1.0));
}

#[test]
fn a_stall_times_out() {
    let server = Toy::start(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let run = load(&[&server.endpoint(), "-c", "2", "-d", "100ms", "--timeout", "200ms"]);
    assert_eq!((run.status, run.number("/errors/timeout")), (1, 2.0), "{:#}", run.report);
    assert!(run.report["latency_us"].is_null());
    let words = run.report["failures"][0].as_str().expect("text");
    assert!(words.contains("64 bytes of replies did not come within 200ms"), "{words}");
}

#[test]
fn a_server_that_never_accepts() {
    // The kernel completes the handshake, so the clients connect, and only the reply is missing.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let endpoint = listener.local_addr().expect("it is bound").to_string();
    let run = load(&[&endpoint, "-c", "2", "-d", "100ms", "--timeout", "200ms"]);
    assert_eq!((run.status, run.number("/errors/timeout")), (1, 2.0), "{:#}", run.report);
    assert_eq!(run.number("/connections/opened"), 2.0);
}

#[test]
fn a_full_backlog() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("full.sock");
    for address in [
        socket2::SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0))),
        socket2::SockAddr::unix(&path).expect("a short path"),
    ] {
        let socket = socket2::Socket::new(address.domain(), socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&address).expect("it is free");
        socket.listen(1).expect("it is bound");
        let bound = socket.local_addr().expect("it is bound").as_socket();
        let endpoint = bound.map_or(format!("unix:{}", path.display()), |address| address.to_string());
        let timeouts = ["--timeout", "300ms", "--connect-timeout", "300ms"];
        let run = load(&[&[endpoint.as_str(), "-c", "6", "-d", "100ms"], &timeouts[..]].concat());
        // The kernel completes a few handshakes; those clients wait for a reply, the others for a connection.
        assert_eq!((run.status, run.number("/errors/timeout")), (1, 6.0), "{endpoint}: {:#}", run.report);
        assert!((1.0..6.0).contains(&run.number("/connections/opened")), "{:#}", run.report["connections"]);
    }
}

#[test]
fn a_reset() {
    let server = Toy::start(|mut stream| {
        let _ = stream.read_exact(&mut [0; 64]);
        reset(stream);
    });
    let run = load(&[&server.endpoint(), "-c", "2", "-m", "10", "--no-reconnect"]);
    assert_eq!((run.status, run.number("/errors/reset")), (1, 2.0), "{:#}", run.report);
}

#[test]
fn an_early_close_without_a_word() {
    let server = Toy::start(|mut stream| {
        let mut message = [0; 64];
        for _ in 0..5 {
            if stream.read_exact(&mut message).is_err() || stream.write_all(&message).is_err() {
                return;
            }
        }
        // Reads on: with unread bytes the end would become a reset.
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let run = load(&[&server.endpoint(), "-c", "2", "-d", "10s", "--think", "1ms", "--no-reconnect"]);
    assert_eq!((run.status, run.number("/errors/closed")), (1, 2.0), "{:#}", run.report);
    assert_eq!(run.number("/messages/received"), 10.0);
}

/// As a balancer without a server does. Often one event reports both the connection and its end.
#[test]
fn a_connection_that_ends_as_soon_as_it_is_there() {
    let server = Toy::start(drop);
    for mode in [&["-d", "1s"] as &[_], &["--hold", "-d", "1s"]] {
        let run = load(&[&[server.endpoint().as_str(), "-c", "200", "--no-reconnect"], mode].concat());
        assert_eq!(run.status, 1, "{:#}", run.report["errors"]);
        assert_eq!(run.number("/connections/opened"), run.number("/connections/lost"));
        // Connections that had sent something already were reset.
        let errors = run.number("/errors/closed") + run.number("/errors/reset");
        assert_eq!(errors, 200.0, "{:#}", run.report["errors"]);
    }
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let endpoint = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    let run = load(&[&endpoint, "-c", "3"]);
    assert_eq!((run.status, run.number("/errors/refused")), (4, 3.0), "{:#}", run.report);
    let words = run.report["failures"][0].as_str().expect("text");
    assert!(words.contains(&endpoint) && words.contains("connection refused"), "{words}");
}

#[test]
fn a_name_that_does_not_resolve() {
    run(&["load", "name.invalid:7"]).failed(3, &["cannot resolve name.invalid"]);
}

#[test]
fn lost_connections_are_found_while_they_are_held() {
    static FIRST: AtomicBool = AtomicBool::new(true);
    let server = Toy::start(|mut stream| {
        let mut message = [0; 64];
        if stream.read_exact(&mut message).is_err() || stream.write_all(&message).is_err() {
            return;
        }
        if FIRST.swap(false, Ordering::SeqCst) {
            return;
        }
        let _ = thread::Builder::new().spawn(move || std::io::copy(&mut stream.try_clone()?, &mut stream));
    });
    let run = load(&[&server.endpoint(), "--hold", "-c", "4", "-d", "300ms", "--no-reconnect"]);
    assert_eq!((run.status, run.number("/errors/closed")), (1, 1.0), "{:#}", run.report);
    assert_eq!((run.number("/connections/opened"), run.number("/connections/lost")), (4.0, 1.0));
    assert_eq!(run.number("/messages/received"), 7.0, "four at the beginning, three at the end");
}

#[test]
fn a_number_of_messages_that_nobody_takes_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let endpoint = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    let patience = ["--connect-timeout", "200ms", "--timeout", "200ms"];
    let arguments = [&["--connect-per-message", "-m", "5", "-c", "2"], &patience[..]].concat();
    for pace in [&[] as &[_], &["--rate", "100"]] {
        let run = load(&[&[endpoint.as_str()], &arguments[..], pace].concat());
        assert_eq!((run.status, run.number("/messages/sent")), (4, 0.0), "{:#}", run.report);
    }
    let silent = Toy::start(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let greeting = ["--greeting", "5"];
    let run = load(&[&[silent.endpoint().as_str()], &arguments[..], &greeting[..]].concat());
    assert_eq!((run.status, run.number("/messages/sent")), (1, 0.0), "{:#}", run.report);
    assert!(run.number("/errors/greeting") >= 2.0, "{:#}", run.report["errors"]);
}

#[test]
fn after_the_end_nobody_connects_any_more() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&address.into()).expect("it is free");
    socket.listen(1).expect("it is bound");
    let endpoint = socket.local_addr().expect("it is bound").as_socket().expect("an address").to_string();
    let timeouts = ["--timeout", "2s", "--connect-timeout", "100ms"];
    let arguments = ["--connect-per-message", "-c", "6", "-d", "250ms"];
    let run = load(&[&[endpoint.as_str()], &arguments[..], &timeouts[..]].concat());
    assert!(run.number("/connections/opened") >= 1.0, "{:#}", run.report["connections"]);
    // Clients that find no room try every 200 ms, so that each begins two times at most. The others wait two seconds for
    // replies.
    assert!(run.number("/errors/timeout") <= 12.0, "{:#}", run.report["errors"]);
}

#[test]
fn a_service_of_another_language_is_said_once_in_its_own_words() {
    let server = Toy::start(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    });
    let run = load(&[&server.endpoint(), "-c", "4", "-d", "1s"]);
    assert_eq!((run.status, run.number("/errors/mismatch")), (7, 4.0), "{:#}", run.report);
    let failures = run.report["failures"].as_array().expect("an array");
    assert_eq!(failures.len(), 1, "{failures:#?}");
    let words = failures[0].as_str().expect("words");
    assert!(words.contains("`HTTP/1.1 400 Bad Request`: this is no echo server"), "{words}");
    assert_eq!(run.report["mismatches"].as_array().map(Vec::len), Some(1), "{:#}", run.report["mismatches"]);
    assert_eq!(run.errors.matches("HTTP/1.1").count(), 1, "{}", run.errors);
}

#[test]
fn bytes_behind_the_last_reply_are_found() {
    // The server sends surplus bytes as soon as its client ends, or some time after each reply.
    for at_the_end in [true, false] {
        let server = Toy::start(move |mut stream| {
            let mut message = [0; 64];
            while stream.read_exact(&mut message).is_ok() {
                if stream.write_all(&message).is_err() {
                    return;
                }
                if !at_the_end {
                    break;
                }
            }
            let _ = stream.write_all(b"more");
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let endpoint = server.endpoint();
        let modes = [&["-c", "2", "-m", "2"] as &[_], &["-c", "2", "-m", "20", "--connect-per-message"]];
        for arguments in modes {
            let run = load(&[&[endpoint.as_str()], arguments].concat());
            assert_eq!(run.status, 7, "{at_the_end} {arguments:?}: {:#}", run.report);
            assert_eq!(run.report["mismatches"][0]["looks_like"], "corruption", "{:#}", run.report);
            assert_eq!((run.number("/mismatches/0/offset"), run.number("/mismatches/0/bytes")), (64.0, 4.0));
            assert_eq!(run.report["mismatches"][0]["expected"], "", "all that was sent had come");
        }
    }
}

#[test]
fn a_server_that_never_ends_a_connection_is_not_waited_for_long() {
    let server = Toy::start(|mut stream| {
        let mut message = [0; 64];
        while stream.read_exact(&mut message).is_ok() && stream.write_all(&message).is_ok() {}
        // The client has ended; this side stays open until the process of the tests ends.
        loop {
            thread::park();
        }
    });
    let run = load(&[&server.endpoint(), "-c", "3", "-m", "30"]);
    assert_eq!((run.status, run.number("/messages/received")), (0, 30.0), "{:#}", run.report);
}
