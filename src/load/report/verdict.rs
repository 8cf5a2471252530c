//! The judgement of a run, and the exit status that it leads to.

use super::conditions::Condition;
use super::json::Report;

/// The judgement of a run. The numbers are exit statuses of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every message was echoed, or over UDP lost.
    Good,
    /// Connections failed, or nothing was received.
    Errors,
    /// No connection was ever established, or over UDP no message answered: refused.
    Refused,
    /// No connection was ever established, or over UDP no message answered: timed out.
    TimedOut,
    /// Other bytes came back than were sent.
    Mismatch,
    /// A condition that was to fail the run held; these are the reasons.
    Failed(Vec<String>),
}

impl Verdict {
    /// Judges a run: a mismatch is worst, then a run without any connection, then the conditions, then other errors.
    pub fn of(report: &Report, conditions: &[Condition]) -> Verdict {
        if report.errors.mismatch > 0 {
            return Verdict::Mismatch;
        }
        // A datagram socket opens even if nobody is there: only an answer proves a server.
        let nobody = match report.udp {
            Some(_) => report.messages.received == 0,
            None => report.connections.opened == 0,
        };
        if nobody && report.errors.refused > 0 {
            return Verdict::Refused;
        }
        let all_lost = report.udp.is_some_and(|udp| udp.lost + udp.late > 0);
        if nobody && (report.errors.timeout > 0 || all_lost) {
            return Verdict::TimedOut;
        }
        let reasons: Vec<String> =
            conditions.iter().filter_map(|condition| condition.violated(report)).collect();
        if !reasons.is_empty() {
            return Verdict::Failed(reasons);
        }
        // A run that received nothing proved nothing.
        let is_good = report.errors.total() == 0 && report.messages.received > 0;
        if is_good { Verdict::Good } else { Verdict::Errors }
    }

    /// The exit status for the verdict.
    pub fn status(&self) -> u8 {
        match self {
            Verdict::Good => 0,
            Verdict::Errors => 1,
            Verdict::Refused => 4,
            Verdict::TimedOut => 5,
            Verdict::Mismatch => 7,
            Verdict::Failed(_) => 8,
        }
    }
}
