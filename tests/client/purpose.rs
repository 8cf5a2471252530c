//! Runs of `echoloop send`, and servers that behave as one test needs it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread::{JoinHandle, panicking};
use std::time::Duration;

use crate::support::{DEADLINE, Finished, Process, program, run};

/// `echoloop send`, with nothing on standard input.
pub(crate) fn send(arguments: &[&str]) -> Finished {
    run(program(&[&["send"], arguments].concat()))
}

/// `echoloop send` with these bytes in a pipe on standard input.
pub(crate) fn send_piped(arguments: &[&str], input: &[u8]) -> Finished {
    let mut process = start_piped(arguments);
    let mut stdin = process.child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // The client may well end before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let finished = process.finish();
    writer.join().expect("writing to a pipe");
    finished
}

/// `echoloop send` with pipes as its three standard streams.
pub(crate) fn start_piped(arguments: &[&str]) -> Process {
    let mut command = program(&["send"]);
    Process::spawn(
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()),
    )
}

/// A server made for one test: the test says how it serves its one connection.
pub(crate) struct Purpose {
    endpoint: String,
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
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        serve(stream);
    });
    Purpose { endpoint, server: Some(server) }
}

impl Purpose {
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Purpose {
    /// Fails the test if the server has found a fault.
    fn drop(&mut self) {
        if let Some(server) = self.server.take().filter(|_| !panicking()) {
            server.join().expect("the server was content");
        }
    }
}

/// Reads exactly these bytes.
pub(crate) fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    stream.read_exact(&mut received).expect("they come");
    assert_eq!(received.escape_ascii().to_string(), bytes.escape_ascii().to_string());
}

/// Reads everything until the peer ends its side.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // A client that is done may close with unread bytes.
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => bytes,
    }
}

/// Closes by a reset.
pub(crate) fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("an option that every socket has");
}

/// Ends our side; the client goes on.
pub(crate) fn end_of_output(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("it is connected");
}
