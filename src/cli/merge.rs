//! `echoloop merge`: one report of several generators that ran at the same time.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use echoloop::load;

use super::compare::read;
use super::output::{FAILED, WRONG_USAGE, fail};
use super::results::ResultArguments;
use super::verbosity::{Verbosity, install_log};

pub(super) const EXAMPLES: &str = "\
Examples:
  echoloop merge a.json b.json                        what two machines measured together
  kubectl logs -l job-name=echoloop-load --tail=-1 | echoloop merge

Distributions are added value by value, so percentiles are those of all messages. Rates are added over the time that
all generators measured. Reports of runs that do not overlap, or that were told different things, are refused; what may
differ is each generator's share: clients, rate, messages, seed and source addresses. In the series the percentiles of
an interval are those of the generator where they were largest.

Exit status: as `echoloop load`, for the merged report.";

#[derive(Args, Clone, Debug)]
pub(crate) struct MergeArguments {
    /// Files with reports of `echoloop load --json`, each with any number of them, also between lines of a log; `-` is
    /// standard input, and the default
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    results: ResultArguments,

    #[command(flatten)]
    verbosity: Verbosity,
}

/// Merges reports and publishes the result.
pub(super) fn merge(arguments: &MergeArguments) -> ExitCode {
    install_log(arguments.verbosity.level());
    let outputs = match arguments.results.open() {
        Ok(outputs) => outputs,
        Err(error) => return fail(FAILED, &error),
    };
    let report = match reports(&arguments.files).map(|reports| load::merge(&reports)) {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => return fail(FAILED, &error),
        Err(error) => return fail(FAILED, &error),
    };
    match arguments.results.check(&report.settings) {
        Ok(()) => outputs.publish(&report),
        Err(error) => fail(WRONG_USAGE, &error),
    }
}

fn reports(files: &[PathBuf]) -> Result<Vec<load::Report>, String> {
    if files.is_empty() {
        return standard_input();
    }
    let lists = files.iter().map(|path| if path == Path::new("-") { standard_input() } else { read(path) });
    Ok(lists.collect::<Result<Vec<_>, String>>()?.concat())
}

fn standard_input() -> Result<Vec<load::Report>, String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|error| format!("cannot read standard input: {error}"))?;
    load::read("standard input", &text).map_err(|error| error.to_string())
}
