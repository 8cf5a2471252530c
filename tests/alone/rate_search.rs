//! The search for the highest rate that a server takes.

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::alone;
use crate::support::{Server, deserted_address, eventually, skip};
use crate::toys::{Toy, run, sockets, spawn};

/// The limit of the server, in messages a second: far below that of any machine.
const LIMIT: f64 = 200.0;
/// A delayed server makes up for this much of its delay.
const SLACK: Duration = Duration::from_millis(10);

/// Echoes this many messages a second, over all connections, and counts its connections. Each message waits for its
/// turn.
fn limited(accepted: &Arc<AtomicU64>) -> Toy {
    let (accepted, turns) = (Arc::clone(accepted), Mutex::new(Instant::now()));
    Toy::start(move |mut stream| {
        accepted.fetch_add(1, Ordering::SeqCst);
        let mut message = [0; 64];
        while stream.read_exact(&mut message).is_ok() {
            let mut turn = turns.lock().expect("not poisoned");
            *turn = (*turn).max(Instant::now() - SLACK) + Duration::from_secs_f64(1.0 / LIMIT);
            let due = *turn;
            drop(turn);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if stream.write_all(&message).is_err() {
                return;
            }
        }
    })
}

/// Searches, and returns the result. If the machine kept the generator from its core twice, there is rightly no answer:
/// then this prints the signs of it, and the test has nothing to compare with the limit.
fn find_rate(arguments: &[&str]) -> Option<Value> {
    let mut signs = String::new();
    for _ in 0..2 {
        let output = run(&[&["load", "--quiet", "--find-rate", "--json"], arguments].concat());
        let found = output.json();
        if found["ending"] != "generator_late" {
            return Some(found);
        }
        assert_eq!(output.code, Some(1), "without an answer it is no success");
        let last = found["steps"].as_array().and_then(|steps| steps.last()).expect("a step");
        signs = format!("{} messages/s: {}", last["rate"], last["report"]["generator"]);
    }
    skip("a search for a rate", &format!("no core was free for the generator, at last {signs}"));
    None
}

#[test]
fn a_known_limit_is_found_over_connections_that_stay_open() {
    let _alone = alone();
    let search = |first: &str| {
        let accepted = Arc::default();
        let server = limited(&accepted);
        // The median, so that a machine that stands still for a moment does not count as a slow server. A rate that is
        // 5 % too high makes it 30 ms in the middle of a step.
        let arguments = ["-c", "20", "--rate", first, "--precision", "4%", "--fail-if", "p50>15ms"];
        let length = ["--warmup", "300ms", "--step", "1s"];
        let endpoint = server.endpoint();
        let all = [&[endpoint.as_str()], &arguments[..], &length[..]].concat();
        let Some(found) = find_rate(&all) else { return };
        assert_eq!(found["ending"], "found", "{found:#}");
        let rate = found["rate"].as_f64().expect("a number");
        assert!((rate / LIMIT - 1.0).abs() < 0.05, "{rate} instead of {LIMIT}, from {first} on");
        let steps = found["steps"].as_array().expect("a list");
        assert!(steps.len() > 5, "{} steps", steps.len());
        for report in steps.iter().map(|step| &step["report"]) {
            assert_eq!(
                (&report["connections"]["opened"], &report["connections"]["lost"]),
                (&20.into(), &0.into())
            );
        }
        let accepted = accepted.load(Ordering::SeqCst);
        assert_eq!(accepted % 20, 0, "each search opened its connections once: {accepted}");
        assert!(accepted <= 20 * 5, "{accepted}");
    };
    // Three of three, from below and from above.
    thread::scope(|scope| {
        ["30", "150", "700"]
            .map(|first| scope.spawn(move || search(first)))
            .map(thread::ScopedJoinHandle::join)
    })
    .into_iter()
    .for_each(|result| result.expect("it finds the limit"));
}

#[test]
fn a_search_says_what_no_rate_achieves_and_how_it_went() {
    let _alone = alone();
    let server = Server::plain();
    let endpoint = server.endpoint();
    let short = ["--step", "200ms", "--warmup", "50ms"];
    let directory = tempfile::tempdir().expect("a directory");
    let plot = directory.path().join("rate.svg").display().to_string();
    let arguments = ["--rate", "8", "--fail-if", "p50>1ns", "--plot", &plot];
    if let Some(found) = find_rate(&[&[endpoint], &short[..], &arguments[..]].concat()) {
        assert_eq!((&found["ending"], &found["rate"]), (&"none_is_good".into(), &0.0.into()), "{found:#}");
        let steps = found["steps"].as_array().expect("a list").iter();
        let mut rates: Vec<_> = steps.map(|step| step["rate"].as_f64()).collect();
        // The search repeats a step if the generator was late.
        rates.dedup();
        assert_eq!(rates, [8.0, 4.0, 2.0, 1.0].map(Some));
    }
    assert!(fs::read_to_string(&plot).expect("it is written").starts_with("<svg"));

    // If nobody listens, the search ends with the first step, and with the status of such a run.
    let found = run(&["load", "--quiet", &deserted_address().to_string(), "--find-rate"]);
    assert!(found.code == Some(4) && found.stdout.contains("no answer: nobody is there"), "{found:?}");

    // A search that is interrupted in the first step has no result, and says so.
    let search = spawn(&["load", "--quiet", endpoint, "--find-rate", "--step", "1h"]);
    eventually("its connections", || sockets(search.pid().as_raw_nonzero().get()) >= 10);
    search.signal(Signal::TERM);
    let text = search.finish().output();
    assert!(text.contains("not confirmed: a signal ended the search"), "{text}");
}
