//! The log and standard output: their text, and that nothing that happens to them can stop the server.

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags, fchmod, fcntl_getfl, fcntl_setfl};
use rustix::process::{Signal, geteuid};
use tempfile::{TempDir, tempdir};

use crate::support::{Client, Process, Server, assert_same, eventually, pattern, program, terminal};

/// A server on a Unix socket: tests find it without its output, whatever happens to that.
struct Unheard {
    process: Process,
    path: PathBuf,
    _directory: TempDir,
}

impl Unheard {
    fn start(options: &[&str], redirect: impl FnOnce(&mut Command)) -> Unheard {
        let directory = tempdir().expect("a directory");
        let path = directory.path().join("echo.sock");
        let mut command = program(options);
        command.arg(format!("unix:{}", path.display())).stdin(Stdio::null());
        redirect(&mut command);
        let process = Process::spawn(&mut command);
        // The command holds ends of pipes that only the child is to have.
        drop(command);
        eventually("it listens", || is_listening(&path));
        Unheard { process, path, _directory: directory }
    }

    fn serves(&self, length: usize) {
        let message = pattern(length, 21);
        assert_same(&Client::unix(&self.path).exchange(&message), &message);
    }

    fn stops(mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.wait().code(), Some(0));
    }
}

fn is_listening(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

#[test]
fn at_info_each_connection_has_a_line_at_its_start_and_at_its_end() {
    let server = Server::on_ipv4(&[]);
    let address = server.address();
    let client = server.connect();
    let peer = client.local_address();
    client.echo(b"not shown at this level");
    drop(client);
    server.await_log(": end of input, all answered; 23 bytes in, 23 bytes out, ");
    let (_, log) = server.stop();
    for line in [
        "descriptor limit ".to_owned(),
        "chunks of 16 bytes, reads of 65536, write limit 65536".into(),
        format!("listening on tcp://{address}"),
        format!("connection from {peer}"),
        format!("{peer}: end of input, all answered; 23 bytes in, 23 bytes out, "),
        "stopping: 0 connections have 10s to end".into(),
        "stopped: 1 connections served, 1 at once at most, 23 bytes in, 23 bytes out, 0 connections cut off"
            .into(),
    ] {
        assert_eq!(log.matches(&line).count(), 1, "{line:?} in the log:\n{log}");
    }
    assert!(log.contains("backlog "), "{log}");
    assert!(!log.contains("not shown at this level") && !log.contains("DEBUG"), "{log}");
}

#[test]
fn chunks_are_logged_with_every_byte_readable() {
    let server = Server::on_ipv4(&["-v"]);
    let client = server.connect();
    client.echo(b"\0\x7f\xff\r\n\t'\"\\ plain");
    client.echo(&[b'x'; 17]);
    drop(client);
    server.await_log("end of input");
    let (_, log) = server.stop();
    for chunk in
        [r#"received b'\x00\x7f\xff\r\n\t\'\"\\ plain'"#, "received b'xxxxxxxxxxxxxxxx'", "received b'x'"]
    {
        assert_eq!(log.matches(chunk).count(), 1, "{chunk} in the log:\n{log}");
    }
    assert!(!log.contains("TRACE"), "{log}");
}

/// The readiness events, the changes of state and the system calls of one connection.
#[test]
fn at_the_highest_level_each_step_is_logged() {
    let server = Server::on_ipv4(&["-vv"]);
    let client = server.connect();
    client.echo(b"This is the mess");
    client.end_sending();
    client.receive_rest();
    let (_, log) = server.stop();
    for step in [
        "readable",
        "read of 65536 bytes: Ok(16)",
        "write of 16 bytes: Ok(16)",
        "read of 65536 bytes: Ok(0)",
        "Open → Draining",
    ] {
        assert!(log.contains(step), "nothing of {step:?} in the log:\n{log}");
    }
}

/// The same chunks of sixteen bytes, with as many system calls.
#[test]
fn with_reads_of_16_bytes_the_chunks_are_the_same() {
    let chunks = |options: &[&str]| {
        let server = Server::on_ipv4(options);
        let client = server.connect();
        client.echo(b"This is the message.  It will be repeated.");
        drop(client);
        server.await_log("end of input");
        let (_, log) = server.stop();
        let received =
            log.lines().filter_map(|line| line.split_once(": received ")).map(|(_, chunk)| chunk.to_owned());
        (received.collect::<Vec<_>>(), log.matches(": read of ").count())
    };
    let (whole, few_calls) = chunks(&["-vv"]);
    let (literal, many_calls) = chunks(&["-vv", "--read-size", "16"]);
    assert_eq!(whole.len(), 3);
    assert_eq!(whole, literal);
    assert!(few_calls < many_calls, "{few_calls} reads, and {many_calls}");
}

#[test]
fn quiet_is_silent() {
    let server = Server::on_ipv4(&["-q"]);
    server.connect().echo(b"nobody need know");
    server.connect().reset();
    let (status, log) = server.stop();
    assert_eq!((status.code(), log.as_str()), (Some(0), ""));
}

/// `echoloop -v 2>&1 | head -1`
#[test]
fn a_reader_of_the_log_that_leaves_does_not_end_the_server() {
    let (reader, writer) = pipe().expect("a pipe");
    let server = Unheard::start(&["-vv"], |command| {
        command.stdout(writer.try_clone().expect("a descriptor")).stderr(writer);
    });
    let mut lines = BufReader::new(reader).lines();
    let first = lines.next().expect("it says something").expect("text");
    assert!(first.contains(" [echoloop] "), "{first}");
    drop(lines);
    server.serves(100_000);
    server.serves(100_000);
    server.stops();
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_server() {
    let (reader, writer) = pipe().expect("a pipe");
    let server = Unheard::start(&["-vv", "--read-size", "16"], |command| {
        command.stdout(Stdio::null()).stderr(writer);
    });
    // Several lines for each 16 bytes: far more than the 64 KiB that the pipe holds.
    server.serves(1 << 20);
    let log = read_what_is_there(reader, || server.serves(16));
    let lost =
        log.lines().find(|line| line.contains("log lines before this one were dropped: nobody read them"));
    let lost =
        lost.unwrap_or_else(|| panic!("it owns up to what it dropped; the end of its log: {}", end_of(&log)));
    let dropped = lost.split("] ").nth(1).and_then(|text| text.split(' ').next()).expect("a number of lines");
    assert!(dropped.parse::<usize>().expect("a number") > 100_000, "{lost}");
    // Each line is whole: the server wrote none in part.
    assert!(log.lines().all(|line| line.contains(" [echoloop")), "{}", end_of(&log));
    server.stops();
}

/// Does something again and again and reads the pipe, until the log says that it dropped lines.
fn read_what_is_there(mut reader: PipeReader, mut something: impl FnMut()) -> String {
    let (mut log, mut buffer) = (Vec::new(), vec![0; 256 * 1024]);
    eventually("the log goes on", || {
        let count = reader.read(&mut buffer).expect("the server holds the other end");
        log.extend_from_slice(&buffer[..count]);
        something();
        let text = String::from_utf8_lossy(&log);
        text.contains("were dropped") && text.ends_with('\n')
    });
    String::from_utf8(log).expect("text")
}

fn end_of(log: &str) -> &str {
    log.get(log.len().saturating_sub(1000)..).unwrap_or(log)
}

#[test]
fn a_closed_standard_output_does_not_keep_it_from_serving() {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let server = Unheard::start(&[], |command| {
        command.stdout(writer).stderr(Stdio::null());
    });
    server.serves(100_000);
    server.stops();
}

#[test]
fn a_signal_ends_a_server_whose_standard_output_has_no_room() {
    let (_reader, writer) = pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("it is open");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("it is a pipe");
    while (&writer).write(&[0; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).expect("it is a pipe");
    let mut server = Unheard::start(&["-q"], |command| {
        command.stdout(writer).stderr(Stdio::null());
    });
    let stat = server.process.proc("stat");
    let sleeps = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") S "));
    eventually("it waits for a reader", sleeps);
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait().signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn with_no_standard_streams_at_all_it_serves() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$0\" -vv \"unix:$1\" <&- >&- 2>&-", env!("CARGO_BIN_EXE_echoloop")])
        .arg(&path);
    let mut process = Process::spawn(&mut command);
    eventually("it listens", || is_listening(&path));
    let message = pattern(100_000, 22);
    assert_same(&Client::unix(&path).exchange(&message), &message);
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}

/// A script reads these lines to learn the ports.
#[test]
fn standard_output_has_a_line_for_each_bound_address_and_nothing_else() {
    let directory = tempdir().expect("a directory");
    let endpoint = format!("unix:{}", directory.path().join("echo.sock").display());
    let mut command = program(&["-vv", "--max-accepts", "1", "127.0.0.1:0", &endpoint]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::spawn(&mut command);
    let mut output = BufReader::new(process.child.stdout.take().expect("it is piped")).lines();
    let mut line = || output.next().expect("a line").expect("text");
    let tcp = line();
    let address =
        tcp.strip_prefix("listening on tcp://").expect("the first endpoint").parse().expect("an address");
    assert_eq!(line(), format!("listening on {endpoint}"));
    Client::tcp(address).echo(b"it really listens");
    assert_eq!(process.wait().code(), Some(0));
    assert!(output.next().is_none());
}

/// A connection logs more with every byte, so the terminal is soon full.
#[test]
fn a_terminal_that_nobody_reads_does_not_stop_the_server() {
    let (mut screen, terminal) = terminal();
    let server = Unheard::start(&["-vv", "--read-size", "16"], |command| {
        command.stdout(Stdio::null()).stderr(terminal.try_clone().expect("a descriptor"));
    });
    server.serves(1 << 20);
    // The terminal stays blocking for the shell and all others that hold it.
    let flags = fcntl_getfl(&terminal).expect("an open descriptor");
    assert!(!flags.contains(OFlags::NONBLOCK), "{flags:?}");
    let path = server.path.clone();
    server.stops();
    drop(terminal);
    assert!(!path.exists());
    let mut log = Vec::new();
    // A terminal whose other side has gone fails; that is the end.
    let _ = screen.read_to_end(&mut log);
    let log = String::from_utf8(log).expect("text");
    let (whole, last) = log.rsplit_once("\r\n").expect("a line");
    assert!(whole.lines().all(|line| line.contains(" [echoloop] ")), "{}", end_of(whole));
    assert!(last.len() < 4096, "{last}");
}

/// As under systemd, whose journal reads a socket.
#[test]
fn a_socket_that_nobody_reads_does_not_stop_the_server() {
    let (mut journal, ours) = UnixStream::pair().expect("a socket pair");
    let server = Unheard::start(&["-vv", "--read-size", "16"], |command| {
        command.stdout(Stdio::null()).stderr(OwnedFd::from(ours));
    });
    server.serves(1 << 20);
    server.stops();
    let mut log = String::new();
    journal.read_to_string(&mut log).expect("text until the server has gone");
    assert!(log.lines().count() > 100, "{log}");
    assert!(log.lines().all(|line| line.contains(" [echoloop] ")), "{}", end_of(&log));
}

/// The server can't open a pipe of another user, such as a container supervisor's, again.
#[test]
fn a_pipe_of_another_user_is_written_to_after_a_question() {
    let (reader, writer) = pipe().expect("a pipe");
    fchmod(&writer, Mode::empty()).expect("it is ours");
    let nobody = geteuid().is_root();
    let mut server = program(&["-v", "--read-size", "16", "127.0.0.1:0"]);
    if nobody {
        server.uid(65_534);
    }
    server.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
    let mut process = Process::spawn(&mut server);
    drop(server);
    let mut line = String::new();
    let stdout = process.child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("it listens");
    let address = line.trim_end().rsplit('/').next().expect("an address").parse().expect("an address");
    let serves = || {
        let message = pattern(1 << 16, 21);
        assert_same(&Client::tcp(address).exchange(&message), &message);
    };
    serves();
    let log = read_what_is_there(reader, serves);
    assert!(log.lines().all(|line| line.contains(" [echoloop] ")), "{}", end_of(&log));
    // The reader has gone now.
    serves();
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn the_bytes_of_a_peer_can_not_drive_the_terminal() {
    let server = Server::on_ipv4(&["--proxy-protocol", "require", "-v"]);
    let client = server.connect();
    client.send(b"PROXY \x1b[2J\r\n");
    server.await_log("PROXY");
    let (_, log) = server.stop();
    assert!(!log.contains('\x1b'), "{log}");
}
