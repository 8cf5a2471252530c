//! The admin endpoint: its answers, and that no scraper can disturb the echo.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::tempdir;

use crate::limits::{allow_descriptors, clients_without_a_gap, inherited_descriptors};
use crate::support::{
    Client, Process, Server, assert_same, eventually, installed, pattern, program, run, skip,
    socket_with_small_buffers, with_descriptors,
};

/// Connections that the endpoint holds at once.
const MOST_SCRAPERS: usize = 16;

/// A server with an admin endpoint on a free port of loopback.
pub(crate) fn with_admin(arguments: &[&str]) -> Server {
    Server::on_ipv4(&[arguments, &["--admin", "127.0.0.1:0"]].concat())
}

/// A response, taken apart.
#[derive(Debug)]
struct Response {
    status: String,
    headers: String,
    body: String,
}

impl Response {
    #[track_caller]
    fn parse(bytes: &[u8]) -> Response {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
        let (status, headers) = head.split_once("\r\n").expect("headers");
        let status = status.strip_prefix("HTTP/1.1 ").expect("HTTP").to_owned();
        Response { status, headers: format!("{headers}\r\n"), body: body.to_owned() }
    }

    fn has(&self, header: &str) -> bool {
        self.headers.contains(&format!("{header}\r\n"))
    }
}

/// Sends a request as it stands and reads to the end of the connection.
#[track_caller]
fn ask(server: &Server, request: &[u8]) -> Response {
    let client = Client::tcp(server.admin_address());
    client.send(request);
    Response::parse(&client.receive_rest())
}

#[track_caller]
fn get(server: &Server, path: &str) -> Response {
    ask(server, format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())
}

/// The value of a sample, by its name and labels.
#[track_caller]
pub(crate) fn figure(server: &Server, sample: &str) -> f64 {
    let metrics = get(server, "/metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{metrics}")).parse().expect("a number")
}

#[test]
fn the_pages_say_what_they_are_for() {
    let server = with_admin(&[]);
    let alive = get(&server, "/healthz");
    assert_eq!((alive.status.as_str(), alive.body.as_str()), ("200 OK", "alive\n"));
    assert!(alive.has("Content-Length: 6") && alive.has("Connection: close"), "{alive:?}");
    let ready = get(&server, "/readyz?verbose");
    assert_eq!((ready.status.as_str(), ready.body.as_str()), ("200 OK", "accepting\n"));
    let metrics = get(&server, "/metrics");
    assert!(metrics.has("Content-Type: text/plain; version=0.0.4; charset=utf-8"), "{metrics:?}");
    assert!(metrics.has(&format!("Content-Length: {}", metrics.body.len())), "{metrics:?}");
    assert!(get(&server, "/").body.contains("/metrics"));
    let open_metrics =
        ask(&server, b"GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n");
    let media_type = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(open_metrics.has(media_type) && open_metrics.body.ends_with("# EOF\n"), "{open_metrics:?}");
}

#[test]
fn what_is_asked_wrongly_is_answered_with_the_right_status() {
    let server = with_admin(&[]);
    for (request, status) in [
        ("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
        ("GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
        ("DELETE /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", "405 Method Not Allowed"),
        ("BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "405 Method Not Allowed"),
        ("GET /metrics HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET /metrics\r\n\r\n", "400 Bad Request"),
        ("\x16\x03\x01\x02", "400 Bad Request"),
        ("GET /metrics HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported"),
    ] {
        let response = ask(&server, request.as_bytes());
        assert_eq!(response.status, status, "{request:?}");
        assert_eq!(response.has("Allow: GET, HEAD"), status.starts_with("405"), "{request:?}");
    }
    let head = ask(&server, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((head.status.as_str(), head.body.as_str()), ("200 OK", ""));
    assert!(head.has("Content-Length: 6"), "as of the page itself: {head:?}");
    server.connect().echo(b"and it lives");
}

#[test]
fn a_torn_request_is_put_together() {
    let server = with_admin(&[]);
    let (client, echo) = (Client::tcp(server.admin_address()), server.connect());
    for byte in b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n" {
        client.send(&[*byte]);
        // Each byte has been read before the next one comes.
        echo.echo(b"a turn");
    }
    assert_eq!(Response::parse(&client.receive_rest()).body, "alive\n");
}

#[test]
fn of_pipelined_requests_the_first_is_answered_and_the_end_is_clean() {
    let server = with_admin(&[]);
    let one = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n".repeat(10_000);
    // The server reads on behind the first request, so that unread bytes do not reset the connection.
    let client = Client::tcp(server.admin_address());
    client.send(&one);
    let response = Response::parse(&client.receive_rest());
    assert_eq!(response.body, "alive\n");
    assert!(response.has("Connection: close"), "it is said that no other one is answered: {response:?}");
}

#[test]
fn a_mebibyte_of_headers_is_refused_and_costs_no_memory() {
    let server = with_admin(&[]);
    let long_field = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let many_fields = format!("GET / HTTP/1.1\r\n{}\r\n", "field: value\r\n".repeat(80_000));
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "z".repeat(1 << 20));
    assert_eq!(get(&server, "/healthz").status, "200 OK");
    let before = server.resident_bytes();
    for request in [long_field, many_fields, long_path] {
        let response = ask(&server, request.as_bytes());
        assert_eq!(response.status, "431 Request Header Fields Too Large");
        assert!(response.body.contains("longer than 8 KiB or has more than 64 fields"), "{response:?}");
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes more");
}

/// Some ask and don't read, some ask half, some don't ask at all. The server cuts each of them off when its time is
/// over, whatever it does, and the echo goes on meanwhile.
#[test]
fn scrapers_that_never_end_are_cut_off_and_the_echo_goes_on() {
    let server = with_admin(&[]);
    let descriptors = server.descriptors();
    let start = Instant::now();
    let silent = Client::tcp(server.admin_address());
    let half = Client::tcp(server.admin_address());
    half.send(b"GET /metrics HTTP/1.1\r\n");
    let deaf = Client::connect(socket_with_small_buffers(), server.admin_address());
    deaf.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let talkative = Client::tcp(server.admin_address());
    let echo = server.connect();
    server.await_descriptors(descriptors + 5);
    while server.descriptors() > descriptors + 1 {
        // A header without an end, and nothing that could be a request.
        let _ = (&talkative).write(b"a");
        echo.echo(b"all the while");
        assert!(start.elapsed() < crate::support::DEADLINE, "they are not cut off");
    }
    assert!(start.elapsed() >= Duration::from_secs(9), "they had their time: {:?}", start.elapsed());
    for client in [silent, half] {
        assert_same(&client.receive_rest(), b"");
    }
}

#[test]
fn the_oldest_silent_scraper_gives_its_place_away_and_none_is_an_echo_connection() {
    // The echo has no connection to spare, so scrapers don't count as its connections.
    let server = with_admin(&["--max-connections", "1"]);
    let echo = server.connect();
    echo.echo(b"the only one");
    let descriptors = server.descriptors();
    let scrapers: Vec<Client> = (0..MOST_SCRAPERS).map(|_| Client::tcp(server.admin_address())).collect();
    server.await_descriptors(descriptors + MOST_SCRAPERS);
    // The oldest scraper has asked, so the next oldest gives its place away.
    scrapers[0].send(b"GET /metrics HTTP/1.0\r\n\r\n");
    assert!(Response::parse(&scrapers[0].receive_rest()).body.contains("echoloop_connections_open 1"));
    assert_eq!(get(&server, "/healthz").status, "200 OK");
    assert_same(&scrapers[1].receive_rest(), b"");
    assert!(!scrapers[2].has_input(), "the others stay");
    echo.echo(b"undisturbed");
    for client in &scrapers[2..] {
        client.send(b"GET /metrics HTTP/1.0\r\n\r\n");
        let response = Response::parse(&client.receive_rest());
        assert!(response.body.contains("\necholoop_connections_open 1\n"), "{response:?}");
    }
    drop(scrapers);
    server.await_descriptors(descriptors);
    assert_eq!(get(&server, "/healthz").status, "200 OK", "there is room again");
    let (_, log) = server.stop();
    assert!(log.contains("stopped: 1 connections served"), "{log}");
}

/// The scrapers take every place again as soon as they lose it, silent or with a request whose answer they never read.
#[test]
fn scrapers_that_renew_themselves_for_ever_do_not_keep_a_probe_from_its_answer() {
    const KEPT: usize = 3 * MOST_SCRAPERS;
    let server = with_admin(&[]);
    let (address, echo) = (server.admin_address(), server.connect());
    let (over, attempts) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for first in [b"".as_slice(), b"GET /metrics HTTP/1.0\r\n\r\n"] {
            let (over, attempts) = (&over, &attempts);
            scope.spawn(move || {
                let mut kept = VecDeque::new();
                while !over.load(Ordering::Relaxed) {
                    // Of thousands of connections a second some may fail.
                    let Ok(mut stream) = TcpStream::connect(address) else { continue };
                    let _ = stream.write_all(first);
                    kept.push_back(stream);
                    if kept.len() > KEPT {
                        kept.pop_front();
                    }
                    attempts.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        eventually("every place is taken", || attempts.load(Ordering::Relaxed) > 4 * KEPT);
        let answers: Vec<Vec<u8>> = (0..50)
            .map(|_| {
                echo.echo(b"in between");
                let client = Client::tcp(address);
                client.send(b"GET /healthz HTTP/1.0\r\n\r\n");
                let mut answer = Vec::new();
                let _ = (&client).read_to_end(&mut answer);
                answer
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        let answered = answers.iter().filter(|answer| answer.starts_with(b"HTTP/1.1 200 OK")).count();
        assert_eq!(answered, answers.len());
    });
}

#[test]
fn the_descriptors_of_scrapers_are_reserved_and_the_announced_connections_fit() {
    for (limit, admin) in [(20, true), (20, false), (40, true), (64, true)] {
        let arguments: &[&str] =
            if admin { &["--admin", "127.0.0.1:0", "127.0.0.1:0"] } else { &["127.0.0.1:0"] };
        let server = Server::spawn(with_descriptors(limit + inherited_descriptors(), arguments), 1);
        server.await_log("at most ");
        let log = server.log();
        let announced = log.split_once("at most ").and_then(|(_, rest)| rest.split_once(' '));
        let announced: usize = announced.expect("words").0.parse().expect("a number");
        assert!(announced >= 2, "{announced} of {limit}");
        let inside: Vec<Client> = (0..announced).map(|_| server.connect()).collect();
        let waiting = server.connect();
        for client in &inside {
            client.echo(b"inside");
        }
        if admin {
            // Both get answers, even beside a silent scraper.
            let silent = Client::tcp(server.admin_address());
            assert_eq!(get(&server, "/healthz").status, "200 OK");
            assert_eq!(figure(&server, "echoloop_connections_open"), announced as f64);
            drop(silent);
        }
        drop(inside);
        waiting.echo(b"in its turn");
        let (_, log) = server.stop();
        assert!(!log.contains("the server pauses accepting"), "the descriptors do:\n{log}");
    }
}

/// Every deadline that passed while the server stood still is due at once when the server goes on.
#[test]
fn a_request_that_arrived_while_the_server_was_stopped_is_answered() {
    let server = with_admin(&[]);
    let descriptors = server.descriptors();
    let early = Client::tcp(server.admin_address());
    server.await_descriptors(descriptors + 1);
    server.while_held(|| {
        early.send(b"GET /healthz HTTP/1.0\r\n\r\n");
        // Longer than a scraper has for its exchange: the test is about this time.
        thread::sleep(Duration::from_secs(11));
    });
    assert_eq!(Response::parse(&early.receive_rest()).status, "200 OK");
}

/// As many scrapes as four threads can make, and nonsense between them.
#[test]
fn a_storm_of_scrapes_does_not_keep_the_echo() {
    // A busy machine may delay the echo somewhat. If the echo had to wait for scrapers, it would take far longer.
    const TOO_SLOW: Duration = Duration::from_secs(2);
    let server = with_admin(&[]);
    let (address, echo) = (server.admin_address(), server.connect());
    let over = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    let mut slowest = Duration::ZERO;
    thread::scope(|scope| {
        for number in 0..4 {
            let (over, answered) = (&over, &answered);
            scope.spawn(move || {
                let nonsense = pattern(100_000, number);
                while !over.load(Ordering::Relaxed) {
                    let client = Client::tcp(address);
                    let mut stream = &client;
                    // These scrapers may get neither an answer nor a clean end: the endpoint has few places.
                    let request: &[u8] =
                        if number == 0 { &nonsense } else { b"GET /metrics HTTP/1.0\r\n\r\n" };
                    let _ = stream.write_all(request);
                    let mut reply = Vec::new();
                    let _ = stream.read_to_end(&mut reply);
                    answered.fetch_add(usize::from(reply.starts_with(b"HTTP/1.1 200 OK")), Ordering::Relaxed);
                }
            });
        }
        for number in 0..2000_u32 {
            if slowest > TOO_SLOW {
                break;
            }
            let before = Instant::now();
            echo.echo(&number.to_be_bytes().repeat(16));
            slowest = slowest.max(before.elapsed());
        }
        if slowest <= TOO_SLOW {
            eventually("some were answered", || answered.load(Ordering::Relaxed) > 100);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(slowest <= TOO_SLOW, "{slowest:?}");
}

#[test]
fn the_figures_are_those_of_what_happened() {
    // Without splicing, the bytes of a client that stalls are in our buffers, and not in a pipe.
    let server = with_admin(&["--write-limit", "1KiB", "--splice", "never"]);
    let finished = server.connect();
    finished.echo(&[b'x'; 1000]);
    assert_eq!(figure(&server, "echoloop_received_bytes_total"), 1000.0, "while it is open, too");
    assert_eq!(figure(&server, "echoloop_connections_open"), 1.0);
    finished.end_sending();
    assert_same(&finished.receive_rest(), b"");
    let reset = server.connect();
    reset.echo(b"reset");
    reset.reset();
    let stalled = Client::connect(socket_with_small_buffers(), server.address());
    let sent = stalled.send_until_stalled(&pattern(64 << 20, 31));
    eventually("the reset was seen", || {
        figure(&server, "echoloop_connections_closed_total{reason=\"reset\"}") == 1.0
    });
    for (sample, value) in [
        ("echoloop_connections_open", 1.0),
        ("echoloop_connections_accepted_total", 3.0),
        ("echoloop_connections_refused_total", 0.0),
        ("echoloop_connections_closed_total{reason=\"finished\"}", 1.0),
        ("echoloop_connections_closed_total{reason=\"idle_timeout\"}", 0.0),
    ] {
        assert_eq!(figure(&server, sample), value, "{sample}");
    }
    assert!(figure(&server, "echoloop_backpressure_pauses_total") >= 1.0);
    assert!(figure(&server, "echoloop_buffer_bytes{state=\"in_use\"}") > 0.0);
    let received = figure(&server, "echoloop_received_bytes_total");
    assert!(received > 1005.0 && received <= 1005.0 + sent as f64, "{received}");
    assert!(figure(&server, "echoloop_sent_bytes_total") > 1005.0);
    // The scraper's own connection is open as well, and the one before it may be.
    eventually("the descriptors are those that it has", || {
        figure(&server, "process_open_fds") == server.descriptors() as f64 + 1.0
    });
    let turns = figure(&server, "echoloop_turns_total");
    assert!(turns > 5.0 && figure(&server, "echoloop_events_total") > 5.0);
    assert!(figure(&server, "echoloop_turn_seconds_count") >= turns, "each turn is timed");
    assert!(figure(&server, "echoloop_turn_seconds_bucket{le=\"+Inf\"}") >= turns);
    drop(stalled);
    eventually("its buffers have gone back", || {
        figure(&server, "echoloop_buffer_bytes{state=\"in_use\"}") == 0.0
            && figure(&server, "echoloop_buffer_bytes{state=\"pooled\"}") > 0.0
    });
}

/// A greeting whose write fails has taken a buffer, and counts as lost bytes.
#[test]
fn a_client_that_is_gone_before_it_is_greeted_leaves_nothing_behind() {
    let header: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 7\r\n";
    for (arguments, first) in [(&[] as &[&str], &b""[..]), (&["--proxy-protocol=require"], header)] {
        let server = with_admin(&[arguments, &["--greeting", "hello"]].concat());
        let gone = server.connect();
        gone.send(first);
        assert_same(&gone.receive(5), b"hello");
        // One batch has it all: a client, its header, and its reset.
        let half_way = server.connect();
        let (before, rest) = first.split_at(first.len() / 2);
        half_way.send(before);
        server.while_held(|| {
            let early = server.connect();
            early.send(first);
            early.reset();
            half_way.send(rest);
            half_way.reset();
            gone.reset();
        });
        eventually("all are closed", || figure(&server, "echoloop_connections_open") == 0.0);
        let closed = figure(&server, "echoloop_connections_closed_total{reason=\"reset\"}")
            + figure(&server, "echoloop_connections_closed_total{reason=\"no_proxy_header\"}");
        assert_eq!((figure(&server, "echoloop_connections_accepted_total"), closed), (3.0, 3.0));
        assert_eq!(figure(&server, "echoloop_buffer_bytes{state=\"in_use\"}"), 0.0, "{}", server.log());
    }
}

#[test]
fn a_greeting_that_is_lost_is_counted_as_cut_off() {
    let server = with_admin(&["--greeting", "hello"]);
    server.while_held(|| server.connect().reset());
    eventually("it was closed", || {
        figure(&server, "echoloop_connections_closed_total{reason=\"reset\"}") == 1.0
    });
    assert_eq!(figure(&server, "echoloop_connections_cut_off_total"), 1.0);
    assert_eq!(figure(&server, "echoloop_cut_off_bytes_total"), 5.0);
    server.await_log(", 0 bytes out, 5 bytes of answers not taken");
}

#[test]
fn a_trace_that_is_complete_has_closed_its_file() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("trace.json");
    let file = path.display().to_string();
    let server = with_admin(&["--trace-limit", "4KiB", "--trace", &file]);
    let client = server.connect();
    eventually("the limit is reached", || {
        client.echo(b"on and on");
        server.log().contains("(--trace-limit)")
    });
    let links = || fs::read_dir(format!("/proc/{}/fd", server.child.id())).expect("a running child has this");
    let is_open = || links().filter_map(|link| fs::read_link(link.ok()?.path()).ok()).any(|to| to == path);
    eventually("the file is closed", || !is_open());
    // The scraper's own connection is open as well, and the ones before it may be when the test or the server counts.
    let mut least = usize::MAX;
    eventually("the descriptors are those that it has", || {
        least = least.min(server.descriptors());
        figure(&server, "process_open_fds") == least as f64 + 1.0
    });
}

#[test]
fn datagrams_are_counted() {
    let server = Server::spawn(program(&["--admin", "127.0.0.1:0", "127.0.0.1:0", "udp://127.0.0.1:0"]), 2);
    let udp = server.endpoints()[1].strip_prefix("udp://").expect("UDP").to_owned();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(crate::support::DEADLINE)).expect("a positive time");
    socket.send_to(b"datagram", &udp).expect("it is sent");
    assert_eq!(socket.recv(&mut [0; 16]).expect("it comes back"), 8);
    assert_eq!(figure(&server, "echoloop_datagrams_received_total"), 1.0);
    assert_eq!(figure(&server, "echoloop_datagrams_answered_total"), 1.0);
    assert_eq!(figure(&server, "echoloop_datagrams_dropped_total"), 0.0);
    assert_eq!(figure(&server, "echoloop_datagrams_overflowed_total"), 0.0);
}

#[test]
fn it_is_not_ready_while_the_limit_is_reached_and_others_wait() {
    let server = with_admin(&["--max-connections", "1"]);
    let first = server.connect();
    first.echo(b"first");
    let ready = get(&server, "/readyz");
    assert_eq!(ready.status, "503 Service Unavailable");
    assert_eq!(ready.body, "the limit of 1 connections is reached\n");
    assert_eq!(get(&server, "/healthz").status, "200 OK");
    let waiting = server.connect();
    eventually("the server pauses accepting", || {
        figure(&server, "echoloop_accept_pauses_total{reason=\"limit\"}") == 1.0
    });
    drop(first);
    waiting.echo(b"second");
    drop(waiting);
    eventually("it is ready again", || get(&server, "/readyz").status == "200 OK");
}

#[test]
fn it_is_not_ready_while_the_limit_is_reached_and_others_are_refused() {
    let server = with_admin(&["--max-connections", "1", "--when-full", "refuse"]);
    let first = server.connect();
    first.echo(b"first");
    let ready = get(&server, "/readyz");
    assert_eq!(ready.status, "503 Service Unavailable");
    assert_eq!(ready.body, "the limit of 1 connections is reached\n");
    drop(first);
    eventually("it is ready again", || get(&server, "/readyz").status == "200 OK");
}

#[test]
fn it_is_not_ready_while_it_is_out_of_descriptors() {
    let server = with_admin(&[]);
    let inside = clients_without_a_gap(&server);
    let before = server.descriptors();
    // The scraper has to connect before the limit: after it nobody can.
    let scraper = Client::tcp(server.admin_address());
    server.await_descriptors(before + 1);
    allow_descriptors(&server, before as u64 + 2);
    let last = server.connect();
    last.echo(b"the last one");
    let waiting = server.connect();
    server.await_log("the server pauses accepting");
    scraper.send(b"GET /readyz HTTP/1.0\r\n\r\n");
    let ready = Response::parse(&scraper.receive_rest());
    assert_eq!(ready.status, "503 Service Unavailable");
    assert_eq!(ready.body, "the server pauses accepting: out of descriptors or memory\n");
    drop(scraper);
    drop(last);
    server.await_log("the server accepts again after ");
    waiting.echo(b"late");
    assert_eq!(get(&server, "/readyz").status, "200 OK");
    assert_eq!(figure(&server, "echoloop_accept_pauses_total{reason=\"exhausted\"}"), 1.0);
    drop(inside);
}

#[test]
fn it_is_not_ready_while_it_drains_and_the_endpoint_does_not_keep_it() {
    let server = with_admin(&["--drain", "1year"]);
    let client = server.connect();
    client.echo(b"and silent ever after");
    let idle = Client::tcp(server.admin_address());
    server.signal(Signal::TERM);
    server.await_log("stopping: 1 connections have 1year to end");
    let ready = get(&server, "/readyz");
    assert_eq!((ready.status.as_str(), ready.body.as_str()), ("503 Service Unavailable", "stopping\n"));
    assert_eq!(get(&server, "/healthz").status, "200 OK");
    assert!(get(&server, "/metrics").body.contains("echoloop_connections_open 1\n"));
    drop(client);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    drop(idle);
}

#[test]
fn it_is_not_ready_once_it_has_accepted_enough() {
    let server = with_admin(&["--max-accepts", "1"]);
    let client = server.connect();
    client.echo(b"the only one");
    let ready = get(&server, "/readyz");
    assert_eq!(ready.status, "503 Service Unavailable");
    assert_eq!(ready.body, "as many connections as were asked for were accepted\n");
    drop(client);
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn it_may_be_a_unix_socket_whose_file_goes_at_the_end() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    let server = Server::on_ipv4(&["--admin", &format!("unix:{}", path.display())]);
    assert_eq!(server.admin(), format!("unix:{}", path.display()));
    let client = Client::unix(&path);
    client.send(b"GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(Response::parse(&client.receive_rest()).body, "alive\n");
    server.stop();
    assert!(!path.exists());
}

#[test]
fn without_a_host_it_is_on_loopback_and_beyond_it_there_is_a_warning() {
    let server = Server::on_ipv4(&["--admin", ":0"]);
    assert!(server.admin_address().ip().is_loopback());
    assert!(!server.log().contains("WARN"), "{}", server.log());
    let server = Server::on_ipv4(&["--admin", "0.0.0.0:0"]);
    assert!(server.admin_address().ip().is_unspecified());
    server.await_log("tells the server's figures to anybody who can reach it: keep it behind a firewall");
}

#[test]
fn where_it_can_not_be_is_said_with_the_exit_status() {
    for (endpoint, code, reason) in [
        ("udp://127.0.0.1:0", 2, "UDP"),
        ("localhost", 2, "name a port"),
        ("unix:/no/such/directory/admin.sock", 1, "no such directory"),
    ] {
        let refused = run(program(&["--admin", endpoint, "127.0.0.1:0"]));
        assert_eq!(refused.code, Some(code), "{refused:?}");
        assert!(refused.stderr.contains(reason), "{refused:?}");
        assert_eq!(refused.stdout, "");
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = taken.local_addr().expect("it is bound").to_string();
    let refused = run(program(&["--admin", &endpoint, "127.0.0.1:0"]));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("address already in use"), "{refused:?}");
}

#[test]
fn user_signal_1_logs_the_figures_without_an_admin_endpoint_and_quietly_too() {
    let server = Server::on_ipv4(&["-q"]);
    let client = server.connect();
    client.echo(b"eleven byte");
    server.signal(Signal::USR1);
    for line in [
        "report: 1 connections open of at most ",
        ", 1 accepted, 0 refused, 0 closed; 0 cut off with 0 bytes",
        "report: 11 bytes in, 11 bytes out, 0 of them spliced; 0 datagrams in",
        "report: accepting paused 0 times at the limit",
        &format!("; {} of ", server.descriptors()),
    ] {
        server.await_log(line);
    }
    client.echo(b"it goes on");
    drop(client);
    eventually("the end is counted, and by its reason", || {
        server.signal(Signal::USR1);
        server.log().contains(", 1 closed, 1 finished; ")
    });
    assert_eq!(server.stop().0.code(), Some(0));
}

/// Every metric by the name of its samples, as the reference has them in a table.
#[test]
fn the_reference_names_every_metric_and_no_other() {
    let server = with_admin(&[]);
    let metrics = get(&server, "/metrics").body;
    let told: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ').map(|(name, _)| name))
        .collect();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/watching.md"))
        .expect("it is there");
    let named: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `echoloop_") || line.starts_with("| `process_"))
        .flat_map(|line| line.split('|').nth(1).expect("a cell").split('`').skip(1).step_by(2))
        .map(|name| name.split('{').next().expect("a name"))
        .collect();
    assert_eq!(named, told);
}

#[test]
fn curl_is_content() {
    let test = "curl_is_content";
    if installed("curl").is_none() {
        return skip(test, "curl is not installed");
    }
    let server = with_admin(&[]);
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "--max-time", "60"]).args(arguments);
        run(command)
    };
    let url = |path: &str| format!("{}{path}", server.admin());
    let alive = curl(&[&url("/healthz")]);
    assert_eq!((alive.code, alive.stdout.as_str()), (Some(0), "alive\n"), "{alive:?}");
    // Two pages, for which it makes two connections.
    let both = curl(&[&url("/healthz"), &url("/readyz")]);
    assert_eq!((both.code, both.stdout.as_str()), (Some(0), "alive\naccepting\n"), "{both:?}");
    assert_eq!(curl(&["-X", "POST", "-d", "data", &url("/metrics")]).code, Some(22));
    let head = curl(&["-I", &url("/metrics")]);
    assert!(head.code == Some(0) && head.stdout.starts_with("HTTP/1.1 200 OK\r\n"), "{head:?}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let test = "promtool_finds_nothing_wrong_with_the_metrics";
    if installed("promtool").is_none() {
        return skip(test, "promtool is not installed");
    }
    let server = with_admin(&[]);
    server.connect().echo(b"something to count");
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("metrics");
    fs::write(&file, get(&server, "/metrics").body).expect("a new file");
    let mut command = Command::new("sh");
    command.args(["-c", "exec promtool check metrics <\"$0\""]).arg(&file);
    let checked = run(command);
    assert_eq!((checked.code, checked.stdout.as_str(), checked.stderr.as_str()), (Some(0), "", ""));
}

/// The real scraper, which asks for OpenMetrics and parses it strictly.
#[test]
fn prometheus_scrapes_it() {
    let test = "prometheus_scrapes_it";
    if installed("prometheus").is_none() || installed("curl").is_none() {
        return skip(test, "prometheus or curl is not installed");
    }
    let server = with_admin(&[]);
    let client = server.connect();
    client.echo(b"something to count");
    let directory = tempdir().expect("a directory");
    let configuration = directory.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs: [{{job_name: echo, static_configs: [{{targets: ['{}']}}]}}]\n",
        server.admin_address()
    );
    fs::write(&configuration, text).expect("a new file");
    // Prometheus does not say what port it got, so the test chooses one that is free now, on an address of our own.
    let host = crate::support::own_address(90);
    let port = TcpListener::bind((host, 0)).expect("a free port").local_addr().expect("bound").port();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", configuration.display()))
        .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
        .arg(format!("--web.listen-address={host}:{port}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let _prometheus = Process::spawn(&mut command);
    let query = |query: &str| {
        let mut command = Command::new("curl");
        let url = format!("http://{host}:{port}/api/v1/query");
        command.args(["-sG", &url, "--data-urlencode", &format!("query={query}")]);
        run(command).stdout
    };
    for (expression, value) in [
        ("up", "1"),
        ("echoloop_connections_open", "1"),
        ("echoloop_received_bytes_total", "18"),
        ("echoloop_connections_closed_total{reason=\"reset\"}", "0"),
        ("count(echoloop_turn_seconds_bucket)", "18"),
        ("echoloop_build_info * 2", "2"),
    ] {
        eventually(&format!("{expression} is {value}"), || {
            query(expression).contains(&format!(",\"{value}\"]"))
        });
    }
    client.echo(b"and the echo goes on");
}
