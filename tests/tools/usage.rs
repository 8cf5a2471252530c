//! Wrong input: each gets exit status 2 and the hint that its author needs.

use crate::support::{program, run};

#[test]
fn wrong_input_gets_the_right_hint() {
    for (arguments, hint) in [
        (&["sned", "x"] as &[_], "did you mean `send`?"),
        (&["laod", ":7"], "did you mean `load`?"),
        (&["version"], "`echoloop --version`"),
        (&["udp:7777"], "`udp://:7777`"),
        (&["send", "udp:localhost:7777", "hi"], "`udp://localhost:7777`"),
        (&["::1:7777"], "`[::1]:7777`"),
        (&["-p", "7777"], "`echoloop :7777`"),
        (&["--port", "7777"], "`echoloop :7777`"),
        (&["--listen", "7777"], "`echoloop :7777`"),
        (&["send", "--port", "7777"], "`echoloop send localhost:7777`"),
        (&["load", "--rate", "many"], "such as 500, 20k or 1.5M"),
        (&["load", "--size", "many"], "such as 16, 64KiB or 1MiB"),
        (&["man", "serv"], "serve"),
    ] {
        let finished = run(program(arguments));
        assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains(hint), "{arguments:?}: {}", finished.stderr);
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn every_interface_is_nothing_to_connect_to() {
    // Port 1 of loopback: nobody listens there.
    let finished = run(program(&["send", "tcp://*:1", "hi"]));
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.stderr.contains("cannot connect to tcp://localhost:1"), "{finished:?}");
}

#[test]
fn the_reason_of_a_failed_start_is_its_only_line() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let finished = run(program(&[&address]));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
}

#[test]
fn a_load_run_against_nobody_is_one_line() {
    let finished = run(program(&["load", "--messages", "3", "--clients", "2", "127.0.0.1:1"]));
    assert_eq!(finished.code, Some(4), "{finished:?}");
    let line = "No connection to tcp://127.0.0.1:1 was established: 2 refused \
                (cannot connect to 127.0.0.1:1: connection refused)\n";
    assert_eq!(finished.stdout, line);
}
