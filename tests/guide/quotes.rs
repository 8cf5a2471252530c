//! The guide quotes the source, and draws it.

use std::collections::{BTreeMap, BTreeSet};
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
    assert_eq!(pages.len(), 17, "{pages:?}");
    pages
}

/// The quotes of a page: the named file, and the lines.
fn quotes(page: &str) -> Vec<(&str, Vec<&str>)> {
    let mut lines = page.lines();
    let mut quotes = Vec::new();
    while let Some(line) = lines.next() {
        let Some(file) = line.strip_prefix("From [`").and_then(|rest| rest.strip_suffix("`]:")) else {
            assert!(!line.starts_with("From `"), "a quote that is no link: {line}");
            continue;
        };
        assert_eq!((lines.next(), lines.next()), (Some(""), Some("```text")), "a block follows {line}");
        quotes.push((file, lines.by_ref().take_while(|line| *line != "```").collect()));
    }
    quotes
}

/// Lines for comparison: without indentation, and without the marks of a comment about a whole file.
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

/// The targets of a page's links, by their names.
fn links(page: &str) -> BTreeMap<&str, &str> {
    page.lines().filter_map(|line| line.strip_prefix("[`")?.split_once("`]: ")).collect()
}

/// On the page of a repository the links of the file itself count. Within rustdoc the links count that `src/guide.rs` puts
/// before them. (Building the documentation checks that their targets exist.)
#[test]
fn the_source_of_each_quote_is_linked_on_both_kinds_of_pages() {
    let guide = read(&root().join("src/guide.rs"));
    for (number, path) in pages().iter().enumerate() {
        let (name, page) = (path.display(), read(path));
        let (links, up) = (links(&page), if number == 0 { "../../" } else { "../../../" });
        for (file, _) in quotes(&page) {
            assert_eq!(links.get(file), Some(&format!("../{file}").as_str()), "{name}");
            let inside = file.replace("src/", "src/echoloop/");
            let within_rustdoc = format!("[`{file}`]: {up}{inside}.html\n");
            assert!(guide.contains(&within_rustdoc), "{name}: src/guide.rs has no {within_rustdoc}");
        }
        for (name_of_link, link) in links {
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let file = path.with_file_name(file);
            assert!(file.is_file(), "{name}: there is no {link}");
            let heading =
                |line: &str| line.starts_with("# ") && line[2..].to_lowercase().replace(' ', "-") == section;
            assert!(section.is_empty() || read(&file).lines().any(heading), "{name}: there is no {link}");
            assert!(page.contains(&format!("[`{name_of_link}`]")), "{name}: nothing leads to {link}");
        }
    }
}

/// The fields of a struct, and their types.
fn fields<'a>(source: &'a str, name: &str) -> Vec<(&'a str, &'a str)> {
    let (_, rest) = source.split_once(&format!("struct {name} {{\n")).expect("there is such a struct");
    let (body, _) = rest.split_once("\n}").expect("it ends");
    let field =
        |line: &'a str| line.trim().trim_start_matches("pub(super) ").trim_end_matches(',').split_once(": ");
    let fields = body.lines().filter(|line| !line.trim().starts_with("///"));
    fields.map(|line| field(line).unwrap_or_else(|| panic!("no field: {line}"))).collect()
}

/// Each box of the diagram is a buffer, each buffer has a box, and the box stands below the buffer's owner.
#[test]
fn the_diagram_of_the_buffers_shows_the_fields() {
    let page = read(&root().join("docs/guide.md"));
    let (_, rest) =
        page.split_once("# The buffers while a peer is slow\n\n```text\n").expect("there is a diagram");
    let (diagram, _) = rest.split_once("```").expect("it ends");
    let columns: Vec<Vec<char>> = diagram.lines().map(|line| line.chars().collect()).collect();
    let headings = ["one for the whole loop", "only while the peer is slow", "one for the whole loop"];
    let mut from = 0;
    let heading_at = headings.map(|heading| {
        let at =
            from + columns[0].iter().collect::<String>().split_at(from).1.find(heading).expect("a heading");
        from = at + 1;
        (at, heading)
    });
    let mut drawn = BTreeSet::new();
    for line in &columns {
        let mut column = 0;
        for cell in line.split(|&character| character == '│') {
            let text: String = cell.iter().collect();
            let name = text.trim();
            // In a box one space goes before a name; what stands at an arrow has more of them.
            let is_boxed = text.starts_with(' ') && !text.starts_with("  ") && column > 0;
            if is_boxed && !name.is_empty() && name.chars().all(|letter| letter.is_ascii_lowercase()) {
                let above =
                    heading_at.iter().rev().find(|(at, _)| *at <= column).expect("a heading is above");
                drawn.insert((name.to_owned(), above.1));
            }
            column += cell.len() + 1;
        }
    }
    let sources =
        ["src/net/workspace.rs", "src/net/buffers.rs"].map(|file| read(&root().join(file))).concat();
    let of = |name, heading, kinds: &[&str]| -> Vec<(String, &str)> {
        let held = fields(&sources, name).into_iter().filter(|(_, kind)| kinds.contains(kind));
        held.map(|(name, _)| (name.to_owned(), heading)).collect()
    };
    let shared = ["Workspace", "Desk"].map(|name| of(name, headings[0], &["Box<[u8]>", "Vec<u8>"])).concat();
    let own = of("Buffers", headings[1], &["Option<Ring>"]);
    assert_eq!(drawn, [shared, own].concat().into_iter().collect());

    let bounds = read(&root().join("src/net/bounds.rs"));
    let limits: Vec<&str> = fields(&bounds, "Limits").into_iter().map(|(name, _)| name).collect();
    for (bound, field) in [
        ("(read size)", "pub read_size"),
        ("(at most read size)", "pub read_size"),
        ("(write limit + one)", "pub write_limit"),
    ] {
        assert!(diagram.contains(bound) && limits.contains(&field), "{bound} {limits:?}");
    }
}

#[test]
fn the_diagram_of_the_phases_shows_the_enum() {
    // A new phase does not compile here until it has a name, and fails the test until the diagram shows it.
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

/// Each chapter links to the chapters before and behind it, at its beginning and at its end, and names the words that it
/// takes for known.
#[test]
fn chapters_lead_to_each_other_and_to_their_words() {
    let (pages, guide) = (pages(), read(&root().join("docs/guide.md")));
    let name = |path: &PathBuf| format!("[`{}`]", path.file_stem().expect("a name").to_str().expect("text"));
    for (number, path) in pages.iter().enumerate().skip(1) {
        let before = (number > 1).then(|| format!("← {} · ", name(&pages[number - 1])));
        let behind = pages.get(number + 1).map(|next| format!(" · {} →", name(next)));
        let links = format!("{}[`guide`]{}", before.unwrap_or_default(), behind.unwrap_or_default());
        let text = read(path);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(&links)).collect();
        let [top, bottom] = lines[..] else { panic!("{}: not twice {links}", path.display()) };
        assert_eq!(bottom, links);
        let words = top.strip_prefix(&format!("{links} · words ([`words`]): ")).expect("it names its words");
        for word in words.split(", ") {
            let known = guide.to_lowercase().contains(&format!("\n**{word}.**"));
            assert!(known, "{}: the guide does not say what {word} is", path.display());
        }
    }
}

/// The source has each function that the reading order names.
#[test]
fn the_reading_order_names_what_is_there() {
    let guide = read(&root().join("docs/guide.md"));
    let (_, rest) = guide.split_once("# Reading `connection.rs`\n").expect("there is an order");
    // The links end the page.
    let (order, _) = rest.split_once("\n[`").expect("it ends");
    let source = ["src/net/connection.rs", "src/net/flow.rs"].map(|file| read(&root().join(file))).concat();
    let mut named = 0;
    let quoted = order.split('`').skip(1).step_by(2);
    for function in
        quoted.filter(|word| word.chars().all(|letter| letter == '_' || letter.is_ascii_lowercase()))
    {
        assert!(source.contains(&format!("fn {function}(")), "neither file has {function}");
        named += 1;
    }
    assert!(named >= 7, "{named} functions");
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
        // A row of a table can't be broken.
        let longest =
            text.lines().filter(|line| !line.starts_with('|')).map(|line| line.chars().count()).max();
        assert!(longest <= Some(125), "{name}: {longest:?} characters in a line");
    }
}
