//! `--trace`: programs can open the file, whatever happened to the server, and it shows what happened.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use tempfile::tempdir;

use crate::support::{
    Client, Server, assert_same, eventually, pattern, program, run, socket_with_small_buffers,
};

const MEBIBYTE: usize = 1 << 20;

/// The events of a file, by the names of their rows.
pub(crate) struct Trace {
    rows: BTreeMap<String, Vec<Value>>,
}

impl Trace {
    #[track_caller]
    pub(crate) fn load(path: &Path) -> Trace {
        Trace::parse(&fs::read_to_string(path).expect("there is a file"))
    }

    #[track_caller]
    fn parse(text: &str) -> Trace {
        let events: Vec<Value> = serde_json::from_str(text).expect("an array of events");
        let (names, events): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| event["ph"] == "M");
        let name_of: BTreeMap<u64, String> = names
            .iter()
            .filter(|name| name["name"] == "thread_name")
            .map(|name| (tid(name), name["args"]["name"].as_str().expect("text").to_owned()))
            .collect();
        let mut rows: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for event in events {
            rows.entry(name_of[&tid(&event)].clone()).or_default().push(event);
        }
        Trace { rows }
    }

    pub(crate) fn row(&self, name: &str) -> &[Value] {
        self.rows.get(name).unwrap_or_else(|| panic!("no row {name} among {:?}", self.rows.keys()))
    }

    fn of(&self, client: &Client) -> &[Value] {
        self.row(&client.local_address().to_string())
    }

    /// On every row, times only go forward, and a span that begins within another ends within it.
    #[track_caller]
    fn assert_spans_nest(&self) {
        for (name, events) in &self.rows {
            assert_spans_nest(name, events);
        }
    }
}

/// A span on a row that has not ended: its name, and its end if that is known.
type Span<'a> = (&'a str, Option<u64>);

#[track_caller]
fn assert_spans_nest(row: &str, events: &[Value]) {
    let (mut spans, mut last): (Vec<Span<'_>>, u64) = (Vec::new(), 0);
    for event in events {
        let (name, at) = (event["name"].as_str().expect("text"), nanoseconds(&event["ts"]));
        assert!(at >= last, "{row}: {event} is before what was recorded before it");
        last = at;
        spans.retain(|(_, end)| end.is_none_or(|end| end > at));
        match event["ph"].as_str() {
            Some("X") => {
                let end = at + nanoseconds(&event["dur"]);
                let around = spans.last().and_then(|(_, end)| *end);
                assert!(around.is_none_or(|around| end <= around), "{row}: {event} outlasts what it is in");
                spans.push((name, Some(end)));
            }
            Some("B") => spans.push((name, None)),
            Some("E") => assert_eq!(spans.pop(), Some((name, None)), "{row}: {event} ends something else"),
            Some("i" | "C") => {}
            _ => panic!("{row}: {event}"),
        }
    }
}

fn tid(event: &Value) -> u64 {
    event["tid"].as_u64().expect("a number")
}

pub(crate) fn nanoseconds(microseconds: &Value) -> u64 {
    (microseconds.as_f64().expect("a number") * 1000.0).round() as u64
}

pub(crate) fn named<'a>(row: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    row.iter().filter(move |event| event["name"].as_str().is_some_and(|found| found.starts_with(name)))
}

fn has(row: &[Value], name: &str) -> bool {
    named(row, name).next().is_some()
}

/// The bytes of all calls of this name.
pub(crate) fn bytes(row: &[Value], call: &str) -> usize {
    named(row, call).filter_map(|event| event["args"]["bytes"].as_u64()).sum::<u64>() as usize
}

#[track_caller]
fn assert_bytes(trace: &Trace, client: &Client, sent: usize, received: usize) {
    let row = trace.of(client);
    assert_eq!((bytes(row, "read "), bytes(row, "write ")), (sent, received));
    let closed = named(row, "closed").next().expect("it was closed");
    assert_eq!((closed["args"]["received"].as_u64(), closed["args"]["sent"].as_u64()), {
        (Some(sent as u64), Some(received as u64))
    });
    let last = row.last().expect("it has events");
    assert_eq!((&last["ph"], &last["name"]), (&"E".into(), &row[0]["name"]), "a connection is one span");
}

#[test]
fn spans_nest_and_the_bytes_are_those_that_the_clients_saw() {
    let directory = tempdir().expect("a directory");
    let (file, socket) = (directory.path().join("trace.json"), directory.path().join("socket"));
    let mut command = program(&["127.0.0.1:0", "--trace"]);
    command.arg(&file).arg(format!("unix:{}", socket.display()));
    let server = Server::spawn(command, 2);

    let steady = server.connect();
    for length in [1, 16, 17, 5000, 1] {
        steady.echo(&pattern(length, length as u64));
    }
    let long = server.connect();
    let message = pattern(MEBIBYTE, 21);
    assert_same(&long.exchange(&message), &message);
    // A client that does not read until it stalls, and then goes on.
    let slow = Client::connect(socket_with_small_buffers(), server.address());
    let taken = slow.send_until_stalled(&pattern(64 * MEBIBYTE, 22));
    slow.end_sending();
    assert_eq!(slow.receive_rest().len(), taken);
    // A client that stalls, and then resets its connection.
    let gone = Client::connect(socket_with_small_buffers(), server.address());
    gone.send_until_stalled(&pattern(64 * MEBIBYTE, 23));
    let gone_address = gone.local_address().to_string();
    gone.reset();
    server.await_log(&format!("{gone_address}: broken"));
    let local = Client::unix(&socket);
    local.echo(b"within the machine");
    // A short read of a Unix stream proves nothing, so the server reads until nothing is left.
    eventually("the socket is drained", || {
        let so_far = fs::read_to_string(&file).expect("there is a file");
        so_far.rsplit_once("unix client 1").is_some_and(|(_, since)| since.contains("read WouldBlock"))
    });
    drop(local);
    // The stop finds one connection open.
    server.signal(Signal::TERM);
    assert_same(&steady.receive_rest(), b"");
    steady.end_sending();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");

    let trace = Trace::load(&file);
    trace.assert_spans_nest();
    assert_bytes(&trace, &steady, 5035, 5035);
    assert!(has(trace.of(&steady), "Stopping") && has(trace.of(&steady), "Lingering"));
    assert_bytes(&trace, &long, MEBIBYTE, MEBIBYTE);
    assert!(has(trace.of(&long), "Draining"));
    assert_bytes(&trace, &slow, taken, taken);
    assert_was_paused(trace.of(&slow));
    assert_was_reset(trace.row(&gone_address));
    let local = trace.row("unix client 1");
    assert_eq!((bytes(local, "read "), bytes(local, "write ")), (18, 18));
    for part in ["poll", "batch", "run queue", "end of turn"] {
        assert!(has(trace.row("loop"), part), "no {part}");
    }
    assert!(has(trace.row("trace file"), "write "));
}

/// Each pause ends when half of the unsent bytes have gone; and a write took only a part of the bytes on offer.
#[track_caller]
fn assert_was_paused(row: &[Value]) {
    let paused = named(row, "paused").filter(|event| event["ph"] == "B").count();
    assert!(paused > 0);
    assert_eq!(named(row, "drained").count(), paused);
    let is_partial = |event: &Value| event["args"]["bytes"].as_u64() < event["args"]["offered"].as_u64();
    assert!(named(row, "write ").any(is_partial), "a write in part");
}

/// The connection ended while it was paused, so that both spans end at once.
#[track_caller]
fn assert_was_reset(row: &[Value]) {
    assert!(has(row, "paused") && named(row, "paused").count().is_multiple_of(2));
    let reason = named(row, "closed").next().expect("it was closed")["args"]["reason"].clone();
    assert!(reason.as_str().is_some_and(|reason| reason.starts_with("broken: ")), "{reason}");
    let told = |event: &Value| event["args"]["said"].as_str().is_some_and(|said| said.contains("error"));
    assert!(row.iter().any(told), "the event that ended it: {row:?}");
}

#[test]
fn a_connection_is_traced_within_the_batch_that_served_it() {
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("trace.json");
    let mut command = program(&["127.0.0.1:0", "--greeting", "hello", "--idle-timeout", "100ms", "--trace"]);
    let server = Server::spawn(
        {
            command.arg(&file);
            command
        },
        1,
    );
    let client = server.connect();
    client.ask(b"question", b"helloquestion");
    assert_same(&client.receive_rest(), b"");
    drop(server.connect());
    server.await_log("idle for too long");
    assert_eq!(server.stop().0.code(), Some(0));

    let trace = Trace::load(&file);
    trace.assert_spans_nest();
    assert_bytes(&trace, &client, 8, 13);
    let turns = trace.row("loop");
    let span = |event: &Value| {
        let began = nanoseconds(&event["ts"]);
        (began, began + nanoseconds(&event["dur"]))
    };
    let within = |name: &str, event: &Value| {
        let ((began, ended), mut parts) = (span(event), named(turns, name).map(span));
        parts.any(|part| part.0 <= began && ended <= part.1)
    };
    for call in named(trace.of(&client), "read 8").chain(named(trace.of(&client), "write 8")) {
        assert!(within("batch", call), "{call}");
    }
    let closed = named(trace.of(&client), "closed").next().expect("it was closed");
    assert_eq!(closed["args"]["reason"], "idle for too long");
    let at = nanoseconds(&closed["ts"]);
    assert!(named(turns, "deadlines").map(span).any(|(began, ended)| (began..=ended).contains(&at)));
}

#[test]
fn at_its_limit_the_trace_is_complete_and_the_server_goes_on() {
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("trace.json");
    let mut command = program(&["127.0.0.1:0", "--trace-limit", "4KiB", "--trace"]);
    let server = Server::spawn(
        {
            command.arg(&file);
            command
        },
        1,
    );
    let client = server.connect();
    eventually("the limit is reached", || {
        client.echo(b"on and on");
        server.log().contains("it has reached its limit of 4096 bytes (--trace-limit)")
    });
    let text = fs::read_to_string(&file).expect("there is a file");
    assert!((3000..=4096).contains(&text.len()), "{} bytes", text.len());
    let trace = Trace::parse(&text);
    trace.assert_spans_nest();
    let last = trace.row("loop").last().expect("it has events");
    assert_eq!(last["name"], "the limit of the trace is reached");

    for _ in 0..100 {
        client.echo(b"without a trace");
    }
    drop(client);
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.matches("(--trace-limit)").count(), 1, "{log}");
    assert_eq!(fs::read_to_string(&file).expect("there is a file"), text);
}

#[test]
fn what_a_killed_server_leaves_can_be_opened() {
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("trace.json");
    let mut command = program(&["127.0.0.1:0", "--trace"]);
    let server = Server::spawn(
        {
            command.arg(&file);
            command
        },
        1,
    );
    let client = server.connect();
    for _ in 0..100 {
        client.echo(&pattern(1000, 24));
    }
    let written = || fs::read_to_string(&file).expect("there is a file");
    eventually("the last turn is written", || written().matches("\"offered\":1000").count() == 100);
    server.signal(Signal::KILL);
    assert_eq!(server.wait().0.code(), None);
    let trace = Trace::parse(&(written() + "]"));
    trace.assert_spans_nest();
    assert_eq!(bytes(trace.of(&client), "read "), 100_000);
    assert_eq!(bytes(trace.of(&client), "write "), 100_000);
}

#[test]
fn a_full_disk_ends_the_trace_and_not_the_server() {
    let server = Server::on_ipv4(&["--trace", "/dev/full"]);
    let client = server.connect();
    for _ in 0..100 {
        client.echo(b"whatever the disk says");
    }
    server.await_log("the trace /dev/full ends early: no space left on device");
    drop(client);
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.matches("ends early").count(), 1, "{log}");
}

#[test]
fn the_largest_file_that_may_be_written_ends_the_trace_and_not_the_server() {
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("trace.json");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 16; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_echoloop")]);
    command.args(["127.0.0.1:0", "--trace"]).arg(&file);
    let server = Server::spawn(command, 1);
    let client = server.connect();
    eventually("the limit is reached", || {
        client.echo(b"on and on");
        server.log().contains("ends early: file too large")
    });
    client.echo(b"and it serves");
    drop(client);
    assert_eq!(server.stop().0.code(), Some(0));
    // The file has whole turns only, so a closing bracket makes it complete.
    let written = fs::read_to_string(&file).expect("there is a file");
    assert!(written.len() > 4096, "{} bytes", written.len());
    Trace::parse(&(written + "]"));
}

/// Nobody reads the controlling side, so nothing that the server wrote would ever leave.
#[test]
fn a_terminal_is_refused_as_the_file_of_a_trace() {
    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&control).expect("ours");
    unlockpt(&control).expect("ours");
    let terminal = ptsname(&control, Vec::new()).expect("a name").into_string().expect("text");
    let refused = run(program(&["127.0.0.1:0", "--trace", &terminal]));
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("it is a terminal, which could hold the server up"), "{refused:?}");
}

#[test]
fn a_trace_that_cannot_be_written_is_refused() {
    let directory = tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let pipe = path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it is installed").success());
    for (file, reason) in [
        (path("nowhere/trace.json"), "no such directory"),
        (path(""), "it is a directory (name a file in it)"),
        (pipe, "it is a pipe, whose reader could hold the server up (name a file)"),
    ] {
        let refused = run(program(&["127.0.0.1:0", "--trace", &file]));
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
        let message = format!("echoloop: cannot record a trace in {file}: {reason}");
        assert!(refused.stderr.contains(&message), "{refused:?}");
    }
}

#[test]
fn a_connection_that_a_proxy_announces_has_the_row_of_its_client() {
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("trace.json");
    let mut command =
        program(&["127.0.0.1:0", "--proxy-protocol", "require", "--greeting", "hi ", "--trace"]);
    command.arg(&file);
    let server = Server::spawn(command, 1);
    let client = server.connect();
    client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 4321 7\r\nquestion");
    client.end_sending();
    assert_same(&client.receive_rest(), b"hi question");
    assert_eq!(server.stop().0.code(), Some(0));

    let trace = Trace::load(&file);
    trace.assert_spans_nest();
    let row = trace.row("192.0.2.1:4321");
    assert_eq!((bytes(row, "read "), bytes(row, "write ")), (8, 11));
    assert_eq!(row.last().map(|event| &event["ph"]), Some(&"E".into()));
}

#[test]
fn whoever_is_announced_while_it_stops_is_seen_to_stop() {
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("trace.json");
    let mut command = program(&["127.0.0.1:0", "--proxy-protocol", "require", "--trace"]);
    command.arg(&file);
    let server = Server::spawn(command, 1);
    let client = server.connect();
    client.send(b"PROXY TCP4 192.0.2.1 ");
    let served = server.connect();
    served.send(b"PROXY UNKNOWN\r\n");
    served.echo(b"so the other one was accepted as well");
    server.signal(Signal::TERM);
    server.await_log("stopping: 2 connections");
    client.send(b"192.0.2.2 4321 7\r\nlate");
    assert_same(&client.receive_rest(), b"late");
    drop((client, served));
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");

    let trace = Trace::load(&file);
    trace.assert_spans_nest();
    let row = trace.row("192.0.2.1:4321");
    assert!(has(row, "Stopping") && has(row, "Lingering"), "{row:?}");
}
