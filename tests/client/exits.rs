//! Each way to fail has its exit status and one clear line.

use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::purpose::{end_of_output, expect, read_to_end, reset, send, send_piped, server, start_piped};
use crate::support::{DEADLINE, Process, Server, deserted_address, program};

#[test]
fn the_help_documents_every_status() {
    let help = send(&["--help"]).output();
    let statuses = &help[help.find("Exit status:").expect("a section for them")..];
    for status in 0..=7 {
        assert!(statuses.contains(&format!("\n  {status}  ")), "{status} in {statuses}");
    }
}

#[test]
fn wrong_usage_is_2() {
    assert_eq!(send(&["--no-such-option"]).code, Some(2));
    assert_eq!(send(&["localhost:http"]).code, Some(2));
    send(&["-4", "unix:/run/echo.sock"]).failed(2, &["a Unix socket has none"]);
}

#[test]
fn b4_a_name_that_does_not_resolve_is_3() {
    send(&["no-such-host.invalid", "x"]).failed(3, &["cannot resolve no-such-host.invalid: "]);
    send(&["-6", "127.0.0.1", "x"]).failed(3, &["127.0.0.1 has no IPv6 address"]);
    send(&["--source", "::1", "127.0.0.1", "x"]).failed(3, &["has no IPv6 address"]);
}

#[test]
fn b4_nobody_listening_is_4() {
    let endpoint = deserted_address().to_string();
    send(&[&endpoint, "x"]).failed(4, &[&endpoint, "connection refused"]);
    send_piped(&[&endpoint], b"x").failed(4, &[&endpoint, "connection refused"]);
}

#[test]
fn no_answer_is_5() {
    let server = server(|mut stream| {
        expect(&mut stream, b"anybody?");
        assert_eq!(read_to_end(&mut stream), b"");
    });
    let start = Instant::now();
    let ended = send(&["--timeout=200ms", server.endpoint(), "anybody?"]);
    ended.failed(5, &[server.endpoint(), "silent for 200ms", "0 of 8 bytes"]);
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_reply_that_arrives_while_the_client_stands_still_is_in_time() {
    for options in [&["--timeout=1s"] as &[_], &["--timeout=1s", "--expect", "close"]] {
        let (asked, is_asked) = channel();
        let (stopped, is_stopped) = channel();
        let server = server(move |mut stream| {
            expect(&mut stream, b"hello");
            asked.send(()).expect("the test waits");
            is_stopped.recv_timeout(DEADLINE).expect("it is stopped");
            stream.write_all(b"world").expect("it takes them");
            end_of_output(&stream);
            read_to_end(&mut stream);
        });
        let client = Process::start(program(&[&["send"], options, &[server.endpoint(), "hello"]].concat()));
        is_asked.recv_timeout(DEADLINE).expect("it asks");
        client.while_held(|| {
            stopped.send(()).expect("the server waits");
            // The time that the test is about: it passes while the client can't run.
            std::thread::sleep(Duration::from_millis(1200));
        });
        assert_eq!(client.finish().output(), "world");
    }
}

#[test]
fn a_stream_whose_end_never_comes_is_5() {
    let (client_ended, is_over) = channel::<()>();
    let server = server(move |mut stream| {
        assert_eq!(read_to_end(&mut stream), b"a question");
        // The connection stays as long as the client does.
        let _ = is_over.recv_timeout(DEADLINE);
    });
    let ended = send_piped(&["--timeout=200ms", server.endpoint()], b"a question");
    drop(client_ended);
    ended.failed(5, &["silent for 200ms", "it did not end the connection"]);
}

#[test]
fn a_server_that_closes_at_once_is_6() {
    let server = server(drop);
    send(&[server.endpoint(), "hello"]).failed(6, &[server.endpoint()]);
}

#[test]
fn a_reply_that_ends_too_early_is_6() {
    for (expectation, reply, missing) in [
        ("same", b"hel" as &[u8], "3 of 5 bytes of the reply came"),
        ("any", b"", "no reply came"),
        ("line", b"", "no line came in reply"),
        ("line", b"hel", "3 bytes of a line without its end came"),
    ] {
        let server = server(move |mut stream| {
            expect(&mut stream, b"hello");
            stream.write_all(reply).expect("it takes them");
            end_of_output(&stream);
            read_to_end(&mut stream);
        });
        let ended = send(&["--expect", expectation, server.endpoint(), "hello", "more"]);
        assert_eq!(ended.stdout.as_bytes(), reply, "the client shows the part that came");
        ended.failed(6, &["closed the connection", missing, "1 messages were not sent"]);
    }
}

#[test]
fn a_reset_is_6() {
    let server = server(|mut stream| {
        expect(&mut stream, b"hello");
        reset(&stream);
    });
    send(&[server.endpoint(), "hello"]).failed(6, &["broke (connection reset by peer)", "0 of 5 bytes"]);
}

#[test]
fn a_reset_after_the_reply_but_before_its_end_is_6() {
    let server = server(|mut stream| {
        expect(&mut stream, b"hello");
        stream.write_all(b"hel").expect("it takes them");
        reset(&stream);
    });
    send(&["--expect=close", "--no-half-close", server.endpoint(), "hello"]).failed(6, &["broke ("]);
}

#[test]
fn input_that_nobody_takes_is_6_and_what_the_server_said_is_shown() {
    let server = server(|mut stream| {
        wait_until_nothing_more_comes(&stream);
        stream.write_all(b"go away\n").expect("it takes them");
        // Closing with unread input resets the connection. The client learns of the bytes and of the reset at once.
    });
    let ended = send_piped(&[server.endpoint()], &[b'x'; 32 << 20]);
    assert_eq!(ended.stdout, "go away\n");
    ended.failed(6, &["not all of the input was sent"]);
}

/// The client sends until its peer's buffers are full, and then waits.
fn wait_until_nothing_more_comes(stream: &TcpStream) {
    let pending = || rustix::io::ioctl_fionread(stream).expect("it is a socket");
    let (mut last, mut since) = (pending(), Instant::now());
    while last == 0 || since.elapsed() < Duration::from_millis(200) {
        if pending() != last {
            (last, since) = (pending(), Instant::now());
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_reply_that_differs_is_7() {
    let server = server(|mut stream| {
        expect(&mut stream, b"spam");
        stream.write_all(b"spim").expect("it takes them");
        read_to_end(&mut stream);
    });
    let ended = send(&["--verify", server.endpoint(), "spam"]);
    assert_eq!(ended.stdout, "spim");
    ended.failed(7, &["at offset 2: 0x69 ('i') instead of 0x61 ('a')"]);
}

#[test]
fn a_stream_that_differs_is_7() {
    let server = Server::on_ipv4(&["--prefix", "!", "--chunk=1MiB"]);
    let ended = send_piped(&["--verify", server.endpoint()], b"spam");
    ended.failed(7, &["at offset 0: 0x21 ('!') instead of 0x73 ('s')"]);
}

#[test]
fn a_stream_that_is_cut_short_is_6_when_it_is_verified() {
    let server = server(|mut stream| {
        assert_eq!(read_to_end(&mut stream), b"spam and eggs");
        stream.write_all(b"spam").expect("it takes them");
    });
    let ended = send_piped(&["--verify", server.endpoint()], b"spam and eggs");
    ended.failed(6, &["9 bytes of the reply did not come"]);
}

#[test]
fn more_than_the_reply_is_a_warning_and_6_when_it_is_verified() {
    let surplus = |mut stream: TcpStream| {
        expect(&mut stream, b"first");
        stream.write_all(b"first and more").expect("it takes them");
        let next = read_to_end(&mut stream);
        if next == b"second" {
            stream.write_all(b"second").expect("it takes them");
        }
    };
    let lenient = server(surplus);
    let ended = send(&["--half-close", lenient.endpoint(), "first", "second"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "firstsecond"));
    assert!(ended.stderr.contains("9 bytes came beyond the reply: b' and more'"), "{}", ended.stderr);

    let strict = server(surplus);
    let ended = send(&["-q", "--verify", strict.endpoint(), "first", "second"]);
    ended.failed(6, &["9 bytes came beyond the reply"]);
}

#[test]
fn more_than_a_verified_stream_is_6() {
    let server = server(|mut stream| {
        assert_eq!(read_to_end(&mut stream), b"spam");
        stream.write_all(b"spam!").expect("it takes them");
    });
    send_piped(&["--verify", server.endpoint()], b"spam").failed(6, &["1 bytes came beyond the reply"]);
}

#[test]
fn more_than_a_verified_reply_that_ends_with_the_connection_is_6() {
    let server = server(|mut stream| {
        assert_eq!(read_to_end(&mut stream), b"spam");
        stream.write_all(b"spam!").expect("it takes them");
    });
    let ended = send(&["--verify", "--expect=close", server.endpoint(), "spam"]);
    ended.failed(6, &["1 bytes came beyond the reply"]);
}

#[test]
fn anything_else_is_1() {
    let server = Server::on_ipv4(&[]);
    let directory = std::fs::File::open("/").expect("it is there");
    let mut command = program(&["send", server.endpoint()]);
    let process = Process::spawn(command.stdin(directory).stderr(Stdio::piped()));
    process.finish().failed(1, &["cannot read standard input: is a directory"]);

    if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
        let mut command = program(&["send", server.endpoint(), "x"]);
        let process = Process::spawn(command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()));
        process.finish().failed(1, &["cannot write to standard output: no space left on device"]);
    }
}

#[test]
fn a_standard_output_that_nobody_reads_ends_it_quietly() {
    let server = Server::on_ipv4(&[]);
    let mut process = start_piped(&[server.endpoint()]);
    let mut stdin = process.child.stdin.take().expect("it is piped");
    drop(process.child.stdout.take());
    stdin.write_all(b"hello").expect("it takes them");
    // The client ends although its input does not.
    let ended = process.finish();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}
