//! If something keeps a generator from working, it says so and blames nobody else.

use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Signal;

use crate::support::{Process, Server, eventually, program, terminal};
use crate::toys::{Run, spawn};

#[test]
fn a_generator_that_is_stopped_says_that_it_was_held_up() {
    let server = Server::plain();
    for pace in [&["--rate", "1000"] as &[_], &[]] {
        // So many clients that nearly all of them wait for no reply when the stop comes. While a client waits for a
        // reply, `load` can't tell whether the server or the generator is late.
        let arguments = ["load", "--json", "--quiet", server.endpoint(), "-c", "100", "-d", "2s"];
        let load = spawn(&[&arguments, pace].concat());
        // More than it takes to start and to open the connections.
        eventually("traffic", || load.cpu_time() >= Duration::from_millis(50));
        load.signal(Signal::STOP);
        // The test measures this stop; nothing waits for its end.
        thread::sleep(Duration::from_millis(700));
        load.signal(Signal::CONT);
        let run = Run::of(load.finish());
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
    // Fills the terminal to the brim, as if its reader had gone away long ago.
    let filler = slave.try_clone().expect("a descriptor");
    fcntl_setfl(&filler, OFlags::NONBLOCK).expect("it can be");
    while (&filler).write(&[b'x'; 64]).is_ok() {}
    fcntl_setfl(&filler, OFlags::empty()).expect("it can be");
    drop(filler);
    let mut command = program(&["load", "--json", server.endpoint(), "--rate", "500", "-d", "1s"]);
    let load = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(slave));
    let report = load.finish().json();
    assert_eq!(report["messages"]["received"], 500, "{report:#}");
}
