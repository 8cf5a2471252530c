//! How many connections this machine can hold, which limit comes first, and what raises it.
//!
//! | file | its one idea |
//! |---|---|
//! | `question.rs` | how many connections, in which role |
//! | `machine.rs` | what the system tells about itself, read once |
//! | `formats.rs` | the texts of `/proc` and `/sys` to numbers; pure |
//! | `limits.rs` | numbers to limits, each with its remedy; pure |
//! | `report.rs` | the limits for people and for programs |

mod formats;
mod limits;
mod machine;
mod question;
mod report;

use self::machine::Machine;

pub use self::limits::Limit;
pub use self::question::{Question, Role};
pub use self::report::{Outlook, Report};

/// Reads what bounds the connections of this machine and answers the question. What can't be read is said in the
/// report, and bounds nothing.
///
/// ```
/// use echoloop::doctor::{Question, Role, examine};
///
/// let one = Question { connections: Some(1), role: Some(Role::Server), sources: 1 };
/// let report = examine(&one);
/// assert!(report.is_reachable());
/// assert!(report.server.is_some_and(|server| server.reachable.is_none_or(|reachable| reachable >= 1)));
/// ```
pub fn examine(question: &Question) -> Report {
    Report::new(question, Machine::read())
}
