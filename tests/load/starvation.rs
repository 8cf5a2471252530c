//! A generator that is kept from working says so, and blames nobody else.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Server, finish, spawn, terminal, wait_until};

/// The CPU time that a process has taken, in nanoseconds.
fn cpu_time(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/schedstat")).expect("it runs");
    text.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_generator_that_is_stopped_says_that_it_was_held_up() {
    let server = Server::plain();
    for pace in [&["--rate", "1000"] as &[_], &[]] {
        // So many that nearly all of them wait for no reply when the stop comes: while a client waits for one, nothing
        // tells whether the server or the generator is late.
        let arguments = ["load", "--json", "--quiet", server.endpoint.as_str(), "-c", "100", "-d", "2s"];
        let load = spawn(&[&arguments, pace].concat());
        let before = cpu_time(load.id());
        wait_until("traffic", || cpu_time(load.id()) >= before + 20_000_000);
        let pid = Pid::from_child(&load);
        kill_process(pid, Signal::STOP).expect("it is our child");
        // The stop is what is measured; nothing waits for this to be over.
        thread::sleep(Duration::from_millis(700));
        kill_process(pid, Signal::CONT).expect("it is our child");
        let run = finish(load);
        assert_eq!(run.report["generator"]["bottleneck"], true, "{pace:?}: {:#}", run.report["generator"]);
        assert!(run.number("/generator/longest_hold_up_s") > 0.5, "{:#}", run.report["generator"]);
        let warnings = run.report["warnings"].to_string();
        assert!(warnings.contains("the generator itself was held up for"), "{warnings}");
        assert!(!warnings.contains("the server can't take that rate"), "{warnings}");
        if !pace.is_empty() {
            // A third of the messages was due in the stop, and each of them was late because of it.
            assert!(run.number("/generator/lag_us/p90") > 0.2e6, "{:#}", run.report["generator"]);
        }
    }
}

#[test]
fn a_terminal_that_nobody_reads_holds_nothing_up() {
    let server = Server::plain();
    let (_control, slave) = terminal();
    // Fills it to the brim, as a reader that went away long ago leaves it.
    let filler = slave.try_clone().expect("a descriptor");
    fcntl_setfl(&filler, OFlags::NONBLOCK).expect("it can be");
    while (&filler).write(&[b'x'; 64]).is_ok() {}
    fcntl_setfl(&filler, OFlags::empty()).expect("it can be");
    drop(filler);
    let mut load = Command::new(env!("CARGO_BIN_EXE_echoloop"))
        .args(["load", "--json", &server.endpoint, "--rate", "500", "-d", "1s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(slave)
        .spawn()
        .expect("the program starts");
    let mut has_ended = false;
    let began = std::time::Instant::now();
    while !has_ended && began.elapsed() < Duration::from_secs(30) {
        has_ended = load.try_wait().expect("it is our child").is_some();
        thread::sleep(Duration::from_millis(5));
    }
    let _ = load.kill();
    let output = load.wait_with_output().expect("it has ended");
    assert!(has_ended, "it waits for its terminal");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["messages"]["received"], 500, "{report:#}");
}
