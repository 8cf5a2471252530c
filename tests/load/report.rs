//! The results: JSON by its schema, the table, the files, conditions, the comparison.

use std::fs;

use serde_json::Value;

use crate::support::{Server, Toy, load, run};

fn schema() -> Value {
    let text = include_str!("../../schema/load-report.schema.json");
    serde_json::from_str(text).expect("the schema is JSON")
}

#[track_caller]
fn assert_valid(report: &Value) {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).expect("the schema is a schema");
    let errors: Vec<String> =
        validator.iter_errors(report).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{report:#}");
}

#[test]
fn every_kind_of_report_keeps_to_the_schema() {
    let (server, udp) = (Server::plain(), Server::start(&["udp://127.0.0.1:0"]));
    let plain = server.endpoint.as_str();
    let greeting = Server::start(&["127.0.0.1:0", "--greeting", "hello\\n"]);
    for arguments in [
        vec![plain, "-m", "100"],
        vec![plain, "-d", "1200ms", "--rate", "500", "--arrivals", "poisson", "--source", "127.0.0.0/8"],
        vec![plain, "-m", "10", "--connect-per-message"],
        vec![plain, "-d", "50ms", "--hold"],
        vec!["127.0.0.1:1", "-c", "1"],
        vec![greeting.endpoint.as_str(), "-m", "10", "--greeting", "6"],
        vec![udp.endpoint.as_str(), "-m", "100"],
    ] {
        assert_valid(&load(&arguments).report);
    }
    let corrupting = Toy::changing(|_, bytes| bytes.reverse());
    let run = load(&[&corrupting.endpoint(), "-m", "10"]);
    assert!(run.number("/errors/mismatch") > 0.0);
    assert_valid(&run.report);
}

#[test]
fn the_schema_refuses_what_is_no_report() {
    let server = Server::plain();
    let mut report = load(&[&server.endpoint, "-m", "10"]).report;
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).expect("the schema is a schema");
    assert!(validator.is_valid(&report));
    report["messages"]["sent"] = "many".into();
    assert!(!validator.is_valid(&report));
    report.as_object_mut().expect("an object").remove("messages");
    assert!(!validator.is_valid(&report));
}

#[test]
fn the_series_adds_up_to_the_whole() {
    let server = Server::plain();
    let run = load(&[&server.endpoint, "-d", "2200ms", "--rate", "1000"]);
    let series = run.report["series"].as_array().expect("an array");
    assert!((3..=4).contains(&series.len()), "{series:#?}");
    let received: u64 = series.iter().map(|point| point["received"].as_u64().expect("a number")).sum();
    assert_eq!(received as f64, run.number("/messages/received"));
}

#[test]
fn the_table_says_what_the_json_says() {
    let server = Server::plain();
    let output = run(&["load", "--quiet", &server.endpoint, "-c", "2", "-m", "5000"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
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
        load(&[&server.endpoint, "-d", "1200ms", "--rate", "500", "--hgrm", &hgrm, "--plot", &plot]);
    let text = fs::read_to_string(&hgrm).expect("it is written");
    assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"), "{text}");
    let count = format!("Total count    = {:>12}]", measured.number("/messages/received"));
    assert!(text.contains(&count), "{text}");
    let picture = fs::read_to_string(&plot).expect("it is written");
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    assert!(picture.contains("latency by percentile") && picture.contains("<polyline"));
    let output = run(&["load", "--quiet", &server.endpoint, "-m", "10", "--plot", &file("no/such/run.svg")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot draw"));
}

#[test]
fn conditions_fail_the_run_with_the_reason() {
    let server = Server::plain();
    let endpoint = server.endpoint.as_str();
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
        let report = load(&[&server.endpoint, "-m", "500", "-c", clients]).report;
        fs::write(&path, report.to_string()).expect("it is written");
        files.push(path);
    }
    let output = run(&["compare", &files[0], &files[1]]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("A  ") && text.contains("a.json: 1 client, closed loop"), "{text}");
    let rate = text.lines().find(|line| line.starts_with("rate")).expect("a row");
    assert_eq!(rate.matches('×').count(), 1, "the ratio to the first: {rate}");

    fs::write(&files[1], "{}").expect("it is written");
    let output = run(&["compare", &files[0], &files[1]]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no report of `echoloop load --json`"));
}
