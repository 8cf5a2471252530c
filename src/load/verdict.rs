//! Whether results are good, and what to try if they are not.

use super::condition::Condition;
use super::report::Report;
use super::table::time;

/// The most messages of an open loop that may be missing before it is said that the rate was not reached.
const RATE_TOLERANCE: f64 = 0.01;

/// What a run amounts to. The numbers are exit statuses of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was echoed, or over UDP was lost.
    Good,
    /// Connections failed.
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
    /// The exit status that stands for it.
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

impl Report {
    /// Judges the run: a mismatch is worst, then not having connected at all, then the conditions, then other errors.
    pub fn verdict(&self, conditions: &[Condition]) -> Verdict {
        if self.errors.mismatch > 0 {
            return Verdict::Mismatch;
        }
        // A datagram socket is open whether or not there is anybody: only an answer tells.
        let nobody =
            if self.udp.is_some() { self.messages.received == 0 } else { self.connections.opened == 0 };
        if nobody && self.errors.refused > 0 {
            return Verdict::Refused;
        }
        let all_lost = self.udp.is_some_and(|udp| udp.lost + udp.late > 0);
        if nobody && (self.errors.timeout > 0 || all_lost) {
            return Verdict::TimedOut;
        }
        let reasons: Vec<String> = conditions.iter().flat_map(|condition| condition.violated(self)).collect();
        if !reasons.is_empty() {
            return Verdict::Failed(reasons);
        }
        if self.errors.total() > 0 { Verdict::Errors } else { Verdict::Good }
    }

    /// What a reader of the figures should know about them.
    pub(super) fn find_warnings(&self) -> Vec<String> {
        let warnings = [
            self.fewer_clients(),
            self.waiting_for_the_lost(),
            self.wrong_echo(),
            self.lower_rate(),
            self.bottleneck(),
            self.not_sent(),
            self.unevenly_spread(),
            self.few_messages(),
            self.short_run(),
        ];
        warnings.into_iter().flatten().collect()
    }

    fn fewer_clients(&self) -> Option<String> {
        let connections = &self.connections;
        let fewer = connections.opened < connections.requested;
        (fewer && !self.interrupted && self.settings.mode != "churn").then(|| {
            format!(
                "only {} of {} connections were established: the figures are those of fewer clients",
                connections.opened, connections.requested
            )
        })
    }

    fn waiting_for_the_lost(&self) -> Option<String> {
        let missing = self.udp.is_some_and(|udp| udp.lost + udp.late > 0);
        (missing && self.settings.rate.is_none()).then(|| {
            format!(
                "in a closed loop a client waits for a lost message for {} s before it goes on: the rate says more \
                 about that than about the server (try --rate, or a shorter --timeout)",
                self.settings.timeout_s
            )
        })
    }

    fn wrong_echo(&self) -> Option<String> {
        (self.errors.mismatch > 0).then(|| {
            "the server did not echo what was sent: no other figure means anything before that is mended"
                .into()
        })
    }

    fn lower_rate(&self) -> Option<String> {
        let rate = self.settings.rate?;
        let reached = self.rate >= rate * (1.0 - RATE_TOLERANCE);
        if reached || self.interrupted || self.settings.messages.is_some() {
            return None;
        }
        let why = if self.generator.bottleneck {
            "the generator was late itself: use several processes with a part of the rate each"
        } else {
            "connections were busy: the server can't take that rate over so many (try more --clients or --depth, or a \
             lower --rate)"
        };
        Some(format!("{:.0} messages a second instead of {rate:.0}: {why}", self.rate))
    }

    fn bottleneck(&self) -> Option<String> {
        let generator = &self.generator;
        if !generator.bottleneck {
            return None;
        }
        Some(if self.settings.rate.is_some() {
            format!(
                "the generator was the bottleneck: one message of a hundred left {} late although its connection was \
                 free; give it a core of its own (taskset), a lower --rate, or several processes",
                time(generator.lag_us.p99)
            )
        } else {
            format!(
                "the generator took {:.0} % of a core: its own work may be what limits the rate; run one more process \
                 of it on another core and see whether the rates add up",
                generator.cpu_seconds / self.seconds * 100.0
            )
        })
    }

    fn not_sent(&self) -> Option<String> {
        let count = self.messages.not_sent;
        (count > 0).then(|| {
            format!(
                "{count} messages were due and not sent before the end, because their connections were busy: the \
                 percentiles would be worse with them"
            )
        })
    }

    fn unevenly_spread(&self) -> Option<String> {
        let fairness = &self.fairness;
        (fairness.most > 100 && fairness.jain < 0.8).then(|| {
            format!(
                "messages were spread unevenly: {} for one client, {} for another",
                fairness.fewest, fairness.most
            )
        })
    }

    fn few_messages(&self) -> Option<String> {
        let received = self.messages.received;
        let few = (1..1000).contains(&received) && self.settings.mode != "hold";
        (few && !self.interrupted).then(|| {
            format!("{received} messages are few: p99.9 and beyond say nothing (try a longer --duration)")
        })
    }

    fn short_run(&self) -> Option<String> {
        let short = self.messages.received > 0 && self.seconds < 1.0 && self.settings.messages.is_none();
        (short && !self.interrupted).then(|| {
            "less than a second is short: the first moments weigh much (try --duration 10s --warmup 1s)"
                .into()
        })
    }
}
