//! Programs and servers that no test can leave behind or wait for without end.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// No test waits longer for anything. Nothing takes that long unless it never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Says why a test was not made. Written past the capture of the test harness, so that it is seen in any case.
pub(crate) fn skipped(reason: &str) {
    let _ = writeln!(std::io::stderr(), "left out: {reason}");
}

/// The program under test.
pub(crate) fn echoloop(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// `echoloop send`, with nothing on standard input.
pub(crate) fn send(arguments: &[&str]) -> Ended {
    finish(echoloop(&["send"]).args(arguments))
}

/// `echoloop send` with these bytes in a pipe on standard input.
pub(crate) fn send_piped(arguments: &[&str], input: &[u8]) -> Ended {
    let mut command = echoloop(&["send"]);
    let mut child = spawn(command.args(arguments).stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // It may well end before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let ended = wait(child);
    writer.join().expect("writing to a pipe");
    ended
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    /// It ended well; this is what it printed.
    #[track_caller]
    pub(crate) fn output(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        String::from_utf8(self.stdout).expect("text")
    }

    /// It ended with this status and exactly one line, which has all these parts.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert!(lines.len() == 1 && lines[0].starts_with("echoloop: "), "one clear line: {lines:?}");
        for part in parts {
            assert!(lines[0].contains(part), "`{}` does not say `{part}`", lines[0]);
        }
    }
}

pub(crate) fn finish(command: &mut Command) -> Ended {
    wait(spawn(command))
}

pub(crate) fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// Waits for the end of a program, and ends it if it does not come.
pub(crate) fn wait(mut child: Child) -> Ended {
    let stdout = collect(child.stdout.take().expect("it is piped"));
    let stderr = collect(child.stderr.take().expect("it is piped"));
    let (stdout, stderr) = (stdout.recv_timeout(PATIENCE), stderr.recv_timeout(PATIENCE));
    if stdout.is_err() || stderr.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().expect("a child can be waited for");
    Ended {
        code: status.code(),
        stdout: stdout.expect("the program ended in time"),
        stderr: String::from_utf8(stderr.expect("the program ended in time")).expect("text"),
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("reading from a pipe");
        let _ = sender.send(bytes);
    });
    receiver
}

/// `echoloop serve`, which ends with the test.
pub(crate) struct Echo {
    child: Child,
    pub(crate) endpoint: String,
}

impl Echo {
    pub(crate) fn start(arguments: &[&str]) -> Echo {
        Echo::start_on("127.0.0.1:0", arguments)
    }

    pub(crate) fn start_on(endpoint: &str, arguments: &[&str]) -> Echo {
        let mut command = echoloop(&["serve", "-q", endpoint]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("reading from a pipe");
        let endpoint = line.trim_end().strip_prefix("listening on ").expect("what it says first").into();
        Echo { child, endpoint }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server made for one test: the test says how it serves its one connection.
pub(crate) struct Purpose {
    pub(crate) endpoint: String,
    server: Option<JoinHandle<()>>,
}

/// Accepts one connection and hands it to `serve`.
pub(crate) fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> Purpose {
    server_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"), serve)
}

pub(crate) fn server_on(listener: TcpListener, serve: impl FnOnce(TcpStream) + Send + 'static) -> Purpose {
    let endpoint = listener.local_addr().expect("it is bound").to_string();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        serve(stream);
    });
    Purpose { endpoint, server: Some(server) }
}

impl Purpose {
    /// Fails the test if the server has found a fault.
    pub(crate) fn join(mut self) {
        self.server.take().expect("it is joined once").join().expect("the server was content");
    }
}

/// Exactly these bytes come next.
pub(crate) fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    stream.read_exact(&mut received).expect("they come");
    assert_eq!(received.escape_ascii().to_string(), bytes.escape_ascii().to_string());
}

/// Everything until the peer ends its side.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // A client that is done may close with bytes unread.
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => bytes,
    }
}

/// Closes by a reset.
pub(crate) fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("an option that every socket has");
}

/// The end of our side; the client goes on.
pub(crate) fn end_of_output(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("it is connected");
}
