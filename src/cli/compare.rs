//! `echoloop compare`: which results are put side by side.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Clone, Debug)]
pub(crate) struct CompareArguments {
    /// Files with what `echoloop load --json` printed; ratios are to the first
    #[arg(value_name = "FILE", num_args = 2.., required = true)]
    pub(crate) files: Vec<PathBuf>,
}
