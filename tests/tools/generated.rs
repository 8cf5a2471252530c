//! Completions and manual pages, read by the programs that they are for.

use std::fs;
use std::process::{Command, Stdio};

use tempfile::tempdir;

use crate::support::{Process, installed, program, run, skip};

#[track_caller]
fn generated(arguments: &[&str]) -> String {
    let finished = run(program(arguments));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stderr, "");
    finished.stdout
}

#[test]
fn bash_completes_commands_options_and_values() {
    let directory = tempdir().expect("a directory");
    let script = directory.path().join("echoloop.bash");
    fs::write(&script, generated(&["completions", "bash"])).expect("a file can be written");
    if installed("bash").is_none() {
        return skip("bash_completes_commands_options_and_values", "bash is not installed");
    }
    for (line, expected) in [
        ("echoloop se", "serve send"),
        ("echoloop serve --max-c", "--max-connections"),
        ("echoloop serve --when-full r", "refuse"),
        ("echoloop send --expect l", "line"),
        ("echoloop completions b", "bash"),
        ("echoloop man do", "doctor"),
        ("echoloop man tr", "trace-page"),
        ("echoloop compare ''", ""),
        ("echoloop merge ''", ""),
    ] {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c"]).arg(
            "source \"$1\"; eval \"COMP_WORDS=($2)\"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
             [[ $(complete -p echoloop) =~ ' -o default'.*' -F '([a-z_]+) ]] || exit 1
             ${BASH_REMATCH[1]} echoloop \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
             echo \"${COMPREPLY[@]}\"",
        );
        let finished = run({
            bash.arg("bash").arg(&script).arg(line);
            bash
        });
        assert_eq!(finished.stdout.trim_end(), expected, "{line}: {finished:?}");
    }
}

/// A zsh in a terminal of its own gets a line and a tab; then its terminal has to show the rest of the word.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "cd $1; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; print READ''Y"
zpty -r -m shell seen '*READY*'
zpty -n -w shell "$2"$'\t'
zpty -r -m shell seen "*$3*" && print completed
"#;

#[test]
fn zsh_completes_commands_options_values_and_files() {
    if installed("zsh").is_none() {
        return skip("zsh_completes_commands_options_values_and_files", "zsh is not installed");
    }
    let directory = tempdir().expect("a directory");
    fs::write(directory.path().join("_echoloop"), generated(&["completions", "zsh"])).expect("a file");
    fs::write(directory.path().join("some-report.json"), "").expect("a file");
    for (line, rest) in [
        ("echoloop trace-p", "age"),
        ("echoloop man tr", "ace-page"),
        ("echoloop doctor --role ser", "ver"),
        ("echoloop load --plo", "t"),
        ("echoloop compare some-re", "port.json"),
    ] {
        let mut zsh = Command::new("zsh");
        zsh.args(["-f", "-c", ZSH, "zsh"]).arg(directory.path()).args([line, rest]);
        zsh.env("TERM", "xterm").env("HOME", directory.path());
        let finished = run(zsh);
        assert_eq!(finished.stdout.trim_end(), "completed", "{line}: {finished:?}");
    }
}

#[test]
fn other_shells_take_their_scripts() {
    let test = "other_shells_take_their_scripts";
    let directory = tempdir().expect("a directory");
    for shell in ["zsh", "fish"] {
        let script = directory.path().join(shell);
        fs::write(&script, generated(&["completions", shell])).expect("a file can be written");
        if installed(shell).is_none() {
            skip(test, &format!("{shell} is not installed"));
            continue;
        }
        let mut command = Command::new(shell);
        command.arg("-n").arg(&script);
        assert_eq!(run(command).code, Some(0));
    }
    assert!(generated(&["completions", "fish"]).contains("complete -c echoloop"));
    assert!(generated(&["completions", "zsh"]).starts_with("#compdef echoloop"));
}

#[test]
fn man_shows_a_page_of_the_program_and_of_each_command() {
    for (arguments, title, text) in [
        (&["man"] as &[_], "echoloop(1)", "--max-connections"),
        (&["man", "send"], "echoloop-send(1)", "--expect"),
        (&["man", "serve"], "echoloop-serve(1)", "SIGTERM"),
    ] {
        let directory = tempdir().expect("a directory");
        let file = directory.path().join("echoloop.1");
        fs::write(&file, generated(arguments)).expect("a file can be written");
        if installed("groff").is_none() {
            skip("man_shows_a_page_of_the_program_and_of_each_command", "groff is not installed");
            return;
        }
        let mut groff = Command::new("groff");
        // -ww: every warning that there is; -K utf8: as `man` calls it.
        groff.args(["-man", "-Tutf8", "-Kutf8", "-ww", "-P-c", "-P-b", "-P-u"]).arg(&file);
        let shown = run(groff);
        assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""));
        assert!(shown.stdout.contains(title) && shown.stdout.contains(text), "{}", shown.stdout);
    }
}

#[test]
fn an_unknown_shell_or_command_is_wrong_usage_and_the_known_ones_are_named() {
    for (arguments, known) in
        [(&["completions", "tcsh"] as &[_], "bash"), (&["completions"], "SHELL"), (&["man", "serv"], "serve")]
    {
        let refused = run(program(arguments));
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(known), "{refused:?}");
        assert_eq!(refused.stdout, "");
    }
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    for arguments in [["completions", "bash"], ["man", "serve"]] {
        let mut command = program(&arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        drop(process.child.stdout.take());
        assert_eq!(process.wait().code(), Some(0));
    }
}
