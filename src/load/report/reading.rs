//! Reports read back from text: files, or the logs of several processes one after the other.

use serde_json::Value;

use super::json::{FORMAT_VERSION, Report};

/// The largest count: every reader of JSON has it exactly.
const MOST: u64 = 1 << 53;

/// The reason why text holds no reports.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The text holds no report.
    #[error("{name} is no report of `echoloop load --json`")]
    None {
        /// The file.
        name: String,
    },
    /// The text holds a report that can't be read, perhaps because its end is missing.
    #[error("{name} is no report of `echoloop load --json`: {source}")]
    Broken {
        /// The file.
        name: String,
        /// The fault in it.
        source: serde_json::Error,
    },
    /// Somebody has changed a report: no run has such figures.
    #[error("{name} is no report of `echoloop load --json`: no run has {figures}")]
    Impossible {
        /// The file.
        name: String,
        /// The figures.
        figures: &'static str,
    },
    /// A report has another version of the format.
    #[error(
        "{name} has version {found} of the format; this program knows {FORMAT_VERSION}: repeat the run with it"
    )]
    Version {
        /// The file.
        name: String,
        /// Its version.
        found: u64,
    },
}

/// All reports in the text of a file with this name. `read` leaves out lines in between that begin no JSON object, such
/// as lines of a log, and objects without settings, which are no reports.
///
/// # Errors
/// When there is no report, or one that can't be read.
pub fn read(name: &str, text: &str) -> Result<Vec<Report>, ReadError> {
    let broken = |source| ReadError::Broken { name: name.into(), source };
    let mut reports = Vec::new();
    let mut rest = text;
    while let Some(start) = next_object(rest) {
        rest = &rest[start..];
        let mut objects = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let Some(object) = objects.next() else { break };
        let object = object.map_err(broken)?;
        rest = &rest[objects.byte_offset()..];
        if object.get("settings").is_none() {
            continue;
        }
        match object.get("version").and_then(Value::as_u64) {
            Some(found) if found != u64::from(FORMAT_VERSION) => {
                return Err(ReadError::Version { name: name.into(), found });
            }
            _ => {}
        }
        let is_countable = is_countable(&object);
        let report: Report = serde_json::from_value(object).map_err(broken)?;
        if let Some(figures) = impossible(&report).or((!is_countable).then_some("counts beyond 2^53")) {
            return Err(ReadError::Impossible { name: name.into(), figures });
        }
        reports.push(report);
    }
    if reports.is_empty() { Err(ReadError::None { name: name.into() }) } else { Ok(reports) }
}

/// Names figures that no run can have: they would spoil every sum or share.
fn impossible(report: &Report) -> Option<&'static str> {
    let Report { messages, settings, .. } = report;
    if messages.received > messages.sent {
        Some("more replies than messages")
    } else if report.seconds < 0.0 || report.series.iter().any(|point| point.seconds <= 0.0) {
        Some("a negative time, or an interval without a length")
    } else if settings.check().is_err() {
        Some("such settings")
    } else {
        None
    }
}

/// Whether all counts are so small that no sum of them overflows. A seed may be any number.
fn is_countable(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_u64().is_none_or(|number| number <= MOST),
        Value::Array(list) => list.iter().all(is_countable),
        Value::Object(fields) => fields.iter().all(|(name, value)| name == "seed" || is_countable(value)),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// The offset of the next line that begins with an object.
fn next_object(text: &str) -> Option<usize> {
    let mut place = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('{') {
            return Some(place + line.len() - line.trim_start().len());
        }
        place += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::json::tests::report;
    use super::*;

    #[test]
    fn reports_are_found_between_lines_of_a_log() {
        let pretty = serde_json::to_string_pretty(&report(100.0, &[1, 2, 3])).expect("JSON");
        let line = serde_json::to_string(&report(100.0, &[4])).expect("JSON");
        let text = format!("INFO begins\n{pretty}\nWARN a {{brace}}\n{{\"second\":1}}\n{line}\n{line}");
        let received: Vec<u64> =
            read("log", &text).expect("reports").iter().map(|report| report.messages.received).collect();
        assert_eq!(received, [3, 1, 1]);
    }

    #[test]
    fn numbers_are_read_as_they_were_written() {
        let mut report = report(1_795_297_022.933_992_1, &[1]);
        // Readers that round on the way get another last digit.
        report.fairness.jain = 0.995_222_929_936_305_7;
        let json = serde_json::to_string(&report).expect("JSON");
        let again = read("a.json", &json).expect("a report");
        assert_eq!(serde_json::to_string(&again[0]).expect("JSON"), json);
    }

    #[test]
    fn what_is_no_report_is_said() {
        let whole = serde_json::to_string(&report(100.0, &[1])).expect("JSON");
        for (text, reason) in [
            ("", "no report"),
            ("[]", "no report"),
            ("{}", "no report"),
            (&whole[..whole.len() / 2], "EOF while parsing"),
            (&whole.replacen("\"version\":2", "\"version\":1", 1), "has version 1"),
            (&whole.replacen("\"sent\":1", "\"sent\":\"?\"", 1), "invalid type"),
            (&whole.replacen("\"sent\":1", "\"sent\":0", 1), "more replies than messages"),
            (&whole.replacen("\"opened\":0", "\"opened\":18446744073709551615", 1), "counts beyond 2^53"),
            (&whole.replace("\"seconds\":10.0", "\"seconds\":0.0"), "an interval without a length"),
            (&whole.replacen("\"clients\":8", "\"clients\":0", 1), "such settings"),
        ] {
            let error = read("a.json", text).expect_err(reason).to_string();
            assert!(error.starts_with("a.json") && error.contains(reason), "{error}");
        }
    }
}
