//! One table: the cost of an echo in our server and in the baselines, in interleaved rounds.
//!
//! `cargo bench --bench matrix` prints the table, `-- --quick` does so in little time, `-- --full` measures every size
//! and number of clients, and `-- --write` writes BENCHMARKS.md and its plots anew.
#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr, reason = "a benchmark is a program")]

#[path = "matrix/aims.rs"]
mod aims;
mod baselines;
#[path = "matrix/cells.rs"]
mod cells;
#[path = "matrix/document.rs"]
mod document;
#[path = "matrix/plots.rs"]
mod plots;
#[path = "matrix/scaling.rs"]
mod scaling;
mod servers;
#[path = "matrix/single.rs"]
mod single;

use std::error::Error;
use std::process::ExitCode;

/// The extent of the measurements, and with it the time that they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Quick,
    Normal,
    Full,
    Write,
}

impl Extent {
    fn from_arguments() -> Result<Extent, String> {
        let mut extent = Extent::Normal;
        for argument in std::env::args().skip(1) {
            extent = match argument.as_str() {
                // Cargo passes this to every benchmark.
                "--bench" => extent,
                "--quick" | "--test" => Extent::Quick,
                "--full" => Extent::Full,
                "--write" => Extent::Write,
                _ => return Err(format!("{argument}: --quick, --full or --write is expected")),
            };
        }
        Ok(extent)
    }

    fn rounds(self) -> usize {
        if self == Extent::Quick { 1 } else { 7 }
    }
}

fn main() -> ExitCode {
    if servers::was_baseline() {
        return ExitCode::SUCCESS;
    }
    match Extent::from_arguments().map_err(Into::into).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("matrix: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(extent: Extent) -> Result<(), Box<dyn Error>> {
    // The parent holds the clients: as many as the hard limit allows.
    echoloop::DescriptorLimit::raise();
    let table = cells::measure(extent)?;
    let mut document = document::Document::new(extent);
    document.cells(&table);
    if extent == Extent::Write {
        document.plot_ratios(&table)?;
    }
    let single = single::measure(extent)?;
    document.single(&single);
    let mut aims = aims::of_cells(&table);
    aims.extend(aims::of_single(&single));
    document.aims(&aims);
    if extent == Extent::Write {
        document.scaling(&scaling::measure()?)?;
        document.write()?;
    }
    Ok(())
}
