//! The bounds of a run: one thread, constant memory, the ports and descriptors of the machine.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Server, Toy, run, spawn, wait_until};

/// The memory of the process alone. Pages of its program are left out, which come and go.
fn resident_kilobytes(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux says so");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

fn cpu_ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let behind = stat.rsplit_once(')').expect("the name is in brackets").1;
    let times = behind.split_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().expect("user and system time")).sum()
}

fn interrupt(process: u32) {
    let pid = Pid::from_raw(process as i32).expect("a process");
    kill_process(pid, Signal::INT).expect("it is ours");
}

#[test]
fn one_thread_constant_memory_and_a_full_report_when_interrupted() {
    let server = Server::plain();
    let load =
        spawn(&["load", "--json", "--quiet", &server.endpoint, "-c", "50", "--depth", "4", "-d", "1h"]);
    // Well under way: a quarter of a second of CPU time, so that what is allocated once is allocated.
    wait_until("work", || cpu_ticks(load.id()) >= 10);
    let before = resident_kilobytes(load.id());
    let ticks = cpu_ticks(load.id());
    wait_until("more work", || cpu_ticks(load.id()) >= ticks + 60);
    let threads = fs::read_dir(format!("/proc/{}/task", load.id())).expect("it runs").count();
    let after = resident_kilobytes(load.id());
    interrupt(load.id());
    let output = load.wait_with_output().expect("it ends");
    assert_eq!(threads, 1);
    assert!(after <= before + 400, "{before} kB, and {after} kB after six times the work");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
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
            &server.endpoint,
            "--hold",
            "-c",
            &clients,
            "-d",
            "1h",
            "--source",
            "127.8.0.0/16",
        ];
        let load = spawn(&arguments);
        let descriptors = format!("/proc/{}/fd", load.id());
        let wanted: usize = clients.parse().expect("a number");
        wait_until("all connections", || fs::read_dir(&descriptors).is_ok_and(|open| open.count() > wanted));
        // Opening is over, and nothing is done any more.
        let mut last = cpu_ticks(load.id());
        let mut same = 0;
        wait_until("rest", || {
            let now = cpu_ticks(load.id());
            same = if now == last { same + 1 } else { 0 };
            last = now;
            same > 2000
        });
        let kilobytes = resident_kilobytes(load.id());
        interrupt(load.id());
        load.wait_with_output().expect("it ends");
        kilobytes * 1024
    };
    let (few, many) = (resident(100), resident(4100));
    let each = many.saturating_sub(few) / 4000;
    assert!(each <= 512, "{each} bytes a connection");
}

#[test]
fn too_few_descriptors_are_said_before_they_run_out() {
    let program = env!("CARGO_BIN_EXE_echoloop");
    let command = format!("ulimit -n 100; exec {program} load -c 90 127.0.0.1:9");
    let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("cannot open 90 connections: 100 descriptors allow 67"), "{text}");
}

#[test]
fn too_few_ports_are_said_before_they_run_out() {
    let output = run(&["load", "-c", "1000000", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("ports × 1 pairs") && text.contains("--source"), "{text}");
}

#[test]
fn an_address_that_is_not_ours_is_a_local_error_with_the_remedy() {
    let server = Server::plain();
    let run = crate::support::load(&[&server.endpoint, "-c", "2", "--source", "192.0.2.1"]);
    assert_eq!((run.status, run.number("/errors/local")), (1, 1.0), "{:#}", run.report);
    let words = run.report["failures"][0].as_str().expect("text");
    assert!(words.contains("the source address is not ours") && words.contains("127.0.0.0/8"), "{words}");
}

#[test]
fn a_closed_standard_output_is_no_failure() {
    let server = Server::plain();
    let mut load = spawn(&["load", "--quiet", &server.endpoint, "-m", "10"]);
    drop(load.stdout.take());
    let output = load.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
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
    wait_until("one message of each client", || closed.load(Ordering::SeqCst) == 5);
    interrupt(load.id());
    let output = load.wait_with_output().expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
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
        wait_until("a message of each client", || {
            reached.compare_exchange(2, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        });
        let began = Instant::now();
        wait_until("more that is due", || began.elapsed() > Duration::from_millis(100));
        interrupt(load.id());
        let output = load.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
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
