//! Runs every row of `docs/rows.md` as it stands there, but for the ports, which the system picks.

use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{Finished, Process, Server, examples, installed, missing_for, run, skip};

/// The ports that the table names. No test uses them.
const PORTS: [&str; 6] = ["10000", "50007", "28812", "8888", "8000", "5000"];

struct Row<'a> {
    name: &'a str,
    server: Option<&'a str>,
    client: &'a str,
    on_a_terminal: bool,
    shows: Vec<&'a str>,
}

impl Row<'_> {
    fn parse(line: &str) -> Option<Row<'_>> {
        let cells: Vec<&str> = line.split(" |").map(|cell| cell.trim_start_matches('|').trim()).collect();
        let [name, _, server, client, shows, ..] = cells.as_slice() else { return None };
        Some(Row {
            name,
            server: code(server).next(),
            client: code(client).next()?,
            on_a_terminal: client.ends_with("on a terminal"),
            shows: code(shows).collect(),
        })
    }
}

/// The pieces between backticks.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// A command of the table, for a shell that finds our programs.
fn shell(command: &str, port: &str, socket: &str) -> Command {
    let mut command = command.replace("\\|", "|").replace("cargo run --example http_get --", "http_get");
    command = command.replace("/tmp/echo.sock", socket);
    // Replaces it only where it is a port, and not a number of bytes or of anything else. A command has one port, and
    // its replacement may begin like another port of the table.
    let marks = PORTS.iter().flat_map(|port| [format!(":{port}"), format!("localhost {port}")]);
    if let Some(mark) = marks.into_iter().find(|mark| command.contains(mark)) {
        let before = mark.trim_end_matches(|digit: char| digit.is_ascii_digit());
        command = command.replace(&mark, &format!("{before}{port}"));
    }
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_echoloop")).parent().expect("a directory");
    let path = std::env::var("PATH").expect("there is one");
    let mut shell = Command::new("sh");
    shell.env("PATH", format!("{}:{}:{path}", program.display(), examples().display()));
    shell.args(["-c", &command]);
    shell
}

/// Runs a client whose standard input is a terminal, and types a line and an empty one.
fn type_into(command: &Command) -> Finished {
    let command_line = command.get_args().last().expect("the command").to_str().expect("text");
    let mut script = Command::new("script");
    script.args(["-qec", command_line, "/dev/null"]);
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    let mut process = Process::spawn(script.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut keyboard = process.child.stdin.take().expect("it is piped");
    keyboard.write_all(b"typed\n\n").expect("it takes what is typed");
    let mut screen = process.child.stdout.take().expect("it is piped");
    let mut shown = Vec::new();
    std::io::Read::read_to_end(&mut screen, &mut shown).expect("a pipe can be read");
    Finished {
        code: process.wait().code(),
        stdout: String::from_utf8_lossy(&shown).into_owned(),
        stderr: String::new(),
    }
}

#[test]
fn every_line_of_the_table_does_what_it_shows() {
    let table =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rows.md")).expect("it is there");
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("echo.sock");
    let socket = socket.to_str().expect("text");
    let mut names = Vec::new();
    let lines = table.lines().filter(|line| line.starts_with('|') && !line.starts_with("|--"));
    for row in lines.skip(1).map(|line| Row::parse(line).unwrap_or_else(|| panic!("not a row: {line}"))) {
        names.push(row.name);
        let foreign =
            if row.on_a_terminal { Some("script").filter(|it| installed(it).is_none()) } else { None };
        if let Some(missing) = foreign.or_else(|| missing_for(row.client)) {
            skip(&format!("row {} of docs/rows.md", row.name), &format!("{missing} is not installed"));
            continue;
        }
        let server = row.server.map(|command| {
            let has_endpoint = command.contains("unix:") || PORTS.iter().any(|port| command.ends_with(port));
            let endpoint = if has_endpoint { "" } else { " localhost:0" };
            Server::spawn(shell(&format!("exec {command}{endpoint}"), "0", socket), 1)
        });
        let port = server.as_ref().and_then(|server| server.endpoints()[0].rsplit_once(':'));
        let client = shell(row.client, port.map_or("0", |(_, port)| port), socket);
        let ended = if row.on_a_terminal { type_into(&client) } else { run(client) };
        let mut seen = format!("{}\n{}", ended.stdout, ended.stderr);
        if let Some(mut server) = server {
            seen += &format!("\nlistening on {}\n", server.endpoints()[0]);
            if !row.server.is_some_and(|command| command.contains("--max-accepts")) {
                assert!(server.is_running(), "{}: the server is still there", row.name);
                server.signal(Signal::INT);
            }
            let (status, log) = server.wait();
            assert_eq!(status.code(), Some(0), "{}: {log}", row.name);
            seen += &log;
        }
        assert!(!row.shows.is_empty(), "{} shows something", row.name);
        for shown in &row.shows {
            assert!(seen.contains(shown), "{}: nothing of {shown:?} in\n{seen}", row.name);
        }
    }
    names.dedup();
    assert_eq!(names.len(), 21, "{names:?}");
}
