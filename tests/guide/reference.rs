//! The README and the pages of `docs/reference`: one shell a page runs every block that is marked `console` or `sh`, in
//! order. Ports are free ones, and loads that name no duration are short; numbers and times may differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::support::{eventually, examples, missing_for, skip};

/// The kinds of blocks that a page may have. The last two are not run.
const KINDS: [&str; 4] = ["console", "sh", "text", "yaml"];
/// The ports that the pages name.
const PORTS: [&str; 9] = ["10000", "10001", "10002", "50007", "28812", "8888", "8000", "9100", "9101"];
/// Tests that need chosen ports take them from here, below the ports that the system chooses.
const CHOSEN_FROM: std::ops::Range<u16> = 12_000..30_000;
const MOST_LINES_OF_THE_README: usize = 250;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The README, and each page of the reference.
fn pages() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("docs/reference")).expect("it is there");
    let mut pages: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    pages.sort();
    pages.insert(0, root().join("README.md"));
    pages
}

/// A command, and the lines that the page shows after it.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The blocks of a page: for each its commands.
fn blocks(page: &str) -> Vec<Vec<Step>> {
    let mut lines = page.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let Some(kind) = line.trim_start().strip_prefix("```") else { continue };
        assert!(KINDS.contains(&kind), "a block is marked {kind:?}");
        let body: Vec<&str> =
            lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")).collect();
        let mut steps: Vec<Step> = Vec::new();
        for line in body.into_iter().filter(|line| !line.is_empty()) {
            let command = if kind == "console" { line.strip_prefix("$ ") } else { Some(line) };
            match (command, steps.last_mut()) {
                (Some(command), _) => {
                    let command = command.split(" # ").next().expect("a first part").trim_end().to_owned();
                    steps.push(Step { command, shown: Vec::new() });
                }
                (None, Some(step)) => step.shown.push(line.to_owned()),
                (None, None) => panic!("{line} is shown before any command"),
            }
        }
        if ["console", "sh"].contains(&kind) {
            blocks.push(steps);
        }
    }
    blocks
}

/// A line without the parts that differ from run to run: numbers with their units of time, and the width of spaces.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        if !letter.is_ascii_digit() {
            if !(letter == ' ' && plain.ends_with(' ')) {
                plain.push(letter);
            }
            continue;
        }
        while letters.next_if(|next| next.is_ascii_digit() || *next == '.').is_some() {}
        plain.push('#');
    }
    for unit in ["ns", "µs", "ms", "s"] {
        plain = plain.replace(&format!("# {unit} "), "#t ").replace(&format!("#{unit}"), "#t");
        plain = plain.strip_suffix(&format!("# {unit}")).map_or(plain.clone(), |rest| format!("{rest}#t"));
    }
    plain.trim().to_owned()
}

/// A port that nobody has, for TCP and UDP, on every address.
fn free_port(taken: &BTreeSet<u16>, seed: u16) -> u16 {
    let count = CHOSEN_FROM.end - CHOSEN_FROM.start;
    let candidates = (0..count).map(|step| CHOSEN_FROM.start + (seed % count + step * 7) % count);
    let is_free = |port: &u16| {
        !taken.contains(port)
            && TcpListener::bind(("127.0.0.1", *port)).is_ok()
            && TcpListener::bind(("0.0.0.0", *port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", *port)).is_ok()
    };
    candidates.into_iter().find(is_free).expect("a free port")
}

/// A shell in which a page is run. Everything that it has started ends with it.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: Arc<Mutex<Vec<u8>>>,
    ports: BTreeMap<&'static str, u16>,
    steps: usize,
    _directory: TempDir,
}

impl Shell {
    fn start(seed: usize) -> Shell {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["LICENSE", "deploy"] {
            symlink(root().join(name), directory.path().join(name)).expect("a link");
        }
        let mut taken = BTreeSet::new();
        let mut ports = BTreeMap::new();
        for port in PORTS {
            let free = free_port(
                &taken,
                (std::process::id() as u16).wrapping_mul(31).wrapping_add(seed as u16 * 997),
            );
            taken.insert(free);
            ports.insert(port, free);
        }
        let programs = Path::new(env!("CARGO_BIN_EXE_echoloop")).parent().expect("a directory");
        let path = std::env::var("PATH").expect("there is one");
        let mut command = Command::new("sh");
        command.env("PATH", format!("{}:{}:{path}", programs.display(), examples().display()));
        // deploy/haproxy/haproxy.cfg takes these from the environment.
        let local = |port: &str| format!("127.0.0.1:{}", ports[port]);
        command.env("ECHO_BIND", local("10000")).env("ECHO_FIRST", local("10001"));
        command.env("ECHO_SECOND", local("10002")).env("ECHO_ADMIN", directory.path().join("admin"));
        command.current_dir(directory.path()).process_group(0);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let (mut input, mut pipe) =
            (child.stdin.take().expect("it is piped"), child.stdout.take().expect("it is piped"));
        input.write_all(b"exec 2>&1\n").expect("it reads");
        let output = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&output);
        // The thread ends with the last program that holds the pipe.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                into.lock().expect("nobody panics").extend_from_slice(&buffer[..count]);
            }
        });
        Shell { child, input, output, ports, steps: 0, _directory: directory }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().expect("nobody panics")).into_owned()
    }

    /// A command with ports of ours.
    fn ours(&self, command: &str) -> String {
        let port = |port: &str| self.ports[port].to_string();
        let mut ours = command.replace("cargo run --example http_get --", "http_get");
        ours = ours.replace("/tmp/echoloop-haproxy.sock", "./admin");
        let server = ours.strip_suffix('&').map(str::trim_end);
        if let Some(server) = server
            && server.starts_with("echoloop")
            && ![":", "localhost"].iter().any(|endpoint| server.contains(endpoint))
        {
            ours = format!("{server} localhost &");
        }
        let mut words: Vec<String> = ours.split(' ').map(str::to_owned).collect();
        for index in 0..words.len() {
            let has_port = words.get(index + 1).is_some_and(|next| PORTS.contains(&next.as_str()));
            if words[index] == "localhost" && !has_port {
                words[index] = "localhost:10000".into();
            }
            let word = words[index].clone();
            for name in PORTS {
                if word == name || word.contains(&format!(":{name}")) {
                    words[index] = words[index].replacen(name, &port(name), 1);
                    break;
                }
            }
        }
        ours = words.join(" ");
        if ours.starts_with("echoloop load") && !ours.contains("--duration") {
            ours += " --duration 300ms";
        }
        ours
    }

    /// Runs a command to its end, or a server until it serves, and looks for the output that the page shows.
    fn run(&mut self, step: &Step, page: &str) {
        let before = self.text();
        let listening = |text: &str| text.matches("listening on ").count();
        let command = self.ours(&step.command);
        writeln!(self.input, "{command}").expect("the shell reads");
        if let Some(server) = command.strip_suffix('&') {
            if server.starts_with("echoloop") {
                let count = listening(&before);
                eventually(&format!("{page}: {command} listens\n{}", self.text()), || {
                    listening(&self.text()) > count
                });
            } else {
                let port = self.ports["10000"];
                eventually(&format!("{page}: {command} serves"), || {
                    TcpStream::connect(("127.0.0.1", port)).is_ok()
                });
            }
        } else {
            self.steps += 1;
            let mark = format!("step {} of the page has ended with", self.steps);
            writeln!(self.input, "echo \"{mark} $?\"").expect("the shell reads");
            eventually(&format!("{page}: {command} ends"), || self.text().contains(&mark));
            eventually("the status is shown", || {
                self.text().rsplit_once(&mark).is_some_and(|(_, status)| status.contains('\n'))
            });
            let text = self.text();
            let status = text.rsplit_once(&mark).map_or("", |(_, rest)| rest).trim_start().lines().next();
            let condition = command.contains("--fail-if") && status == Some("8");
            assert!(status == Some("0") || condition, "{page}: {command}: {status:?}\n{text}");
        }
        for shown in &step.shown {
            let wanted = plain(shown);
            let is_there = || self.text().lines().any(|line| plain(line).contains(&wanted));
            let what = format!("{page}: {command} shows {shown:?}, as {wanted:?}");
            let start = std::time::Instant::now();
            while !is_there() {
                assert!(start.elapsed() < crate::support::DEADLINE, "{what}, but:\n{}", self.text());
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The group exists as long as one of its processes does, and a group that has gone needs no signal.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Runs the blocks of a page, and says how many commands it ran.
fn run_page(path: &Path, seed: usize) -> usize {
    let name = path.strip_prefix(root()).expect("it is ours").display().to_string();
    let page = fs::read_to_string(path).expect("it is there");
    let mut shell = Shell::start(seed);
    let mut ran = 0;
    for step in blocks(&page).into_iter().flatten() {
        if let Some(missing) = missing_for(&step.command) {
            skip(&format!("{} in {name}", step.command), &format!("{missing} is not installed"));
            if step.command.ends_with('&') || step.command.contains("()") {
                skip(&format!("the rest of {name}"), "it builds on this");
                break;
            }
            continue;
        }
        shell.run(&step, &name);
        ran += 1;
    }
    ran
}

#[test]
fn every_block_of_the_readme_and_of_the_reference_does_what_it_shows() {
    let mut ran = 0;
    for (seed, page) in pages().iter().enumerate() {
        ran += run_page(page, seed);
    }
    assert!(ran >= 20, "{ran} commands");
}

#[test]
fn the_readme_is_short_and_every_link_leads_to_a_file() {
    let readme = fs::read_to_string(root().join("README.md")).expect("it is there");
    assert!(readme.lines().count() <= MOST_LINES_OF_THE_README, "{} lines", readme.lines().count());
    let mut found = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).expect("it is there");
        for link in page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !link.is_empty() && !link.starts_with("http") {
                let target = path.with_file_name(link);
                assert!(target.exists(), "{}: there is no {link}", path.display());
                found += 1;
            }
        }
    }
    assert!(found >= 20, "{found} links");
}
