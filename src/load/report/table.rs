//! The results as text: a table, and a histogram of latency drawn with characters.

use std::cmp::Reverse;
use std::fmt::{self, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use super::super::figures::DatagramFates;
use super::super::outages::OutageFigures;
use super::super::plan::{Arrivals, Pace, Usage};
use super::super::replies::Replies;
use super::super::times::{Histogram, STATISTICS, Statistic, Times, text as time};
use super::json::{GeneratorPart, Report};
use crate::system::folded;

/// Rows of the histogram.
const ROWS: usize = 16;
/// Columns for a pipe or a file.
const USUAL_COLUMNS: usize = 80;
/// Columns before the bars of the histogram, with one that stays free behind the longest bar.
const BEFORE_BARS: usize = 28;
/// The least length of the longest bar, on any terminal.
const SHORTEST_BAR: usize = 8;
/// Columns of the names on the left.
const NAMES: usize = 14;
/// Columns of a generator's figures, with the margin before its name.
const BEHIND_GENERATOR: usize = 64;
/// Columns of a time. `COMPACT`, without a space before the unit: all nine times fit into 80 columns. `SPACIOUS`, with
/// that space. `WIDEST`: the most that a table takes.
const COMPACT: usize = 7;
const SPACIOUS: usize = 10;
const WIDEST: usize = 14;

/// A report as a table with a histogram, to be printed.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// The report.
    pub report: &'a Report,
    /// Columns of the terminal that it is for: its lines are wrapped there. `None` for a pipe or a file: only the table of
    /// times and the histogram are bounded, by 80 columns, and each other line stays whole.
    pub columns: Option<usize>,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        if let Some(line) = self.dead_target() {
            return writeln!(f, "{}", self.wrapped(&line, 0));
        }
        writeln!(f, "{}\n", self.wrapped(&title(report), 0))?;
        for (name, text) in self.lines() {
            writeln!(f, "{}", self.wrapped(&format!("  {name:<12}{text}"), NAMES))?;
        }
        self.write_times(f)?;
        self.write_greetings(f)?;
        self.write_generators(f)?;
        if report.histograms.latency.len() > 1 {
            let longest = self.width().saturating_sub(BEFORE_BARS).max(SHORTEST_BAR);
            write!(f, "\n{}", histogram(&report.histograms.latency, longest))?;
        }
        let unlisted = report.errors.total().saturating_sub(report.failures.len() as u64);
        for (title, lines, unlisted) in
            [("Failures", &report.failures, unlisted), ("Warnings", &report.warnings, 0)]
        {
            if !lines.is_empty() {
                writeln!(f, "\n{title}:")?;
            }
            for line in lines {
                writeln!(f, "{}", self.wrapped(&format!("  {line}"), 4))?;
            }
            if !lines.is_empty() && unlisted > 0 {
                writeln!(f, "  and {unlisted} more")?;
            }
        }
        if report.interrupted {
            writeln!(f, "\nEnded early by a signal.")?;
        }
        Ok(())
    }
}

impl Table<'_> {
    fn width(&self) -> usize {
        self.columns.unwrap_or(USUAL_COLUMNS)
    }

    /// Wraps a line for the terminal: the rest goes on in lines that are indented by `indent`.
    fn wrapped(&self, line: &str, indent: usize) -> String {
        self.columns.map_or_else(|| line.to_owned(), |columns| folded(line, columns, indent))
    }

    /// The only line of a report if nobody answered: a table would show only zeros.
    fn dead_target(&self) -> Option<String> {
        let Report { settings, connections, messages, errors, failures, udp, .. } = self.report;
        let endpoints: Vec<String> = settings.endpoints.iter().map(ToString::to_string).collect();
        let endpoints = endpoints.join(" ");
        // A UDP socket opens without asking its peer.
        let mut line = if connections.opened == 0 && messages.sent == 0 {
            format!("No connection to {endpoints} was established: {errors}")
        } else if udp.is_some() && connections.lost == connections.opened && messages.received == 0 {
            format!("No message to {endpoints} was answered: {errors}")
        } else {
            return None;
        };
        if let Some(first) = failures.first() {
            let _ = write!(line, " ({first})");
        }
        Some(line)
    }

    /// Each generator of a merged report.
    fn write_generators(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(merged) = &self.report.merged else { return Ok(()) };
        let name =
            |place: usize, part: &GeneratorPart| format!("{} on {}", place + 1, part.host.escape_debug());
        let names =
            merged.generators.iter().enumerate().map(|(place, part)| name(place, part).chars().count());
        let longest = names.max().unwrap_or(0).max("generator".len());
        // If a name leaves no room for its figures, the figures stand below it.
        let room = self.columns.map_or(longest, |columns| columns.saturating_sub(BEHIND_GENERATOR));
        let width = longest.min(room.max("generator".len()));
        writeln!(
            f,
            "\n  {:<width$}{:>8}{:>12}{:>11}{:>8}{:>11}",
            "generator", "clients", "messages/s", "began", "CPU", "lag p99"
        )?;
        for (place, part) in merged.generators.iter().enumerate() {
            let GeneratorPart { clients, started, seconds, rate, generator, .. } = part;
            let began = format!("+{}", time((started - self.report.started).max(0.0) * 1e6));
            let busy = format!("{:.0} %", generator.cpu_seconds / seconds.max(1e-9) * 100.0);
            let lag = generator.lag_us.map_or("-".into(), |lag| time(lag.p99));
            let mut name = name(place, part);
            if name.chars().count() > width {
                writeln!(f, "  {name}")?;
                name.clear();
            }
            write!(f, "  {name:<width$}{clients:>8}{rate:>12.0}{began:>11}{busy:>8}{lag:>11}")?;
            writeln!(f, "{}", if generator.bottleneck { "  bottleneck" } else { "" })?;
        }
        Ok(())
    }

    /// Greetings with their counts, the most frequent first.
    fn write_greetings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(greetings) = self.report.greetings.as_ref().filter(|greetings| !greetings.is_empty()) else {
            return Ok(());
        };
        writeln!(f, "\nGreetings:")?;
        let mut greetings: Vec<_> = greetings.iter().collect();
        greetings.sort_by_key(|(_, count)| Reverse(**count));
        for (text, count) in greetings {
            writeln!(f, "  {count:>10}  {}", text.escape_debug())?;
        }
        match self.report.greetings_other {
            Some(others @ 1..) => writeln!(f, "  {others:>10}  with other words"),
            _ => Ok(()),
        }
    }

    /// Each kind of figure with its name, but for figures that mean nothing in this run.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let Report { settings, connections, bytes, errors, fairness, generator, .. } = self.report;
        let connections = format!(
            "{} wanted, {} opened, {} lost",
            connections.requested, connections.opened, connections.lost
        );
        let mut lines = vec![("connections", connections), ("messages", self.message_counts())];
        lines.extend(self.datagrams().map(|text| ("datagrams", text)));
        lines.push((
            "bytes",
            format!("{} sent, {} received (seed {})", bytes.sent, bytes.received, settings.seed),
        ));
        if settings.usage != Usage::Hold {
            lines.push(("rate", self.rate_and_volume()));
        }
        lines.push(("errors", errors.to_string()));
        lines.extend(outage_lines(&self.report.outages, settings.clients));
        lines.push(("generator", self.generator_cost()));
        if let Some(lag) = generator.lag_us {
            let text = format!("p50 {}, p99 {}, max {}", time(lag.p50), time(lag.p99), time(lag.max));
            lines.push(("lag", text));
        }
        let (fewest, most, jain) = (fairness.fewest, fairness.most, fairness.jain);
        if most > 0 {
            lines.push(("fairness", format!("{fewest} to {most} messages a client, Jain's index {jain:.4}")));
        }
        lines
    }

    fn message_counts(&self) -> String {
        let messages = &self.report.messages;
        let mut counts =
            format!("{} sent, {} received, {} cut off", messages.sent, messages.received, messages.cut_off);
        if messages.not_sent > 0 {
            let _ = write!(counts, ", {} due and not sent", messages.not_sent);
        }
        if messages.received == 0 {
            return counts;
        }
        let settings = &self.report.settings;
        let usual = if settings.verify { "every byte verified" } else { "not verified" };
        let _ = write!(counts, " ({})", settings.replies.not_verified().unwrap_or(usual));
        counts
    }

    fn rate_and_volume(&self) -> String {
        let (messages, bytes) = (self.report.messages.received, self.report.bytes.received);
        let volume = if messages > 0 { self.report.rate * bytes as f64 / messages as f64 / 1e6 } else { 0.0 };
        let bits = volume * 8.0;
        let Report { rate, seconds, settings, .. } = self.report;
        let ways = if settings.replies == Replies::Echo { "each way" } else { "of replies" };
        format!("{rate:.0} messages/s, {volume:.2} MB/s ({bits:.1} Mbit/s) {ways}, over {seconds:.2} s")
    }

    fn generator_cost(&self) -> String {
        let (seconds, share) = (self.report.generator.cpu_seconds, self.report.cores_taken() * 100.0);
        let per_message = match self.report.cpu_us_per_reply() {
            Some(microseconds) => format!("{microseconds:.2} µs a message"),
            None => "while no message came".into(),
        };
        format!("{seconds:.2} s of CPU time ({share:.0} % of a core, {per_message})")
    }

    /// The fates of datagrams; nothing over streams.
    fn datagrams(&self) -> Option<String> {
        let DatagramFates { lost, late, duplicated, reordered, corrupted, unknown } = self.report.udp?;
        Some(format!(
            "{lost} lost ({:.3} %), {late} late, {duplicated} duplicated, {reordered} reordered, \
             {corrupted} corrupted, {unknown} unknown",
            self.report.loss()
        ))
    }

    /// The distributions of times, a line each; on a narrow terminal, a column each.
    fn write_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("latency", &self.report.latency_us),
            ("service", &self.report.service_time_us),
            ("connecting", &self.report.connect_us),
        ];
        let all: Vec<(&str, &Times)> =
            all.iter().filter_map(|(name, times)| Some((*name, times.as_ref()?))).collect();
        if all.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        let room = self.width().saturating_sub(NAMES) / STATISTICS.len();
        if room >= SPACIOUS {
            // As wide as times with a space before the unit, and wider where there is room for that.
            write_lines(f, &all, room.min(WIDEST), Statistic::shown)?;
        } else if room >= COMPACT {
            write_lines(f, &all, COMPACT, |statistic, times| statistic.shown(times).replace(' ', ""))?;
        } else {
            write!(f, "  {:<8}", "")?;
            all.iter().try_for_each(|(name, _)| write!(f, "{name:>12}"))?;
            for statistic in STATISTICS {
                write!(f, "\n  {:<8}", statistic.name)?;
                all.iter().try_for_each(|(_, times)| write!(f, "{:>12}", statistic.shown(times)))?;
            }
            writeln!(f)?;
        }
        let has_maxima = |times: &Times| STATISTICS.iter().any(|statistic| statistic.is_the_maximum(times));
        if all.iter().any(|(_, times)| has_maxima(times)) {
            let note = "  (=max: too few for this percentile; only the maximum lies beyond it)";
            writeln!(f, "{}", self.wrapped(note, 3))?;
        }
        Ok(())
    }
}

/// The first outage in words, and the silences; empty without an outage.
fn outage_lines(figures: &OutageFigures, clients: usize) -> Vec<(&'static str, String)> {
    let Some(first) = figures.list.first() else { return Vec::new() };
    let began = time_of_day(first.began);
    let when = match figures.count {
        1 => format!("1, at {began}"),
        count => format!("{count}, the first at {began}"),
    };
    let outages = format!(
        "{when}: {} of {clients} clients ({}), {}{}; the longest {}",
        first.clients,
        first.causes,
        time(first.seconds * 1e6),
        if first.ended { "" } else { ", to the end" },
        time(figures.longest_s * 1e6),
    );
    let silence = figures.silence_us.map_or_else(String::new, |times| {
        format!("p50 {}, p99 {}, max {}; ", time(times.p50), time(times.p99), time(times.max))
    });
    let reconnects = format!(
        "{silence}{} reconnects, at most {} a second, {} failed",
        figures.reconnects, figures.peak_reconnects, figures.failed_reconnects
    );
    vec![("outages", outages), ("silence", reconnects)]
}

/// The time of day in UTC, to the millisecond.
fn time_of_day(seconds_since_1970: f64) -> String {
    let time = UNIX_EPOCH + Duration::try_from_secs_f64(seconds_since_1970).unwrap_or_default();
    let text = humantime::format_rfc3339_millis(time).to_string();
    // 2026-11-21T14:02:11.204Z
    text.split_once('T').map_or(text.clone(), |(_, time)| time.to_owned())
}

/// A line for each distribution, with columns of this width.
fn write_lines(
    f: &mut fmt::Formatter<'_>,
    all: &[(&str, &Times)],
    width: usize,
    shown: impl Fn(&Statistic, &Times) -> String,
) -> fmt::Result {
    write!(f, "  {:<12}", "")?;
    STATISTICS.iter().try_for_each(|statistic| write!(f, "{:>width$}", statistic.name))?;
    for (name, times) in all {
        write!(f, "\n  {name:<12}")?;
        STATISTICS.iter().try_for_each(|statistic| write!(f, "{:>width$}", shown(statistic, times)))?;
    }
    writeln!(f)
}

/// The results in a line, for one run of several that are summed up.
pub fn in_a_line(report: &Report) -> String {
    let p99 = report.latency_us.map_or_else(|| "-".into(), |times| time(times.p99));
    format!("{:.0} messages/s, p99 {p99}, errors: {}", report.rate, report.errors)
}

/// The plan in a line.
pub(super) fn title(report: &Report) -> String {
    let settings = &report.settings;
    let clients = format!("{} client{}", settings.clients, if settings.clients == 1 { "" } else { "s" });
    let size = if settings.sizes.shortest == settings.sizes.longest {
        format!("{} bytes", settings.sizes.shortest)
    } else {
        format!("{} to {} bytes", settings.sizes.shortest, settings.sizes.longest)
    };
    let pace = match settings.pace {
        Pace::Open { rate, arrivals: Arrivals::Fixed } => format!("open loop of {rate} messages/s (fixed)"),
        Pace::Open { rate, arrivals: Arrivals::Poisson } => {
            format!("open loop of {rate} messages/s (poisson)")
        }
        Pace::Closed { .. } => "closed loop".into(),
    };
    let usage = match settings.usage {
        Usage::Hold => "connections held".into(),
        Usage::Churn => format!("{pace}, a connection per message"),
        Usage::Exchange if settings.depth > 1 => {
            format!("{pace}, {} messages under way each", settings.depth)
        }
        Usage::Exchange => pace,
    };
    let endpoints: Vec<String> = settings.endpoints.iter().map(ToString::to_string).collect();
    format!("{clients}, {usage}, {size} a message, to {}", endpoints.join(" "))
}

/// A histogram of latencies, in rows that each grow by the same factor. The row with the most replies has a bar of
/// `longest`.
fn histogram(times: &Histogram, longest: usize) -> String {
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
        let length = (count as f64 / most * longest as f64).ceil() as usize;
        // Writing to a string can't fail.
        let _ = writeln!(text, "  up to {:>8} {share:>7.3} % {}", time(until), "#".repeat(length));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::cause::Cause;
    use super::super::super::outages::Outages;
    use super::super::json::tests::report;
    use super::super::merge::merge;
    use super::*;
    use crate::reactor::Moment;

    #[test]
    fn an_outage_is_said_in_two_lines() {
        let from = Moment::now();
        let at = |milliseconds| from + Duration::from_millis(milliseconds);
        let mut outages = Outages::new(from);
        assert!(outage_lines(&Outages::new(from).into_figures(), 1).is_empty());
        outages.lost(Cause::Reset, at(2000), at(2000));
        outages.lost(Cause::Timeout, at(2000), at(2500));
        outages.reconnected(at(3000));
        outages.recovered(at(2000), at(3000));
        outages.finish(at(4000));
        let lines = outage_lines(&outages.into_figures(), 9);
        assert!(lines[0].1.starts_with("1, at "), "{lines:?}");
        let rest = "Z: 2 of 9 clients (1 timed out, 1 reset), 2.00 s, to the end; the longest 2.00 s";
        assert!(lines[0].1.ends_with(rest), "{lines:?}");
        assert!(lines[1].1.contains("max 1.00 s; 1 reconnects, at most 1 a second, 0 failed"), "{lines:?}");
        assert_eq!(time_of_day(1_000_000_000.25), "01:46:40.250Z");
    }

    #[test]
    fn a_generator_with_a_long_name_fits_its_terminal() {
        let generator = |host: &str| Report { host: host.into(), ..report(100.0, &[1000, 2000]) };
        let merged = merge(&[generator("echoloop-load-0-abcdefgh.cluster.local"), generator("b\x1b[31m")]);
        let merged = merged.expect("they ran together");
        let table = |columns| Table { report: &merged, columns }.to_string();
        let narrow = table(Some(80));
        assert!(narrow.contains("\n  1 on echoloop-load-0-abcdefgh.cluster.local\n"), "{narrow}");
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        assert!(table(None).contains("abcdefgh.cluster.local       8"), "{}", table(None));
        assert!(!narrow.contains('\x1b'), "another machine has no say in colours: {narrow:?}");
    }

    #[test]
    fn the_histogram_holds_everything() {
        let mut all = Histogram::new();
        for value in [1, 1000, 1500, 2_000_000_000] {
            all.record(value).expect("in range");
        }
        let text = histogram(&all, 50);
        let shares = text.lines().map(|line| line.split_whitespace().nth(4).expect("a share"));
        let sum: f64 = shares.map(|share| share.parse::<f64>().expect("a number")).sum();
        assert!((sum - 100.0).abs() < 0.01, "{text}");
        assert_eq!(text.lines().count(), ROWS);
        let mut one = Histogram::new();
        one.record(5).expect("in range");
        assert!(histogram(&one, 50).contains("100.000 %"));
    }
}
