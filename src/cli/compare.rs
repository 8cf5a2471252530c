//! `echoloop compare`: results of load runs side by side.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::output::{FAILED, fail, print};

#[derive(Args, Clone, Debug)]
pub(crate) struct CompareArguments {
    /// Files with what `echoloop load --json` printed; ratios are to the first
    #[arg(value_name = "FILE", num_args = 2.., required = true)]
    files: Vec<PathBuf>,
}

/// Prints results side by side.
pub(super) fn compare(arguments: &CompareArguments) -> ExitCode {
    let results: Result<Vec<_>, String> = arguments.files.iter().map(|path| read(path)).collect();
    let table =
        results.and_then(|results| echoloop::load::compare(&results).map_err(|error| error.to_string()));
    match table.and_then(|table| print(&table).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &error),
    }
}

fn read(path: &Path) -> Result<(String, String), String> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(format!("cannot read {name}: {error}")),
    }
}
