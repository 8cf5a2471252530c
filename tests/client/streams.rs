//! Standard input as a stream, whatever it is.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use crate::support::{
    Echo, PATIENCE, echoloop, end_of_output, read_to_end, send, send_piped, server, skipped, spawn, wait,
};

const LARGE: usize = 64 << 20;

/// A file whose bytes do not repeat within any buffer.
fn large_file() -> File {
    let mut file = tempfile::tempfile().expect("a file");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut block = Vec::with_capacity(1 << 20);
    for _ in 0..LARGE >> 20 {
        block.clear();
        while block.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).expect("room on the disk");
    }
    file.rewind().expect("it is a file");
    file
}

fn same_contents(mut a: &File, mut b: &File) -> bool {
    let (mut block_a, mut block_b) = (Vec::new(), Vec::new());
    a.rewind().and_then(|()| b.rewind()).expect("they are files");
    loop {
        block_a.clear();
        block_b.clear();
        a.take(1 << 20).read_to_end(&mut block_a).expect("it can be read");
        b.take(1 << 20).read_to_end(&mut block_b).expect("it can be read");
        if block_a != block_b {
            return false;
        }
        if block_a.is_empty() {
            return true;
        }
    }
}

/// Sends the file from standard input to standard output, another file.
fn through(endpoint: &str, arguments: &[&str]) {
    let (input, output) = (large_file(), tempfile::tempfile().expect("a file"));
    let mut command = echoloop(&["send", endpoint]);
    command
        .args(arguments)
        .stdin(input.try_clone().expect("a descriptor"))
        .stdout(output.try_clone().expect("a descriptor"))
        .stderr(Stdio::piped());
    let ended = command.spawn().expect("the program starts").wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(output.metadata().expect("it is open").len(), LARGE as u64);
    assert!(same_contents(&input, &output));
}

#[test]
fn a_file_of_64_mib_through_our_server() {
    through(&Echo::start(&[]).endpoint, &[]);
}

#[test]
fn a_file_of_64_mib_through_our_server_is_verified() {
    through(&Echo::start(&[]).endpoint, &["--verify"]);
}

#[test]
fn a_file_of_64_mib_over_a_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let endpoint = format!("unix:{}", directory.path().join("echo.sock").display());
    through(&Echo::start_on(&endpoint, &[]).endpoint, &[]);
}

#[test]
fn a_file_of_64_mib_through_socat_and_cat() {
    let Some(socat) = Socat::start() else {
        skipped("socat is not installed");
        return;
    };
    through(&socat.endpoint, &[]);
}

/// `socat … EXEC:cat`, somebody else's echo server.
struct Socat {
    child: Child,
    endpoint: String,
}

impl Socat {
    fn start() -> Option<Socat> {
        // `-d -d` makes it say on which port it listens, `-t` is how long it waits for `cat` after a half-close.
        let mut command = Command::new("socat");
        command.args(["-d", "-d", "-t", "60", "TCP-LISTEN:0,bind=127.0.0.1", "EXEC:cat"]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let endpoint = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("listening on AF=2 ")?.1.trim().to_owned()))
            .expect("it says where it listens");
        // Somebody has to read the rest of its log, or it would stop.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Socat { child, endpoint })
    }
}

impl Drop for Socat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let server = Echo::start(&[]);
    let input: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let ended = send_piped(&[&server.endpoint], &input);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout == input, "{} of {} bytes", ended.stdout.len(), input.len());
}

#[test]
fn answers_come_while_the_input_is_still_open() {
    let server = Echo::start(&[]);
    let mut child = spawn(echoloop(&["send", &server.endpoint]).stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        while stdout.read_line(&mut line).expect("reading from a pipe") > 0 {
            let _ = sender.send(std::mem::take(&mut line));
        }
    });
    for line in ["one\n", "two\n", "three\n"] {
        stdin.write_all(line.as_bytes()).expect("it takes them");
        assert_eq!(lines.recv_timeout(PATIENCE).as_deref(), Ok(line));
    }
    drop(stdin);
    reader.join().expect("reading from a pipe");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn nothing_is_a_stream_as_well() {
    let server = server(|mut stream| {
        assert_eq!(read_to_end(&mut stream), b"");
        stream.write_all(b"bye\n").expect("it takes them");
    });
    assert_eq!(send(&[&server.endpoint]).output(), "bye\n");
    server.join();
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
    assert_eq!(send_piped(&["--no-half-close", &server.endpoint], b"question").output(), "reply");
    server.join();
}

#[test]
fn the_flags_of_standard_input_stay_as_they_are() {
    let server = Echo::start(&[]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let flags = || rustix::fs::fcntl_getfl(&reader).expect("it is open");
    let before = flags();
    let mut command = echoloop(&["send", &server.endpoint]);
    let child = spawn(command.stdin(reader.try_clone().expect("a descriptor")));
    (&writer).write_all(b"hello").expect("room in the pipe");
    let during = flags();
    drop(writer);
    let ended = wait(child);
    assert_eq!((before, during), (during, flags()));
    assert_eq!(ended.output(), "hello");
}

/// Another process that shares a pipe with the client may have made it nonblocking.
#[test]
fn nonblocking_pipes_are_waited_for() {
    let server = Echo::start(&[]);
    let (mut input, mut output) = (std::io::pipe().expect("a pipe"), std::io::pipe().expect("a pipe"));
    for end in [input.0.as_fd(), output.1.as_fd()] {
        let flags = rustix::fs::fcntl_getfl(end).expect("it is open");
        rustix::fs::fcntl_setfl(end, flags | rustix::fs::OFlags::NONBLOCK).expect("it is a pipe");
    }
    let mut command = echoloop(&["send", &server.endpoint]);
    let mut child =
        command.stdin(input.0).stdout(output.1).stderr(Stdio::inherit()).spawn().expect("the program starts");
    // It holds the ends that the child has: without them the pipes could not end.
    drop(command);
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let bytes = sent.clone();
    let writer = std::thread::spawn(move || input.1.write_all(&bytes));
    let mut received = Vec::new();
    output.0.read_to_end(&mut received).expect("reading from a pipe");
    writer.join().expect("no panic").expect("it takes them");
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_reader_that_waits_makes_the_server_wait() {
    let (sender, progress) = channel();
    let (stop, stopped) = channel::<()>();
    let server = server(move |mut stream| {
        stream.set_write_timeout(Some(std::time::Duration::from_millis(300))).expect("a timeout");
        let mut sent = 0_usize;
        // Sends until nothing is taken any more.
        while let Ok(count) = stream.write(&[b'x'; 65_536]) {
            sent += count;
            if sent > 1 << 30 {
                break;
            }
        }
        let _ = sender.send(sent);
        let _ = stopped.recv_timeout(PATIENCE);
    });
    let mut child = spawn(&mut echoloop(&["send", "--no-half-close", &server.endpoint]));
    let sent = progress.recv_timeout(PATIENCE).expect("it stops taking");
    assert!(sent < 64 << 20, "{sent} bytes went somewhere although nobody reads them");
    let _ = child.kill();
    let _ = child.wait();
    drop(stop);
    server.join();
}
