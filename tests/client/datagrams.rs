//! `send udp://…`: a message is a datagram, the client waits for its answer, and a failure claims no more than the
//! client knows.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::purpose::{send, send_piped};
use crate::support::{Server, udp_socket};

fn echo() -> Server {
    Server::start(&["udp://127.0.0.1:0"])
}

/// A socket of the test, as an endpoint.
fn socket() -> (UdpSocket, String) {
    let socket = udp_socket(Ipv4Addr::LOCALHOST);
    let endpoint = format!("udp://{}", socket.local_addr().expect("it is bound"));
    (socket, endpoint)
}

/// The last address of `localhost`, where a client that tries its addresses in turn comes last.
fn last_of_localhost() -> IpAddr {
    let addresses = ("localhost", 0).to_socket_addrs().expect("it resolves");
    addresses.last().expect("it has an address").ip()
}

/// Lets `answer` reply to each of this many datagrams, and returns the datagrams.
fn server(
    count: usize,
    mut answer: impl FnMut(&UdpSocket, SocketAddr, &[u8]) + Send + 'static,
) -> (String, JoinHandle<Vec<Vec<u8>>>) {
    let (socket, endpoint) = socket();
    let serving = std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        let mut received = Vec::new();
        for _ in 0..count {
            let (length, from) = socket.recv_from(&mut buffer).expect("a datagram comes");
            received.push(buffer[..length].to_vec());
            answer(&socket, from, &buffer[..length]);
        }
        received
    });
    (endpoint, serving)
}

#[test]
fn each_message_is_a_datagram_and_its_answer_is_printed() {
    let server = echo();
    let ended = send(&["-v", "--verify", server.endpoint(), "spam", "", "eggs"]);
    for part in
        ["type SOCK_DGRAM, protocol IPPROTO_UDP", "sending b'spam'", "sending b''", "received b'eggs'"]
    {
        assert!(ended.stderr.contains(part), "no `{part}` in {}", ended.stderr);
    }
    assert_eq!(ended.output(), "spameggs");
    let dump = send(&["--hex", server.endpoint(), "hi", "there"]).output();
    assert_eq!(dump.matches("|hi|").count(), 2, "{dump}");
    assert!(dump.contains("< 00000002 "), "{dump}");
}

#[test]
fn the_longest_datagram_comes_back_and_a_longer_one_is_refused() {
    let server = echo();
    let longest = "x".repeat(65_507);
    assert_eq!(send(&["--verify", server.endpoint(), &longest]).output(), longest);
    let longer = "x".repeat(65_508);
    send(&[server.endpoint(), &longer]).failed(2, &["65508 bytes does not fit a datagram", "at most 65507"]);
    send_piped(&[server.endpoint()], longer.as_bytes()).failed(1, &["at most 65507"]);
}

#[test]
fn each_line_of_standard_input_is_a_datagram() {
    let (endpoint, server) = server(4, |socket, from, bytes| {
        socket.send_to(bytes, from).expect("it can be sent");
    });
    let input = b"first\n\nlonger line\nno line feed";
    assert_eq!(send_piped(&["--verify", &endpoint], input).output().as_bytes(), input);
    let lines: [&[u8]; 4] = [b"first\n", b"\n", b"longer line\n", b"no line feed"];
    assert_eq!(server.join().expect("no panic"), lines);
}

#[test]
fn very_many_lines_go_through() {
    let server = echo();
    let mut input = String::new();
    (0..5000).for_each(|line| writeln!(input, "line {line}").expect("a string takes it"));
    assert_eq!(send_piped(&["--verify", server.endpoint()], input.as_bytes()).output(), input);
}

#[test]
fn no_answer_is_5_and_nobody_claims_to_know_why() {
    let (silent, endpoint) = socket();
    let start = Instant::now();
    let ended = send(&["--timeout=200ms", &endpoint, "anybody?"]);
    ended.failed(5, &["no answer from 127.0.0.1:", "within 200ms", "UDP is not acknowledged", "lost"]);
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(silent.recv(&mut [0; 99]).expect("it came"), 8);
    silent.set_nonblocking(true).expect("a flag");
    silent.recv(&mut [0; 99]).expect_err("and it was sent once");
}

#[test]
fn nobody_listening_is_4() {
    let (socket, endpoint) = socket();
    drop(socket);
    let start = Instant::now();
    send(&[&endpoint, "x"]).failed(4, &["connection refused", "ICMP", "is a UDP server listening"]);
    assert!(start.elapsed() < Duration::from_secs(5), "it is known at once");
    send(&["udp://no-such-host.invalid", "x"]).failed(3, &["cannot resolve no-such-host.invalid"]);
}

#[test]
fn the_next_address_of_a_name_is_tried() {
    // If `localhost` has two addresses, nobody listens on the first.
    let server = Server::start(&[&format!("udp://{}", SocketAddr::new(last_of_localhost(), 0))]);
    let port = server.endpoint().rsplit_once(':').expect("a port").1;
    assert_eq!(send(&[&format!("udp://localhost:{port}"), "hello"]).output(), "hello");
}

#[test]
fn another_answer_than_was_sent_is_7() {
    let (endpoint, server) = server(1, |socket, from, _| {
        socket.send_to(b"spim", from).expect("it can be sent");
    });
    let ended = send(&["--verify", &endpoint, "spam"]);
    assert_eq!(ended.stdout, "spim", "a reply that differs is seen");
    ended.failed(7, &["at offset 2: 0x69 ('i') instead of 0x61 ('a')"]);
    server.join().expect("no panic");
}

#[test]
fn an_answer_that_comes_twice_is_not_taken_for_the_next() {
    let mut before: Option<Vec<u8>> = None;
    let (endpoint, server) = server(3, move |socket, from, bytes| {
        // The copy comes after the next message, so that the client surely waits for the next answer.
        if let Some(before) = before.replace(bytes.to_vec()) {
            socket.send_to(&before, from).expect("it can be sent");
        }
        socket.send_to(bytes, from).expect("it can be sent");
    });
    let ended = send(&["--verify", &endpoint, "one", "two", "three"]);
    assert!(ended.stderr.contains("sent the last answer once more: b'one'"), "{}", ended.stderr);
    assert_eq!(ended.output(), "onetwothree");
    server.join().expect("no panic");
}

#[test]
fn only_the_server_is_listened_to() {
    let (endpoint, server) = server(1, |socket, from, bytes| {
        udp_socket(Ipv4Addr::LOCALHOST).send_to(b"forged", from).expect("it can be sent");
        socket.send_to(bytes, from).expect("it can be sent");
    });
    assert_eq!(send(&[&endpoint, "honest"]).output(), "honest");
    server.join().expect("no panic");
}

#[test]
fn what_is_about_streams_is_wrong_usage() {
    for (option, reason) in [
        ("--expect=line", "one datagram"),
        ("--greeting", "can't speak first"),
        ("--half-close", "has no end"),
        ("--chunk=16", "read whole"),
    ] {
        send(&[option, "udp://127.0.0.1:7", "x"])
            .failed(2, &[option.split('=').next().expect("a name"), reason]);
    }
}
