//! The graders: each starts a server and says whether it still has its fault.
//!
//! ```text
//! cargo run -p exercises -- 1               # src/bin/1_short_read.rs: red until you have mended it
//! cargo run -p exercises -- --solution 1    # solutions/1_short_read.rs
//! cargo run -p exercises -- --program target/release/echoloop 1
//! ```
//!
//! The last command grades any echo server that takes an address and prints `listening on tcp://ADDRESS`. (3 is for a
//! server that has at most four clients, 5 for a server that answers lines with their length.)
//!
//! Exit status: 0 green, 1 red, 2 wrong usage.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its user")]

mod grades;
mod server;

use std::path::Path;
use std::process::{Command, ExitCode};

use crate::server::Server;

/// A verdict: how well the server does, or its fault.
type Grade = Result<String, String>;

/// Its name and its grader.
type Exercise = (&'static str, fn(&Server) -> Grade);

const EXERCISES: [Exercise; 6] = [
    ("1_short_read", grades::the_end_behind_a_short_read_is_seen),
    ("2_descriptors", grades::a_waiting_client_is_served_when_a_descriptor_is_free),
    ("3_slots", grades::a_newcomer_does_not_get_the_event_of_another),
    ("4_flood", grades::a_small_client_is_served_beside_a_flood),
    ("5_lines", grades::lines_are_found_wherever_reads_end),
    ("6_drain", grades::all_of_the_answer_comes_after_the_end_of_input),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (number, program) = match arguments[..] {
        [number] => (number, None),
        ["--solution", number] => (number, Some("solution")),
        ["--program", program, number] => (number, Some(program)),
        _ => ("", None),
    };
    let chosen = number.parse::<usize>().ok().and_then(|number| EXERCISES.get(number.wrapping_sub(1)));
    let Some((name, grade)) = chosen else {
        eprintln!("usage: exercises [--solution | --program PATH] NUMBER");
        eprintln!("NUMBER is 1 to 6; exercises/README.md says what each is about");
        return ExitCode::from(2);
    };
    let server = match program {
        None => built(name),
        Some("solution") => built(&format!("solution_{name}")),
        Some(path) => Server::start(Path::new(path)),
    };
    match server.and_then(|server| grade(&server)) {
        Ok(how) => {
            println!("green: {how}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            println!("red: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// Builds and starts one of our servers: `cargo run` has built this program alone, not the server that was just edited.
fn built(binary: &str) -> Result<Server, String> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut command = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    command.args(["build", "--quiet", "--manifest-path", manifest, "--bin", binary]);
    command.arg("--profile").arg(server::profile()?).arg("--target-dir").arg(server::target_directory()?);
    match command.status() {
        Ok(status) if status.success() => Server::start(&server::directory()?.join(binary)),
        Ok(_) => Err(format!("{binary} does not compile")),
        Err(error) => Err(format!("cargo does not start: {error}")),
    }
}
