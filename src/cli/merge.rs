//! `echoloop merge`: one report of several generators that ran at the same time.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use echoloop::{describe, load};

use super::compare::read;
use super::output::{FAILED, WRONG_USAGE, fail};
use super::results::ResultArguments;
use super::verbosity::{Verbosity, install_log};

pub(super) const EXAMPLES: &str = "\
Examples:
  echoloop merge a.json b.json
      what two machines measured together
  kubectl logs -l job-name=echoloop-load --tail=-1 | echoloop merge

Distributions are added value by value, so percentiles are those of all messages. Rates are added over the time that
all generators measured. `merge` refuses runs that do not overlap or have different settings. Only the settings of a
generator's share may differ: clients, rate, messages, seed and source addresses. In the series, an interval shows the
largest percentiles of any generator.

Exit status: as `echoloop load`, for the merged report.";

#[derive(Args, Clone, Debug)]
pub(crate) struct MergeArguments {
    /// Files with reports of `echoloop load --json`. A file may hold several, also between the lines of a log; `-` is
    /// standard input, the default
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
    let merged = reports(&arguments.files).and_then(|reports| {
        no_run_is_there_twice(&reports)?;
        load::merge(&reports).map_err(|error| error.to_string())
    });
    let report = match merged {
        Ok(report) => report,
        Err(error) => return fail(FAILED, &error),
    };
    match arguments.results.check(&report.settings) {
        Ok(()) => outputs.publish(&report),
        Err(error) => fail(WRONG_USAGE, &error),
    }
}

/// Refuses a run that is there twice: counting it twice would double its rate.
fn no_run_is_there_twice(reports: &[load::Report]) -> Result<(), String> {
    for (place, report) in reports.iter().enumerate() {
        let is_the_same = |other: &load::Report| {
            let seeds = (other.settings.seed, report.settings.seed);
            other.host == report.host && other.started == report.started && seeds.0 == seeds.1
        };
        if let Some(first) = reports[..place].iter().position(is_the_same) {
            return Err(format!("reports {} and {} are of the same run", first + 1, place + 1));
        }
    }
    Ok(())
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
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read standard input: {}", describe(&error)))?;
    load::read("standard input", &text).map_err(|error| error.to_string())
}
