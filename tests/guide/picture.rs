//! `examples/trace_picture.rs`, which has drawn `docs/trace.svg`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Finished, Server, examples, program, run};

fn draw(arguments: &[&str]) -> Finished {
    let mut command = Command::new(examples().join("trace_picture"));
    command.args(arguments);
    run(command)
}

/// Any picture has the same head, and each of its elements ends.
#[track_caller]
fn assert_is_picture(svg: &str) {
    assert!(svg.starts_with("<svg class=\"trace\" ") && svg.ends_with("</svg>\n"), "{svg}");
    assert!(
        svg.lines().all(|line| !line.is_empty()),
        "it stands within Markdown, where an empty line would end it"
    );
    for element in ["rect", "text", "title", "style"] {
        let count = |tag: String| svg.matches(&tag).count();
        let began = count(format!("<{element}>")) + count(format!("<{element} "));
        assert!(began > 0 && began == count(format!("</{element}>")), "{began} times <{element}>");
    }
}

#[test]
fn the_picture_shows_what_the_server_has_recorded() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("trace.json");
    let path = file.to_str().expect("text");
    let server = Server::spawn(program(&["127.0.0.1:0", "--trace", path]), 1);
    let client = server.connect();
    client.echo(b"seventeen letters");
    let name = client.local_address().to_string();
    drop(client);
    server.await_log("17 bytes in, 17 bytes out");
    assert_eq!(server.stop().0.code(), Some(0));

    // All of the recording, however long it took.
    let all = [path, "0", "120000"];
    let drawn = draw(&all);
    assert_eq!((drawn.code, drawn.stderr.as_str()), (Some(0), ""));
    assert_is_picture(&drawn.stdout);
    for shown in ["loop", &name] {
        assert!(drawn.stdout.contains(&format!(">{shown}</text>")), "no row {shown}:\n{}", drawn.stdout);
    }
    for bar in ["poll, ", "batch, ", "read 17, ", "write 17, "] {
        assert!(drawn.stdout.contains(&format!("<title>{bar}")), "no {bar}:\n{}", drawn.stdout);
    }
    assert!(drawn.stdout.contains("<title>closed</title>"), "{}", drawn.stdout);

    // A part of the recording as a killed server leaves it: without the last bracket, and perhaps with a torn last
    // line.
    let text = fs::read_to_string(&file).expect("there is a file");
    fs::write(&file, text.trim_end().trim_end_matches(']').to_owned() + ",\n{\"name\":\"torn")
        .expect("a file");
    assert_eq!(draw(&all).stdout, drawn.stdout);
    let none = draw(&[path, "0", "0.001"]);
    assert!(none.code == Some(0) && !none.stdout.contains("read 17"), "{none:?}");
}

#[test]
fn the_picture_of_the_guide_is_that_of_its_recording() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let guide = fs::read_to_string(docs.join("trace.svg")).expect("there is one");
    assert_is_picture(&guide);
    let drawn = draw(&[docs.join("trace.json").to_str().expect("text")]);
    assert_eq!((drawn.code, drawn.stderr.as_str()), (Some(0), ""));
    assert!(drawn.stdout == guide, "docs/trace.svg is not what the example draws of docs/trace.json");
    for (kind, row) in [("poll", "loop"), ("run", "loop"), ("paused", "127.0.0.1:"), ("write", "trace file")]
    {
        assert!(guide.contains(&format!("class=\"{kind}\"")) && guide.contains(&format!(">{row}")), "{kind}");
    }
}

#[test]
fn the_picture_finds_the_part_with_the_most_to_see() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("trace.json");
    // Half a second of the same, then three different things at once, then the same again.
    let bar = |name: &str, milliseconds: u32| {
        format!(
            "{{\"name\":\"{name}\",\"ph\":\"X\",\"tid\":3,\"ts\":{},\"dur\":5.0,\"args\":{{}}}}\n",
            milliseconds * 1000
        )
    };
    let mut text: String = (0..1000).map(|number| bar("read 1", number)).collect();
    text += &(bar("write 1", 500) + &bar("paused", 504) + &bar("run queue", 505));
    fs::write(&file, text).expect("a file");
    let drawn = draw(&[file.to_str().expect("text")]);
    assert_eq!((drawn.code, drawn.stderr.as_str()), (Some(0), ""));
    for shown in ["write 1, ", "paused, ", "run queue, "] {
        assert!(drawn.stdout.contains(&format!("<title>{shown}")), "no {shown}:\n{}", drawn.stdout);
    }
    assert!(drawn.stdout.matches("<title>read 1, ").count() <= 11, "ten milliseconds and no more");
}

#[test]
fn what_is_no_trace_is_refused() {
    for (arguments, code) in [
        (&[] as &[_], 2),
        (&["trace.json", "1"], 2),
        (&["trace.json", "one", "two"], 2),
        (&["/nowhere/trace.json"], 1),
        (&[concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")], 1),
    ] {
        let refused = draw(arguments);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(code), ""), "{arguments:?}");
        assert!(!refused.stderr.is_empty());
    }
}
