//! Errors of `accept` that no test can provoke from outside: strace injects them, if it is installed and may trace.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::tempdir;

use crate::calls::can_trace;
use crate::limits::assert_it_sleeps;
use crate::support::{Server, assert_same, eventually};

/// A server some of whose calls of `accept4` or `epoll_ctl` fail; strace writes these calls to a file.
fn failing(inject: &str, file: &Path, endpoints: &[&str]) -> Server {
    let mut command = Command::new("strace");
    // -D: the server is our child, and strace its companion.
    command.arg("-D").arg("-o").arg(file).args(["-e", "trace=accept4,epoll_ctl", "-e", inject]);
    command.arg(env!("CARGO_BIN_EXE_echoloop")).args(endpoints);
    Server::spawn(command, endpoints.len())
}

#[test]
fn an_unknown_error_pauses_accepting_and_is_said_once() {
    if !can_trace("an_unknown_error_pauses_accepting_and_is_said_once") {
        return;
    }
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("calls");
    let server = failing("inject=accept4:error=EACCES", &file, &["127.0.0.1:0"]);
    let client = server.connect();
    server.await_log("the server pauses accepting: permission denied; open connections go on");
    assert_it_sleeps(&server, &client);
    let calls = fs::read_to_string(&file).expect("strace writes it").matches("accept4(").count();
    assert!((2..100).contains(&calls), "it tries again, but seldom: {calls} calls");
    assert_eq!(server.log().matches("the server pauses accepting").count(), 1, "{}", server.log());
}

#[test]
fn after_unknown_errors_all_who_waited_are_served() {
    if !can_trace("after_unknown_errors_all_who_waited_are_served") {
        return;
    }
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("calls");
    let server = failing("inject=accept4:error=EPERM:when=1..4", &file, &["127.0.0.1:0"]);
    let clients = [server.connect(), server.connect(), server.connect()];
    clients.iter().for_each(|client| client.echo(b"served in the end"));
    server.await_log("the server accepts again after ");
    assert!(server.log().contains(" and 4 failed attempts"), "{}", server.log());
}

#[test]
fn errors_of_single_connections_without_end_do_not_spin() {
    if !can_trace("errors_of_single_connections_without_end_do_not_spin") {
        return;
    }
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("calls");
    let server = failing("inject=accept4:error=ENETDOWN", &file, &["127.0.0.1:0"]);
    let client = server.connect();
    server.await_log("the server pauses accepting: network is down");
    assert_it_sleeps(&server, &client);
    let calls = fs::read_to_string(&file).expect("strace writes it").matches("accept4(").count();
    assert!(calls < 1500, "64 at a time, and that seldom: {calls} calls");
}

#[test]
fn a_connection_that_cannot_be_polled_pauses_accepting() {
    if !can_trace("a_connection_that_cannot_be_polled_pauses_accepting") {
        return;
    }
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("calls");
    // At the start the server registers the listener and the two kinds of signals, then the first client.
    let server = failing("inject=epoll_ctl:error=ENOSPC:when=5..6", &file, &["127.0.0.1:0"]);
    let first = server.connect();
    first.echo(b"served");
    assert_same(&server.connect().receive_rest(), b"");
    server.await_log("the server pauses accepting: no space left on device");
    first.echo(b"open connections go on");
    eventually("one is served again", || {
        let client = server.connect();
        client.try_echo(b"again")
    });
    assert!(server.stop().1.contains(" refused"));
}

#[test]
fn a_listener_that_breaks_is_closed_and_the_last_one_ends_the_server_in_order() {
    if !can_trace("a_listener_that_breaks_is_closed_and_the_last_one_ends_the_server_in_order") {
        return;
    }
    let directory = tempdir().expect("a directory");
    let file = directory.path().join("calls");
    let endpoints = ["127.0.0.1:0", "127.0.0.1:0"];
    let server = failing("inject=accept4:error=EINVAL:when=2+2", &file, &endpoints);
    let addresses: Vec<std::net::SocketAddr> = server
        .endpoints()
        .iter()
        .map(|endpoint| endpoint.trim_start_matches("tcp://").parse().expect("an address"))
        .collect();
    let broken = "the server closes a broken listener: invalid argument";
    let first = crate::support::Client::tcp(addresses[0]);
    first.echo(b"accepted by the first call");
    drop(std::net::TcpStream::connect(addresses[0]));
    server.await_log(broken);
    let second = crate::support::Client::tcp(addresses[1]);
    second.echo(b"the other listener goes on");
    first.echo(b"and so do connections");
    drop(std::net::TcpStream::connect(addresses[1]));
    eventually("the other one is closed, too", || server.log().matches(broken).count() == 2);
    // Open connections end in order.
    assert_same(&first.receive_rest(), b"");
    assert_same(&second.receive_rest(), b"");
    drop((first, second));
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("the last listener broke, so nobody could connect any more: invalid argument"),
        "{log}"
    );
}
