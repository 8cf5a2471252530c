//! The results: JSON by its schema, the table, the files, conditions, the comparison.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Server, installed, skip};
use crate::toys::{Run, Toy, load, run, spawn};

/// Runs `check-jsonschema`: do all reports keep to the schema, and if not, what does it say?
#[track_caller]
fn checked(reports: &[Value]) -> (bool, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("check-jsonschema");
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/load-report.schema.json");
    command.args(["--color", "never", "--schemafile", schema]);
    for (number, report) in reports.iter().enumerate() {
        let file = directory.path().join(format!("{number}.json"));
        fs::write(&file, report.to_string()).expect("room on the disk");
        command.arg(file);
    }
    let output = command.output().expect("it is installed");
    let words = [output.stdout, output.stderr].concat();
    let words = String::from_utf8_lossy(&words).into_owned();
    // An invalid schema gives status 1 as well.
    assert!(words.contains("validation"), "{words}");
    (output.status.success(), words)
}

/// Checks every report against the schema, if the tool for it is installed.
#[track_caller]
fn assert_valid(test: &str, reports: &[Value]) {
    if installed("check-jsonschema").is_none() {
        return skip(test, "check-jsonschema is not installed");
    }
    let (are_valid, words) = checked(reports);
    assert!(are_valid, "{words}");
}

#[test]
fn every_kind_of_report_keeps_to_the_schema() {
    let (server, udp) = (Server::plain(), Server::start(&["udp://127.0.0.1:0"]));
    let plain = server.endpoint();
    let greeting = Server::start(&["127.0.0.1:0", "--greeting", "hello\\n"]);
    let mut reports = Vec::new();
    for arguments in [
        vec![plain, "-m", "100"],
        vec![plain, "-d", "1200ms", "--rate", "500", "--arrivals", "poisson", "--source", "127.0.0.0/8"],
        vec![plain, "-m", "10", "--connect-per-message"],
        vec![plain, "-d", "50ms", "--hold"],
        vec!["127.0.0.1:1", "-c", "1"],
        vec![greeting.endpoint(), "-m", "10", "--greeting", "6"],
        vec![udp.endpoint(), "-m", "100"],
    ] {
        reports.push(load(&arguments).report);
    }
    let corrupting = Toy::changing(|_, bytes| bytes.reverse());
    let run = load(&[&corrupting.endpoint(), "-m", "10"]);
    assert!(run.number("/errors/mismatch") > 0.0);
    reports.push(run.report);
    assert_valid("every_kind_of_report_keeps_to_the_schema", &reports);
}

#[test]
fn the_schema_refuses_what_is_no_report() {
    if installed("check-jsonschema").is_none() {
        return skip("the_schema_refuses_what_is_no_report", "check-jsonschema is not installed");
    }
    let server = Server::plain();
    let mut report = load(&[server.endpoint(), "-m", "10"]).report;
    assert!(checked(&[report.clone()]).0);
    report["messages"]["sent"] = "many".into();
    assert!(!checked(&[report.clone()]).0);
    report.as_object_mut().expect("an object").remove("messages");
    assert!(!checked(&[report]).0);
}

#[test]
fn the_series_adds_up_to_the_whole() {
    let server = Server::plain();
    let run = load(&[server.endpoint(), "-d", "2200ms", "--rate", "1000"]);
    let series = run.report["series"].as_array().expect("an array");
    // A busy machine has late replies, and more intervals for them.
    assert!(series.len() >= 3, "{series:#?}");
    let received: u64 = series.iter().map(|point| point["received"].as_u64().expect("a number")).sum();
    assert_eq!(received as f64, run.number("/messages/received"));
}

#[test]
fn the_table_says_what_the_json_says() {
    let server = Server::plain();
    let output = run(&["load", "--quiet", server.endpoint(), "-c", "2", "-m", "5000"]);
    assert_eq!(output.code, Some(0));
    let text = output.stdout;
    for part in [
        "2 clients, closed loop, 64 bytes a message",
        "2 wanted, 2 opened, 0 lost",
        "5000 sent, 5000 received, 0 cut off (every byte verified)",
        "320000 sent, 320000 received",
        "errors      none",
        "p99.99",
        "latency ",
        "connecting ",
        " % #",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains('\x1b'), "no escapes when nobody watches");
}

#[test]
fn the_files_are_written() {
    let server = Server::plain();
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (hgrm, plot) = (file("run.hgrm"), file("run.svg"));
    let measured =
        load(&[server.endpoint(), "-d", "1200ms", "--rate", "500", "--hgrm", &hgrm, "--plot", &plot]);
    let text = fs::read_to_string(&hgrm).expect("it is written");
    assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"), "{text}");
    let count = format!("Total count    = {:>12}]", measured.number("/messages/received"));
    assert!(text.contains(&count), "{text}");
    let picture = fs::read_to_string(&plot).expect("it is written");
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    assert!(picture.contains("latency by percentile") && picture.contains("<polyline"));
    run(&["load", "--quiet", server.endpoint(), "-m", "10", "--plot", &file("no/such/run.svg")])
        .failed(1, &["cannot draw"]);
}

#[test]
fn a_path_that_cannot_be_written_costs_no_measurement_and_a_full_disk_no_report() {
    let echoed = Toy::changing(|_, _| ());
    let arguments = ["load", "--quiet", &echoed.endpoint(), "-d", "1h"];
    for (file, part) in [("--hgrm", "cannot write"), ("--plot", "cannot draw")] {
        let refused = run(&[&arguments[..], &[file, "/no/such/run.svg"]].concat());
        refused.failed(1, &[part]);
        assert_eq!(refused.stdout, "");
    }
    let refused = run(&[&arguments[..], &["--plot", "run.png"]].concat());
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("the picture is SVG, not png: name it `run.svg`"), "{refused:?}");

    let full = load(&[&echoed.endpoint(), "-m", "10", "--hgrm", "/dev/full"]);
    assert_eq!((full.status, full.number("/messages/received")), (1, 10.0));
    assert!(full.errors.contains("cannot write /dev/full"), "{}", full.errors);
}

#[test]
fn a_file_that_is_there_is_replaced_and_a_condition_that_is_pointless_is_refused_before_that() {
    let server = Server::plain();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("run.hgrm");
    fs::write(&path, "x".repeat(100_000)).expect("it is written");
    let file = path.display().to_string();
    let arguments = ["load", "--quiet", server.endpoint(), "-m", "10", "--hgrm", &file];
    run(&[&arguments[..], &["--fail-if", "not_sent>0"]].concat())
        .failed(2, &["--fail-if 'not_sent>0' can never hold: only an open loop"]);
    assert_eq!(fs::metadata(&path).expect("it is there").len(), 100_000);
    assert_eq!(run(&arguments).code, Some(0));
    let text = fs::read_to_string(&path).expect("it is there");
    assert!(text.trim_start().starts_with("Value") && !text.contains("xx"), "{text}");
}

#[test]
fn generators_that_ran_together_are_merged() {
    let server = Server::plain();
    let endpoint = server.endpoint();
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let generators: Vec<_> = ["1", "2"]
        .iter()
        .map(|seed| {
            let arguments = ["load", "--json", "--quiet", endpoint, "-d", "3s", "--rate", "200"];
            spawn(&[&arguments[..], &["--clients", "3", "--seed", seed]].concat())
        })
        .collect();
    let mut text = String::from("INFO a line of a log\n");
    let (mut received, mut reports) = (0, Vec::new());
    for generator in generators {
        let output = generator.finish();
        let report = output.stdout;
        let value: Value = serde_json::from_str(&report).expect("a report");
        received += value["messages"]["received"].as_u64().expect("a number");
        text += &report;
        reports.push(report);
    }
    let all = file("all.log");
    fs::write(&all, &text).expect("it is written");
    let (hgrm, plot) = (file("all.hgrm"), file("all.svg"));
    let results = ["--hgrm", &hgrm, "--plot", &plot, "--fail-if", "received<1"];
    let merged = Run::of(run(&[&["merge", "--json", all.as_str()], &results[..]].concat()));
    assert_eq!(merged.status, 0, "{}", merged.errors);
    assert_valid("generators_that_ran_together_are_merged", std::slice::from_ref(&merged.report));
    assert_eq!(merged.number("/messages/received"), received as f64);
    assert_eq!(merged.number("/latency_us/count"), received as f64);
    assert_eq!((merged.number("/settings/clients"), merged.number("/settings/pace/open/rate")), (6.0, 400.0));
    assert_eq!(merged.report["merged"]["generators"].as_array().map(Vec::len), Some(2));
    let rate = merged.number("/rate");
    assert!((rate - 400.0).abs() < 80.0, "the sum of both: {rate}");
    assert!(fs::read_to_string(&hgrm).expect("it is written").contains(&format!("{received:>12}]")));
    assert!(fs::read_to_string(&plot).expect("it is written").contains("<polyline"));

    let table = run(&["merge", &all, "--fail-if", "received>1"]);
    assert_eq!(table.code, Some(8));
    let text = table.stdout;
    assert!(text.contains("6 clients, open loop of 400 messages/s") && text.contains("1 on "), "{text}");

    let other = load(&[endpoint, "-m", "10", "--rate", "100", "--depth", "2"]).report;
    for (other, part) in [
        (other.to_string(), "report 2 had other settings than the first: depth: 1 and 2"),
        (load(&[endpoint, "-d", "100ms", "--rate", "100"]).report.to_string(), "duration_s: 3.0 and 0.1"),
    ] {
        let path = file("other.json");
        fs::write(&path, reports[0].clone() + &other).expect("it is written");
        run(&["merge", &path]).failed(1, &[part]);
    }
}

#[test]
fn a_run_is_repeated_and_sides_with_repetitions_are_compared() {
    let server = Server::plain();
    let directory = tempfile::tempdir().expect("a directory");
    let mut files = Vec::new();
    for (name, clients) in [("a.json", "1"), ("b.json", "4")] {
        let path = directory.path().join(name).display().to_string();
        let arguments = ["load", "--json", "--quiet", server.endpoint(), "-m", "200", "--repeat", "3"];
        let output = run(&[&arguments[..], &["-c", clients]].concat());
        assert_eq!(output.code, Some(0));
        fs::write(&path, output.stdout).expect("it is written");
        files.push(path);
    }
    let output = run(&["compare", &files[0], &files[1]]);
    let text = output.stdout;
    assert!(text.contains("a.json (3 runs): 1 client") && text.contains(" ±"), "{text}");
    assert!(
        text.contains("\nB ÷ A") && text.contains("B had other settings than A: clients: 1 and 4"),
        "{text}"
    );

    let table =
        run(&["load", "--quiet", server.endpoint(), "-m", "200", "--repeat", "2", "--fail-if", "p50>1ns"]);
    assert_eq!(table.code, Some(8));
    let text = table.stdout;
    assert!(text.contains("run 2: ") && text.contains("all runs (2 runs)"), "{text}");
}

#[test]
fn conditions_fail_the_run_with_the_reason() {
    let server = Server::plain();
    let endpoint = server.endpoint();
    assert_eq!(load(&[endpoint, "-m", "100", "--fail-if", "p99>10s", "--fail-if", "errors>0"]).status, 0);
    let failed = load(&[endpoint, "-m", "100", "--fail-if", "p50>1ns", "--fail-if", "received<1000"]);
    assert_eq!(failed.status, 8);
    assert!(failed.errors.contains("failed by p50>1ns: it is "), "{}", failed.errors);
    assert!(failed.errors.contains("failed by received<1000: it is 100"), "{}", failed.errors);
}

#[test]
fn results_are_compared_side_by_side() {
    let server = Server::plain();
    let directory = tempfile::tempdir().expect("a directory");
    let mut files = Vec::new();
    for (name, clients) in [("a.json", "1"), ("b.json", "4")] {
        let path = directory.path().join(name).display().to_string();
        let report = load(&[server.endpoint(), "-m", "500", "-c", clients]).report;
        fs::write(&path, report.to_string()).expect("it is written");
        files.push(path);
    }
    let output = run(&["compare", &files[0], &files[1]]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let text = output.stdout;
    assert!(text.contains("A  ") && text.contains("a.json: 1 client, closed loop"), "{text}");
    let rate = text.lines().find(|line| line.starts_with("rate")).expect("a row");
    assert_eq!(rate.matches('×').count(), 1, "the ratio to the first: {rate}");

    fs::write(&files[1], "{}").expect("it is written");
    let output = run(&["compare", &files[0], &files[1]]);
    output.failed(1, &["is no report of `echoloop load --json`"]);
}

#[test]
fn a_line_of_json_comes_with_each_interval_while_the_run_goes_on() {
    let server = Server::plain();
    let arguments = ["--json-lines", "--interval", "200ms", "-d", "1h", "--rate", "500", "-c", "5"];
    let mut load = spawn(&[&["load", "--quiet", server.endpoint()], &arguments[..]].concat());
    let mut lines = BufReader::new(load.child.stdout.take().expect("it is piped")).lines();
    let mut line = || -> Option<Value> {
        let line = lines.next()?.expect("UTF-8");
        Some(serde_json::from_str(&line).expect("each line is an object"))
    };
    let mut intervals: Vec<Value> =
        (0..4).map(|_| line().expect("a record while the run goes on")["interval"].clone()).collect();
    // On a busy machine an interval ends late, and none ends early.
    let number = |interval: &Value, name: &str| interval[name].as_f64().expect("a number");
    for (place, interval) in intervals.iter().enumerate() {
        let ended = number(interval, "at") + number(interval, "seconds");
        assert!(ended > 0.2 * (place + 1) as f64 - 1e-6, "{intervals:#?}");
    }
    load.signal(Signal::TERM);
    let report = loop {
        let next = line().expect("the report comes last");
        match next.get("interval") {
            Some(interval) => intervals.push(interval.clone()),
            None => break next,
        }
    };
    assert!(line().is_none() && load.wait().success());
    assert_valid(
        "a_line_of_json_comes_with_each_interval_while_the_run_goes_on",
        std::slice::from_ref(&report),
    );
    assert_eq!(report["interrupted"], true);
    let received: u64 =
        intervals.iter().map(|interval| interval["received"].as_u64().expect("a number")).sum();
    assert_eq!(Some(received), report["messages"]["received"].as_u64());
    let is_timed = |interval: &&Value| interval["p99_us"].as_f64() > Some(0.0);
    assert!(intervals.iter().any(|interval| is_timed(&interval)), "{intervals:#?}");
    let is_empty = |interval: &&Value| interval["received"].as_u64() == Some(0);
    assert!(intervals.iter().all(|interval| is_timed(&interval) || is_empty(&interval)), "{intervals:#?}");
}
