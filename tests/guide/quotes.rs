//! The guide quotes the source, and draws it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use echoloop::net::Phase;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of the guide: its first page and its chapters.
fn pages() -> Vec<PathBuf> {
    let included = read(&root().join("src/guide.rs"));
    let names = included.split('"').skip(1).step_by(2).filter(|name| name.ends_with(".md"));
    let pages: Vec<PathBuf> =
        names.map(|name| root().join("docs").join(name.replace("../docs/", ""))).collect();
    assert_eq!(pages.len(), 13, "{pages:?}");
    pages
}

/// The quotes of a page: the file that is named, and the lines.
fn quotes(page: &str) -> Vec<(&str, Vec<&str>)> {
    let mut lines = page.lines();
    let mut quotes = Vec::new();
    while let Some(line) = lines.next() {
        let Some(file) = line.strip_prefix("From `").and_then(|rest| rest.strip_suffix("`:")) else {
            continue;
        };
        assert_eq!((lines.next(), lines.next()), (Some(""), Some("```text")), "a block follows {line}");
        quotes.push((file, lines.by_ref().take_while(|line| *line != "```").collect()));
    }
    quotes
}

/// Lines as they are compared: without the marks of a comment that is about a whole file, and without indentation.
fn plain(line: &str) -> &str {
    line.trim().trim_start_matches("//!").trim()
}

#[test]
fn quoted_lines_are_in_the_file_that_is_named() {
    let mut found = 0;
    for path in pages() {
        for (file, quote) in quotes(&read(&path)) {
            let source = read(&root().join(file));
            let source: Vec<&str> = source.lines().map(plain).collect();
            let quote: Vec<&str> = quote.into_iter().map(plain).collect();
            let is_there = source.windows(quote.len()).any(|lines| lines == quote);
            assert!(is_there, "{}: {file} has no such lines:\n{}", path.display(), quote.join("\n"));
            found += 1;
        }
    }
    assert!(found >= 20, "{found} quotes");
}

#[test]
fn the_diagram_of_the_phases_shows_the_enum() {
    // A phase that is added does not compile here until it has a name, and is missed below until it is drawn.
    let name = |phase: Phase| match phase {
        Phase::Connecting => "Connecting",
        Phase::Open => "Open",
        Phase::HalfClosing => "HalfClosing",
        Phase::HalfClosed => "HalfClosed",
        Phase::Draining => "Draining",
        Phase::Stopping { .. } => "Stopping",
        Phase::Lingering => "Lingering",
        Phase::Ended => "Ended",
    };
    let phases = [
        Phase::Connecting,
        Phase::Open,
        Phase::HalfClosing,
        Phase::HalfClosed,
        Phase::Draining,
        Phase::Stopping { quota: 0 },
        Phase::Lingering,
        Phase::Ended,
    ];
    let page = read(&root().join("docs/guide.md"));
    let (_, diagram) = quotes(&page)
        .into_iter()
        .find(|(file, _)| *file == "src/net/connection.rs")
        .expect("the diagram is a quote of the source");
    let drawn: BTreeSet<&str> = diagram
        .iter()
        .flat_map(|line| line.split(|character: char| !character.is_ascii_alphabetic()))
        .filter(|word| word.starts_with(|letter: char| letter.is_ascii_uppercase()) && *word != "From")
        .collect();
    assert_eq!(drawn, phases.into_iter().map(name).collect());
}

#[test]
fn each_chapter_has_all_its_parts() {
    for path in &pages()[1..] {
        let (name, text) = (path.display(), read(path));
        for part in [
            "# ",
            "**The question.**",
            "**The experiment.**",
            "**What one sees.**",
            "**Our lines.**",
            "**Elsewhere.**",
        ] {
            assert!(text.contains(part), "{name} has no {part}");
        }
        assert!(!quotes(&text).is_empty(), "{name} quotes nothing");
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(125), "{name}: {longest:?} characters in a line");
    }
}
