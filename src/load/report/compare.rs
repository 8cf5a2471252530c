//! `echoloop compare`: results side by side, with ratios to the first, and whether they differ by more than chance.

use std::fmt::Write as _;

use super::super::plan::Pace;
use super::super::times::{STATISTICS, text as time};
use super::differences::differences;
use super::json::Report;
use super::samples::Samples;
use super::table::title;

/// One side of a comparison: the same run once, or several times.
#[derive(Clone, Debug)]
pub struct Side {
    /// Its files.
    pub name: String,
    /// Its runs; one at least.
    pub reports: Vec<Report>,
}

/// A figure of all sides. `None`: a side has no such figure.
struct Row {
    name: String,
    sides: Vec<Option<Samples>>,
    show: fn(f64) -> String,
}

/// Columns of the names on the left, and of each side.
const NAMES: usize = 16;
const SIDE: usize = 26;

/// Compares sides with the first one. One side alone is summed up: medians, and how far its runs lie apart. If the
/// terminal has no room for a side in its columns, that side stands below the others.
pub fn compare(sides: &[Side], columns: Option<usize>) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    for (place, side) in sides.iter().enumerate() {
        let runs =
            if side.reports.len() > 1 { format!(" ({} runs)", side.reports.len()) } else { String::new() };
        let plan = side.reports.first().map(title).unwrap_or_default();
        let _ = writeln!(text, "{}  {}{runs}: {plan}", letter(place), side.name);
    }
    let rows = rows(sides);
    let places: Vec<usize> = (0..sides.len()).collect();
    let room = columns.map_or(sides.len(), |columns| columns.saturating_sub(NAMES) / SIDE);
    for places in places.chunks(room.max(1)) {
        text.push('\n');
        text += &line("", places.iter().map(|&place| letter(place)));
        for row in &rows {
            text += &line(&row.name, places.iter().map(|&place| row.cell(place)));
        }
    }
    if rows.iter().any(|row| row.sides.contains(&None)) {
        text.push_str(
            "(-: nothing was measured, or so few that only the maximum lies beyond this percentile)\n",
        );
    }
    for place in 1..sides.len() {
        write_ratios(&mut text, &rows, place);
    }
    let warnings = warnings(sides);
    if !warnings.is_empty() {
        text.push_str("\nWarnings:\n");
    }
    for warning in warnings {
        let _ = writeln!(text, "  {warning}");
    }
    text
}

fn rows(sides: &[Side]) -> Vec<Row> {
    let row = |name: &str, of: &dyn Fn(&Report) -> Option<f64>, show| Row {
        name: name.into(),
        // If only some runs of a side have the figure, these alone would stand for the side.
        sides: sides
            .iter()
            .map(|side| Samples::new(side.reports.iter().map(of).collect::<Option<_>>()?))
            .collect(),
        show,
    };
    let number: fn(f64) -> String = |value| format!("{value:.0}");
    let mut rows = vec![row("rate /s", &|report| Some(report.rate), number)];
    for statistic in &STATISTICS {
        let of = |report: &Report| statistic.of_enough(report.latency_us.as_ref()?);
        rows.push(row(&format!("latency {}", statistic.name), &of, time));
    }
    rows.push(row("connect max", &|report| report.connect_us.as_ref().map(|times| times.max), time));
    rows.push(row("errors", &|report| Some(report.errors.total() as f64), number));
    rows.push(row("not received", &|report| Some(not_received(report) as f64), number));
    rows.push(row("CPU/message", &Report::cpu_us_per_reply, time));
    rows
}

fn not_received(report: &Report) -> u64 {
    report.messages.sent - report.messages.received + report.messages.not_sent
}

fn line(name: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: String = cells.map(|cell| format!("{cell:>SIDE$}")).collect();
    format!("{name:<NAMES$}{cells}\n")
}

impl Row {
    fn cell(&self, place: usize) -> String {
        let Some(samples) = &self.sides[place] else { return "-".into() };
        let mut cell = (self.show)(samples.median());
        if samples.are_repeated() {
            let _ = write!(cell, " ±{:.1} %", samples.spread() * 100.0);
        }
        if let Some(base) = self.sides[0].as_ref().filter(|base| place > 0 && base.median() > 0.0) {
            let _ = write!(cell, " ×{:.3}", samples.median() / base.median());
        }
        cell
    }
}

/// Whether a side differs from the first by more than noise, where both were repeated.
fn write_ratios(text: &mut String, rows: &[Row], place: usize) {
    let repeated = |samples: &Option<Samples>| samples.clone().filter(Samples::are_repeated);
    let pairs: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row, repeated(&row.sides[place])?, repeated(&row.sides[0])?)))
        .filter(|(_, samples, base)| samples.median() > 0.0 && base.median() > 0.0)
        .collect();
    if pairs.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{} ÷ A      ratio of medians, in 95 of 100 cases", letter(place));
    for (row, samples, base) in pairs {
        let (low, high) = samples.ratio(&base);
        let verdict = if low > 1.0 || high < 1.0 { "more than noise" } else { "within the noise" };
        let ratio = samples.median() / base.median();
        let _ = writeln!(text, "{:<16}×{ratio:.3}  ×{low:.3} to ×{high:.3}  {verdict}", row.name);
    }
}

/// The reasons why a comparison may mislead.
fn warnings(sides: &[Side]) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(first) = sides.first().and_then(|side| side.reports.first()) else { return warnings };
    let is_open = |report: &Report| matches!(report.settings.pace, Pace::Open { .. });
    for (place, side) in sides.iter().enumerate() {
        let name = letter(place);
        let other = &side.reports[0];
        if is_open(other) != is_open(first) {
            warnings.push(format!(
                "{name} and A: an open and a closed loop. Latency counts from different moments, and the user chose \
                 one of the rates, the server the other"
            ));
        }
        let differing = differences(
            &first.settings,
            &other.settings,
            &["seed", "pace.rate", "pace.arrivals", "pace.think_s", "pace"],
        );
        let rates = (first.settings.rate(), other.settings.rate());
        let rates = (rates.0 != rates.1 && is_open(first) && is_open(other)).then(|| "pace.rate".to_owned());
        let differing: Vec<String> = differing.into_iter().chain(rates).collect();
        if place > 0 && !differing.is_empty() {
            warnings.push(format!("{name} had other settings than A: {}", differing.join("; ")));
        }
        let within = |report: &&Report| !differences(&other.settings, &report.settings, &["seed"]).is_empty();
        if side.reports.iter().any(|report| within(&report)) {
            warnings.push(format!("{name}: its runs had different settings"));
        }
        if side.reports.iter().any(|report| report.interrupted) {
            warnings.push(format!("{name}: a run was cut short by a signal"));
        }
        if side.reports.iter().any(|report| report.generator.bottleneck) {
            warnings.push(format!(
                "{name}: in one run at least the generator was the bottleneck, not the server"
            ));
        }
        if side.reports.iter().any(|report| report.host != first.host) {
            warnings.push(format!("{name}: it ran on {}, the first run of A on {}", other.host, first.host));
        }
        if (2..5).contains(&side.reports.len()) && sides.len() > 1 {
            warnings.push(format!(
                "{name}: {} runs are few. With three a side, one comparison in ten of equal sides looks like more than \
                 noise; five or more are better (--repeat 5)",
                side.reports.len()
            ));
        }
    }
    warnings
}

/// A, B, C …
fn letter(place: usize) -> String {
    u8::try_from(place)
        .ok()
        .filter(|place| *place < 26)
        .map_or_else(|| format!("#{}", place + 1), |place| char::from(b'A' + place).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::{Arrivals, Plan};
    use super::super::json::tests::report;
    use super::*;

    fn side(name: &str, latencies: &[u64]) -> Side {
        let reports = latencies.iter().map(|latency| report(100.0, &[*latency; 100])).collect();
        Side { name: name.into(), reports }
    }

    #[test]
    fn a_difference_is_told_from_noise() {
        let base = side("a", &[100_000, 101_000, 102_000, 99_000, 98_000]);
        let slower = side("b", &[150_000, 151_000, 149_000, 152_000, 150_000]);
        let text = compare(&[base, slower], None);
        let row = |text: &str, name: &str| {
            text.lines().rfind(|line| line.starts_with(name)).expect("a row").to_owned()
        };
        let latency = row(&text, "latency p50");
        assert!(latency.contains("×1.5") && latency.ends_with("more than noise"), "{text}");
        assert!(row(&text, "rate /s").ends_with("within the noise"), "{text}");
        assert!(!text.contains("Warnings"), "{text}");
    }

    #[test]
    fn once_a_side_says_nothing_of_noise_and_one_side_is_summed_up() {
        let text = compare(&[side("a", &[100_000]), side("b", &[150_000])], None);
        assert!(text.contains("×1.5") && !text.contains("noise"), "{text}");
        let text = compare(&[side("a", &[100_000, 120_000])], None);
        assert!(text.contains("110 µs ±9.") && !text.contains('×'), "{text}");
    }

    #[test]
    fn a_percentile_of_too_few_messages_is_no_figure_to_compare() {
        let text = compare(&[side("a", &[100_000]), side("b", &[150_000])], None);
        for (name, cells) in
            [("latency p99 ", 2), ("latency p99.9 ", 0), ("latency p99.99 ", 0), ("latency max ", 2)]
        {
            let row = text.lines().find(|line| line.starts_with(name)).expect("a row");
            assert_eq!(row.matches("µs").count(), cells, "100 messages a side: {text}");
        }
        assert!(text.contains("(-: nothing was measured, or so few"), "{text}");
    }

    #[test]
    fn sides_without_room_stand_below_the_others() {
        let sides = ["a", "b", "c"].map(|name| side(name, &[100_000]));
        let text = compare(&sides, Some(80));
        assert!(
            text.lines().all(|line| line.starts_with(['A', 'B', 'C', '(']) || line.chars().count() <= 80),
            "{text}"
        );
        assert_eq!(text.matches("\nrate /s").count(), 2, "{text}");
        assert_eq!(compare(&sides, None).matches("\nrate /s").count(), 1);
    }

    #[test]
    fn what_misleads_is_said() {
        let base = side("a", &[100_000]);
        let mut other = side("b", &[100_000]);
        let Plan { pace, depth, .. } = &mut other.reports[0].settings;
        *pace = Pace::Open { rate: 5.0, arrivals: Arrivals::Fixed };
        *depth = 4;
        other.reports[0].interrupted = true;
        let text = compare(&[base, other], None);
        for part in ["an open and a closed loop", "other settings than A: depth: 1 and 4", "cut short"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
