//! Runs each script of `docs/experiments`: its numbers bear out the conclusions of the chapter, and the chapter shows its
//! output.
//!
//! No test asserts a time, only counts, and how the two sides compare.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{installed, run, skip, study_programs};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// A line without its numbers and the width of its columns, in which it may differ from the chapter's.
fn shape(line: &str) -> String {
    let digit = |letter: char| if letter.is_ascii_digit() { '#' } else { letter };
    let mut shape: String =
        line.split_whitespace().collect::<Vec<_>>().join(" ").chars().map(digit).collect();
    while shape.contains("##") {
        shape = shape.replace("##", "#");
    }
    shape
}

/// The numbers of a line that are words of their own.
fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace().filter_map(|word| word.trim_end_matches(',').parse().ok()).collect()
}

/// The lines that the chapter shows below the command.
fn shown(name: &str) -> Vec<String> {
    let chapter = fs::read_to_string(docs().join(name).with_extension("md")).expect("its chapter");
    let (_, rest) = chapter.split_once(&format!("```text\n$ docs/experiments/{name}\n")).expect("a listing");
    let (listing, _) = rest.split_once("\n```").expect("it ends");
    listing.lines().map(str::to_owned).collect()
}

/// Runs the script and compares what it prints with its chapter. None where there is no shell for it.
#[track_caller]
fn lines_of(name: &str) -> Option<Vec<String>> {
    for program in ["bash", "grep", "sed", "awk"] {
        if installed(program).is_none() {
            skip(name, &format!("{program} is not installed"));
            return None;
        }
    }
    let mut command = Command::new(docs().join("experiments").join(name));
    command.env("PROGRAMS", study_programs());
    let finished = run(command);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{}", finished.stdout);
    let lines: Vec<String> = finished.stdout.lines().map(str::to_owned).collect();
    let (mut printed, mut expected) = (lines.clone(), shown(name));
    if installed("strace").is_none() {
        skip(name, "strace is not installed: what it counts is left out");
        printed.retain(|line| !line.starts_with("left out: strace"));
        let counted = |line: &String| line.contains(" reads, ") || line.contains(" waits, ");
        expected.retain(|line| !counted(line));
    }
    let shapes = |lines: &[String]| lines.iter().map(|line| shape(line)).collect::<Vec<_>>();
    assert_eq!(shapes(&printed), shapes(&expected), "the chapter shows something else");
    Some(lines)
}

/// The numbers of each line that begins with this.
fn of(lines: &[String], beginning: &str) -> Vec<u64> {
    let line = lines.iter().find(|line| line.starts_with(beginning));
    numbers(line.unwrap_or_else(|| panic!("no line of {beginning} in {lines:?}")))
}

#[test]
fn readiness_a_server_that_asks_all_the_time_is_busy_for_nobody() {
    let Some(lines) = lines_of("readiness") else { return };
    let used = |name| of(&lines, name)[0];
    assert!(used("03_busy_nonblocking") > 2 * (1 + used("04_poll_once").max(used("echoloop"))), "{lines:?}");
}

#[test]
fn edges_one_read_an_event_loses_what_is_left() {
    let Some(lines) = lines_of("edges") else { return };
    assert_eq!(of(&lines, "04_poll_once"), [16, 41]);
    assert_eq!((of(&lines, "05_poll_drained"), of(&lines, "echoloop")), (vec![41, 41], vec![41, 41]));
}

#[test]
fn short_read_saves_a_read_a_message_and_must_not_hide_the_end() {
    let Some(lines) = lines_of("short_read") else { return };
    if installed("strace").is_some() {
        let [messages, _, vain] = of(&lines, "05_poll_drained")[..] else { panic!("{lines:?}") };
        assert!((messages..messages + 10).contains(&vain), "one in vain for each: {lines:?}");
        assert!(of(&lines, "echoloop")[2] < 10, "{lines:?}");
    }
    assert_eq!(of(&lines, "1_short_read"), [20, 20]);
    let last = lines.last().expect("there is one");
    assert!(last.starts_with("echoloop") && numbers(last) == [20, 0], "{last}");
}

#[test]
fn write_buffer_what_is_not_taken_is_lost_unless_it_is_kept() {
    let Some(lines) = lines_of("write_buffer") else { return };
    let [back, all] = of(&lines, "1_short_read")[..] else { panic!("{lines:?}") };
    assert!(back < all && lines[0].ends_with(": differs"), "{lines:?}");
    assert_eq!(of(&lines, "echoloop"), [all, all]);
    assert!(lines[1].ends_with(": same"), "{lines:?}");
}

#[test]
fn backpressure_without_it_memory_grows_by_what_a_client_sends() {
    let Some(lines) = lines_of("backpressure") else { return };
    let held = |name| *of(&lines, name).last().expect("a number");
    assert!(of(&lines, "05_poll_drained")[0] == 64 && held("05_poll_drained") > 40, "{lines:?}");
    for bounded in ["06_reactor", "echoloop"] {
        assert!(of(&lines, bounded)[0] < 64 && held(bounded) < 16, "{lines:?}");
    }
}

#[test]
fn writability_costs_no_wait_and_is_needed() {
    let Some(lines) = lines_of("writability") else { return };
    if installed("strace").is_some() {
        let (input, both) = (of(&lines, "watched for input alone"), of(&lines, "watched for input and room"));
        assert_eq!((input[0], input[2], both[2]), (1000, 1, 1), "{lines:?}");
        assert!(both[1] <= input[1] + 20, "{lines:?}");
    }
    assert!(of(&lines, "6_drain")[0] < of(&lines, "solution_6_drain")[0], "{lines:?}");
}

#[test]
fn half_close_the_answer_goes_on_after_the_end_of_input() {
    let Some(lines) = lines_of("half_close") else { return };
    assert!(of(&lines, "6_drain")[0] < of(&lines, "echoloop")[0], "{lines:?}");
    assert_eq!(of(&lines, "echoloop"), [32 << 20]);
}

#[test]
fn fairness_a_budget_lets_a_small_client_in() {
    let Some(lines) = lines_of("fairness") else { return };
    let done = |name| of(&lines, name)[0];
    assert!(done("4_flood") > 10 * done("solution_4_flood"), "{lines:?}");
    // The other two lines are times, which a busy machine can reverse.
}

#[test]
fn whose_event_a_slot_that_is_used_again_at_once_gets_the_wrong_event() {
    let Some(lines) = lines_of("whose_event") else { return };
    assert!(lines[0].contains("red: the newcomer was thrown out"), "{lines:?}");
    assert_eq!(of(&lines, "solution_3_slots"), [5, 5]);
}

#[test]
fn descriptors_nobody_tells_when_one_is_free() {
    let Some(lines) = lines_of("descriptors") else { return };
    assert_eq!((of(&lines, "05_poll_drained"), of(&lines, "echoloop")), (vec![2, 0, 2], vec![2, 2, 2]));
}

#[test]
fn deadlines_close_the_idle_and_spare_those_who_spoke() {
    let Some(lines) = lines_of("deadlines") else { return };
    assert_eq!(of(&lines, "05_poll_drained")[..2], [10, 10]);
    let [all, left, ticks] = of(&lines, "echoloop")[..] else { panic!("{lines:?}") };
    assert!((all, left) == (10, 0) && ticks <= 5, "{lines:?}");
    assert_eq!(numbers(lines.last().expect("the third")), [10, 10]);
}

#[test]
fn signals_what_has_arrived_is_answered() {
    let Some(lines) = lines_of("signals") else { return };
    assert_eq!(of(&lines, "05_poll_drained"), [0, 60_000, 143]);
    assert_eq!(of(&lines, "echoloop"), [60_000, 60_000, 0]);
}

#[test]
fn measuring_a_closed_loop_hides_what_an_open_one_shows() {
    let Some(lines) = lines_of("measuring") else { return };
    let (closed, open) = (of(&lines, "closed"), of(&lines, "open"));
    assert!(closed[0] < open[0], "{lines:?}");
    assert!(closed[1] >= 400 && open[1] >= 400, "both met the half second: {lines:?}");
}

#[test]
fn splice_bulk_data_is_copied_once_in_a_hundred() {
    let Some(lines) = lines_of("splice") else { return };
    let [never, auto] = [0, 1].map(|line: usize| numbers(&lines[line]));
    assert_eq!(never, [100, 100], "{lines:?}");
    assert!(auto[0] == 100 && auto[1] < 20, "{lines:?}");
    if installed("strace").is_some() {
        let [never, auto] = [2, 3].map(|line: usize| numbers(&lines[line]));
        assert!(never[0] > 1000 && never[2] == 0, "{lines:?}");
        assert!(auto.iter().sum::<u64>() < never[0] && auto[2] > auto[0], "{lines:?}");
    }
}

#[test]
fn io_uring_a_busy_loop_shares_its_waits() {
    let Some(lines) = lines_of("io_uring") else { return };
    let waits = |line: &String| *numbers(line).last().expect("a number");
    assert!(waits(&lines[1]) * 2 < waits(&lines[0]), "{lines:?}");
}

#[test]
fn seeing_a_flood_is_paused_and_queued() {
    let Some(lines) = lines_of("seeing") else { return };
    let times: Vec<u64> = lines.iter().map(|line| numbers(line)[0]).collect();
    assert!(times[0] >= 1 && times[0] == times[1] && times[2] >= 1, "{lines:?}");
}

/// A chapter shows each script, and each chapter has a script.
#[test]
fn each_chapter_has_its_experiment() {
    let directory = fs::read_dir(docs().join("experiments")).expect("there are some");
    let mut scripts: Vec<String> =
        directory.map(|entry| entry.expect("it is there").file_name().into_string().expect("text")).collect();
    scripts.retain(|name| name != "common.sh");
    assert_eq!(scripts.len(), 16, "{scripts:?}");
    scripts.iter().for_each(|name| assert!(!shown(name).is_empty(), "{name}"));
}
