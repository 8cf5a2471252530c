//! `echoloop trace-page`: one file that needs nothing else, and shows a recording in a browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{Finished, Server, installed, program, run, skip};

const TEMPLATE: &str = include_str!("../../src/cli/trace_page.html");

/// The recording of the guide.
fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/trace.json")
}

/// The page fetches nothing, and its program is the template's.
#[track_caller]
fn assert_is_one_file(page: &str) {
    for foreign in ["src=", "href=", "import ", "@import", "url(", "fetch("] {
        assert!(!page.contains(foreign), "it refers to something else: {foreign}");
    }
    let (before, rest) = TEMPLATE.split_once("{{events}}").expect("a place for the recording");
    let (_, behind) = rest.split_once("{{lines}}").expect("a place for the lines");
    assert!(page.starts_with(before) && page.ends_with(behind), "it was made by another version");
}

/// The page after its program has run in a browser, at this step. `None` where there is no browser.
fn shown(page: &Path, step: usize) -> Option<String> {
    let browser = installed("chromium").or_else(|| installed("chromium-browser"))?;
    let profile = tempdir().expect("a directory");
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    let finished = run({
        command.arg(format!("file://{}#{step}", page.display()));
        command
    });
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    Some(finished.stdout)
}

/// The text of the element with this name.
#[track_caller]
fn text<'a>(dom: &'a str, id: &str) -> &'a str {
    let (_, rest) = dom.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id}"));
    let (_, rest) = rest.split_once('>').expect("the tag ends");
    rest.split_once("</").expect("the element ends").0
}

fn make_page(trace: &Path) -> Finished {
    let mut command = program(&["trace-page"]);
    command.arg(trace);
    run(command)
}

#[test]
fn the_page_shows_each_step_of_an_echo() {
    let directory = tempdir().expect("a directory");
    let (trace, file) = (directory.path().join("trace.json"), directory.path().join("page.html"));
    let mut command = program(&["127.0.0.1:0", "--idle-timeout", "1h", "--trace"]);
    command.arg(&trace);
    let server = Server::spawn(command, 1);
    let client = server.connect();
    client.echo(b"seventeen letters");
    let name = client.local_address().to_string();
    drop(client);
    server.await_log("17 bytes in, 17 bytes out");
    assert_eq!(server.stop().0.code(), Some(0));
    let made = make_page(&trace);
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""));
    assert_is_one_file(&made.stdout);
    fs::write(&file, &made.stdout).expect("a file can be written");

    let Some(first) = shown(&file, 1) else {
        skip("the_page_shows_each_step_of_an_echo", "chromium is not installed");
        return;
    };
    let steps = steps(&trace);
    let begins = format!("Step 1 of {}, at ", steps.len());
    assert!(text(&first, "step").starts_with(&begins), "{first}");
    let show = |tid: u64, name: &str| {
        let found = steps.iter().position(|step| step.0 == tid && step.1 == name);
        let number = found.unwrap_or_else(|| panic!("no {name} in {steps:?}")) + 1;
        shown(&file, number).expect("the browser is still there")
    };
    // The loop is row 1, the trace file 2, and the listener was the table's first source.
    let row = steps.iter().find(|step| step.1 == name).expect("it was accepted").0;

    let read = show(row, "read 17");
    assert!(text(&read, "step").contains(&format!("{name}: read 17, for ")), "{read}");
    assert!(text(&read, "source").ends_with("self.transport.read(buffer)"), "{read}");
    assert!(read.contains(&format!("<tr class=\"acts\"><td>{name}</td><td>Open</td><td>0</td>")), "{read}");
    assert!(
        read.contains("<td>in ") && read.contains("<td>has room</td>"),
        "deadline and send buffer: {read}"
    );
    assert!(read.contains("class=\"cursor\"") && read.contains("<rect class=\"read\""), "time line: {read}");
    let accepted = show(row, &name);
    assert!(text(&accepted, "step").contains(&format!("{name}: accepted")), "{accepted}");
    let closed = show(row, "closed");
    assert!(text(&closed, "loop").starts_with("Run queue: 0: "), "{closed}");
    assert!(text(&show(1, "poll"), "source").contains("poll.poll("));
}

/// The steps of a recording as the page counts them: row and name.
fn steps(trace: &Path) -> Vec<(u64, String)> {
    let text = fs::read_to_string(trace).expect("it was recorded");
    let mut events: Vec<Value> = serde_json::from_str(&text).expect("an array of events");
    events.retain(|event| {
        event["ph"] != "M" && event["ph"] != "C" && event["tid"] != 2 && event["name"] != "end of turn"
    });
    events.sort_by(|one, other| one["ts"].as_f64().partial_cmp(&other["ts"].as_f64()).expect("numbers"));
    let name = |event: &Value| event["name"].as_str().expect("text").to_owned();
    events.iter().map(|event| (event["tid"].as_u64().expect("a number"), name(event))).collect()
}

#[test]
fn the_recording_of_the_guide_makes_a_page_that_shows_its_pause() {
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("page.html");
    let made = make_page(&example());
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""));
    assert_is_one_file(&made.stdout);
    fs::write(&file, &made.stdout).expect("a file can be written");
    let steps = steps(&example());
    let paused = steps.iter().position(|step| step.1 == "paused").expect("it records a pause") + 1;
    for recorded in ["queued", "drained"] {
        assert!(steps.iter().any(|step| step.1 == recorded), "nothing of {recorded}");
    }
    let Some(dom) = shown(&file, paused) else {
        skip("the_recording_of_the_guide_makes_a_page_that_shows_its_pause", "chromium is not installed");
        return;
    };
    assert!(text(&dom, "step").starts_with(&format!("Step {paused} of {}, at ", steps.len())), "{dom}");
    assert!(text(&dom, "step").contains(": paused"), "{dom}");
    assert!(dom.contains("<td>full</td>"), "the flooding client's send buffer: {dom}");
}

#[test]
fn what_a_killed_server_leaves_makes_a_page_and_what_is_no_trace_is_refused() {
    let directory = tempdir().expect("a directory");
    let trace = directory.path().join("trace.json");
    let event = r#"{"name":"poll","ph":"X","pid":1,"tid":1,"ts":1.0,"dur":2.0,"args":{"count":1}}"#;
    fs::write(&trace, format!("[\n{event},\n{{\"name\":\"torn")).expect("a file can be written");
    let made = make_page(&trace);
    assert!(
        made.code == Some(0) && made.stdout.contains("\"dur\":2.0") && !made.stdout.contains("torn"),
        "{made:?}"
    );
    fs::write(&trace, "[]").expect("a file can be written");
    for (file, reason) in
        [(trace.as_path(), "holds no turns"), (Path::new("/nowhere/trace.json"), "cannot read")]
    {
        let refused = make_page(file);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
        assert!(refused.stderr.contains(reason), "{refused:?}");
    }
}
