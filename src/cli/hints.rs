//! Hints for wrong input.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};
use strsim::osa_distance;

/// Options of other servers, clients and load generators, and their counterparts here.
const ELSEWHERE: [(&[&str], &str); 4] = [
    (
        &["-p", "--port", "-l", "--listen", "--bind", "-H", "--host"],
        "hosts and ports are arguments: `echoloop :7777`, `echoloop send localhost:7777`",
    ),
    (&["-n", "--requests", "--count"], "`echoloop load --messages N` ends after N messages"),
    (&["--connections", "--concurrency"], "`echoloop load --clients N` opens N connections"),
    (
        &["-t", "--threads", "--workers"],
        "a generator is one thread: `echoloop load --processes N` starts N of them",
    ),
];

/// A hint at a first argument that is almost the name of a command: clap would take it for a host.
pub(super) fn misspelt(first: &str, program: &Command) -> Option<String> {
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let names: Vec<&str> =
        program.get_subcommands().map(Command::get_name).chain(["help", "version"]).collect();
    if first == "version" {
        return Some("there is no command `version`: it is `echoloop --version`".into());
    }
    if names.contains(&first) {
        return None;
    }
    let few = if first.len() < 6 { 1 } else { 2 };
    let meant = names.into_iter().min_by_key(|name| osa_distance(name, first))?;
    let near = osa_distance(meant, first) <= few;
    let meant = if meant == "version" { "--version" } else { meant };
    near.then(|| {
        format!(
            "there is no command `{first}`: did you mean `{meant}`? \
             To serve on a host of that name, write `echoloop serve {first}`"
        )
    })
}

/// The error with a better hint, if we know one.
pub(super) fn explained(mut error: Error) -> Error {
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) if error.kind() == ErrorKind::UnknownArgument => option,
        _ => return error,
    };
    let hint =
        ELSEWHERE.iter().find(|(options, _)| options.contains(&unknown.as_str())).map(|(_, hint)| *hint);
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    if !usage.contains(" send ") {
        // clap's tip "to pass it as a value" helps only with messages: no endpoint and no file looks like an option.
        error.remove(ContextKind::Suggested);
    }
    if let Some(hint) = hint {
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.to_owned().into()]));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(first: &str) -> Option<String> {
        let program = ["serve", "send", "load", "compare", "man", "completions"]
            .into_iter()
            .fold(Command::new("echoloop"), |program, name| program.subcommand(Command::new(name)));
        misspelt(first, &program)
    }

    #[test]
    fn a_command_that_is_misspelt_is_no_host() {
        for (first, meant) in [
            ("sned", "`send`"),
            ("laod", "`load`"),
            ("serv", "`serve`"),
            ("comapre", "`compare`"),
            ("completoin", "`completions`"),
            ("version", "--version"),
            ("versoin", "`--version`"),
        ] {
            let hint = hint(first).unwrap_or_else(|| panic!("{first} is taken for a host"));
            assert!(hint.contains(meant), "{first}: {hint}");
        }
    }

    #[test]
    fn hosts_and_commands_are_left_alone() {
        for first in [
            "send",
            "help",
            "localhost",
            "echo",
            "load1",
            "send.example.org",
            ":7",
            "7777",
            "",
            "--sned",
            "node",
        ] {
            assert_eq!(hint(first), None, "{first}");
        }
    }
}
