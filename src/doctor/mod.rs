//! The connections that this machine can hold, the first limit, and the command that raises it.
//!
//! | file | its one idea |
//! |---|---|
//! | `machine.rs` | examine: the figures of the system, read once |
//! | `limits.rs` | judge: figures to limits, each with its remedy; pure |
//! | `report.rs` | report: the limits for people and for programs |

mod limits;
mod machine;
mod report;

use self::machine::Machine;

pub use self::limits::{Limit, Question, Role};
pub use self::report::{Outlook, Report};

/// Reads the figures that bound the connections of this machine, and answers the question. The report names the figures
/// that it could not read; they bound nothing.
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
