//! `echoloop compare`: results of load runs side by side.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use echoloop::describe;
use echoloop::load::{self, Report, Side};

use super::output::{FAILED, WRONG_USAGE, fail, publish};
use super::terminal;

pub(super) const EXAMPLES: &str = "\
Examples:
  echoloop compare before.json after.json
      each file is a side; ratios are to the first
  echoloop compare a1.json a2.json a3.json -- b1.json b2.json b3.json
  echoloop load --repeat 5 --json localhost > a.json
      a file with several runs is a repeated side

A repeated side shows medians, and ± half the distance of its extremes. If both sides were repeated, the interval of
the ratio of their medians says whether they differ by more than noise. A bootstrap computes the interval: it draws
both sides anew from themselves 10,000 times, always in the same way.";

#[derive(Args, Clone, Debug)]
pub(crate) struct CompareArguments {
    /// Reports of `echoloop load --json`; each file is a side
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Reports of the next side; the files before `--` are then runs of one side
    #[arg(value_name = "FILE", last = true)]
    others: Vec<PathBuf>,
}

/// Prints results side by side.
pub(super) fn compare(arguments: &CompareArguments) -> ExitCode {
    let groups = arguments.sides();
    if groups.len() < 2 {
        return fail(WRONG_USAGE, &"a comparison needs two sides: name another file");
    }
    let sides: Result<Vec<Side>, String> = groups.iter().map(|files| side(files)).collect();
    match sides {
        Ok(sides) => publish(&terminal::wrapped(&load::compare(&sides, terminal::columns()))),
        Err(error) => fail(FAILED, &error),
    }
}

impl CompareArguments {
    /// Each file is a side, unless `--` stands between sides.
    fn sides(&self) -> Vec<Vec<PathBuf>> {
        if self.others.is_empty() {
            return self.files.iter().map(|file| vec![file.clone()]).collect();
        }
        let others = self.others.split(|file| file == Path::new("--"));
        std::iter::once(self.files.as_slice())
            .chain(others)
            .filter(|files| !files.is_empty())
            .map(<[PathBuf]>::to_vec)
            .collect()
    }
}

fn side(files: &[PathBuf]) -> Result<Side, String> {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let reports = files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?.concat();
    Ok(Side { name: names.join(" "), reports })
}

/// All reports in a file.
pub(super) fn read(path: &Path) -> Result<Vec<Report>, String> {
    let name = path.display().to_string();
    let text =
        fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {}", describe(&error)))?;
    load::read(&name, &text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::arguments::{Arguments, Command};

    fn sides(arguments: &[&str]) -> Vec<usize> {
        let all = ["echoloop", "compare"].iter().chain(arguments);
        match Arguments::try_parse_from(all).expect("well formed").command() {
            Command::Compare(arguments) => arguments.sides().iter().map(Vec::len).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_is_a_side_unless_dashes_stand_between_sides() {
        assert_eq!(sides(&["a", "b", "c"]), [1, 1, 1]);
        assert_eq!(sides(&["a", "b", "c", "--", "d", "e"]), [3, 2]);
        assert_eq!(sides(&["a", "--", "b", "--", "c", "d"]), [1, 1, 2]);
        assert_eq!(sides(&["a", "b", "--"]), [1, 1]);
        assert_eq!(sides(&["a"]), [1]);
    }
}
