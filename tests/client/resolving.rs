//! From a name to a connection, every way that it can go.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use echoloop::Endpoint;
use echoloop::client::{ClientError, LineClient};
use echoloop::net::Target;

use crate::purpose::{send, server_on};
use crate::support::{DEADLINE, Server, deserted_address, listener, skip};

/// The head start of RFC 8305.
const HEAD_START: Duration = Duration::from_millis(250);

fn connect(targets: &[SocketAddr], timeout: Duration) -> Result<LineClient, ClientError> {
    let targets = targets.iter().copied().map(Target::Tcp).collect();
    LineClient::connect_to(&Endpoint::default(), targets, Some(timeout))
}

/// An address that never answers: the queue of its listener is full, and nobody takes from it.
struct BlackHole {
    address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> BlackHole {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        listener.bind(&any.into()).expect("a port");
        listener.listen(0).expect("a listener");
        let address =
            listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        let mut queued = Vec::new();
        // The last attempt gets no answer. The kernel decides how many attempts get one.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            queued.push(stream);
        }
        BlackHole { address, _listener: listener, _queued: queued }
    }
}

#[test]
fn the_first_address_is_dead_and_the_second_is_taken_at_once() {
    let (_listener, good) = listener();
    let start = Instant::now();
    let client = connect(&[deserted_address(), good], DEADLINE).expect("the second one answers");
    assert_eq!(client.peer(), good.to_string());
    assert!(start.elapsed() < HEAD_START, "a refusal has no head start");
}

#[test]
fn the_first_address_is_silent_and_the_second_starts_after_250_ms() {
    let hole = BlackHole::new();
    let (_listener, good) = listener();
    let start = Instant::now();
    let client = connect(&[hole.address, good], DEADLINE).expect("the second one answers");
    assert_eq!(client.peer(), good.to_string());
    assert!(start.elapsed() >= HEAD_START);
}

#[test]
fn a_refusal_does_not_stop_an_attempt_that_is_under_way() {
    let hole = BlackHole::new();
    let (_listener, good) = listener();
    let client = connect(&[hole.address, deserted_address(), good], DEADLINE).expect("the third one answers");
    assert_eq!(client.peer(), good.to_string());
}

#[test]
fn all_addresses_are_dead() {
    let dead = [deserted_address(), deserted_address()];
    let error = connect(&dead, DEADLINE).err().expect("nobody listens");
    assert_eq!(error.exit_code(), 4);
    let text = error.to_string();
    assert!(dead.iter().all(|address| text.contains(&format!("{address}: connection refused"))), "{text}");
}

#[test]
fn all_addresses_are_silent() {
    let holes = [BlackHole::new(), BlackHole::new()];
    let timeout = Duration::from_millis(600);
    let start = Instant::now();
    let error = connect(&[holes[0].address, holes[1].address], timeout).err().expect("nobody answers");
    assert_eq!(error.exit_code(), 5);
    assert!(error.to_string().contains("no answer within 600ms"), "{error}");
    assert!(start.elapsed() >= timeout);
}

#[test]
fn the_connect_timeout_is_5() {
    let hole = BlackHole::new();
    send(&["--connect-timeout=200ms", &hole.address.to_string(), "x"]).failed(5, &["no answer within 200ms"]);
}

#[test]
fn there_is_no_address_at_all() {
    let error = connect(&[], DEADLINE).err().expect("nothing to connect to");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn ipv6_only() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return skip("ipv6_only", "this machine has no IPv6 loopback address");
    };
    let server = server_on(listener, |mut stream| {
        std::io::copy(&mut stream.try_clone().expect("a descriptor"), &mut stream).expect("an echo");
    });
    let ended = send(&["-v", "-6", server.endpoint(), "over IPv6"]);
    assert!(ended.stderr.contains("family AF_INET6"), "{}", ended.stderr);
    assert_eq!(ended.output(), "over IPv6");
}

#[test]
fn no_such_name() {
    let endpoint: Endpoint = "no-such-host.invalid".parse().expect("an endpoint");
    let error = LineClient::connect(&endpoint, Some(DEADLINE)).err().expect("RFC 6761 promises it");
    assert_eq!(error.exit_code(), 3);
}

#[test]
fn a_name_and_a_source_address() {
    let server = Server::on_ipv4(&[]);
    let port = server.endpoint().rsplit_once(':').expect("a port").1;
    let ended = send(&["-v", "-4", "--source=127.0.0.9", &format!("localhost:{port}"), "from there"]);
    assert!(ended.stderr.contains("local 127.0.0.9:"), "{}", ended.stderr);
    assert_eq!(ended.output(), "from there");
}
