//! The file list is the architecture: folders are layers, a type has one file, files of a folder form no circle. And
//! comments name the actor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the bottom up. A folder may name only folders of lower layers; programs of one layer never meet.
const LAYERS: [&[&str]; 5] =
    [&["system"], &["reactor"], &["net"], &["server", "load", "client", "doctor"], &["cli"]];

fn layer(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

/// A source file: its path below `src`, and its code without comments and unit tests.
struct File {
    path: PathBuf,
    code: String,
}

impl File {
    fn folder(&self) -> String {
        self.path.iter().next().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The names behind each place where the code says `prefix`.
    fn names_behind(&self, prefix: &str) -> BTreeSet<String> {
        self.code.split(prefix).skip(1).map(leading_name).filter(|name| !name.is_empty()).collect()
    }
}

fn leading_name(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

/// The text of each Rust file below a folder of the workspace, by its path in that folder.
fn texts(folder: &str) -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, top: &Path, texts: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, top, texts);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("text");
                texts.push((path.strip_prefix(top).expect("below").to_owned(), text));
            }
        }
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut texts = Vec::new();
    collect(&top, &top, &mut texts);
    texts
}

fn files() -> Vec<File> {
    let is_test = |path: &Path| path.iter().any(|part| part == "tests" || part == "tests.rs");
    let file = |(path, text): (PathBuf, String)| {
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        File { path, code: code.collect::<Vec<_>>().join("\n") }
    };
    let files: Vec<File> = texts("src").into_iter().filter(|(path, _)| !is_test(path)).map(file).collect();
    assert!(files.len() > 100, "only {} files", files.len());
    files
}

/// A reader meets "What came before the stop is answered" twice. "The connection answers input that came before the
/// stop" names the actor, and is read once.
#[test]
fn no_sentence_of_a_comment_opens_with_a_clause_that_poses_as_a_noun() {
    for folder in ["src", "tests", "benches", "examples", "exercises", "ladder"] {
        for (path, text) in texts(folder) {
            for (line, comment) in comments(&text) {
                let refused = refused_part(&comment);
                assert_eq!(refused, None, "{folder}/{}:{line}", path.display());
            }
        }
    }
}

/// The comments of a file, their lines joined, each with the number of its first line.
fn comments(text: &str) -> Vec<(usize, String)> {
    let mut comments: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in text.lines().enumerate() {
        let comment = line.trim_start().strip_prefix("//").unwrap_or_default();
        let prose = comment.trim_start_matches(['/', '!']).trim();
        match comments.last_mut() {
            _ if prose.is_empty() => {}
            Some((_, joined)) if goes_on => *joined += &format!(" {prose}"),
            _ => comments.push((number + 1, prose.to_owned())),
        }
        goes_on = !prose.is_empty();
    }
    comments
}

/// The part of a comment that a reader would have to read twice. A question may open as it likes.
fn refused_part(comment: &str) -> Option<&str> {
    const OPENINGS: [&str; 6] = ["What ", "Who ", "Whoever ", "Whatever ", "Which ", "That it "];
    const PHRASES: [&str; 3] = ["those that", "of which", "is told"];
    comment.split(['.', ':', '|']).map(str::trim_start).find(|part| {
        let poses = OPENINGS.iter().any(|opening| part.starts_with(opening)) && !part.contains('?');
        poses || PHRASES.iter().any(|phrase| part.to_lowercase().contains(phrase))
    })
}

#[test]
fn a_clause_that_poses_as_a_noun_is_found_wherever_it_stands() {
    for refused in
        ["What is left goes.", "It ends. Who comes later waits.", "| `a.rs` | Those\n// that stay |"]
    {
        let comments = comments(&format!("fn f() {{}}\n    // {refused}\nfn g() {{}}\n"));
        assert!(comments.len() == 1 && refused_part(&comments[0].1).is_some(), "{comments:?}");
    }
    for fine in ["What now?", "A file. Who reads it? Nobody.", "That is why.", "Say what is left."] {
        assert_eq!(refused_part(fine), None);
    }
}

#[test]
fn no_folder_names_one_that_stands_beside_or_above_it() {
    for file in files() {
        let folder = file.folder();
        let Some(own) = layer(&folder) else { continue };
        for named in file.names_behind("crate::") {
            let allowed = named == folder || layer(&named).is_none_or(|layer| layer < own);
            assert!(allowed, "{} names {named}", file.path.display());
        }
    }
}

#[test]
fn a_type_is_implemented_in_one_file() {
    let mut places = BTreeMap::<(String, String), BTreeSet<PathBuf>>::new();
    let mut definitions = BTreeMap::<(String, String), BTreeSet<PathBuf>>::new();
    for file in files() {
        for line in file.code.lines() {
            if let Some(name) = implemented(line) {
                places.entry((file.folder(), name)).or_default().insert(file.path.clone());
            }
            if let Some(name) = defined(line) {
                definitions.entry((file.folder(), name)).or_default().insert(file.path.clone());
            }
        }
    }
    assert!(places.len() > 100, "only {} types", places.len());
    for (name, files) in places {
        // Two types of the same name in different rooms of a folder are two types.
        let is_one = definitions.get(&name).is_some_and(|definitions| definitions.len() == 1);
        assert!(!is_one || files.len() == 1, "{name:?} is implemented in {files:?}");
    }
}

/// The type of a line that begins an `impl`.
fn implemented(line: &str) -> Option<String> {
    let rest = line.strip_prefix("impl")?;
    let rest = if rest.starts_with('<') { rest.split_once("> ")?.1 } else { rest.strip_prefix(' ')? };
    let subject = rest.rsplit_once(" for ").map_or(rest, |(_, subject)| subject);
    let path = subject.split(['<', ' ', '{']).next()?;
    Some(leading_name(path.rsplit("::").next()?))
}

/// The type of a line that begins its definition.
fn defined(line: &str) -> Option<String> {
    let is_outermost = line.starts_with("pub") || line.starts_with("struct") || line.starts_with("enum");
    let words: Vec<&str> = line.split(' ').collect();
    let keyword = words.iter().position(|word| *word == "struct" || *word == "enum")?;
    is_outermost.then(|| words.get(keyword + 1).map(|name| leading_name(name)))?
}

#[test]
fn files_of_a_folder_form_no_circle_and_take_nothing_from_their_mod() {
    let files = files();
    let paths: BTreeSet<&Path> = files.iter().map(|file| file.path.as_path()).collect();
    let mut needs = BTreeMap::<&Path, BTreeSet<PathBuf>>::new();
    for file in &files {
        // A `mod.rs` is above its siblings: it names all of them.
        if file.path.ends_with("mod.rs") || file.folder().ends_with(".rs") {
            continue;
        }
        let Some(folder) = file.path.parent() else { continue };
        for line in file.code.lines().filter(|line| line.starts_with("use super::")) {
            let name = leading_name(line.trim_start_matches("use super::"));
            let is_module = name.chars().next().is_some_and(char::is_lowercase);
            assert!(is_module, "{} takes from its mod.rs: {line}", file.path.display());
        }
        // `super::super::` leads to the folder above.
        let above = file.names_behind("super::super::");
        for name in file.names_behind("super::").difference(&above) {
            let sibling = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")]
                .into_iter()
                .find(|path| paths.contains(path.as_path()) && *path != file.path);
            needs.entry(&file.path).or_default().extend(sibling);
        }
    }
    for start in needs.keys() {
        let (mut seen, mut next) = (BTreeSet::new(), needs[start].clone());
        while let Some(path) = next.pop_first() {
            assert_ne!(path, **start, "{} needs itself by way of {seen:?}", start.display());
            if seen.insert(path.clone()) {
                next.extend(needs.get(path.as_path()).into_iter().flatten().cloned());
            }
        }
    }
}
