//! The results: a document, and its forms.
//!
//! | file | |
//! |---|---|
//! | `json.rs` | the [`Report`], as programs read it |
//! | `warnings.rs` | facts without which the figures mislead |
//! | `conditions.rs`, `measures.rs` | `--fail-if`, and the figures that it can compare |
//! | `verdict.rs` | the judgement of a run, and its exit status |
//! | `table.rs`, `hgrm.rs`, `plot.rs` | the report as text, for HdrHistogram's plotters, as a picture (`chart.rs`) |
//! | `reading.rs` | reports, read back from files and logs |
//! | `merge.rs` | one report of generators that ran at the same time |
//! | `compare.rs` | reports side by side |
//! | `differences.rs`, `samples.rs` | the settings in which two runs differ; differences that are more than noise |

mod chart;
mod compare;
mod conditions;
mod differences;
mod hgrm;
mod json;
mod measures;
mod merge;
mod plot;
mod reading;
mod samples;
mod table;
mod verdict;
mod warnings;

use super::figures::Figures;
use super::plan::Plan;

pub use self::chart::PlotError;
pub(super) use self::chart::{Area, LINE, Line, SECOND_LINE, logarithmic, picture};
pub use self::compare::{Side, compare};
pub use self::conditions::{Condition, ConditionError};
pub use self::hgrm::hgrm;
#[cfg(test)]
pub(super) use self::json::tests::report;
pub use self::json::{FORMAT_VERSION, GeneratorPart, Merged, Report};
pub use self::merge::{MergeError, merge};
pub use self::plot::plot;
pub use self::reading::{ReadError, read};
pub use self::table::{Table, in_a_line};
pub use self::verdict::Verdict;

/// The results of a run that is over, with its warnings.
pub(super) fn conclude(settings: Plan, figures: Figures) -> Report {
    let mut report = Report::new(settings, figures);
    report.warnings = warnings::find(&report);
    report
}
