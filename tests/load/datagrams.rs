//! Load over UDP: our own server, and a server that loses, doubles, swaps, delays and damages datagrams on purpose.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use echoloop::StopSignal;
use echoloop::load::{Load, LoadError, Plan};

use crate::support::Server;
use crate::toys::{Run, load, run};

/// Decides the acts of a bad server for one datagram. The first datagram has the number 1.
type Treatment = fn(number: u64, datagram: &[u8]) -> Vec<Act>;

enum Act {
    /// Sends this back at once.
    Answer(Vec<u8>),
    /// Sends this back after this many more datagrams have come.
    After(u64, Vec<u8>),
    /// Sends this back after this time.
    In(Duration, Vec<u8>),
}

/// An echo over UDP, in a thread of the test, with a treatment for its datagrams.
struct BadEcho {
    endpoint: String,
    ending: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl BadEcho {
    fn start(treatment: Treatment) -> BadEcho {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        // Short, so that the server sends due answers in time, and notices when it has to end.
        socket.set_read_timeout(Some(Duration::from_millis(5))).expect("a positive time");
        let endpoint = format!("udp://{}", socket.local_addr().expect("it is bound"));
        let ending = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ending);
        let serving = thread::spawn(move || serve(&socket, treatment, &ended));
        BadEcho { endpoint, ending, serving: Some(serving) }
    }

    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

fn serve(socket: &UdpSocket, treatment: Treatment, ended: &AtomicBool) {
    let mut waiting: Vec<(u64, SocketAddr, Vec<u8>)> = Vec::new();
    let mut timed: Vec<(Instant, SocketAddr, Vec<u8>)> = Vec::new();
    let (mut buffer, mut number) = (vec![0; 65_536], 0);
    let send = |bytes: &[u8], to| {
        socket.send_to(bytes, to).expect("it can be sent");
    };
    while !ended.load(Ordering::SeqCst) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            number += 1;
            for act in treatment(number, &buffer[..length]) {
                match act {
                    Act::Answer(bytes) => send(&bytes, from),
                    Act::After(more, bytes) => waiting.push((number + more, from, bytes)),
                    Act::In(time, bytes) => timed.push((Instant::now() + time, from, bytes)),
                }
            }
        }
        waiting.extract_if(.., |(due, ..)| *due <= number).for_each(|(_, to, bytes)| send(&bytes, to));
        timed.extract_if(.., |(due, ..)| *due <= Instant::now()).for_each(|(_, to, bytes)| send(&bytes, to));
    }
}

impl Drop for BadEcho {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn answer(bytes: &[u8]) -> Act {
    Act::Answer(bytes.to_vec())
}

/// The counts are: lost, late, duplicated, reordered, corrupted, unknown.
#[track_caller]
fn assert_counts(run: &Run, status: i32, (sent, received): (u64, u64), counts: [u64; 6]) {
    assert_eq!(run.status, status, "{:#}\n{}", run.report, run.errors);
    let number = |path: &str| run.number(path) as u64;
    let names = ["lost", "late", "duplicated", "reordered", "corrupted", "unknown"];
    let found = names.map(|name| number(&format!("/udp/{name}")));
    assert_eq!(found, counts, "{names:?} in {:#}", run.report);
    assert_eq!((number("/messages/sent"), number("/messages/received")), (sent, received));
    let [lost, late, _, _, corrupted, _] = found;
    assert_eq!(sent, received + lost + late + corrupted + number("/messages/cut_off"), "nothing disappears");
}

const NOTHING: [u64; 6] = [0; 6];

#[test]
fn our_own_server_echoes_every_datagram_in_both_loops() {
    let server = Server::start(&["udp://127.0.0.1:0"]);
    for arguments in [
        vec!["-c", "7", "--size", "8"],
        // One at a time: a socket's buffer does not hold many of these.
        vec!["-c", "1", "--size", "8-65507"],
        vec!["-c", "3", "--depth", "5", "--size", "64"],
        vec!["-c", "3", "--think", "1ms"],
        vec!["-c", "3", "--rate", "5000", "--arrivals", "poisson"],
        vec!["-c", "3", "--source", "127.0.0.0/8"],
        vec!["-c", "3", "--no-verify"],
    ] {
        let run = load(&[&[server.endpoint(), "-m", "501"], &arguments[..]].concat());
        assert_counts(&run, 0, (501, 501), NOTHING);
        assert_eq!(run.number("/bytes/sent"), run.number("/bytes/received"), "{arguments:?}");
        assert_eq!(run.number("/connections/opened"), run.number("/settings/clients"));
        assert!(run.number("/latency_us/p50") > 0.0 && run.report["connect_us"].is_null());
    }
}

#[test]
fn the_schedule_is_kept_and_the_warm_up_is_left_out() {
    let server = Server::start(&["udp://127.0.0.1:0"]);
    let arguments = ["--rate", "1000", "--warmup", "300ms", "-d", "500ms", "-c", "50", "--timeout", "30s"];
    let run = load(&[&[server.endpoint()], &arguments[..]].concat());
    assert_eq!((run.status, run.number("/udp/lost")), (0, 0.0), "{:#}", run.report);
    // On a busy machine the last messages may find their clients still waiting.
    let due = run.number("/messages/sent") + run.number("/messages/not_sent");
    assert!((due - 500.0).abs() <= 5.0, "{:#}", run.report["messages"]);
    assert_eq!(run.number("/messages/sent"), run.number("/messages/received"));
}

#[test]
fn every_twentieth_is_lost() {
    let server =
        BadEcho::start(|number, bytes| if number % 20 == 0 { Vec::new() } else { vec![answer(bytes)] });
    // Long enough for a server that waits for a core.
    let arguments = ["-m", "60", "-c", "4", "--timeout", "2s"];
    let run = load(&[&[server.endpoint()], &arguments[..]].concat());
    assert_counts(&run, 0, (60, 57), [3, 0, 0, 0, 0, 0]);
    let warnings = run.report["warnings"].to_string();
    assert!(warnings.contains("waits for a lost message for 2 s"), "{warnings}");
    let open = load(&[&[server.endpoint(), "--rate", "2000"], &arguments[..]].concat());
    assert_counts(&open, 0, (60, 57), [3, 0, 0, 0, 0, 0]);
    let judged = load(&[&[server.endpoint(), "--fail-if", "loss>4.9%"], &arguments[..]].concat());
    assert_counts(&judged, 8, (60, 57), [3, 0, 0, 0, 0, 0]);
    assert!(judged.errors.contains("failed by loss>4.9%: it is 5.000%"), "{}", judged.errors);
    let judged = load(&[&[server.endpoint(), "--fail-if", "lost>2"], &arguments[..]].concat());
    assert_counts(&judged, 8, (60, 57), [3, 0, 0, 0, 0, 0]);
    assert!(judged.errors.contains("failed by lost>2: it is 3"), "{}", judged.errors);
    let tolerant = load(&[&[server.endpoint(), "--fail-if", "loss>5%"], &arguments[..]].concat());
    assert_counts(&tolerant, 0, (60, 57), [3, 0, 0, 0, 0, 0]);
}

#[test]
fn every_fifth_comes_twice() {
    let server = BadEcho::start(|number, bytes| {
        let copies = if number % 5 == 0 { 2 } else { 1 };
        (0..copies).map(|_| answer(bytes)).collect()
    });
    // The server does not double the last datagram: its copy might come after the run.
    let run = load(&[server.endpoint(), "-m", "199", "-c", "1"]);
    assert_counts(&run, 0, (199, 199), [0, 0, 39, 0, 0, 0]);
}

#[test]
fn two_that_change_places_are_one_reordering() {
    let server = BadEcho::start(|number, bytes| match number % 10 {
        // Answers only after the next message's answer.
        3 => vec![Act::After(1, bytes.to_vec())],
        _ => vec![answer(bytes)],
    });
    let run = load(&[server.endpoint(), "-m", "200", "-c", "1", "--depth", "4"]);
    assert_counts(&run, 0, (200, 200), [0, 0, 0, 20, 0, 0]);
}

#[test]
fn one_that_two_overtake_is_one_reordering_too() {
    let server = BadEcho::start(|number, bytes| match number {
        100 => vec![Act::After(2, bytes.to_vec())],
        _ => vec![answer(bytes)],
    });
    let run = load(&[server.endpoint(), "-m", "200", "-c", "1", "--depth", "4"]);
    assert_counts(&run, 0, (200, 200), [0, 0, 0, 1, 0, 0]);
}

#[test]
fn a_late_answer_turns_a_loss_back() {
    let server = BadEcho::start(|number, bytes| match number {
        5 => vec![Act::In(Duration::from_millis(3000), bytes.to_vec())],
        9 => Vec::new(),
        _ => vec![answer(bytes)],
    });
    let run = load(&[server.endpoint(), "-c", "1", "-d", "6s", "--think", "10ms", "--timeout", "1500ms"]);
    let sent = run.number("/messages/sent") as u64;
    assert_counts(&run, 0, (sent, sent - 2), [1, 1, 0, 0, 0, 0]);
}

#[test]
fn every_byte_behind_the_number_is_verified() {
    let damage: Treatment = |number, bytes| {
        let mut bytes = bytes.to_vec();
        match number {
            10 => *bytes.last_mut().expect("it has some") ^= 0x20,
            20 => drop(bytes.pop()),
            30 => bytes.push(0),
            40 => bytes[8] ^= 1,
            _ => {}
        }
        vec![Act::Answer(bytes)]
    };
    let server = BadEcho::start(damage);
    let run = load(&[server.endpoint(), "-m", "100", "-c", "1", "-s", "100"]);
    assert_counts(&run, 7, (100, 96), [0, 0, 0, 0, 4, 0]);
    assert_eq!(run.number("/errors/mismatch"), 4.0);
    let first = &run.report["mismatches"][0];
    assert_eq!((first["offset"].as_u64(), first["bytes"].as_u64()), (Some(99), Some(1)), "{first:#}");
    assert_eq!(first["looks_like"], "corruption");
    let byte = |name: &str| u8::from_str_radix(&first[name].as_str().expect("text")[..2], 16).expect("hex");
    assert_eq!(byte("expected") ^ 0x20, byte("received"));
    let server = BadEcho::start(damage);
    let unverified = load(&[server.endpoint(), "-m", "100", "-c", "1", "-s", "100", "--no-verify"]);
    assert_counts(&unverified, 7, (100, 98), [0, 0, 0, 0, 2, 0]);
}

#[test]
fn a_damaged_number_is_unknown_and_its_message_lost() {
    let server = BadEcho::start(|number, bytes| match number {
        10 => vec![Act::Answer([&[0xff], &bytes[1..]].concat())],
        20 => vec![answer(&bytes[..7])],
        // An old number with other bytes behind it is no copy.
        30 => vec![answer(bytes), Act::Answer([&bytes[..8], &[0; 56]].concat())],
        _ => vec![answer(bytes)],
    });
    let run = load(&[server.endpoint(), "-m", "100", "-c", "1", "--timeout", "2s"]);
    assert_counts(&run, 7, (100, 98), [2, 0, 0, 0, 0, 3]);
}

#[test]
fn another_clients_answer_is_unknown() {
    // Answers the first client with the second client's message, whose number the first client never used.
    let server = BadEcho::start(|number, bytes| {
        let mut other = bytes.to_vec();
        other[7] ^= 1;
        if number == 1 { vec![answer(bytes), Act::Answer(other)] } else { vec![answer(bytes)] }
    });
    let run = load(&[server.endpoint(), "-m", "100", "-c", "2"]);
    assert_counts(&run, 7, (100, 100), [0, 0, 0, 0, 0, 1]);
}

#[test]
fn nobody_listens_or_nobody_answers() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let endpoint = format!("udp://{}", silent.local_addr().expect("it is bound"));
    let run = load(&[&endpoint, "-c", "2", "-m", "6", "--timeout", "200ms"]);
    assert_counts(&run, 5, (6, 0), [6, 0, 0, 0, 0, 0]);
    assert!(run.report["latency_us"].is_null());
    assert!(run.number("/seconds") >= 0.2, "it took until the last one was given up: {:#}", run.report);
    drop(silent);
    let run = load(&[&endpoint, "-c", "3"]);
    assert_eq!((run.status, run.number("/errors/refused")), (4, 3.0), "{:#}", run.report);
    let words = run.report["failures"][0].as_str().expect("text");
    assert!(words.contains(&endpoint) && words.contains("connection refused"), "{words}");
}

#[test]
fn the_next_address_of_a_name_is_tried_and_no_message_is_missing() {
    // If `localhost` has two addresses, nobody listens on the first.
    let addresses = ("localhost", 0).to_socket_addrs().expect("it resolves");
    let server = Server::start(&[&format!("udp://{}", addresses.last().expect("it has an address"))]);
    let port = server.endpoint().rsplit_once(':').expect("a port").1;
    for rate in [&[] as &[_], &["--rate", "2000"]] {
        let endpoint = format!("udp://localhost:{port}");
        let run = load(&[&[endpoint.as_str(), "-m", "100", "-c", "3", "--depth", "2"], rate].concat());
        assert_counts(&run, 0, (100, 100), NOTHING);
    }
}

#[test]
fn the_table_and_the_conditions_name_them() {
    let server = BadEcho::start(|number, bytes| if number == 2 { Vec::new() } else { vec![answer(bytes)] });
    let output = run(&["load", "--quiet", server.endpoint(), "-c", "1", "-m", "8", "--timeout", "2s"]);
    let text = output.stdout;
    assert_eq!(output.code, Some(0), "{text}");
    let line = "1 lost (12.500 %), 0 late, 0 duplicated, 0 reordered, 0 corrupted, 0 unknown";
    assert!(text.contains(line), "{line} is not in\n{text}");
    for wrong in [
        &["udp://127.0.0.1:7", "tcp://127.0.0.1:7"] as &[_],
        &["udp://127.0.0.1:7", "--size", "7"],
        &["udp://127.0.0.1:7", "--size", "65508"],
        &["udp://127.0.0.1:7", "--hold"],
    ] {
        let output = run(&[&["load"], wrong].concat());
        assert_eq!(output.code, Some(2), "{wrong:?}");
        assert!(output.stderr.contains("udp:// endpoints: "), "{wrong:?}");
    }
}

#[test]
fn what_is_lost_in_an_exchange_is_an_error_of_it_and_no_part_of_the_run() {
    let server = BadEcho::start(|number, bytes| match number {
        2 => vec![Act::In(Duration::from_millis(2500), bytes.to_vec())],
        _ => vec![answer(bytes)],
    });
    let usual = Plan::new(vec![server.endpoint().parse().expect("an endpoint")]);
    // The late answer comes while the run is under way. A busy machine may take a second for any other.
    let (timeout, duration) = (Duration::from_secs(2), Duration::from_secs(1));
    let plan = Plan { clients: 1, timeout, duration, ..usual };
    let mut load = Load::new(plan, StopSignal::new().expect("a socket pair")).expect("a good plan");
    load.open().expect("a socket needs nobody");
    load.exchange(1).expect("the first one is answered");
    let error = load.exchange(3).expect_err("one of them is not answered in time");
    assert!(matches!(error, LoadError::Lost(1)), "{error}");
    let report = load.run().expect("the loop goes on");
    let udp = report.udp.expect("it is over UDP");
    assert_eq!((udp.lost, udp.late, report.errors.total()), (0, 0, 0), "{report:?}");
}

#[test]
fn an_answer_is_late_by_its_age_and_not_by_when_somebody_looked() {
    // Every second answer takes longer than the timeout, by less than the time between two looks.
    let server = BadEcho::start(|number, bytes| match number % 2 {
        0 => vec![Act::In(Duration::from_millis(32), bytes.to_vec())],
        _ => vec![answer(bytes)],
    });
    let arguments = ["-c", "1", "--depth", "64", "--rate", "100", "-m", "100", "--timeout", "30ms"];
    let run = load(&[&[server.endpoint()], &arguments[..]].concat());
    // On a busy machine no answer at all may come in time.
    let oldest = run.report["service_time_us"]["max"].as_f64();
    assert!(oldest.is_none_or(|oldest| oldest <= 30_100.0), "nothing older was received: {:#}", run.report);
    assert!(run.number("/udp/late") + run.number("/udp/lost") >= 50.0, "{:#}", run.report["udp"]);
}

#[test]
fn an_answer_that_was_cut_short_is_said_sensibly() {
    let server = BadEcho::start(|_, bytes| vec![Act::Answer(bytes[..bytes.len() - 4].to_vec())]);
    let run = load(&[server.endpoint(), "-m", "1", "-c", "1", "-s", "20"]);
    assert_eq!(run.status, 7, "{:#}", run.report);
    let words = run.report["failures"][0].as_str().expect("words");
    let expected = "received nothing; looks like loss (4 bytes)";
    assert!(words.contains("offset 16: expected ") && words.ends_with(expected), "{words}");
}
