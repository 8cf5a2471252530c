//! The destinations of results of `load` and `merge`: standard output, files, the exit status.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use echoloop::describe;
use echoloop::load::{
    Condition, ConditionError, FoundRate, Plan, Report, SearchEnding, Side, Table, Verdict, compare, hgrm,
    in_a_line, plot,
};
use serde::Serialize;

use super::output::{FAILED, complain, fail, print};
use super::terminal;
use super::values::svg_file;

/// A condition held; in a search, at every rate.
const CONDITION_HELD: u8 = 8;

#[derive(Args, Clone, Debug)]
pub(super) struct ResultArguments {
    /// Print the results as one JSON object
    #[arg(long, help_heading = "Results")]
    json: bool,

    /// Print them on one line; before it, while it runs, `load` prints a line of JSON for each --interval
    #[arg(long, conflicts_with = "json", help_heading = "Results")]
    pub(super) json_lines: bool,

    /// Write the distribution of latency in the format of HdrHistogram
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    hgrm: Option<PathBuf>,

    /// Draw percentiles, rate and latency over time
    #[arg(long, value_name = "FILE.svg", value_parser = svg_file, help_heading = "Results")]
    plot: Option<PathBuf>,

    #[arg(long, value_name = "CONDITION", help = Condition::help(), help_heading = "Results")]
    pub(super) fail_if: Vec<Condition>,
}

/// The open files, and the other destinations of results.
///
/// They are opened before the run, so that a wrong path costs no measurement. A file that can't be written does not keep
/// the report from standard output.
pub(super) struct Outputs {
    json: Option<Json>,
    conditions: Vec<Condition>,
    hgrm: Option<Output>,
    plot: Option<Output>,
}

struct Output {
    path: PathBuf,
    file: File,
}

/// The layout of JSON.
#[derive(Clone, Copy, Debug)]
enum Json {
    Pretty,
    Line,
}

impl ResultArguments {
    /// Refuses conditions whose answer is known before the run.
    pub(super) fn check(&self, plan: &Plan) -> Result<(), ConditionError> {
        self.fail_if.iter().try_for_each(|condition| condition.check(plan))
    }

    /// Opens the files.
    ///
    /// # Errors
    /// The reason, in words, why a file can't be written.
    pub(super) fn open(&self) -> Result<Outputs, String> {
        let open = |path: &Option<PathBuf>, verb: &str| {
            path.as_deref().map(Output::open).transpose().map_err(|error| format!("cannot {verb} {error}"))
        };
        Ok(Outputs {
            json: match (self.json, self.json_lines) {
                (_, true) => Some(Json::Line),
                (true, false) => Some(Json::Pretty),
                (false, false) => None,
            },
            conditions: self.fail_if.clone(),
            hgrm: open(&self.hgrm, "write")?,
            plot: open(&self.plot, "draw")?,
        })
    }
}

impl Outputs {
    /// Publishes a report everywhere, and judges it.
    pub(super) fn publish(self, report: &Report) -> ExitCode {
        let Outputs { json, conditions, hgrm: distribution, plot: picture } = self;
        if json.is_some() {
            log_warnings(report);
        }
        let text = json.map_or_else(
            || Ok(Table { report, columns: terminal::columns() }.to_string()),
            |json| as_json(report, json),
        );
        let report_printed = text.and_then(|text| print(&text));
        let distribution = distribution.map_or(Ok(()), |output| output.write(&hgrm(report), "write"));
        let picture = picture.map_or(Ok(()), |output| output.draw(plot(report)));
        let mut all_written = true;
        for failure in [report_printed, distribution, picture].into_iter().filter_map(Result::err) {
            complain(&failure);
            all_written = false;
        }
        match judge(report, &conditions) {
            0 if !all_written => ExitCode::from(FAILED),
            status => ExitCode::from(status),
        }
    }
}

impl Outputs {
    /// Publishes the result of a search. Without an answer the exit status is not 0, unless a signal ended the search.
    pub(super) fn publish_rate(self, found: &FoundRate) -> ExitCode {
        let text = self.json.map_or_else(|| Ok(found.to_string()), |json| as_json(found, json));
        let report_printed = text.and_then(|text| print(&text));
        let picture = self.plot.map_or(Ok(()), |output| output.draw(found.plot()));
        if let Err(failure) = report_printed.and(picture) {
            return fail(FAILED, &failure);
        }
        match found.ending {
            SearchEnding::Found | SearchEnding::Interrupted => ExitCode::SUCCESS,
            SearchEnding::NoneIsGood => ExitCode::from(CONDITION_HELD),
            SearchEnding::Unreachable => {
                let last = found.steps.last().map(|step| Verdict::of(&step.report, &[]));
                ExitCode::from(last.map_or(FAILED, |verdict| verdict.status()))
            }
            SearchEnding::GeneratorLate | SearchEnding::Unsteady => ExitCode::from(FAILED),
        }
    }

    /// Publishes one run of several, and judges it.
    ///
    /// # Errors
    /// The reason, in words, why it can't be printed.
    pub(super) fn publish_run(&self, number: u32, report: &Report) -> Result<u8, String> {
        let text = if let Some(json) = self.json {
            log_warnings(report);
            as_json(report, json)?
        } else {
            format!("run {number}: {}\n", in_a_line(report))
        };
        print(&text)?;
        Ok(judge(report, &self.conditions))
    }

    /// Sums up several runs for people; programs have the runs themselves.
    ///
    /// # Errors
    /// The reason, in words, why it can't be printed.
    pub(super) fn sum_up(&self, sides: &[Side]) -> Result<(), String> {
        if self.json.is_some() {
            return Ok(());
        }
        print(&format!("\n{}", terminal::wrapped(&compare(sides, terminal::columns()))))
    }
}

impl Output {
    fn open(path: &Path) -> Result<Output, String> {
        // An old file stays as it is until there is something to replace it.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        match file {
            Ok(file) => Ok(Output { path: path.into(), file }),
            Err(error) => Err(format!("{}: {}", path.display(), describe(&error))),
        }
    }

    fn draw(self, svg: Result<String, impl Display>) -> Result<(), String> {
        let svg = svg.map_err(|error| format!("cannot draw {}: {error}", self.path.display()))?;
        self.write(&svg, "draw")
    }

    fn write(mut self, text: &str, verb: &str) -> Result<(), String> {
        self.replace(text)
            .map_err(|error| format!("cannot {verb} {}: {}", self.path.display(), describe(&error)))
    }

    fn replace(&mut self, text: &str) -> io::Result<()> {
        // Only a regular file has old contents to cut off.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
            self.file.rewind()?;
        }
        self.file.write_all(text.as_bytes())
    }
}

fn as_json(results: &impl Serialize, json: Json) -> Result<String, String> {
    let text = match json {
        Json::Pretty => serde_json::to_string_pretty(results),
        Json::Line => serde_json::to_string(results),
    };
    match text {
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(format!("cannot write the report: {error}")),
    }
}

/// Logs the warnings as well, since readers of JSON easily overlook them.
fn log_warnings(report: &Report) {
    for warning in &report.warnings {
        log::warn!("{warning}");
    }
}

/// Prints the reasons for the exit status, and returns it.
fn judge(report: &Report, conditions: &[Condition]) -> u8 {
    let verdict = Verdict::of(report, conditions);
    if let Verdict::Failed(reasons) = &verdict {
        for reason in reasons {
            complain(&format!("failed by {reason}"));
        }
    }
    verdict.status()
}
