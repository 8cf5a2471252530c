//! Servers that speak first: `load` waits for the greeting, keeps it apart from the replies, and counts it.

use std::io::Write;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::Server;
use crate::toys::{Toy, load, run};

fn greeting(text: &str) -> Server {
    Server::start(&["127.0.0.1:0", "--greeting", text])
}

#[test]
fn connections_are_counted_by_what_the_server_says() {
    let (one, other) = (greeting("node-1\\n"), greeting("node-2\\n"));
    let targets = [one.endpoint(), other.endpoint(), "--greeting", "7"];
    let both = json!({ "node-1\n": 50, "node-2\n": 50 });
    for arguments in [
        &["--connect-per-message", "-m", "100", "-c", "1"] as &[_],
        &["-c", "100", "-m", "1000"],
        &["-c", "100", "--rate", "5000", "-d", "200ms", "--warmup", "50ms"],
        &["-c", "100", "--hold", "-d", "50ms"],
        &["-c", "100", "-m", "1000", "--depth", "5", "--size", "1-9000"],
    ] {
        let run = load(&[&targets, arguments].concat());
        assert_eq!(run.status, 0, "{arguments:?}: {:#}", run.report);
        assert_eq!(run.report["greetings"], both, "{arguments:?}");
        assert_eq!(run.number("/greetings_other"), 0.0);
        assert_eq!(run.number("/messages/cut_off"), 0.0);
        if arguments.contains(&"--hold") {
            assert_eq!(run.number("/messages/received"), 200.0, "one at the beginning, one at the end");
        }
    }
}

#[test]
fn the_table_names_the_most_frequent_first() {
    let (one, other) = (greeting("node-1\\n"), greeting("node-2\\n"));
    let output = run(&[
        "load",
        "-q",
        "-m",
        "9",
        "-c",
        "3",
        "--greeting",
        "7",
        one.endpoint(),
        other.endpoint(),
        other.endpoint(),
    ]);
    let text = output.stdout;
    assert!(
        text.contains("Greetings:\n           2  node-2\\n\n           1  node-1\\n\n"),
        "most frequent first:\n{text}"
    );
}

#[test]
fn without_the_option_a_greeting_is_not_what_was_sent() {
    let server = greeting("hello there\\n");
    let run = load(&[server.endpoint(), "-m", "100"]);
    assert_eq!(run.status, 7, "{:#}", run.report);
    assert!(run.report.get("greetings").is_none());
}

#[test]
fn a_greeting_that_does_not_come_is_a_failure_of_its_own() {
    for (server, missing) in [(Server::plain(), 6), (greeting("hello"), 1)] {
        for mode in [&["-c", "3"] as &[_], &["-c", "3", "--hold"], &["-c", "3", "--rate", "1000"]] {
            let arguments = [server.endpoint(), "--greeting", "6", "--timeout", "1s", "-d", "1s"];
            let run = load(&[&arguments, mode].concat());
            assert_eq!((run.status, run.number("/errors/greeting")), (1, 3.0), "{:#}", run.report);
            assert_eq!((run.number("/messages/sent"), run.number("/errors/timeout")), (0.0, 0.0));
            let words = run.report["failures"][0].as_str().expect("words");
            let expected = format!("{missing} bytes of the greeting did not come within 1s");
            assert!(words.ends_with(&expected), "{words}");
            assert_eq!(run.report["greetings"], json!({}));
        }
    }
}

/// The measured part does not begin while a client waits for its greeting.
#[test]
fn a_slow_greeting_is_part_of_opening() {
    let server = Toy::start(|mut stream| {
        // The test measures this delay; nothing waits for its end.
        thread::sleep(Duration::from_millis(300));
        let mut copy = stream.try_clone().expect("a descriptor");
        if stream.write_all(b"hello").is_ok() {
            let _ = std::io::copy(&mut copy, &mut stream);
        }
    });
    let run = load(&[&server.endpoint(), "--greeting", "5", "-c", "3", "--hold", "-d", "50ms"]);
    assert_eq!((run.status, run.number("/messages/received")), (0, 6.0), "{:#}", run.report);
    let run = load(&[&server.endpoint(), "--greeting", "5", "-c", "3", "-m", "30"]);
    assert_eq!((run.status, run.number("/messages/received")), (0, 30.0), "{:#}", run.report);
    assert!(run.number("/seconds") < 0.3, "{:#}", run.report);
}

#[test]
fn a_server_that_goes_before_it_has_greeted_closed_early() {
    let server = Toy::start(|mut stream| drop(stream.write_all(b"hell")));
    let run = load(&[&server.endpoint(), "--greeting", "5", "-c", "1", "-d", "1s"]);
    assert_eq!((run.status, run.number("/errors/closed")), (1, 1.0), "{:#}", run.report);
    let words = run.report["failures"][0].as_str().expect("words");
    assert!(words.ends_with("closed it with 1 bytes of the greeting still to come"), "{words}");
}

#[test]
fn there_may_be_more_greetings_than_are_told_apart() {
    let server = greeting("{peer}\\n");
    let length = "127.0.0.1:12345\n".len().to_string();
    let run = load(&[server.endpoint(), "--greeting", &length, "-c", "100", "-m", "100"]);
    assert_eq!(run.status, 0, "{:#}", run.report);
    assert_eq!(run.report["greetings"].as_object().expect("an object").len(), 64);
    assert_eq!(run.number("/greetings_other"), 36.0);
}
