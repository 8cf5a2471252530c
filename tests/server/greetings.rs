//! Greetings that tell which server answers which client.

use tempfile::tempdir;

use crate::support::{Client, Server, assert_same, program};

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[test]
fn a_client_is_told_who_answers_and_who_it_is() {
    let directory = tempdir().expect("a directory");
    let path = format!("unix:{}", directory.path().join("echo.sock").display());
    let arguments = ["--greeting", "{host} at {local} to {peer} {{}}\\n", "127.0.0.1:0", &path];
    let server = Server::spawn(program(&arguments), 2);
    for _ in 0..2 {
        let client = server.connect();
        let expected = format!("{} at {} to {} {{}}\n", host(), server.address(), client.local_address());
        assert_same(&client.receive(expected.len()), expected.as_bytes());
        client.echo(b"and nothing more");
    }
    let client = Client::unix(&directory.path().join("echo.sock"));
    let expected = format!("{} at {path} to unix client 1 {{}}\n", host());
    assert_same(&client.receive(expected.len()), expected.as_bytes());
    client.echo(b"and nothing more");
}

#[test]
fn an_ipv4_client_of_a_socket_for_both_families_is_told_ipv4_addresses() {
    let server = Server::start(&["--greeting", "{local} {peer}", ":0"]);
    let client = Client::tcp(([127, 0, 0, 1], server.address().port()).into());
    let expected = format!("127.0.0.1:{} {}", server.address().port(), client.local_address());
    assert_same(&client.receive(expected.len()), expected.as_bytes());
}

#[test]
fn under_the_proxy_protocol_the_client_is_the_one_that_is_announced() {
    let server = Server::on_ipv4(&["--proxy-protocol=require", "--greeting", "{peer}\\n"]);
    let client = server.connect();
    client.send(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 7\r\n");
    let expected = b"[2001:db8::7]:4711\n";
    assert_same(&client.receive(expected.len()), expected);
}

#[test]
fn a_placeholder_that_there_is_not_is_wrong_usage() {
    let finished = crate::support::run(program(&["--greeting", "{hostname}", "127.0.0.1:0"]));
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("{host}, {local} and {peer}"), "{finished:?}");
}
