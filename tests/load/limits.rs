//! The bounds of a run: one thread, constant memory, the ports and descriptors of the machine.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{self, Server, eventually, with_descriptors};
use crate::toys::{Toy, load, run, spawn};

#[test]
fn one_thread_constant_memory_and_a_full_report_when_interrupted() {
    let server = Server::plain();
    let load =
        spawn(&["load", "--json", "--quiet", server.endpoint(), "-c", "50", "--depth", "4", "-d", "1h"]);
    // Well under way, so that it has made all its one-time allocations.
    let tenth = Duration::from_millis(100);
    eventually("work", || load.cpu_time() >= tenth);
    let (before, worked) = (load.resident_bytes(), load.cpu_time());
    eventually("more work", || load.cpu_time() >= worked + 6 * tenth);
    let (threads, after) = (load.threads(), load.resident_bytes());
    load.signal(Signal::INT);
    let output = load.finish();
    assert_eq!(threads, 1);
    assert!(after <= before + 400 * 1024, "{before} bytes, and {after} after six times the work");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let report = output.json();
    assert_eq!(report["interrupted"], true);
    assert!(report["messages"]["received"].as_u64() > Some(1000));
    let cut_off = report["messages"]["cut_off"].as_u64().expect("a number");
    assert!(cut_off <= 200, "at most what was under way: {cut_off}");
}

#[test]
fn a_connection_takes_at_most_512_bytes() {
    let server = Server::plain();
    let resident = |clients: usize| {
        let clients = clients.to_string();
        let arguments = [
            "load",
            "--quiet",
            server.endpoint(),
            "--hold",
            "-c",
            &clients,
            "-d",
            "1h",
            "--source",
            "127.8.0.0/16",
        ];
        let load = spawn(&arguments);
        let wanted: usize = clients.parse().expect("a number");
        eventually("all connections", || load.descriptors() > wanted);
        // Opening is over when it only looks at the clock now and then.
        let (mut last, mut idle) = (load.cpu_time(), 0);
        eventually("rest", || {
            let now = load.cpu_time();
            idle = if now - last < Duration::from_millis(1) { idle + 1 } else { 0 };
            last = now;
            idle > 40
        });
        load.resident_bytes()
    };
    let (few, many) = (resident(100), resident(4100));
    let each = many.saturating_sub(few) / 4000;
    assert!(each <= 512, "{each} bytes a connection");
}

#[test]
fn too_few_descriptors_are_said_before_they_run_out() {
    support::run(with_descriptors(100, &["load", "-c", "90", "127.0.0.1:9"]))
        .failed(1, &["cannot open 90 connections: 100 descriptors allow 67"]);
}

#[test]
fn too_few_ports_are_said_before_they_run_out() {
    run(&["load", "-c", "1000000", "127.0.0.1:9"]).failed(1, &["ports × 1 pairs", "--source"]);
}

#[test]
fn an_address_that_is_not_ours_is_a_local_error_with_the_remedy() {
    let server = Server::plain();
    let run = load(&[server.endpoint(), "-c", "2", "--source", "192.0.2.1"]);
    assert_eq!((run.status, run.number("/errors/local")), (1, 1.0), "{:#}", run.report);
    let words = run.report["failures"][0].as_str().expect("text");
    assert!(words.contains("the source address is not ours") && words.contains("127.0.0.0/8"), "{words}");
}

#[test]
fn a_closed_standard_output_is_no_failure() {
    let server = Server::plain();
    let mut load = spawn(&["load", "--quiet", server.endpoint(), "-m", "10"]);
    drop(load.child.stdout.take());
    assert_eq!(load.finish().output(), "");
}

#[test]
fn an_interrupt_counts_clients_between_two_connections() {
    let closed: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&closed);
    let server = Toy::start(move |mut stream| {
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..count]);
        }
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let arguments = ["--connect-per-message", "--think", "1h", "-c", "5", "-d", "1h"];
    let load = spawn(&[&["load", "--json", "--quiet", server.endpoint().as_str()], &arguments[..]].concat());
    eventually("one message of each client", || closed.load(Ordering::SeqCst) == 5);
    load.signal(Signal::INT);
    let output = load.finish();
    let report = output.json();
    let fairness = &report["fairness"];
    assert_eq!((fairness["fewest"].as_u64(), fairness["most"].as_u64()), (Some(1), Some(1)), "{report:#}");
}

#[test]
fn a_run_that_is_interrupted_before_a_reply_is_no_success_and_counts_what_was_owed() {
    let reached: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&reached);
    let silent = Toy::start(move |mut stream| {
        let _ = stream.read_exact(&mut [0; 64]);
        counted.fetch_add(1, Ordering::SeqCst);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    for warmup in ["0s", "1h"] {
        let arguments = ["--rate", "1000", "-c", "2", "-d", "1h", "--timeout", "1h", "--warmup", warmup];
        let load =
            spawn(&[&["load", "--json", "--quiet", silent.endpoint().as_str()], &arguments[..]].concat());
        eventually("a message of each client", || {
            reached.compare_exchange(2, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        });
        let began = Instant::now();
        eventually("more that is due", || began.elapsed() > Duration::from_millis(100));
        load.signal(Signal::INT);
        let output = load.finish();
        assert_eq!(output.code, Some(1), "{}", output.stderr);
        let report = output.json();
        let warnings = report["warnings"].to_string();
        assert!(warnings.contains("no reply came before the signal"), "{warnings}");
        let cpu = report["generator"]["cpu_seconds"].as_f64().expect("a number");
        if warmup == "0s" {
            assert!(report["messages"]["not_sent"].as_u64() > Some(20), "{:#}", report["messages"]);
        } else {
            assert_eq!(cpu, 0.0, "nothing was measured");
        }
    }
}
