//! Wrong input: each gets exit status 2 and the hint that its author needs.

use crate::support::{program, run};

#[test]
fn wrong_input_gets_the_right_hint() {
    for (arguments, hint) in [
        (&["sned", "x"] as &[_], "did you mean `send`?"),
        (&["version"], "`echoloop --version`"),
        (&["udp:7777"], "`udp://:7777`"),
        (&["send", "udp:localhost:7777", "hi"], "`udp://localhost:7777`"),
        (&["-p", "7777"], "`echoloop :7777`"),
        (&["--port", "7777"], "`echoloop :7777`"),
        (&["--listen", "7777"], "`echoloop :7777`"),
        (&["send", "--port", "7777"], "`echoloop send localhost:7777`"),
        (&["load", "--rate", "many"], "such as 500, 20k or 1.5M"),
        (&["load", "--clients", "many"], "such as 500, 10k or 1.5M"),
        (&["--max-connections", "99999999999999999999"], "at most 9007199254740992"),
        (&["load", "-n", "100"], "`echoloop load --messages N`"),
        (&["load", "--connections", "100"], "`echoloop load --clients N`"),
        (&["load", "--threads", "4"], "`echoloop load --processes N`"),
        (&["--bogus"], "unexpected argument '--bogus' found\n\nUsage: "),
        (&["send", "localhost", "-x"], "'-- -x'"),
        (&["load", "--size", "many"], "such as 16, 64KiB or 1MiB"),
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

#[test]
fn a_load_run_against_no_udp_service_is_one_line() {
    // A port that was free just now.
    let port =
        std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("loopback");
    let finished = run(program(&["load", "--messages", "3", "--clients", "2", &format!("udp://{port}")]));
    assert_eq!(finished.code, Some(4), "{finished:?}");
    let begin = format!("No message to udp://{port} was answered: 2 refused (");
    assert!(finished.stdout.starts_with(&begin) && finished.stdout.lines().count() == 1, "{finished:?}");
}

#[test]
fn a_failure_names_the_misunderstanding_that_it_may_come_from() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("missing").display().to_string();
    let socket = format!("unix:{missing}");
    // Nobody listens on port 10000 of this address.
    let alone = crate::support::own_address(77).to_string();
    for (arguments, code, expected) in [
        (
            &["send", "no-such-host.invalid"] as &[_],
            3,
            "; a message comes after the endpoint: `echoloop send localhost no-such-host.invalid`",
        ),
        (
            &["send", &alone, "7777"],
            4,
            &format!(
                "; `7777` became a message: to connect to that port, write `echoloop send tcp://{alone}:7777`"
            ),
        ),
        (
            &["send", &socket, "hi"],
            1,
            &format!("cannot connect to {socket}: there is no such file (is a server"),
        ),
        (&["no-such-host.invalid"], 1, "check the spelling; `echoloop --help` lists the commands"),
        (&["203.0.113.1:7777"], 1, "this machine does not have that address (`ip addr` lists its own)"),
        (&["merge", &missing], 1, &format!("cannot read {missing}: no such file or directory\n")),
        (&["trace-page", &missing], 1, &format!("cannot read {missing}: no such file or directory\n")),
        (
            &["load", "--plot", &format!("{missing}/x.svg")],
            1,
            &format!("cannot draw {missing}/x.svg: no such file or directory\n"),
        ),
    ] {
        let finished = run(program(arguments));
        assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains(expected), "{arguments:?}: {}", finished.stderr);
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    }
}

#[test]
fn help_in_a_pipe_has_80_columns() {
    for command in ["serve", "send", "load"] {
        let help = run(program(&["help", command])).stdout;
        let longest = help.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!((75..=80).contains(&longest), "{longest}: {help}");
    }
}

#[test]
fn numbers_of_things_have_units() {
    let finished = run(program(&["doctor", "--connections", "1.5k", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(report["connections"], 1500);
}

#[test]
fn a_full_disk_is_a_failure_in_words() {
    for arguments in [&["doctor"] as &[_], &["man"], &["completions", "zsh"]] {
        let mut command = program(arguments);
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let output = command.stdout(full).output().expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        assert_eq!(errors, "echoloop: cannot write to standard output: no space left on device\n");
    }
}

#[test]
fn a_run_is_not_merged_with_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = crate::support::Server::on_ipv4(&[]);
    let load =
        run(program(&["load", "--json", "--quiet", "--messages", "10", &server.address().to_string()]));
    let file = directory.path().join("a.json");
    std::fs::write(&file, &load.stdout).expect("a file can be written");
    let file = file.display().to_string();
    let finished = run(program(&["merge", &file, &file]));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.stderr, "echoloop: reports 1 and 2 are of the same run\n");
}
