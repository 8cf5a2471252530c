//! Services that do not echo: a reply is a line, or any bytes. `load` times and counts replies, and does not verify
//! them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::toys::{Run, Toy, load, reset, run};

/// Answers each line with another one, in two pieces. After `most` lines it resets the connection.
fn line_service(most: usize) -> Toy {
    Toy::start(move |mut stream: TcpStream| {
        let lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        for line in lines.map_while(Result::ok).take(most) {
            let answer = format!("got {}\n", line.len());
            let (one, other) = answer.split_at(2);
            if stream.write_all(one.as_bytes()).is_err() || stream.write_all(other.as_bytes()).is_err() {
                return;
            }
        }
        if most < usize::MAX {
            reset(stream);
        }
    })
}

#[track_caller]
fn assert_unverified(run: &Run, replies: &str) {
    let settings = &run.report["settings"];
    assert_eq!((&settings["verify"], &settings["replies"]), (&false.into(), &replies.into()), "{settings:#}");
    assert_eq!(run.number("/errors/mismatch"), 0.0, "{:#}", run.report["errors"]);
}

#[test]
fn other_lines_are_replies_in_every_loop() {
    let service = line_service(usize::MAX);
    for arguments in [
        &["-m", "300", "-c", "3"] as &[_],
        &["-m", "300", "-c", "3", "--depth", "5", "-s", "1-3000"],
        &["-m", "300", "-c", "3", "--rate", "2000"],
        &["-m", "100", "-c", "3", "--connect-per-message"],
        &["-m", "300", "-c", "3", "--think", "1ms", "--warmup", "10ms"],
        &["--hold", "-c", "150", "-d", "50ms"],
    ] {
        let endpoint = service.endpoint();
        let run = load(&[&["--expect", "line", endpoint.as_str()], arguments].concat());
        assert_eq!(run.status, 0, "{arguments:?}: {:#}\n{}", run.report, run.errors);
        let received = run.number("/messages/received");
        assert_eq!(
            (received, run.number("/messages/sent")),
            (if arguments[1] == "100" { 100.0 } else { 300.0 }, received)
        );
        // While `load` holds connections, it times only the last replies.
        let timed = if arguments[0] == "--hold" { received / 2.0 } else { received };
        assert_eq!(run.number("/latency_us/count"), timed);
        assert_unverified(&run, "line");
        // A reply is "got 63", with the length of its message.
        let most = 9.0 * received;
        assert!(run.number("/bytes/received") >= 6.0 * received && run.number("/bytes/received") <= most);
    }
}

#[test]
fn a_line_service_that_resets_connections_is_connected_to_again() {
    let service = line_service(10);
    for rate in [&[] as &[_], &["--rate", "2000"]] {
        let endpoint = service.endpoint();
        let run = load(&[&["--expect", "line", endpoint.as_str(), "-m", "100", "-c", "2"], rate].concat());
        assert_eq!((run.status, run.number("/messages/sent")), (1, 100.0), "{:#}", run.report);
        assert!(run.number("/outages/reconnects") >= 8.0, "{:#}", run.report["outages"]);
        let (received, cut_off) = (run.number("/messages/received"), run.number("/messages/cut_off"));
        assert_eq!(received + cut_off, 100.0, "{:#}", run.report["messages"]);
        assert_unverified(&run, "line");
    }
}

#[test]
fn any_bytes_are_a_reply_and_the_rest_of_it_is_no_error() {
    let count = AtomicU64::new(0);
    let service = Toy::start(move |mut stream| {
        let mut message = [0; 64];
        while stream.read_exact(&mut message).is_ok() {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let length = 1 + number as usize % 200;
            if stream.write_all(&vec![number as u8; length]).is_err() {
                return;
            }
        }
        // Words to say goodbye.
        let _ = stream.write_all(b"bye\n");
    });
    for arguments in [
        &["-m", "200", "-c", "4"] as &[_],
        &["-m", "200", "-c", "4", "--rate", "1000"],
        &["-m", "200", "-c", "4", "--connect-per-message"],
    ] {
        let run = load(&[&["--expect", "any", service.endpoint().as_str()], arguments].concat());
        assert_eq!((run.status, run.number("/messages/received")), (0, 200.0), "{:#}", run.report);
        assert_unverified(&run, "any");
    }
}

#[test]
fn a_service_that_ends_each_connection_with_its_reply_is_no_failure() {
    let service = Toy::start(|mut stream| {
        let mut message = [0; 64];
        if stream.read_exact(&mut message).is_ok() {
            let _ = stream.write_all(&message);
        }
    });
    for expect in ["echo", "line", "any"] {
        let arguments = ["--expect", expect, "--connect-per-message", "-m", "500", "-c", "8"];
        let run = load(&[&[service.endpoint().as_str()], &arguments[..]].concat());
        assert_eq!((run.status, run.number("/messages/received")), (0, 500.0), "{:#}", run.report);
        assert_eq!(run.number("/connections/lost"), 0.0, "{:#}", run.report["connections"]);
    }
}

#[test]
fn a_connection_that_ends_without_a_reply_is_a_failure() {
    let service = Toy::start(|mut stream| {
        let mut message = [0; 64];
        let _ = stream.read_exact(&mut message).and_then(|()| stream.write_all(b"half a line"));
    });
    let arguments = ["--expect", "line", "--connect-per-message", "-m", "10", "-c", "1"];
    let run = load(&[&[service.endpoint().as_str()], &arguments[..]].concat());
    assert_eq!((run.status, run.number("/messages/received")), (1, 0.0), "{:#}", run.report);
    // Any further error is a vain attempt of the client that is lost already.
    assert_eq!(run.number("/errors/closed"), 1.0, "{:#}", run.report["errors"]);
}

#[test]
fn a_line_too_many_is_found_and_said() {
    for at_the_end in [true, false] {
        let service = Toy::start(move |mut stream| {
            let mut message = [0; 64];
            while stream.read_exact(&mut message).is_ok() {
                let reply: &[u8] = if at_the_end { b"one\n" } else { b"one\nand another\n" };
                if stream.write_all(reply).is_err() {
                    return;
                }
            }
            let _ = stream.write_all(b"so long\n");
        });
        let arguments = ["--expect", "line", "-c", "3", "-m", "30"];
        let run = load(&[&[service.endpoint().as_str()], &arguments[..]].concat());
        assert_eq!((run.status, run.number("/errors/mismatch")), (7, 3.0), "{:#}", run.report);
        let words = run.report["failures"][0].as_str().expect("words");
        let line = if at_the_end { "so long" } else { "and another" };
        assert!(words.starts_with(&format!("`{line}` answers no message")), "{words}");
        assert_eq!(run.report["mismatches"][0]["looks_like"], "surplus");
        if at_the_end {
            let run = load(&[&[service.endpoint().as_str(), "--reset"], &arguments[..]].concat());
            assert_eq!((run.status, run.number("/messages/received")), (0, 30.0), "{:#}", run.report);
        }
    }
}

#[test]
fn a_service_gets_the_message_that_it_understands() {
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let all = Arc::clone(&seen);
    let service = Toy::start(move |mut stream| {
        let mut messages = BufReader::new(stream.try_clone().expect("a descriptor"));
        let mut message = Vec::new();
        while messages.read_until(b'\n', &mut message).is_ok_and(|count| count > 0) {
            all.lock().expect("not poisoned").append(&mut message);
            if stream.write_all(b"+PONG\r\n").is_err() {
                return;
            }
        }
    });
    let endpoint = service.endpoint();
    for (message, bytes) in [("PING\\r\\n", &b"PING\r\n"[..]), ("\\0é\\xff\\\\\\n", b"\0\xc3\xa9\xff\\\n")] {
        for processes in ["1", "2"] {
            let arguments = ["load", "--quiet", "--expect", "line", "-c", "2", "--rate", "50", "-d", "1s"];
            let asked = ["--processes", processes, "--message", message, &endpoint];
            let output = run(&[&arguments[..], &asked].concat());
            let text = output.stdout;
            assert_eq!(output.code, Some(0), "{text}");
            assert!(text.contains("(not verified: any line is a reply)"), "{text}");
            assert!(!text.contains("every byte verified"), "{text}");
            let seen = std::mem::take(&mut *seen.lock().expect("not poisoned"));
            assert!(!seen.is_empty() && seen == bytes.repeat(seen.len() / bytes.len()), "{seen:?}");
        }
    }
}

#[test]
fn replies_that_cannot_be_told_apart_are_refused_with_the_reason() {
    for (arguments, reason) in [
        (&["--expect", "any", "--depth", "2", ":7"] as &[_], "nothing tells where a reply of any bytes ends"),
        (&["--expect", "line", "udp://:7"], "it has to be an echo"),
        (&["--expect", "echo", "--message", "PING", ":7"], "can't be verified"),
        (&["--message", "PING", ":7"], "--expect"),
        (&["--expect", "line", "--message", "", ":7"], "at least one byte"),
        (&["--expect", "any", "--fail-if", "mismatches>0", ":7"], "none can be wrong"),
    ] {
        let refused = run(&[&["load"], arguments].concat());
        assert_eq!(refused.code, Some(2), "{arguments:?}: {refused:?}");
        assert!(refused.stderr.contains(reason), "{refused:?}");
    }
}
