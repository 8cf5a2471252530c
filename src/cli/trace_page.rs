//! `echoloop trace-page`: a recording of `serve --trace` as a page that steps through it.
//!
//! The page is one file: the recording, the program that shows it, and the lines of source that act. It needs no network.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use echoloop::describe;
use serde::Serialize;
use serde_json::Value;

use super::output::{FAILED, fail, publish};

pub(super) const EXAMPLES: &str = "\
Examples:
  echoloop --trace trace.json
      record the turns of the loop
  echoloop trace-page trace.json > page.html
      then open it in a browser";

const PAGE: &str = include_str!("trace_page.html");

#[derive(Args, Clone, Debug)]
pub(crate) struct TracePageArguments {
    /// A recording of `serve --trace`, complete or not
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// The lines of source that do a step.
#[derive(Serialize)]
struct Acting {
    file: &'static str,
    text: &'static str,
}

/// The line of source that acts at each kind of step of a trace. A test finds all these lines in their files.
const LINES: [(&str, &str, &str); 15] = [
    ("accepted", "src/reactor/mod.rs", "handler.ready(context, token, readiness);"),
    ("event", "src/net/connection.rs", "pub fn note(&mut self, readiness: Readiness) {"),
    ("poll", "src/reactor/context.rs", "match self.poll.poll(events, timeout) {"),
    ("batch", "src/reactor/mod.rs", "for event in events.iter() {"),
    ("run", "src/reactor/mod.rs", "handler.resume(context, token);"),
    ("deadlines", "src/reactor/mod.rs", "handler.deadline(context, token);"),
    ("read", "src/net/wire.rs", "|| self.transport.read(buffer)"),
    ("write", "src/net/wire.rs", "|| self.transport.write(bytes)"),
    ("paused", "src/net/wire.rs", "self.journal(Deed::Paused { unsent }, &mut desk.journal);"),
    ("paused no more", "src/net/flow.rs", "wire.resume(unsent, desk);"),
    ("drained", "src/net/connection.rs", "Action::Flush"),
    ("queued", "src/net/connection.rs", "return Next::Again;"),
    ("Draining", "src/net/connection.rs", "Phase::Draining if unsent == 0 => Action::Finish,"),
    ("closed", "src/net/connection.rs", "return Next::Close(end);"),
    ("gone", "src/reactor/mod.rs", "context.free_removed();"),
];

/// Prints the page.
pub(super) fn trace_page(arguments: &TracePageArguments) -> ExitCode {
    let path = arguments.file.display();
    let text = match fs::read_to_string(&arguments.file) {
        Ok(text) => text,
        Err(error) => return fail(FAILED, &format!("cannot read {path}: {}", describe(&error))),
    };
    let events = events(&text);
    if !events.iter().any(|event| event["ph"] == "X") {
        return fail(FAILED, &format!("{path} holds no turns (`echoloop --trace FILE` records them)"));
    }
    publish(&page(&events))
}

/// Each event is one line. If the server was killed, its last line may be torn, and the closing bracket is missing.
fn events(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| serde_json::from_str(line.trim_end_matches(',')).ok());
    lines.filter(Value::is_object).collect()
}

fn page(events: &[Value]) -> String {
    let lines: BTreeMap<&str, Acting> =
        LINES.into_iter().map(|(kind, file, text)| (kind, Acting { file, text })).collect();
    // The names of clients come from outside, so nothing in the data may end the HTML element that holds them.
    let json = |value: &dyn Fn() -> serde_json::Result<String>| {
        value().expect("maps with keys that are strings").replace('<', "\\u003c")
    };
    PAGE.replace("{{lines}}", &json(&|| serde_json::to_string(&lines)))
        .replace("{{events}}", &json(&|| serde_json::to_string(events)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_act_are_in_their_files() {
        for (kind, file, text) in LINES {
            let source = fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
            assert!(source.expect("it is there").contains(text), "{kind}: {file} has no {text}");
        }
    }

    #[test]
    fn a_name_cannot_end_the_element_that_holds_it() {
        let events = [serde_json::json!({ "name": "</script><script>", "ph": "i" })];
        assert!(!page(&events).contains("</script><script>"));
    }
}
