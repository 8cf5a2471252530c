//! Whether results are good, and what to try if they are not.

use super::condition::Condition;
use super::report::Report;
use super::table::time;

/// The most messages of an open loop that may be missing before it is said that the rate was not reached.
const RATE_TOLERANCE: f64 = 0.01;

/// What a run amounts to. The numbers are exit statuses of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was echoed.
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

    pub(super) fn find_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |warning: String| warnings.push(warning);
        let Report { settings, connections, messages, errors, generator, .. } = self;
        if connections.opened < connections.requested && !self.interrupted && settings.mode != "churn" {
            warn(format!(
                "only {} of {} connections were established: the figures are those of fewer clients",
                connections.opened, connections.requested
            ));
        }
        self.waiting_for_the_lost().into_iter().for_each(&mut warn);
        if errors.mismatch > 0 {
            warn(
                "the server did not echo what was sent: no other figure means anything before that is mended"
                    .into(),
            );
        }
        if let Some(rate) = settings.rate
            && !self.interrupted
            && settings.messages.is_none()
            && self.rate < rate * (1.0 - RATE_TOLERANCE)
        {
            let why = if generator.bottleneck {
                "the generator was late itself: use several processes with a part of the rate each"
            } else {
                "connections were busy: the server can't take that rate over so many (try more --clients or --depth, \
                 or a lower --rate)"
            };
            warn(format!("{:.0} messages a second instead of {rate:.0}: {why}", self.rate));
        }
        if generator.bottleneck && settings.rate.is_some() {
            warn(format!(
                "the generator was the bottleneck: one message of a hundred left {} late although its connection was \
                 free; give it a core of its own (taskset), a lower --rate, or several processes",
                time(generator.lag_us.p99)
            ));
        } else if generator.bottleneck {
            warn(format!(
                "the generator took {:.0} % of a core: its own work may be what limits the rate; run one more process \
                 of it on another core and see whether the rates add up",
                generator.cpu_seconds / self.seconds * 100.0
            ));
        }
        if messages.not_sent > 0 {
            warn(format!(
                "{} messages were due and not sent before the end, because their connections were busy: the \
                 percentiles would be worse with them",
                messages.not_sent
            ));
        }
        if self.fairness.most > 100 && self.fairness.jain < 0.8 {
            warn(format!(
                "messages were spread unevenly: {} for one client, {} for another",
                self.fairness.fewest, self.fairness.most
            ));
        }
        let few = settings.mode != "hold" && messages.received > 0 && messages.received < 1000;
        if few && !self.interrupted {
            warn(format!(
                "{} messages are few: p99.9 and beyond say nothing (try a longer --duration)",
                messages.received
            ));
        }
        if messages.received > 0 && self.seconds < 1.0 && settings.messages.is_none() && !self.interrupted {
            warn(
                "less than a second is short: the first moments weigh much (try --duration 10s --warmup 1s)"
                    .into(),
            );
        }
        warnings
    }
}
