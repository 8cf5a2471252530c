//! One test for each client of `docs/rows.md`, with exact bytes.

use std::io::Write;

use crate::purpose::{expect, read_to_end, send, send_piped, server};
use crate::support::Server;

/// The lines of the log that are about bytes, without their time and place.
fn said(stderr: &str) -> Vec<&str> {
    stderr
        .lines()
        .filter_map(|line| line.find("sending b'").or_else(|| line.find("received b'")).map(|at| &line[at..]))
        .collect()
}

#[test]
fn a2_the_message_comes_back_in_sixteens() {
    let server = Server::on_ipv4(&[]);
    let message = "This is the message. It will be repeated.";
    let ended = send(&["-v", "--chunk=16", server.endpoint(), message]);
    assert_eq!(
        said(&ended.stderr),
        [
            "sending b'This is the message. It will be repeated.'",
            "received b'This is the mess'",
            "received b'age. It will be '",
            "received b'repeated.'",
        ]
    );
    assert!(ended.stderr.contains("closing the connection"));
    assert_eq!(ended.output(), message);
}

#[test]
fn a2_with_two_spaces_it_is_cut_elsewhere() {
    let server = Server::on_ipv4(&[]);
    let message = "This is the message.  It will be repeated.";
    let ended = send(&["-v", "--chunk=16", server.endpoint(), message]);
    assert_eq!(
        said(&ended.stderr)[1..],
        ["received b'This is the mess'", "received b'age.  It will be'", "received b' repeated.'"]
    );
    assert_eq!(ended.output(), message);
}

#[test]
fn a3_the_candidates_and_the_socket_are_reported() {
    let server = Server::on_ipv4(&[]);
    let address = server.endpoint().strip_prefix("tcp://").expect("a TCP endpoint");
    let stderr = send(&["-v", address, "x"]).stderr;
    for part in [
        &format!("connecting to {address}"),
        &format!("{address}: connected in "),
        "family AF_INET, type SOCK_STREAM, protocol IPPROTO_TCP, local 127.0.0.1:",
        &format!(", peer {address}"),
    ] {
        assert!(stderr.contains(part), "no `{part}` in {stderr}");
    }
}

#[test]
fn b2_each_message_is_answered_before_the_next_is_sent() {
    let server = Server::on_ipv4(&["--chunk=1024", "--prefix", "Echo=>"]);
    let ended = send(&["-v", "--expect=any", server.endpoint(), "spam", "eggs and", "ham"]);
    assert_eq!(
        said(&ended.stderr),
        [
            "sending b'spam'",
            "received b'Echo=>spam'",
            "sending b'eggs and'",
            "received b'Echo=>eggs and'",
            "sending b'ham'",
            "received b'Echo=>ham'",
        ]
    );
    assert_eq!(ended.output(), "Echo=>spamEcho=>eggs andEcho=>ham");
}

#[test]
fn b5_a_server_that_speaks_first_and_in_lines() {
    let server = server(|mut stream| {
        stream.write_all(b"+OK POP3 server ready\r\n").expect("it takes them");
        expect(&mut stream, b"USER me\r\n");
        // In pieces, as a network may deliver them.
        stream.write_all(b"+OK send").expect("it takes them");
        stream.write_all(b" PASS\r\n").expect("it takes them");
        expect(&mut stream, b"QUIT\r\n");
        stream.write_all(b"+OK bye\r\n").expect("it takes them");
        assert_eq!(read_to_end(&mut stream), b"", "nothing else was sent");
    });
    let ended = send(&["--crlf", "--expect=line", "--greeting", server.endpoint(), "USER me", "QUIT"]);
    assert_eq!(ended.output(), "+OK POP3 server ready\r\n+OK send PASS\r\n+OK bye\r\n");
}

#[test]
fn d1_and_d3_the_greeting_comes_before_the_answers() {
    let greeting = r"Welcome to the server. Type something and hit enter\n";
    let server = Server::on_ipv4(&["--greeting", greeting, "--prefix", "OK...", "--chunk=1024"]);
    let ended = send(&["--expect=line", "--greeting", server.endpoint(), r"hi\n", r"again\n"]);
    assert_eq!(ended.output(), "Welcome to the server. Type something and hit enter\nOK...hi\nOK...again\n");
}

#[test]
fn d2_a_server_that_answers_once() {
    let server = Server::on_ipv4(&["--once", "--max-accepts=1", "--chunk=1024"]);
    assert_eq!(send_piped(&[server.endpoint()], b"one read").output(), "one read");
}

#[test]
fn d4_http_by_hand() {
    let server = server(|mut stream| {
        assert_eq!(read_to_end(&mut stream), b"GET / HTTP/1.1\r\n\r\n", "and then our side has ended");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").expect("it takes them");
    });
    let ended = send(&["--expect=close", server.endpoint(), r"GET / HTTP/1.1\r\n\r\n"]);
    assert_eq!(ended.output(), "HTTP/1.1 200 OK\r\n\r\nhello");
}

#[test]
fn e1_a_unix_socket_is_a_stream_like_any_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let endpoint = format!("unix:{}", directory.path().join("echo.sock").display());
    let server = Server::start(&[&endpoint]);
    let ended = send(&["-v", server.endpoint(), "over a file name"]);
    assert!(ended.stderr.contains("family AF_UNIX, type SOCK_STREAM"), "{}", ended.stderr);
    assert_eq!(ended.output(), "over a file name");
}

#[test]
fn e1_recv_returns_what_is_there_and_the_reply_is_collected() {
    let server = server(|mut stream| {
        expect(&mut stream, b"single bytes");
        for byte in b"single bytes" {
            stream.write_all(&[*byte]).expect("it takes them");
        }
        read_to_end(&mut stream);
    });
    assert_eq!(send(&[server.endpoint(), "single bytes"]).output(), "single bytes");
}

#[test]
fn an_empty_message_only_waits() {
    let server = server(|mut stream| {
        stream.write_all(b"hello\n").expect("it takes them");
        assert_eq!(read_to_end(&mut stream), b"");
    });
    assert_eq!(send(&["--expect=line", server.endpoint(), ""]).output(), "hello\n");
}

#[test]
fn the_dump_shows_both_directions() {
    let server = Server::on_ipv4(&[]);
    let output = send(&["--hex", server.endpoint(), r"hi\n", "there"]).output();
    let lines: Vec<&str> =
        output.lines().map(|line| line.trim_start().split_once(' ').expect("a time").1).collect();
    let blank = " ".repeat(3 * 13 + 1);
    let blank2 = " ".repeat(3 * 11 + 1);
    assert_eq!(
        lines,
        [
            format!("> 00000000  68 69 0a {blank} |hi.|"),
            format!("< 00000000  68 69 0a {blank} |hi.|"),
            format!("> 00000003  74 68 65 72 65 {blank2} |there|"),
            format!("< 00000003  74 68 65 72 65 {blank2} |there|"),
        ]
    );
}

#[test]
fn crlf_ends_messages_and_the_lines_of_a_stream() {
    let server = Server::on_ipv4(&[]);
    assert_eq!(send(&["--crlf", server.endpoint(), "a", "b"]).output(), "a\r\nb\r\n");
    assert_eq!(send_piped(&["--crlf", server.endpoint()], b"a\nb\r\nc").output(), "a\r\nb\r\nc");
}
