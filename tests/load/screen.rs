//! A run on a pseudo-terminal of a given width, as a user sees it.

use std::process::Stdio;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::{DEADLINE, Process, Server, deserted_address, program, terminal, written_on};
use crate::toys::run;

/// Enough lines that none of them leaves the screen.
const LINES: u16 = 500;

/// `echoloop load` on a terminal.
struct Screen {
    process: Process,
    output: Receiver<Vec<u8>>,
    terminal: vt100::Parser,
}

impl Screen {
    fn start(columns: u16, environment: &[(&str, &str)], arguments: &[&str]) -> Screen {
        let (control, programs) = terminal();
        let size = Winsize { ws_row: LINES, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&control, size).expect("a terminal has a size");
        let mut command = program(&[&["load"], arguments].concat());
        command.env_remove("COLUMNS").env_remove("NO_COLOR").env("TERM", "xterm");
        command.envs(environment.iter().copied()).stdin(Stdio::null());
        command.stdout(programs.try_clone().expect("a descriptor")).stderr(programs);
        let process = Process::spawn(&mut command);
        Screen { process, output: written_on(&control), terminal: vt100::Parser::new(LINES, columns, 0) }
    }

    /// Everything that stands on the screen, a line of the terminal each.
    fn lines(&self) -> Vec<String> {
        let screen = self.terminal.screen();
        let columns = screen.size().1;
        screen.rows(0, columns).map(|line| line.trim_end().to_owned()).collect()
    }

    /// Waits until the screen shows this.
    #[track_caller]
    fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.lines().iter().any(|line| line.contains(text)) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.terminal.process(&bytes),
                Err(error) => panic!("{error}; no {text:?} on {:#?}", self.lines()),
            }
        }
    }

    /// The whole screen at the end of the run.
    #[track_caller]
    fn last(mut self) -> Vec<String> {
        let deadline = Instant::now() + DEADLINE;
        while let Ok(bytes) = self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.terminal.process(&bytes);
        }
        self.process.wait();
        self.lines()
    }
}

/// No line of the screen is an old progress line, alone or with a line of the log behind it.
#[track_caller]
fn assert_nothing_stale(lines: &[String]) {
    let stale = lines.iter().find(|line| ["opening [", " open, "].iter().any(|words| line.contains(words)));
    assert_eq!(stale, None, "{lines:#?}");
}

#[test]
fn no_progress_line_stays_above_the_log_or_the_report() {
    for columns in [60, 80, 160] {
        // Nobody listens, so each client has a line in the log while the progress line is there.
        let endpoint = deserted_address().to_string();
        let lines = Screen::start(columns, &[], &["-v", "--clients", "20", &endpoint]).last();
        let refused = lines.iter().filter(|line| line.contains("cannot connect")).count();
        assert!(refused >= 20, "{lines:#?}");
        assert_nothing_stale(&lines);
    }
}

#[test]
fn a_server_that_dies_leaves_its_log_and_no_progress_line() {
    for columns in [60, 160] {
        let mut server = Server::on_own_address(203);
        let arguments = ["-v", "--clients", "20", "--duration", "3s", server.endpoint()];
        let mut screen = Screen::start(columns, &[], &arguments);
        screen.shows("measuring");
        screen.shows("p99");
        server.kill();
        let lines = screen.last();
        assert!(lines.iter().any(|line| line.starts_with("Failures:")), "{lines:#?}");
        assert_nothing_stale(&lines);
    }
}

/// Lines of a report from its table of times to the end of its histogram.
fn drawn(lines: &[String]) -> &[String] {
    let first =
        lines.iter().position(|line| line.contains("p50") || line.trim_start().starts_with("latency"));
    let last = lines.iter().rposition(|line| line.trim_start().starts_with("up to"));
    &lines[first.expect("a table of times")..=last.expect("a histogram")]
}

#[test]
fn a_report_fits_its_terminal_and_uses_it() {
    let server = Server::plain();
    let longest = |lines: &[String]| lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let arguments = ["--clients", "4", "--duration", "300ms", "--warmup", "0s", server.endpoint()];
    // A line that did not fit would go on at the left margin, where only the report's title stands.
    let is_folded = |line: &&String| !line.is_empty() && !line.starts_with(' ');
    for (columns, environment, bars) in
        [(60_u16, None, 55..=60), (80, None, 75..=80), (160, None, 150..=160), (160, Some("100"), 90..=100)]
    {
        let environment: Vec<(&str, &str)> =
            environment.map(|columns| ("COLUMNS", columns)).into_iter().collect();
        let lines = Screen::start(columns, &environment, &arguments).last();
        let drawn = drawn(&lines);
        assert!(bars.contains(&longest(drawn)), "{columns}: {lines:#?}");
        assert_eq!(drawn.iter().find(is_folded), None, "{columns}: {lines:#?}");
        let has_rows = drawn.iter().any(|line| line.trim_start().starts_with("p99.99 "));
        assert_eq!(has_rows, columns < 77, "{columns}: {lines:#?}");
    }
}

#[test]
fn a_report_in_a_pipe_has_80_columns() {
    let server = Server::plain();
    let output = run(&["load", "--quiet", "--clients", "4", "--duration", "300ms", server.endpoint()]);
    let text = output.stdout;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let longest = drawn(&lines).iter().map(|line| line.chars().count()).max();
    assert!((75..=80).contains(&longest.unwrap_or(0)), "{text}");
}
