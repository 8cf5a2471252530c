//! Standard input of every kind as a stream.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use crate::purpose::{end_of_output, read_to_end, send, send_piped, server, start_piped};
use crate::support::{DEADLINE, Process, Server, assert_same, installed, pattern, program, skip};

const LARGE: usize = 64 << 20;

/// Sends a large file from standard input to standard output, another file.
fn through(endpoint: &str, arguments: &[&str]) {
    let directory = tempfile::tempdir().expect("a directory");
    let [input, output] = ["input", "output"].map(|name| directory.path().join(name));
    let bytes = pattern(LARGE, 7);
    fs::write(&input, &bytes).expect("room on the disk");
    let mut command = program(&[&["send", endpoint], arguments].concat());
    command.stdin(File::open(&input).expect("it is there")).stdout(File::create(&output).expect("a file"));
    assert_eq!(Process::spawn(command.stderr(Stdio::piped())).finish().output(), "");
    assert_same(&fs::read(output).expect("it is there"), &bytes);
}

#[test]
fn a_file_of_64_mib_through_our_server() {
    through(Server::on_ipv4(&[]).endpoint(), &[]);
}

#[test]
fn a_file_of_64_mib_through_our_server_is_verified() {
    through(Server::on_ipv4(&[]).endpoint(), &["--verify"]);
}

#[test]
fn a_file_of_64_mib_over_a_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let endpoint = format!("unix:{}", directory.path().join("echo.sock").display());
    through(Server::start(&[&endpoint]).endpoint(), &[]);
}

#[test]
fn a_file_of_64_mib_through_socat_and_cat() {
    let Some(socat) = installed("socat") else {
        return skip("a_file_of_64_mib_through_socat_and_cat", "socat is not installed");
    };
    // `-d -d`: socat says on which port it listens. `-t`: the time that it waits for `cat` after a half-close.
    let mut command = Command::new(socat);
    command.args(["-d", "-d", "-t", "60", "TCP-LISTEN:0,bind=127.0.0.1", "EXEC:cat"]);
    let mut socat = Process::spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()));
    let mut lines =
        BufReader::new(socat.child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let endpoint = lines
        .find_map(|line| Some(line.split_once("listening on AF=2 ")?.1.trim().to_owned()))
        .expect("it says where it listens");
    // A thread has to read the rest of socat's log, or socat would stop.
    std::thread::spawn(move || lines.for_each(drop));
    through(&endpoint, &[]);
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let server = Server::on_ipv4(&[]);
    let input: String = (0..600_000).map(|number| format!("{number}\n")).collect();
    assert_same(send_piped(&[server.endpoint()], input.as_bytes()).output().as_bytes(), input.as_bytes());
}

#[test]
fn answers_come_while_the_input_is_still_open() {
    let server = Server::on_ipv4(&[]);
    let mut process = start_piped(&[server.endpoint()]);
    let mut stdin = process.child.stdin.take().expect("it is piped");
    let mut stdout = BufReader::new(process.child.stdout.take().expect("it is piped"));
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        while stdout.read_line(&mut line).expect("reading from a pipe") > 0 {
            let _ = sender.send(std::mem::take(&mut line));
        }
    });
    for line in ["one\n", "two\n", "three\n"] {
        stdin.write_all(line.as_bytes()).expect("it takes them");
        assert_eq!(lines.recv_timeout(DEADLINE).as_deref(), Ok(line));
    }
    drop(stdin);
    reader.join().expect("reading from a pipe");
    assert_eq!(process.finish().output(), "");
}

#[test]
fn nothing_is_a_stream_as_well() {
    let server = server(|mut stream| {
        assert_eq!(read_to_end(&mut stream), b"");
        stream.write_all(b"bye\n").expect("it takes them");
    });
    assert_eq!(send(&[server.endpoint()]).output(), "bye\n");
}

#[test]
fn without_half_close_the_servers_end_is_waited_for() {
    let server = server(|mut stream| {
        let mut request = [0; 8];
        stream.read_exact(&mut request).expect("they come");
        stream.write_all(b"reply").expect("it takes them");
        end_of_output(&stream);
        assert_eq!(read_to_end(&mut stream), b"", "our side was not ended before");
    });
    assert_eq!(send_piped(&["--no-half-close", server.endpoint()], b"question").output(), "reply");
}

#[test]
fn the_flags_of_standard_input_stay_as_they_are() {
    let server = Server::on_ipv4(&[]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let flags = || rustix::fs::fcntl_getfl(&reader).expect("it is open");
    let before = flags();
    let mut command = program(&["send", server.endpoint()]);
    command.stdin(reader.try_clone().expect("a descriptor")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = Process::spawn(&mut command);
    (&writer).write_all(b"hello").expect("room in the pipe");
    let during = flags();
    drop(writer);
    let ended = process.finish();
    assert_eq!((before, during), (during, flags()));
    assert_eq!(ended.output(), "hello");
}

/// Another process that shares a pipe with the client may have made it nonblocking.
#[test]
fn nonblocking_pipes_are_waited_for() {
    let server = Server::on_ipv4(&[]);
    let (mut input, mut output) = (std::io::pipe().expect("a pipe"), std::io::pipe().expect("a pipe"));
    for end in [input.0.as_fd(), output.1.as_fd()] {
        let flags = rustix::fs::fcntl_getfl(end).expect("it is open");
        rustix::fs::fcntl_setfl(end, flags | rustix::fs::OFlags::NONBLOCK).expect("it is a pipe");
    }
    let mut command = program(&["send", server.endpoint()]);
    let mut process = Process::spawn(command.stdin(input.0).stdout(output.1));
    // The command holds the child's ends, and while it does the pipes can't end.
    drop(command);
    let sent = pattern(4_000_000, 8);
    let bytes = sent.clone();
    let writer = std::thread::spawn(move || input.1.write_all(&bytes));
    let mut received = Vec::new();
    output.0.read_to_end(&mut received).expect("reading from a pipe");
    writer.join().expect("no panic").expect("it takes them");
    assert_same(&received, &sent);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn a_reader_that_waits_makes_the_server_wait() {
    let (sender, progress) = channel();
    let (stop, stopped) = channel::<()>();
    let server = server(move |mut stream| {
        stream.set_write_timeout(Some(std::time::Duration::from_millis(300))).expect("a timeout");
        let mut sent = 0_usize;
        // Sends until the kernel takes nothing more.
        while let Ok(count) = stream.write(&[b'x'; 65_536]) {
            sent += count;
            if sent > 1 << 30 {
                break;
            }
        }
        let _ = sender.send(sent);
        let _ = stopped.recv_timeout(DEADLINE);
    });
    let process = Process::start(program(&["send", "--no-half-close", server.endpoint()]));
    let sent = progress.recv_timeout(DEADLINE).expect("it stops taking");
    assert!(sent < 64 << 20, "{sent} bytes went somewhere although nobody reads them");
    drop(process);
    drop(stop);
}
