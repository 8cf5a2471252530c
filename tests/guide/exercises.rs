//! The exercises: each grader is red on the broken server and green on the mended one.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Finished, exercises, run};

fn grade(arguments: &[&str]) -> Finished {
    let mut command = Command::new(exercises().join("exercises"));
    command.args(arguments);
    run(command)
}

/// Grades servers that are built already, so that the grader need not wait for Cargo.
#[track_caller]
fn is_red_until_it_is_mended(name: &str, fault: &str) {
    let (number, _) = name.split_once('_').expect("it begins with its number");
    let program = |name: &str| exercises().join(name).to_str().expect("text").to_owned();
    // On a busy machine a fault can fail to show: chance alone may give the small client its turn.
    let tries = || (0..3).map(|_| grade(&["--program", &program(name), number]));
    let broken = tries().find(|broken| broken.code == Some(1)).expect("red once in three tries");
    assert!(broken.code == Some(1) && broken.stdout.starts_with(&format!("red: {fault}")), "{broken:?}");
    let mended = grade(&["--program", &program(&format!("solution_{name}")), number]);
    assert!(mended.code == Some(0) && mended.stdout.starts_with("green: "), "{mended:?}");
}

#[test]
fn exercise_1_loses_the_end_behind_a_short_read() {
    is_red_until_it_is_mended(
        "1_short_read",
        "the end of input came with the last bytes, and the server does not see it",
    );
}

#[test]
fn exercise_2_never_accepts_again() {
    is_red_until_it_is_mended("2_descriptors", "a descriptor is free, but the waiting client is not served");
}

#[test]
fn exercise_3_gives_the_event_of_one_to_another() {
    is_red_until_it_is_mended("3_slots", "the newcomer was thrown out");
}

#[test]
fn exercise_4_lets_a_flooder_starve_the_others() {
    is_red_until_it_is_mended("4_flood", "the small client had to wait until ");
}

#[test]
fn exercise_5_takes_a_read_for_a_line() {
    is_red_until_it_is_mended("5_lines", "after \"llo\\n\": \"2\\n\" came instead of \"5\\n\"");
}

#[test]
fn a_number_alone_builds_the_server_and_grades_it() {
    assert_eq!(grade(&["5"]).code, Some(1));
    assert_eq!(grade(&["--solution", "5"]).code, Some(0));
}

#[test]
fn exercise_6_does_not_flush_after_the_end_of_input() {
    is_red_until_it_is_mended("6_drain", "the server does not send the rest of its answer");
}

#[test]
fn a_number_that_is_no_exercise_is_refused() {
    for arguments in [&[] as &[&str], &["0"], &["7"], &["one"], &["--solution"], &["1", "2"]] {
        let refused = grade(arguments);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(refused.stderr.starts_with("usage: "), "{refused:?}");
    }
}

/// An exercise fits into the head: one short file, a hint, and a solution that stays folded until a reader opens it.
#[test]
fn each_exercise_is_short_and_has_a_hint_and_a_folded_solution() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("exercises");
    let read = |path: &str| fs::read_to_string(directory.join(path)).expect("it is there");
    let page = read("README.md");
    let sections: Vec<&str> = page.split("\n## ").skip(1).collect();
    assert_eq!(sections.len(), 6);
    for (number, section) in (1..).zip(sections) {
        let (_, link) = section.split_once("](src/bin/").expect("it links to its file");
        let (file, _) = link.split_once(')').expect("the link ends");
        assert!(file.starts_with(&number.to_string()), "{file}");
        let (question, solution) =
            section.split_once("<details><summary>Solution</summary>").expect("folded");
        assert!(question.contains("**Hint.**") && !question.contains("solutions/"), "{file}");
        assert!(solution.contains(&format!("](solutions/{file})")), "{file}");
        let (broken, mended) = (read(&format!("src/bin/{file}")), read(&format!("solutions/{file}")));
        assert!(broken.lines().count() <= 120 && mended.lines().count() <= 120, "{file} is long");
        assert!(broken.contains("\n//! Hint: ") && broken != mended, "{file}");
        assert!(broken.contains(&format!("cargo run -p exercises -- {number}\n")), "{file}");
    }
}
