//! Several processes, and a common start.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Process, Server, deserted_address, eventually, program, terminal, written_on};
use crate::toys::{Run, Toy, load, run, sockets, spawn};

/// The processes that a process has started.
fn children(process: &Process) -> Vec<i32> {
    let path = format!("/proc/{0}/task/{0}/children", process.child.id());
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn has_ended(process: i32) -> bool {
    !fs::exists(format!("/proc/{process}")).expect("it can be asked")
}

#[test]
fn several_processes_share_the_plan_and_are_merged() {
    let server = Server::plain();
    let arguments = ["--processes", "3", "-c", "7", "--rate", "700", "-d", "2s", "--seed", "5"];
    let run = load(&[&[server.endpoint()], &arguments[..]].concat());
    assert_eq!(run.status, 0, "{}", run.errors);
    assert_eq!((run.number("/settings/clients"), run.number("/connections/opened")), (7.0, 7.0));
    assert_eq!(run.number("/latency_us/count"), run.number("/messages/received"));
    let due = run.number("/messages/sent") + run.number("/messages/not_sent");
    assert!((due - 1400.0).abs() <= 10.0, "{:#}", run.report["messages"]);
    let generators = run.report["merged"]["generators"].as_array().expect("a list");
    let field = |name: &str| generators.iter().map(|part| part[name].as_u64()).collect::<Vec<_>>();
    assert_eq!(field("clients"), [Some(3), Some(2), Some(2)]);
    assert_eq!(field("seed"), [Some(5), Some(6), Some(7)]);
    assert!(run.number("/merged/start_spread_s") < 1.0, "{:#}", run.report["merged"]);
}

#[test]
fn an_interrupt_reaches_all_processes_and_their_results_are_merged() {
    let server = Server::plain();
    let load = spawn(&["load", "--json", "--quiet", server.endpoint(), "--processes", "2", "-d", "1h"]);
    eventually("two generators", || children(&load).len() == 2);
    let generators = children(&load);
    // A socket pair for the signal, and four clients.
    eventually("their connections", || generators.iter().all(|process| sockets(*process) >= 6));
    let ticks = |process: &i32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind).to_owned();
        let times = behind.split_whitespace().skip(11).take(2);
        times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>()
    };
    eventually("their messages", || generators.iter().all(|process| ticks(process) >= 10));
    load.signal(Signal::INT);
    let run = Run::of(load.finish());
    assert_eq!((run.status, &run.report["interrupted"]), (0, &Value::Bool(true)), "{}", run.errors);
    assert!(run.number("/messages/received") > 0.0);
    assert!(generators.iter().all(|process| has_ended(*process)));
}

#[test]
fn a_process_that_dies_fails_the_run_and_none_is_left_behind() {
    let server = Server::plain();
    let load = spawn(&["load", "--json", "--quiet", server.endpoint(), "--processes", "2", "-d", "1h"]);
    eventually("two generators", || children(&load).len() == 2);
    let generators = children(&load);
    kill_process(Pid::from_raw(generators[1]).expect("a process"), Signal::KILL).expect("it is ours");
    load.finish().failed(1, &["generator 2 failed (signal: 9"]);
    assert!(generators.iter().all(|process| has_ended(*process)));

    // The command refuses a plan that it can't carry out before it starts any generator.
    run(&["load", "--quiet", "no-such-name.invalid", "--processes", "2"])
        .failed(3, &["cannot resolve no-such-name.invalid"]);
    // No machine has so many ports, although there would be enough for each of the three generators.
    let refused = run(&["load", "--quiet", server.endpoint(), "--processes", "3", "-c", "70000"]);
    refused.failed(1, &["cannot open 70000 connections"]);
    assert!(!refused.stderr.contains("generator"), "{refused:?}");
    run(&["load", "--quiet", server.endpoint(), "--processes", "9"]).failed(2, &["at least 9 clients"]);
}

#[test]
fn the_death_of_the_one_that_collects_ends_the_generators() {
    let server = Server::plain();
    let mut load = spawn(&["load", "--quiet", server.endpoint(), "--processes", "2", "-d", "1h"]);
    eventually("two generators", || children(&load).len() == 2);
    let generators = children(&load);
    // Their parent's death ends them only if they asked for that, and they have asked once they have connections.
    eventually("their connections", || generators.iter().all(|process| sockets(*process) >= 6));
    load.kill();
    eventually("the end of the generators", || generators.iter().all(|process| has_ended(*process)));
}

#[test]
fn messages_flow_from_the_common_start_on() {
    let server = Server::plain();
    for usage in [&["-c", "2"] as &[_], &["--connect-per-message"], &["--hold"]] {
        let start = SystemTime::now() + Duration::from_millis(1500);
        let start = start.duration_since(SystemTime::UNIX_EPOCH).expect("now is later").as_secs_f64();
        let text = format!("{start:.3}");
        let run = load(&[&[server.endpoint(), "-d", "200ms", "--start-at", &text], usage].concat());
        let begun = run.number("/started");
        assert_eq!(run.status, 0, "{}", run.errors);
        assert!(begun >= start - 0.005, "{usage:?}: {begun} instead of {start}");
    }
    let output = run(&["load", "--quiet", server.endpoint(), "--start-at", "2020-01-01T00:00:00Z"]);
    assert!(output.code == Some(2) && output.stderr.contains(" ago: "), "{output:?}");
}

#[test]
fn nobody_who_listens_is_an_error_of_the_run_with_several_processes_too() {
    let endpoint = deserted_address().to_string();
    let run = load(&[&endpoint, "--processes", "2", "-c", "2", "-d", "300ms"]);
    assert_eq!((run.status, run.number("/connections/opened")), (4, 0.0), "{:#}", run.report);
}

#[test]
fn the_line_on_a_terminal_shows_all_processes_together() {
    let server = Server::plain();
    let (control, slave) = terminal();
    let arguments = ["load", server.endpoint(), "--processes", "2", "-c", "6", "--rate", "200", "-d", "1s"];
    let mut command = program(&arguments);
    command.env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(slave);
    let load = Process::spawn(&mut command);
    // The command holds the terminal's other side, which would keep the terminal from ending.
    drop(command);
    let shown: Vec<u8> = written_on(&control).iter().flatten().collect();
    let shown = String::from_utf8_lossy(&shown);
    assert_eq!(load.finish().code, Some(0), "{shown}");
    assert!(shown.contains("measuring") && shown.contains("6/6 open"), "{shown}");
}

#[test]
fn a_search_by_several_processes_keeps_their_connections() {
    let accepted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&accepted);
    let server = Toy::start(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let _ = stream.try_clone().map(|mut reader| std::io::copy(&mut reader, &mut stream));
    });
    let endpoint = server.endpoint();
    let arguments =
        ["--rate", "40", "-c", "5", "--step", "200ms", "--warmup", "50ms", "--fail-if", "p50>1ns"];
    let all = [&["load", "--quiet", "--json", "--find-rate", "--processes", "2", &endpoint], &arguments[..]];
    let output = run(&all.concat());
    let found = output.json();
    // On a busy machine there is no answer, after three attempts at the same step.
    let status = match found["ending"].as_str() {
        Some("none_is_good") => 8,
        Some("generator_late") => 1,
        other => panic!("{other:?}: {found:#}"),
    };
    assert_eq!(output.code, Some(status));
    let steps = found["steps"].as_array().expect("a list");
    assert!(steps.len() >= 3, "{found:#}");
    for step in steps {
        let report = &step["report"];
        assert_eq!(report["merged"]["generators"].as_array().map(Vec::len), Some(2), "{report:#}");
        assert_eq!(
            (&report["connections"]["opened"], &step["rate"]),
            (&5.into(), &report["settings"]["pace"]["open"]["rate"])
        );
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 5, "each client connected once");
}

#[test]
fn the_intervals_of_several_processes_are_printed_as_one_series_while_they_run() {
    let server = Server::plain();
    let arguments = ["--processes", "2", "-c", "10", "--rate", "500", "-d", "2s", "--warmup", "100ms"];
    let lines = ["--interval", "250ms", "--json-lines"];
    let output = run(&[&["load", "--quiet", server.endpoint()], &arguments[..], &lines].concat());
    let mut lines: Vec<Value> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is an object"))
        .collect();
    let report = lines.pop().expect("the report comes last");
    let intervals: Vec<Value> = lines.into_iter().map(|mut line| line["interval"].take()).collect();
    let received = |interval: &Value| interval["received"].as_u64().expect("a number");
    let sum: u64 = intervals.iter().map(received).sum();
    assert_eq!(Some(sum), report["messages"]["received"].as_u64());
    // The last one printed may be so short that it joins the one before.
    let series = report["series"].as_array().expect("a list");
    assert_eq!(sum, series.iter().map(received).sum::<u64>());
    assert!(intervals.len() - series.len() <= 1 && intervals.starts_with(&series[..series.len() - 1]));
    let at: Vec<f64> = intervals.iter().map(|interval| interval["at"].as_f64().expect("a number")).collect();
    assert!(at.len() >= 8 && at.windows(2).all(|pair| pair[1] - pair[0] >= 0.25 - 1e-9), "{at:?}");
    let longest = intervals.iter().filter_map(|interval| interval["max_us"].as_f64()).fold(0.0, f64::max);
    assert_eq!(Some(longest), report["latency_us"]["max"].as_f64(), "{intervals:#?}");
}

#[test]
fn a_request_to_stop_ends_several_processes_in_order_however_early_it_comes() {
    let server = Server::plain();
    let arguments = ["load", "--json", "--quiet", server.endpoint(), "--processes", "2", "-d", "1h"];
    for children_first in [false, true] {
        let load = spawn(&arguments);
        let catches_signals = || {
            let status = fs::read_to_string(format!("/proc/{}/status", load.child.id())).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
            // SIGTERM is signal 15.
            u64::from_str_radix(caught.trim(), 16).is_ok_and(|caught| caught & (1 << 14) != 0)
        };
        eventually("its handler", catches_signals);
        eventually("a generator", || !children_first || !children(&load).is_empty());
        let generators = children(&load);
        load.signal(Signal::TERM);
        let finished = load.finish();
        // While it resolves names, the signal ends it at once, and there is no generator yet.
        if finished.code.is_some() {
            let run = Run::of(finished);
            assert_eq!(run.report["interrupted"], true, "{}", run.errors);
        }
        eventually("the end of all", || generators.iter().all(|process| has_ended(*process)));
    }
}
