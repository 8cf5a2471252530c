//! `--verbose` and `--quiet`: how much the log shows.

use clap::Args;
use echoloop::StandardErrorLog;
use log::LevelFilter;

use super::output::complain;

/// How much the log shows, on standard error.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Verbosity {
    /// Log more: each chunk, each attempt to connect; -vv: also each readiness event, read, write and change of state
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet", help_heading = "Log")]
    verbose: u8,

    /// Log warnings and errors alone
    #[arg(short, long, help_heading = "Log")]
    quiet: bool,
}

impl Verbosity {
    pub(super) fn level(self) -> LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::Warn,
            (false, 0) => LevelFilter::Info,
            (false, 1) => LevelFilter::Debug,
            (false, _) => LevelFilter::Trace,
        }
    }
}

pub(super) fn install_log(level: LevelFilter) {
    if let Err(error) = StandardErrorLog::install(level) {
        complain(&error);
    }
}
