//! The system calls of the server: two an echo, and nothing but `accept4` and one `epoll_ctl` for a new connection.
//! strace counts them, if it is installed and may trace.

use std::fs;
use std::process::Command;

use tempfile::tempdir;

use crate::support::{Server, eventually, installed, skip};

/// True if strace is installed, and may trace here.
pub(crate) fn can_trace(test: &str) -> bool {
    let try_it = || Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    let can = installed("strace").is_some() && try_it().is_ok_and(|status| status.success());
    if !can {
        skip(test, "strace is not installed, or may not trace");
    }
    can
}

/// The system calls of a server while `clients` clients had `rounds` round trips each; `None` if strace can't trace
/// here.
fn trace(test: &str, clients: usize, rounds: usize) -> Option<Vec<String>> {
    if !can_trace(test) {
        return None;
    }
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("trace");
    let mut command = Command::new("strace");
    // -D: the server is our child, and strace its companion, so that the end of the server ends both.
    command.arg("-D").arg("-o").arg(&file).args([env!("CARGO_BIN_EXE_echoloop"), "-q", "127.0.0.1:0"]);
    let server = Server::spawn(command, 1);
    let connections: Vec<_> = (0..clients).map(|_| server.connect()).collect();
    for _ in 0..rounds {
        connections.iter().for_each(|client| client.echo(&[b'x'; 64]));
    }
    drop(connections);
    assert_eq!(server.stop().0.code(), Some(0));
    let read = || fs::read_to_string(&file).expect("strace writes it");
    eventually("strace has written the end", || read().contains("+++ exited with 0 +++"));
    Some(read().lines().map(str::to_owned).collect())
}

fn count(trace: &[String], call: &str) -> usize {
    trace.iter().filter(|line| line.starts_with(call)).count()
}

#[test]
fn an_echo_costs_two_system_calls_and_a_connection_two_more() {
    const CLIENTS: usize = 10;
    const ROUNDS: usize = 50;
    let test = "an_echo_costs_two_system_calls_and_a_connection_two_more";
    let Some(trace) = trace(test, CLIENTS, ROUNDS) else { return };
    let listening = trace.iter().position(|line| line.starts_with("listen(")).expect("it listens");
    let serving = &trace[listening + 1..];

    // One more tells the loop of the signal.
    assert_eq!(count(serving, "sendto("), CLIENTS * ROUNDS + 1, "one for each echo");
    // One for each echo, one for the end of each connection, and one more if the event of the last bytes brought the
    // end too.
    let reads = count(serving, "recvfrom(");
    // The loop also reads the signal's byte from a socket, until nothing is left.
    let most = CLIENTS * ROUNDS + 2 * CLIENTS + 2;
    assert!((CLIENTS * ROUNDS..=most).contains(&reads), "{reads} reads");
    // Beside the connections, the server registers the listener and the two kinds of signals, once each. At the end it
    // takes the listener out, since another process may keep an inherited listener open.
    assert_eq!(count(serving, "epoll_ctl("), CLIENTS + 4);
    assert_eq!(count(serving, "setsockopt("), 0, "options are inherited from the listener");
    assert_eq!(count(serving, "accept4("), CLIENTS, "none of them in vain");
    let set_flags =
        serving.iter().filter(|line| line.contains("F_SETFL") || line.starts_with("ioctl(")).count();
    assert!(set_flags < CLIENTS, "accept4 makes it nonblocking");
    assert!(count(serving, "mmap(") + count(serving, "brk(") < 20, "an echo takes no memory");
}
