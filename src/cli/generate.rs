//! `echoloop completions` and `echoloop man`: both are made from the command line itself, so they can't differ from it.

use std::io;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, Resettable};
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::help;
use super::output::{FAILED, fail, publish};

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  D=~/.local/share/bash-completion/completions; mkdir -p $D
  echoloop completions bash > $D/echoloop
  mkdir -p ~/.zfunc; echoloop completions zsh > ~/.zfunc/_echoloop
      with ~/.zfunc in $fpath
  D=~/.config/fish/completions; mkdir -p $D
  echoloop completions fish > $D/echoloop.fish";

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  echoloop man | man -l -
      read it here
  D=~/.local/share/man/man1; mkdir -p $D
  echoloop man > $D/echoloop.1
      then `man echoloop` shows it
  echoloop man send > $D/echoloop-send.1";

/// clap's script offers options where nothing is typed yet. This wrapper empties that answer where a file is expected,
/// so that bash offers files.
const BASH_FILES: &str = r#"
_echoloop_or_files() {
    _echoloop "$@"
    case "${COMP_WORDS[1]} ${COMP_WORDS[COMP_CWORD]}" in
        'compare ' | 'merge ' | 'trace-page ') COMPREPLY=() ;;
    esac
}
"#;

/// The commands that have a page of their own.
pub(super) const COMMANDS: [&str; 9] =
    ["serve", "send", "load", "compare", "merge", "doctor", "trace-page", "completions", "man"];

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct CompletionsArguments {
    /// The shell that reads the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ManArguments {
    /// The page of this command instead of the program's
    #[arg(value_name = "COMMAND", value_parser = PossibleValuesParser::new(COMMANDS))]
    command: Option<String>,
}

/// Prints the script for a shell.
pub(super) fn completions(arguments: CompletionsArguments, program: &Command) -> ExitCode {
    publish(&arguments.script(program))
}

/// Prints a manual page.
pub(super) fn man(arguments: &ManArguments, program: Command) -> ExitCode {
    match arguments.page(program) {
        Ok(page) => publish(&page),
        Err(error) => fail(FAILED, &format!("cannot make the manual page: {error}")),
    }
}

impl CompletionsArguments {
    /// The script, as the shell reads it.
    fn script(self, program: &Command) -> String {
        // With the endpoints of the default command, the scripts would take each command for an endpoint.
        let options = program.get_arguments().filter(|argument| !argument.is_positional()).cloned();
        let mut program = Command::new("echoloop")
            .version(env!("CARGO_PKG_VERSION"))
            .args(options)
            .subcommands(program.get_subcommands().cloned());
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "echoloop", &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        if self.shell == Shell::Bash {
            script.replace("-F _echoloop ", "-F _echoloop_or_files ") + BASH_FILES
        } else {
            script
        }
    }
}

impl ManArguments {
    /// The page as `man(1)` reads it.
    fn page(&self, mut program: Command) -> io::Result<String> {
        // Gives each command its full name: echoloop-serve.
        program.build();
        let command =
            self.command.as_ref().and_then(|name| program.find_subcommand(name)).unwrap_or(&program);
        let text = command.get_after_help().map(|text| help::manual(&text.to_string()));
        let mut page = Vec::new();
        Man::new(command.clone().after_help(Resettable::Reset)).render(&mut page)?;
        Ok(String::from_utf8_lossy(&page).into_owned() + &text.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_under_its_full_name() {
        for (command, title) in
            [(None, "echoloop"), (Some("serve"), "echoloop-serve"), (Some("send"), "echoloop-send")]
        {
            let program = Command::new("echoloop").subcommands(["serve", "send"].map(Command::new));
            let page =
                ManArguments { command: command.map(str::to_owned) }.page(program).expect("memory takes it");
            assert!(page.contains(&format!(".TH {title} 1")), "{page}");
        }
    }
}
