//! The prompt, on a real terminal (a pseudo one).

use std::fs::File;
use std::io::Write;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use crate::purpose::{end_of_output, expect, read_to_end, server};
use crate::support::{DEADLINE, Process, Server, program, terminal, written_on};

const FIRST_PROMPT: &str = "An empty line ends the conversation.\n> ";

/// The client on a terminal, and a user who types and looks.
struct Terminal {
    process: Process,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Terminal {
        let (keyboard, ours) = terminal();
        let mut command = program(&["send"]);
        command
            .args(arguments)
            .stdin(ours.try_clone().expect("a descriptor"))
            .stdout(ours)
            .stderr(Stdio::null());
        let process = Process::spawn(&mut command);
        let screen = written_on(&keyboard);
        Terminal { process, keyboard, screen, seen: String::new() }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a terminal takes them");
    }

    /// The screen shows exactly this next; lines end as a terminal ends them.
    #[track_caller]
    fn shows(&mut self, text: &str) {
        let expected = text.replace('\n', "\r\n");
        let deadline = Instant::now() + DEADLINE;
        while self.seen.len() < expected.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(std::str::from_utf8(&bytes).expect("text")),
                Err(error) => panic!("{error}; the screen shows {:?} instead of {expected:?}", self.seen),
            }
        }
        let rest = self.seen.split_off(expected.len());
        assert_eq!(std::mem::replace(&mut self.seen, rest), expected);
    }

    #[track_caller]
    fn ends_with(mut self, code: i32) {
        assert_eq!(self.process.wait().code(), Some(code));
    }
}

#[test]
fn c2_a_line_its_reply_the_next_prompt_and_an_empty_line_ends_it() {
    let server = Server::on_ipv4(&["--prefix", "[then] ", "--chunk=1024"]);
    let mut terminal = Terminal::start(&[server.endpoint()]);
    terminal.shows(FIRST_PROMPT);
    terminal.types("hello\n");
    terminal.shows("hello\n[then] hello\n> ");
    terminal.types("again\n");
    terminal.shows("again\n[then] again\n> ");
    terminal.types("\n");
    terminal.ends_with(0);
}

#[test]
fn c1_the_timestamp_is_shown_as_it_comes() {
    let server = Server::on_ipv4(&["--timestamp", "--chunk=1024"]);
    let mut terminal = Terminal::start(&[server.endpoint()]);
    terminal.shows(FIRST_PROMPT);
    terminal.types("hello\n");
    terminal.shows("hello\n[");
    // `Thu Dec 11 08:47:58 2014`, whatever the time is.
    while terminal.seen.len() < 24 {
        terminal.seen +=
            &String::from_utf8(terminal.screen.recv_timeout(DEADLINE).expect("more")).expect("text");
    }
    terminal.seen.drain(..24);
    terminal.shows("] hello\n> ");
}

#[test]
fn a_failure_begins_a_line_of_its_own_below_a_part_of_a_reply() {
    let server = Server::on_ipv4(&[]);
    let mut terminal = Terminal::start(&["--expect", "line", "--timeout", "300ms", server.endpoint(), "hi"]);
    terminal.shows("hi\n");
    terminal.ends_with(5);
}

#[test]
fn c2_the_end_of_input_ends_it() {
    let server = Server::on_ipv4(&[]);
    let mut terminal = Terminal::start(&[server.endpoint()]);
    terminal.shows(FIRST_PROMPT);
    terminal.types("\x04");
    terminal.shows("\n");
    terminal.ends_with(0);
}

#[test]
fn c2_the_servers_greeting_and_its_close_are_shown_when_they_come() {
    let (go, may_go) = channel();
    let server = server(move |mut stream| {
        may_go.recv_timeout(DEADLINE).expect("the prompt is seen");
        stream.write_all(b"news\n").expect("it takes them");
        may_go.recv_timeout(DEADLINE).expect("the news are seen");
        end_of_output(&stream);
        assert_eq!(read_to_end(&mut stream), b"");
    });
    let mut terminal = Terminal::start(&[server.endpoint()]);
    terminal.shows(FIRST_PROMPT);
    go.send(()).expect("the server waits");
    terminal.shows("\nnews\n> ");
    go.send(()).expect("the server waits");
    terminal.shows("\nThe server has closed the connection.\n");
    terminal.ends_with(0);
}

#[test]
fn a_reply_without_a_newline_ends_its_line() {
    let server = server(|mut stream| {
        expect(&mut stream, b"hi\r\n");
        stream.write_all(b"OK...hi").expect("it takes them");
        read_to_end(&mut stream);
    });
    let mut terminal = Terminal::start(&["--crlf", server.endpoint()]);
    terminal.shows(FIRST_PROMPT);
    terminal.types("hi\n");
    terminal.shows("hi\nOK...hi\n> ");
    terminal.types("\n");
    terminal.ends_with(0);
}

#[test]
fn a_close_instead_of_a_reply_is_6() {
    let server = server(|mut stream| {
        expect(&mut stream, b"hi\n");
        end_of_output(&stream);
        read_to_end(&mut stream);
    });
    let mut terminal = Terminal::start(&[server.endpoint()]);
    terminal.shows(FIRST_PROMPT);
    terminal.types("hi\n");
    terminal.ends_with(6);
}

#[test]
fn lines_that_are_typed_ahead_wait_for_their_turn() {
    let server = Server::on_ipv4(&[]);
    let mut terminal = Terminal::start(&[server.endpoint()]);
    terminal.shows(FIRST_PROMPT);
    terminal.types("one\ntwo\n\n");
    terminal.ends_with(0);
}

#[test]
fn a_message_on_a_terminal_ends_its_line() {
    let server = Server::on_ipv4(&[]);
    let mut terminal = Terminal::start(&[server.endpoint(), "one", "two"]);
    terminal.shows("one\ntwo\n");
    terminal.ends_with(0);
}

#[test]
fn more_than_a_verified_reply_ends_it_with_6() {
    let server = server(|mut stream| {
        expect(&mut stream, b"hello\n");
        stream.write_all(b"hello\nand more").expect("it takes them");
        read_to_end(&mut stream);
    });
    let mut terminal = Terminal::start(&["--verify", "--expect=same", server.endpoint()]);
    terminal.shows(FIRST_PROMPT);
    terminal.types("hello\n");
    terminal.ends_with(6);
}

#[test]
fn the_server_can_not_drive_the_terminal() {
    let hostile = || {
        server(|mut stream| {
            expect(&mut stream, b"hi");
            stream.write_all(b"\x1b]0;owned\x07\x1b[2J").expect("it takes them");
            read_to_end(&mut stream);
        })
    };
    let server = hostile();
    let mut terminal = Terminal::start(&["--expect=any", server.endpoint(), "hi"]);
    terminal.shows("\\x1b]0;owned\\x07\\x1b[2J\n");
    terminal.ends_with(0);
    let server = hostile();
    let mut terminal = Terminal::start(&["--expect=any", "--raw", server.endpoint(), "hi"]);
    terminal.shows("\x1b]0;owned\x07\x1b[2J\n");
    terminal.ends_with(0);
}
