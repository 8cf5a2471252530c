//! `echoloop doctor`.

use std::process::ExitCode;

use crate::cli::DoctorArguments;
use crate::{FAILED, fail};

/// Prints what the machine can hold; its status says whether that is enough.
pub(crate) fn doctor(arguments: &DoctorArguments) -> ExitCode {
    let report = echoloop::doctor::examine(&arguments.question());
    match super::print(&arguments.show(&report)) {
        Ok(()) if report.is_reachable() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(FAILED),
        Err(error) => fail(FAILED, &format!("cannot write the report to standard output: {error}")),
    }
}
