//! The results as text: a table, and a histogram of latency drawn with characters.

use std::cmp::Reverse;
use std::fmt::{self, Write as _};

use super::figures::Histogram;
use super::report::{DatagramsReport, Report, Times};

/// Rows of the histogram.
const ROWS: usize = 16;
/// The longest bar.
const BAR: f64 = 50.0;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title())?;
        for (name, text) in self.lines() {
            writeln!(f, "  {name:<12}{text}")?;
        }
        self.write_times(f)?;
        self.write_greetings(f)?;
        if let Some(latency) = self.latency.as_ref().filter(|latency| latency.len() > 1) {
            write!(f, "\n{}", histogram(latency))?;
        }
        for (title, lines) in [("Failures", &self.failures), ("Warnings", &self.warnings)] {
            if !lines.is_empty() {
                writeln!(f, "\n{title}:")?;
            }
            for line in lines {
                writeln!(f, "  {line}")?;
            }
        }
        if self.interrupted {
            writeln!(f, "\nEnded early by a signal.")?;
        }
        Ok(())
    }
}

impl Report {
    /// Lost messages, in percent of those that were sent; none over streams.
    pub(super) fn loss(&self) -> f64 {
        let lost = self.udp.map_or(0, |udp| udp.lost);
        if lost == 0 { 0.0 } else { lost as f64 / self.messages.sent as f64 * 100.0 }
    }

    /// What was done, in a line.
    pub(super) fn title(&self) -> String {
        let settings = &self.settings;
        let clients = format!("{} client{}", settings.clients, if settings.clients == 1 { "" } else { "s" });
        let size = if settings.size_min == settings.size_max {
            format!("{} bytes", settings.size_min)
        } else {
            format!("{} to {} bytes", settings.size_min, settings.size_max)
        };
        let loop_kind = match (settings.rate, &settings.arrivals) {
            (Some(rate), Some(arrivals)) => format!("open loop of {rate} messages/s ({arrivals})"),
            _ => "closed loop".into(),
        };
        let what = match settings.mode.as_str() {
            "hold" => "connections held".into(),
            "churn" => format!("{loop_kind}, a connection per message"),
            _ if settings.depth > 1 => format!("{loop_kind}, {} messages under way each", settings.depth),
            _ => loop_kind,
        };
        format!("{clients}, {what}, {size} a message, to {}", settings.endpoints.join(" "))
    }

    /// The most frequent first.
    fn write_greetings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(greetings) = self.greetings.as_ref().filter(|greetings| !greetings.is_empty()) else {
            return Ok(());
        };
        writeln!(f, "\nGreetings:")?;
        let mut greetings: Vec<_> = greetings.iter().collect();
        greetings.sort_by_key(|(_, count)| Reverse(**count));
        for (text, count) in greetings {
            writeln!(f, "  {count:>10}  {}", text.escape_debug())?;
        }
        match self.greetings_other {
            Some(others @ 1..) => writeln!(f, "  {others:>10}  with other words"),
            _ => Ok(()),
        }
    }

    /// Each kind of figure with its name; those that mean nothing in this run are left out.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let Report { settings, connections, bytes, errors, fairness, .. } = self;
        let connections = format!(
            "{} wanted, {} opened, {} lost",
            connections.requested, connections.opened, connections.lost
        );
        let mut lines = vec![("connections", connections), ("messages", self.message_counts())];
        lines.extend(self.datagrams().map(|text| ("datagrams", text)));
        lines.push(("bytes", format!("{} sent, {} received", bytes.sent, bytes.received)));
        if settings.mode != "hold" {
            lines.push(("rate", self.rate_and_volume()));
        }
        lines.push(("errors", errors.to_string()));
        lines.push(("generator", self.generator_cost()));
        if settings.rate.is_some() {
            let lag = self.generator.lag_us;
            let text = format!("p50 {}, p99 {}, max {}", time(lag.p50), time(lag.p99), time(lag.max));
            lines.push(("lag", text));
        }
        let (fewest, most, jain) = (fairness.fewest, fairness.most, fairness.jain);
        lines.push(("fairness", format!("{fewest} to {most} messages a client, Jain's index {jain:.4}")));
        lines
    }

    fn message_counts(&self) -> String {
        let messages = &self.messages;
        let mut counts =
            format!("{} sent, {} received, {} cut off", messages.sent, messages.received, messages.cut_off);
        if messages.not_sent > 0 {
            let _ = write!(counts, ", {} due and not sent", messages.not_sent);
        }
        counts.push_str(if self.settings.verify { " (every byte verified)" } else { " (not verified)" });
        counts
    }

    fn rate_and_volume(&self) -> String {
        let (messages, bytes) = (self.messages.received, self.bytes.received);
        let volume = if messages > 0 { self.rate * bytes as f64 / messages as f64 / 1e6 } else { 0.0 };
        format!("{:.0} messages/s, {volume:.2} MB/s each way, over {:.2} s", self.rate, self.seconds)
    }

    fn generator_cost(&self) -> String {
        let seconds = self.generator.cpu_seconds;
        format!(
            "{seconds:.2} s of CPU time ({:.0} % of a core, {:.2} µs a message)",
            seconds / self.seconds.max(1e-9) * 100.0,
            seconds * 1e6 / self.messages.received.max(1) as f64
        )
    }

    /// What became of datagrams; nothing over streams.
    fn datagrams(&self) -> Option<String> {
        let DatagramsReport { lost, late, duplicated, reordered, corrupted, unknown } = self.udp?;
        Some(format!(
            "{lost} lost ({:.3} %), {late} late, {duplicated} duplicated, {reordered} reordered, \
             {corrupted} corrupted, {unknown} unknown",
            self.loss()
        ))
    }

    fn write_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        write!(f, "\n  {:<12}", "")?;
        heads.iter().try_for_each(|head| write!(f, "{head:>10}"))?;
        writeln!(f)?;
        let rows = [
            ("latency", &self.latency_us),
            ("service", &self.service_time_us),
            ("connecting", &self.connect_us),
        ];
        for (name, times) in rows {
            let Some(times) = times else { continue };
            let Times { min, mean, p50, p90, p99, p99_9, p99_99, max } = *times;
            write!(f, "  {name:<12}")?;
            for value in [min, mean, p50, p90, p99, p99_9, p99_99, max] {
                write!(f, "{:>10}", time(value))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Microseconds with three digits and a unit.
pub(super) fn time(microseconds: f64) -> String {
    let (value, unit) = match microseconds {
        us if us < 1.0 => (us * 1e3, "ns"),
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// How often which latency occurred, in rows that grow by the same factor each.
fn histogram(times: &Histogram) -> String {
    let (low, high) = (times.min().max(1) as f64, times.max().max(2) as f64);
    let factor = (high / low).powf(1.0 / ROWS as f64).max(1.01);
    let mut counts = [0_u64; ROWS];
    for value in times.iter_recorded() {
        let row = ((value.value_iterated_to().max(1) as f64 / low).ln() / factor.ln()) as usize;
        counts[row.min(ROWS - 1)] += value.count_at_value();
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let mut text = String::new();
    for (row, &count) in counts.iter().enumerate() {
        let until = low * factor.powi(row as i32 + 1) / 1e3;
        let share = count as f64 / times.len() as f64 * 100.0;
        let length = (count as f64 / most * BAR).ceil() as usize;
        // Writing to a string can't fail.
        let _ = writeln!(text, "  up to {:>8} {share:>7.3} % {}", time(until), "#".repeat(length));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::figures::times;
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (microseconds, text) in [
            (0.0, "0.00 ns"),
            (0.5, "500 ns"),
            (1.0, "1.00 µs"),
            (12.345, "12.3 µs"),
            (999.0, "999 µs"),
            (1500.0, "1.50 ms"),
            (2e6, "2.00 s"),
        ] {
            assert_eq!(time(microseconds), text);
        }
    }

    #[test]
    fn the_histogram_holds_everything() {
        let mut all = times();
        for value in [1, 1000, 1500, 2_000_000_000] {
            all.record(value).expect("in range");
        }
        let text = histogram(&all);
        let shares = text.lines().map(|line| line.split_whitespace().nth(4).expect("a share"));
        let sum: f64 = shares.map(|share| share.parse::<f64>().expect("a number")).sum();
        assert!((sum - 100.0).abs() < 0.01, "{text}");
        assert_eq!(text.lines().count(), ROWS);
        let mut one = times();
        one.record(5).expect("in range");
        assert!(histogram(&one).contains("100.000 %"));
    }
}
