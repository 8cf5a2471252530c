//! The results: a document, and what is made of it.
//!
//! | file | |
//! |---|---|
//! | `json.rs` | the [`Report`], as programs read it |
//! | `warnings.rs` | what a reader of the figures should know |
//! | `conditions.rs` | `--fail-if`, and the exit status |
//! | `table.rs`, `hgrm.rs`, `plot.rs` | the report as text, for HdrHistogram's plotters, as a picture (`chart.rs`) |
//! | `compare.rs` | several reports side by side |

mod chart;
mod compare;
mod conditions;
mod hgrm;
mod json;
mod plot;
mod table;
mod warnings;

pub use self::chart::PlotError;
pub use self::compare::{CompareError, compare};
pub use self::conditions::{Condition, ConditionError, Verdict};
pub use self::hgrm::hgrm;
pub use self::json::{Bytes, Connections, FORMAT_VERSION, Generator, Histograms, Messages, Report};
pub use self::plot::plot;
pub use self::table::Table;
