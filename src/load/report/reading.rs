//! Reports read back from text: files, or the logs of several processes one after the other.

use serde_json::Value;

use super::json::{FORMAT_VERSION, Report};

/// Why text holds no reports.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none in it.
    #[error("{name} is no report of `echoloop load --json`")]
    None {
        /// The file.
        name: String,
    },
    /// There is one that can't be read, perhaps because its end is missing.
    #[error("{name} is no report of `echoloop load --json`: {source}")]
    Broken {
        /// The file.
        name: String,
        /// The fault in it.
        source: serde_json::Error,
    },
    /// It is of another version.
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

/// All reports in a text, which a file of this name holds. Lines in between that begin no JSON object, such as those
/// of a log, are left out, and so are objects without settings, which are no reports.
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
            _ => reports.push(serde_json::from_value(object).map_err(broken)?),
        }
    }
    if reports.is_empty() { Err(ReadError::None { name: name.into() }) } else { Ok(reports) }
}

/// Where the next line begins that begins with an object.
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
    fn what_is_no_report_is_said() {
        let whole = serde_json::to_string(&report(100.0, &[1])).expect("JSON");
        for (text, reason) in [
            ("", "no report"),
            ("[]", "no report"),
            ("{}", "no report"),
            (&whole[..whole.len() / 2], "EOF while parsing"),
            (&whole.replacen("\"version\":2", "\"version\":1", 1), "has version 1"),
            (&whole.replacen("\"sent\":1", "\"sent\":\"?\"", 1), "invalid type"),
        ] {
            let error = read("a.json", text).expect_err(reason).to_string();
            assert!(error.starts_with("a.json") && error.contains(reason), "{error}");
        }
    }
}
