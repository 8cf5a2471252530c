//! In containers: the program takes the commands in `deploy/Containerfile` and `deploy/kubernetes.yaml`, and each file
//! agrees with itself and with the other.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use tempfile::tempdir;

use crate::support::{Server, installed, run, skip};

fn source(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(source(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text behind a keyword that starts exactly one line.
#[track_caller]
fn value<'a>(text: &'a str, keyword: &str) -> &'a str {
    let found: Vec<&str> = text.lines().filter_map(|line| line.trim_start().strip_prefix(keyword)).collect();
    let [value] = found[..] else { panic!("{keyword:?} stands there {} times", found.len()) };
    value.trim()
}

/// A list as both kinds of file write it, which is JSON.
fn words(list: &str) -> Vec<String> {
    serde_json::from_str(list).unwrap_or_else(|error| panic!("{list}: {error}"))
}

fn port(text: &str) -> u16 {
    let digits = text.rsplit(':').next().expect("something");
    digits.trim().parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The server takes the words and serves, on free ports of loopback instead of the ports that they name.
#[track_caller]
fn assert_serves(words: &[String], endpoints: &[&str]) {
    let words = words.iter().map(String::as_str);
    let words: Vec<&str> =
        words.map(|word| if endpoints.contains(&word) { "127.0.0.1:0" } else { word }).collect();
    let server = Server::start(&words);
    server.connect().echo(b"in a container");
    assert_eq!(server.stop().0.code(), Some(0));
}

#[test]
fn the_image_holds_what_the_build_needs_and_its_command_serves_the_port_that_it_exposes() {
    let containerfile = text("deploy/Containerfile");
    let directory = tempdir().expect("a directory");
    for line in containerfile.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let names: Vec<&str> = line.split_whitespace().collect();
        let (target, sources) = names.split_last().expect("it has words");
        if !line.starts_with("--from") {
            let mut copy = Command::new("cp");
            copy.arg("-r").args(sources.iter().map(|name| source(name))).arg(directory.path().join(target));
            assert_eq!(run(copy).code, Some(0), "{line}");
        }
    }
    // Cargo finds all targets of the manifest, and all files that the source includes are there.
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(&directory).args([
        "metadata",
        "--no-deps",
        "--offline",
        "--locked",
        "--format-version=1",
    ]);
    let finished = run(cargo);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);

    let command =
        [words(value(&containerfile, "ENTRYPOINT ")), words(value(&containerfile, "CMD "))].concat();
    assert!(containerfile.contains(&format!("release/echoloop {}", command[0])), "{command:?}");
    let endpoint = command.last().expect("it has words").as_str();
    assert_eq!(port(value(&containerfile, "EXPOSE ")), port(endpoint));
    assert_serves(&command[1..], &[endpoint]);
}

#[test]
fn the_manifest_gives_connections_their_time_and_its_ports_agree() {
    let manifest = text("deploy/kubernetes.yaml");
    let arguments = words(value(&manifest, "args: "));
    let behind = |option: &str| {
        let position = arguments.iter().position(|word| word == option).expect(option);
        arguments[position + 1].as_str()
    };
    let seconds = |keyword| Duration::from_secs(value(&manifest, keyword).parse().expect("seconds"));
    let drain = humantime::parse_duration(behind("--drain")).expect("a duration");
    assert!(seconds("terminationGracePeriodSeconds: ") > seconds("seconds: ") + drain);

    let endpoint = arguments.last().expect("it has words").clone();
    let admin = behind("--admin").to_owned();
    for (name, endpoint) in [("echo", &endpoint), ("admin", &admin)] {
        let declared = format!("- name: {name}\n              containerPort: {}\n", port(endpoint));
        assert!(manifest.contains(&declared), "no {declared:?}");
    }
    assert_eq!(manifest.matches("port: admin").count(), 2, "both probes");
    assert_eq!(value(&manifest, "targetPort: "), "echo");
    assert_eq!(
        format!("{}:{}", value(&manifest, "runAsUser: "), value(&manifest, "runAsGroup: ")),
        value(&text("deploy/Containerfile"), "USER ")
    );
    // Clients that never read need the server's buffers, a send and a receive buffer each in the kernel, at twice their
    // size, and the memory of the process itself.
    let number = |text: &str, unit| text.trim_end_matches(unit).parse::<usize>().expect("a number");
    let (_, limits) = manifest.split_once("limits:").expect("there are limits");
    let memory = number(value(limits, "memory: "), "Mi") << 20;
    let in_kernel = 4 * 1024 * number(behind("--tcp-buffer"), "KiB");
    assert!(memory / 4 + number(behind("--max-connections"), "") * in_kernel + (32 << 20) <= memory);
    assert_serves(&arguments, &[&endpoint, &admin]);
}

#[test]
fn the_job_loads_the_service_and_what_its_pods_print_is_merged() {
    let (job, service) = (text("deploy/kubernetes-load.yaml"), text("deploy/kubernetes.yaml"));
    let pods: usize = value(&job, "completions: ").parse().expect("a number");
    assert_eq!(value(&job, "parallelism: "), pods.to_string());
    assert_eq!(value(&job, "image: "), value(&service, "image: "));
    let arguments = words(value(&job, "args: "));
    let endpoint = arguments.last().expect("it has words");
    let (name, port) = endpoint.split_once(':').expect("a host and a port");
    for part in [format!("kind: Service\nmetadata:\n  name: {name}\n"), format!("\n      port: {port}\n")] {
        assert!(service.contains(&part), "no {part:?}");
    }

    // Each pod's command as the manifest has it, but against our server, for one second and with a start soon.
    let server = Server::start(&["127.0.0.1:0"]);
    let start = SystemTime::now() + Duration::from_secs(3);
    let start = humantime::format_rfc3339_seconds(start).to_string();
    let spawn = |index: usize| {
        let word = |word: &String| match word.as_str() {
            "START_AT" => start.clone(),
            "$(INDEX)" => index.to_string(),
            "60s" => "1s".into(),
            "250" => "5".into(),
            "5000" => "50".into(),
            word if word == endpoint => server.address().to_string(),
            word => word.to_owned(),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
        command
            .args(arguments.iter().map(word))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts")
    };
    let running: Vec<_> = (0..pods).map(spawn).collect();
    let directory = tempdir().expect("a directory");
    let log = directory.path().join("log");
    let mut printed = Vec::new();
    for pod in running {
        let output = pod.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0));
        printed.extend(output.stdout);
    }
    fs::write(&log, printed).expect("it is written");
    let mut merge = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    merge.arg("merge").stdin(fs::File::open(&log).expect("it is there"));
    let merged = merge.output().expect("it runs");
    let table = String::from_utf8_lossy(&merged.stdout).into_owned();
    assert_eq!(merged.status.code(), Some(0), "{}", String::from_utf8_lossy(&merged.stderr));
    assert!(
        table.contains("20 clients, open loop of 200 messages/s") && !table.contains("the same seed"),
        "{table}"
    );
}

#[test]
fn the_tools_of_others_find_nothing_to_complain_of() {
    let test = "the_tools_of_others_find_nothing_to_complain_of";
    for (tool, arguments, file) in [
        ("kubernetes-validate", &["--strict"] as &[_], "deploy/kubernetes.yaml"),
        ("kubernetes-validate", &["--strict"], "deploy/kubernetes-load.yaml"),
        ("hadolint", &[], "deploy/Containerfile"),
    ] {
        if installed(tool).is_none() {
            skip(test, &format!("{tool} is not installed"));
            continue;
        }
        let mut command = Command::new(tool);
        command.args(arguments).arg(source(file));
        let finished = run(command);
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
}

#[test]
fn the_overview_names_every_file() {
    let overview = text("deploy/README.md");
    for folder in ["deploy", "deploy/haproxy", "deploy/systemd"] {
        for entry in fs::read_dir(source(folder)).expect("it is there") {
            let entry = entry.expect("it can be read");
            let name = entry.file_name().into_string().expect("text");
            // The service of a socket unit stands in the row of the socket.
            let name = name.replace("-activated.service", "-activated.socket");
            let is_named = entry.path().is_dir() || name == "README.md" || overview.contains(&name);
            assert!(is_named, "{folder}/{name}");
        }
    }
}
