//! `echoloop compare`: two or more results side by side, with ratios to the first.

use std::fmt::Write as _;

use super::super::times::{STATISTICS, text as time};
use super::json::{FORMAT_VERSION, Report};
use super::table::title;

/// Why results can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// It is no report.
    #[error("{name} is no report of `echoloop load --json`: {source}")]
    NoReport {
        /// The file.
        name: String,
        /// What was found instead.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("{name} has version {found} of the format; this program knows {FORMAT_VERSION}")]
    Version {
        /// The file.
        name: String,
        /// Its version.
        found: u32,
    },
}

/// Compares results, each with the name of its file and its JSON text.
///
/// # Errors
/// When one of them is no report.
pub fn compare(results: &[(String, String)]) -> Result<String, CompareError> {
    let mut reports = Vec::new();
    for (name, text) in results {
        let report: Report = serde_json::from_str(text)
            .map_err(|source| CompareError::NoReport { name: name.clone(), source })?;
        if report.version != FORMAT_VERSION {
            return Err(CompareError::Version { name: name.clone(), found: report.version });
        }
        reports.push(report);
    }
    let mut text = String::new();
    // Writing to a string can't fail.
    for (place, ((name, _), report)) in results.iter().zip(&reports).enumerate() {
        let _ = writeln!(text, "{}  {name}: {}", letter(place), title(report));
    }
    let _ = write!(text, "\n{:<16}", "");
    for place in 0..reports.len() {
        let _ = write!(text, "{:>22}", letter(place));
    }
    text.push('\n');
    let _ = latency_rows(&mut text, &reports);
    Ok(text)
}

fn latency_rows(text: &mut String, reports: &[Report]) -> std::fmt::Result {
    row(text, "rate /s", reports, |report| Some(report.rate), |value| format!("{value:.0}"))?;
    for statistic in STATISTICS {
        let latency = |report: &Report| report.latency_us.as_ref().map(statistic.of);
        row(text, &format!("latency {}", statistic.name), reports, latency, time)?;
    }
    row(text, "connect p99", reports, |report| report.connect_us.as_ref().map(|times| times.p99), time)?;
    let errors = |report: &Report| Some(report.errors.total() as f64);
    row(text, "errors", reports, errors, |value| format!("{value:.0}"))?;
    let cpu = |report: &Report| {
        let received = report.messages.received;
        (received > 0).then(|| report.generator.cpu_seconds * 1e6 / received as f64)
    };
    row(text, "CPU/message", reports, cpu, time)
}

/// One figure of all reports, with ratios to the first.
fn row(
    text: &mut String,
    name: &str,
    reports: &[Report],
    figure: impl Fn(&Report) -> Option<f64>,
    show: impl Fn(f64) -> String,
) -> std::fmt::Result {
    write!(text, "{name:<16}")?;
    let first = reports.first().and_then(&figure);
    for (place, report) in reports.iter().enumerate() {
        let cell = match (figure(report), first) {
            (None, _) => "-".into(),
            (Some(value), Some(first)) if place > 0 && first > 0.0 => {
                format!("{} ×{:.3}", show(value), value / first)
            }
            (Some(value), _) => show(value),
        };
        write!(text, "{cell:>22}")?;
    }
    writeln!(text)
}

/// A, B, C …
fn letter(place: usize) -> String {
    u8::try_from(place)
        .ok()
        .filter(|place| *place < 26)
        .map_or_else(|| format!("#{}", place + 1), |place| char::from(b'A' + place).to_string())
}
