//! Clients that know nothing of this server, as this machine has them: nc, socat, telnet, curl, Python, Bash.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::tempdir;

use crate::support::{Process, Server, eventually, installed, run, skip};

/// Gives a client a line to send, and waits until the client shows the reply. Its input stays open until then, since
/// some clients leave at the end of their input without waiting for the reply.
fn talk(program: &str, arguments: &[&str], line: &str, reply: &str) {
    if installed(program).is_none() {
        return skip(&format!("{program} as a client"), "it is not installed");
    }
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = Process::spawn(&mut command);
    let shown = Arc::new(Mutex::new(String::new()));
    let (mut output, into) = (client.child.stdout.take().expect("it is piped"), Arc::clone(&shown));
    let reader = thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            into.lock().expect("nobody panics").push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    let mut input = client.child.stdin.take().expect("it is piped");
    input.write_all(line.as_bytes()).expect("it reads its input");
    eventually(&format!("{program} shows {reply:?}"), || {
        shown.lock().expect("nobody panics").contains(reply)
    });
    drop(input);
    drop(client);
    reader.join().expect("the reader does not panic");
}

/// Host and port of a server, as most clients want them.
fn with_server(options: &[&str], test: impl FnOnce(&str, &str)) {
    let server = Server::on_ipv4(options);
    test("127.0.0.1", &server.address().port().to_string());
    server.connect().echo(b"and it lives");
}

#[test]
fn netcat() {
    with_server(&[], |host, port| talk("nc", &[host, port], "one line\n", "one line\n"));
}

#[test]
fn socat() {
    with_server(&[], |host, port| {
        talk("socat", &["-", &format!("TCP:{host}:{port}")], "one line\n", "one line\n");
    });
}

#[test]
fn socat_over_a_unix_socket() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let _server = Server::start(&[&format!("unix:{}", path.display())]);
    talk("socat", &["-", &format!("UNIX-CONNECT:{}", path.display())], "one line\n", "one line\n");
}

#[test]
fn telnet() {
    let server = Server::on_ipv4(&["--prefix", "OK...", "--chunk", "1024"]);
    let port = server.address().port().to_string();
    talk("telnet", &["127.0.0.1", &port], "hi\n", "OK...hi");
}

#[test]
fn curl() {
    with_server(&[], |host, port| {
        talk("curl", &["-sN", &format!("telnet://{host}:{port}")], "one line\n", "one line\n");
    });
}

#[test]
fn bash() {
    with_server(&[], |host, port| {
        let script = format!("exec 3<>/dev/tcp/{host}/{port}; read line; echo \"$line\" >&3; head -n 1 <&3");
        talk("bash", &["-c", &script], "one line\n", "one line\n");
    });
}

/// A whole exchange with a half-close, checked by the sockets of another language.
#[test]
fn python_sends_a_mebibyte_and_reads_to_the_end() {
    const SCRIPT: &str = r#"
import os, socket, sys, threading
message = os.urandom(1 << 20)
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    def send():
        sock.sendall(message)
        sock.shutdown(socket.SHUT_WR)
    sender = threading.Thread(target=send)
    sender.start()
    reply = bytearray()
    while data := sock.recv(1000):
        reply += data
    sender.join()
print("the same" if reply == message else "different")
"#;
    if installed("python3").is_none() {
        return skip("python3 as a client", "it is not installed");
    }
    with_server(&[], |host, port| {
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT, host, port]);
        let client = run(command);
        assert_eq!(client.code, Some(0), "{}", client.stderr);
        assert_eq!(client.stdout, "the same\n");
    });
}

/// socat sends a file, half-closes at its end, and then waits for the rest of the reply.
#[test]
fn socat_sends_a_file_and_waits_for_the_rest() {
    if installed("socat").is_none() {
        return skip("socat with a file", "it is not installed");
    }
    let directory = tempdir().expect("a directory");
    let [input, output] = ["in", "out"].map(|name| directory.path().join(name));
    std::fs::write(&input, crate::support::pattern(8 << 20, 23)).expect("a new file");
    with_server(&[], |host, port| {
        // -t: how long socat waits for the rest after the end of the file.
        let script = format!("exec socat -t 60 - TCP:{host}:{port} <\"$0\" >\"$1\"");
        let mut command = Command::new("sh");
        command.args([Path::new("-c"), Path::new(&script), &input, &output]);
        let client = run(command);
        assert_eq!(client.code, Some(0), "{}", client.stderr);
        let [input, output] = [input, output].map(|file| std::fs::read(file).expect("it was written"));
        crate::support::assert_same(&output, &input);
    });
}
