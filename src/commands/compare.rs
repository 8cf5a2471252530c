//! `echoloop compare`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::CompareArguments;
use crate::{FAILED, fail};

/// Prints results side by side.
pub(crate) fn compare(arguments: &CompareArguments) -> ExitCode {
    let read = |path: &Path| {
        let name = path.display().to_string();
        fs::read_to_string(path)
            .map(|text| (name.clone(), text))
            .map_err(|error| format!("cannot read {name}: {error}"))
    };
    let results: Result<Vec<_>, String> = arguments.files.iter().map(|path| read(path)).collect();
    let table =
        results.and_then(|results| echoloop::load::compare(&results).map_err(|error| error.to_string()));
    match table.and_then(|table| super::print(&table).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &error),
    }
}
