//! Servers that go and come back: clients connect again, nothing that was due disappears, the outage is a result.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Process, Server, eventually, listener};
use crate::toys::{Run, Toy, load, spawn};

/// The longest delay before a client connects again.
const LONGEST_DELAY: f64 = 1.0;
/// A busy machine may add this many seconds to any time.
const MARGIN: f64 = 5.0;

fn start(endpoint: &str, arguments: &[&str]) -> Process {
    spawn(&[&["load", "--json", "--quiet", endpoint], arguments].concat())
}

/// Waits until the server has used two more milliseconds of CPU time, which shows that messages flow.
fn wait_for_traffic(server: &Server) {
    let enough = server.cpu_time() + Duration::from_millis(2);
    eventually("traffic", || server.cpu_time() >= enough);
}

#[track_caller]
fn assert_nothing_disappears(run: &Run, due: f64) {
    let (sent, not_sent) = (run.number("/messages/sent"), run.number("/messages/not_sent"));
    assert!(
        (sent + not_sent - due).abs() <= 2.0,
        "{sent} sent and {not_sent} not, of {due}: {:#}",
        run.report
    );
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_an_outage_of_that_length() {
    let mut server = Server::on_own_address(201);
    let endpoint = server.endpoint().to_owned();
    let directory = tempfile::tempdir().expect("a directory");
    let plot = directory.path().join("outage.svg");
    let picture = plot.display().to_string();
    let load = start(
        &endpoint,
        &["--rate", "2000", "-c", "20", "-d", "4s", "--interval", "200ms", "--plot", &picture],
    );
    wait_for_traffic(&server);
    server.kill();
    let killed = Instant::now();
    // The test measures this pause; nothing waits for its end.
    thread::sleep(Duration::from_millis(1200));
    let _server = Server::start(&[endpoint.trim_start_matches("tcp://")]);
    let pause = killed.elapsed().as_secs_f64();
    let run = Run::of(load.finish());
    assert_eq!(run.status, 1, "{:#}", run.report);
    assert!(
        (run.number("/seconds") - 4.0).abs() < 0.1,
        "it lasts as long as was asked for: {:#}",
        run.report
    );
    assert_nothing_disappears(&run, 8000.0);
    assert!(run.number("/messages/cut_off") <= 20.0, "{:#}", run.report["messages"]);
    let outage = &run.report["outages"];
    assert_eq!(
        (run.number("/outages/count"), run.number("/outages/list/0/clients")),
        (1.0, 20.0),
        "{outage:#}"
    );
    assert_eq!(run.report["outages"]["list"][0]["ended"], true, "{outage:#}");
    assert_eq!(run.number("/outages/reconnects"), 20.0, "{outage:#}");
    assert_eq!(
        run.number("/errors/reset") + run.number("/errors/closed"),
        20.0,
        "{:#}",
        run.report["errors"]
    );
    for silence in [run.number("/outages/silence_us/max") / 1e6, run.number("/outages/longest_s")] {
        // The server went a little before the measured pause began, and came back a little before it ended.
        assert!(silence > 1.15 && silence < pause + LONGEST_DELAY + MARGIN, "{silence} s, pause {pause} s");
    }
    // Half of the messages that were due in the pause waited for more than half of it.
    assert!(run.number("/latency_us/max") / 1e6 > 1.0, "latency counts from when a message was due");
    assert_the_hole_is_drawn(&run, &fs::read_to_string(&plot).expect("it is written"));
}

/// Intervals without a reply have a rate of 0 and no latency, and the plot breaks its lines of latency there.
#[track_caller]
fn assert_the_hole_is_drawn(run: &Run, picture: &str) {
    let series = run.report["series"].as_array().expect("a list");
    let is_hole = |point: &&Value| point["received"] == 0;
    let holes = series.iter().filter(is_hole).count();
    assert!(holes >= 4, "a second is five intervals: {series:#?}");
    assert!(series.iter().filter(is_hole).all(|point| point["p99_us"].is_null() && point["rate"] == 0.0));
    let pieces = series.split(|point| point["received"] == 0).filter(|piece| !piece.is_empty()).count();
    assert!(pieces >= 2, "before and after the outage: {series:#?}");
    // Each stretch between holes has one line of p99. Only the legend has the same colour.
    let lines = picture.lines().filter(|line| line.contains("<polyline") && line.contains("#D66028")).count();
    assert_eq!(lines, pieces + 1, "{series:#?}");
}

#[test]
fn a_stopped_server_is_a_stall_and_no_outage() {
    let server = Server::plain();
    let load = start(server.endpoint(), &["--rate", "1000", "-c", "10", "-d", "3s"]);
    wait_for_traffic(&server);
    server.signal(Signal::STOP);
    // The test measures this stall; nothing waits for its end.
    thread::sleep(Duration::from_millis(800));
    server.signal(Signal::CONT);
    let run = Run::of(load.finish());
    assert_eq!((run.status, run.number("/outages/count")), (0, 0.0), "{:#}", run.report);
    assert_eq!((run.number("/outages/reconnects"), run.number("/connections/opened")), (0.0, 10.0));
    assert_nothing_disappears(&run, 3000.0);
    assert!(run.number("/latency_us/max") / 1e6 > 0.75, "{:#}", run.report["latency_us"]);
}

#[test]
fn with_a_short_timeout_a_stall_still_shows_in_the_latency() {
    let server = Server::plain();
    let load = start(server.endpoint(), &["--rate", "500", "-c", "10", "-d", "3s", "--timeout", "400ms"]);
    wait_for_traffic(&server);
    server.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(1000));
    server.signal(Signal::CONT);
    let run = Run::of(load.finish());
    assert_eq!(run.status, 1, "{:#}", run.report);
    assert_nothing_disappears(&run, 1500.0);
    assert!(run.number("/errors/timeout") > 0.0 && run.number("/outages/count") >= 1.0, "{:#}", run.report);
    // A third of the messages was due in the stall.
    assert!(run.number("/latency_us/p99") / 1e6 > 0.6, "{:#}", run.report["latency_us"]);
}

#[test]
fn a_server_that_does_not_come_back_leaves_what_was_due_not_sent() {
    for (more, reconnects) in [(&[] as &[_], true), (&["--no-reconnect"], false)] {
        let mut server = Server::on_own_address(202);
        let conditions = ["--fail-if", "outage>500ms"];
        let arguments = [&["--rate", "1000", "-c", "10", "-d", "2s"], more, &conditions].concat();
        let load = start(server.endpoint(), &arguments);
        wait_for_traffic(&server);
        server.kill();
        let run = Run::of(load.finish());
        assert_nothing_disappears(&run, 2000.0);
        assert!(run.number("/messages/not_sent") > 100.0, "{:#}", run.report["messages"]);
        let warnings = run.report["warnings"].to_string();
        assert!(warnings.contains("were due and not sent"), "{warnings}");
        if reconnects {
            assert_eq!(run.status, 8, "{:#}", run.report["outages"]);
            assert!(run.errors.contains("failed by outage>500ms: it is "), "{}", run.errors);
            assert!((run.number("/seconds") - 2.0).abs() < 0.1, "{:#}", run.report["seconds"]);
            assert!(run.number("/outages/failed_reconnects") > 10.0, "{:#}", run.report["outages"]);
            assert_eq!(run.number("/errors/refused"), 0.0, "a failed attempt is no further error");
        }
    }
}

#[test]
fn no_message_is_sent_twice() {
    // The server resets each connection in the middle of a message.
    let server = Toy::start(|mut stream| {
        let mut buffer = [0; 64];
        for _ in 0..10 {
            if stream.read_exact(&mut buffer).is_err() || stream.write_all(&buffer).is_err() {
                return;
            }
        }
        let _ = stream.read_exact(&mut buffer[..32]);
    });
    let run = load(&[&server.endpoint(), "-c", "4", "-m", "200"]);
    assert_eq!((run.status, run.number("/messages/sent")), (1, 200.0), "{:#}", run.report);
    assert_eq!(run.number("/messages/received") + run.number("/messages/cut_off"), 200.0);
    // Each connection carries eleven messages, and the reset cuts the last one off.
    let (cut_off, lost) = (run.number("/messages/cut_off"), run.number("/connections/lost"));
    assert_eq!(cut_off, lost, "{:#}", run.report);
    assert!((14.0..=18.0).contains(&lost), "{lost}");
}

#[test]
fn clients_of_an_endpoint_that_opens_later_join_in() {
    let server = Server::plain();
    let (reserved, late) = listener();
    drop(reserved);
    let load = start(server.endpoint(), &[&late.to_string(), "--rate", "1000", "-c", "10", "-d", "3s"]);
    wait_for_traffic(&server);
    let _late = Server::start(&[&late.to_string()]);
    let run = Run::of(load.finish());
    assert_eq!((run.status, run.number("/errors/refused")), (1, 5.0), "{:#}", run.report);
    assert_eq!((run.number("/connections/opened"), run.number("/outages/count")), (10.0, 0.0));
    assert_nothing_disappears(&run, 3000.0);
    assert!(run.number("/fairness/fewest") > 0.0, "{:#}", run.report["fairness"]);
}

#[test]
fn a_datagram_port_that_closes_and_opens_again_is_an_outage() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let address = socket.local_addr().expect("it is bound");
    let (ended, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (ending, answering) = (Arc::clone(&ended), Arc::clone(&answered));
    let echo = move |socket: UdpSocket, until: &dyn Fn(Duration) -> bool| {
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a positive time");
        let (began, mut buffer) = (Instant::now(), [0; 2048]);
        while !until(began.elapsed()) {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..length], from).expect("it can be sent");
                answering.store(true, Ordering::SeqCst);
            }
        }
    };
    let load = start(&format!("udp://{address}"), &["--rate", "1000", "-c", "10", "-d", "3s"]);
    let serving = thread::spawn(move || {
        echo(socket.try_clone().expect("a descriptor"), &|elapsed| {
            answered.load(Ordering::SeqCst) && elapsed > Duration::from_millis(500)
        });
        // From here on the socket takes nothing more, and the kernel refuses each client that sends. A client whose
        // message is in the socket already would wait for its answer, so it gets the answer.
        socket.connect((Ipv4Addr::LOCALHOST, 1)).expect("UDP has no handshake");
        socket.set_nonblocking(true).expect("O_NONBLOCK");
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..length], from).expect("it can be sent");
        }
        drop(socket);
        // The socket is closed now. The test measures this pause.
        thread::sleep(Duration::from_millis(700));
        let socket = UdpSocket::bind(address).expect("nobody else takes it");
        echo(socket, &|_| ended.load(Ordering::SeqCst));
    });
    let run = Run::of(load.finish());
    ending.store(true, Ordering::SeqCst);
    serving.join().expect("no panic");
    assert_eq!((run.status, run.number("/errors/refused")), (1, 10.0), "{:#}", run.report);
    assert_nothing_disappears(&run, 3000.0);
    assert_eq!((run.number("/outages/count"), run.number("/outages/reconnects")), (1.0, 10.0));
    let silence = run.number("/outages/silence_us/max") / 1e6;
    assert!(silence > 0.65 && silence < 0.7 + LONGEST_DELAY + MARGIN, "{silence}");
    assert!(run.number("/latency_us/max") / 1e6 > 0.6, "{:#}", run.report["latency_us"]);
}
