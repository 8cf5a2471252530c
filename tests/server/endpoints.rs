//! Where the server listens, and where it can't: every kind of endpoint, and a clear word and exit status for every
//! failure.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use tempfile::tempdir;

use crate::support::{Client, Finished, Server, has_ipv6, installed, own_address, program, run, skip};

/// The program ends at once, with this status and this word, and prints nothing on standard output that could mislead a
/// script.
#[track_caller]
fn assert_refused(arguments: &[&str], code: i32, word: &str) -> Finished {
    let refused = run(program(arguments));
    assert_eq!(refused.code, Some(code), "{refused:?}");
    assert!(refused.stderr.contains(word), "nothing of {word:?} in {refused:?}");
    assert_eq!(refused.stdout, "");
    refused
}

#[test]
fn one_port_of_every_interface_serves_ipv6_and_ipv4() {
    let server = Server::start(&[":0"]);
    let port = server.address().port();
    Client::tcp((Ipv4Addr::LOCALHOST, port).into()).echo(b"IPv4");
    if has_ipv6() {
        assert_eq!(server.endpoints(), [format!("tcp://[::]:{port}")]);
        Client::tcp((Ipv6Addr::LOCALHOST, port).into()).echo(b"IPv6");
    } else {
        assert_eq!(server.endpoints(), [format!("tcp://0.0.0.0:{port}")]);
    }
    // The log shows an IPv4 client as such, whatever the socket.
    server.await_log("connection from 127.0.0.1:");
}

#[test]
fn one_ipv6_address_does_not_serve_ipv4() {
    if !has_ipv6() {
        return skip("one_ipv6_address_does_not_serve_ipv4", "this machine has no ::1");
    }
    // By chance, another process may listen on the same port there.
    let is_refused_over_ipv4 = |_| {
        let server = Server::start(&["[::]:0"]);
        let port = server.address().port();
        Client::tcp((Ipv6Addr::LOCALHOST, port).into()).echo(b"IPv6");
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
    };
    assert!((0..3).any(is_refused_over_ipv4));
}

#[test]
fn every_address_of_a_name_gets_the_same_port() {
    let addresses: Vec<SocketAddr> = ("localhost", 0)
        .to_socket_addrs()
        .expect("localhost resolves")
        .filter(|address| TcpListener::bind(address).is_ok())
        .collect();
    let server = Server::spawn(program(&["localhost:0"]), addresses.len());
    let port = server.address().port();
    for address in &addresses {
        let address = SocketAddr::new(address.ip(), port);
        assert!(server.endpoints().contains(&format!("tcp://{address}")), "{:?}", server.endpoints());
        Client::tcp(address).echo(b"each address");
    }
}

#[test]
fn several_endpoints_are_served_at_once() {
    let directory = tempdir().expect("a directory");
    let paths = ["one.sock", "two.sock"].map(|name| directory.path().join(name));
    let [one, two] = paths.each_ref().map(|path| format!("unix:{}", path.display()));
    let server = Server::spawn(program(&["127.0.0.1:0", &one, "127.0.0.1:0", &two, "127.0.0.2:0"]), 5);
    let clients: Vec<Client> = server
        .endpoints()
        .iter()
        .map(|endpoint| match endpoint.strip_prefix("tcp://") {
            Some(address) => Client::tcp(address.parse().expect("an address")),
            None => Client::unix(endpoint.strip_prefix("unix:").expect("the other kind").as_ref()),
        })
        .collect();
    for client in &clients {
        client.echo(b"at once");
    }
    drop(clients);
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 2, "no lock is left");
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("stopped: 5 connections served, 5 at once at most"), "{log}");
    assert!(paths.iter().all(|path| fs::symlink_metadata(path).is_err()), "the socket files have gone");
}

#[test]
fn processes_share_a_port_if_all_of_them_say_so() {
    let first = Server::on_ipv4(&["--reuse-port"]);
    let endpoint = first.address().to_string();
    let second = Server::start(&["--reuse-port", &endpoint]);
    assert_eq!(first.endpoints(), second.endpoints());
    assert_refused(&[&endpoint], 1, "address already in use");
    first.stop();
    // Only the second server listens now.
    second.connect().echo(b"by the other one");
}

#[test]
fn a_port_in_use_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let word = format!("echoloop: cannot listen on {address}: address already in use");
    assert_refused(&[&address], 1, &word);
    // All or nothing: the server does not serve the endpoint before it either.
    assert_refused(&["127.0.0.1:0", &address], 1, &word);
}

/// A restarted server gets its port, although its predecessor's connections linger in the kernel.
#[test]
fn the_port_of_a_server_that_has_ended_is_free_at_once() {
    // On an address of its own, where nobody else takes the port in between.
    let first = Server::start(&["--once", &format!("{}:0", own_address(3))]);
    let address = first.address();
    let client = first.connect();
    client.ask(b"the server ends first", b"the server ends ");
    assert_eq!(client.receive_rest(), b"");
    drop(client);
    first.stop();
    Server::start(&[&address.to_string()]).connect().echo(b"here again");
}

#[test]
fn a_name_without_an_address_is_refused() {
    assert_refused(&["no-such-host.invalid:0"], 1, "echoloop: cannot resolve no-such-host.invalid: ");
}

#[test]
fn an_address_of_another_machine_is_refused() {
    // 203.0.113.0/24 is for documentation: no machine has it.
    assert_refused(
        &["203.0.113.1:0"],
        1,
        "cannot listen on 203.0.113.1:0: this machine does not have that address",
    );
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    let long = format!("unix:/tmp/{}", "x".repeat(200));
    for (arguments, word) in [
        (&["--chunk", "0"] as &[&str], "at least 1 byte"),
        (&["--read-size", "many"], "a size is expected"),
        (&["--write-limit", "5GiB"], "at most 1GiB"),
        (&["--idle-timeout", "0s"], "longer than 0s"),
        (&["--drain", "soon"], "--drain"),
        (&["--max-connections", "0"], "at least 1"),
        (&["--backlog", "0"], "--backlog"),
        (&["--when-full", "panic"], "possible values: wait, refuse"),
        (&["--prefix", "\\q"], "a backslash is followed by"),
        (&["127.0.0.1:99999"], "is not a port"),
        (&["http://localhost"], "`http://` endpoints are not supported"),
        (&[&long], "is 205 bytes long"),
        (&["127.0.0.1:7", "127.0.0.1:7"], "tcp://127.0.0.1:7 is listed twice"),
        (&["-q", "-v"], "cannot be used with"),
        (&["--no-such-option"], "--no-such-option"),
    ] {
        assert_refused(arguments, 2, word);
    }
}

#[test]
fn an_endpoint_listed_twice_in_other_words_is_refused() {
    // The port must be free until then, or the server would refuse it for being in use.
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let [once, twice] = [format!("127.0.0.1:{port}"), format!("tcp://127.0.0.1:{port}")];
    assert_refused(&[&once, &twice], 2, &format!("{twice} is listed twice"));
}

#[test]
fn the_socket_file_of_a_dead_server_is_replaced_and_ours_is_removed() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let endpoint = format!("unix:{}", path.display());
    // A killed server can't remove its file.
    drop(Server::start(&[&endpoint]));
    assert!(fs::symlink_metadata(&path).is_ok(), "it was left behind");
    let server = Server::start(&[&endpoint]);
    Client::unix(&path).echo(b"in its place");
    assert_eq!(server.stop().0.code(), Some(0));
    assert!(fs::symlink_metadata(&path).is_err(), "it has gone");
}

#[test]
fn a_socket_file_has_the_permissions_that_were_asked_for() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let endpoint = format!("unix:{}", path.display());
    // No usual umask leaves these permissions.
    let server = Server::start(&["--unix-mode", "0612", &endpoint]);
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o612);
    Client::unix(&path).echo(b"ours");
    drop(server);
}

#[test]
fn an_abstract_name_has_no_file_and_one_server() {
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        return skip("an_abstract_name_has_no_file_and_one_server", "only Linux has such names");
    }
    let name = format!("unix:@echoloop-test-{}", std::process::id());
    let server = Server::start(&[&name]);
    assert_eq!(server.endpoints(), [name.as_str()]);
    assert!(fs::symlink_metadata(name.strip_prefix("unix:").expect("a name")).is_err(), "a file was made");
    let reply = run(program(&["send", "--verify", &name, "hello"]));
    assert_eq!((reply.code, reply.stdout.as_str()), (Some(0), "hello"), "{reply:?}");
    assert_refused(&[&name], 1, "a live server answers on this socket");
    let load = run(program(&["load", "--clients", "2", "--duration", "100ms", &name]));
    assert_eq!(load.code, Some(0), "{load:?}");
    // Even a killed server leaves nothing behind.
    drop(server);
    assert_eq!(Server::start(&[&name]).stop().0.code(), Some(0));
}

#[test]
fn the_socket_of_a_live_server_is_left_alone() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let endpoint = format!("unix:{}", path.display());
    let server = Server::start(&[&endpoint]);
    assert_refused(&[&endpoint], 1, "a live server answers on this socket");
    Client::unix(&path).echo(b"the first one goes on");
    drop(server);
    // The server leaves the file of any living server alone, even of one that accepts nobody.
    fs::remove_file(&path).expect("it was left behind");
    let _listener = UnixListener::bind(&path).expect("a free path");
    assert_refused(&[&endpoint], 1, "a live server answers on this socket");
}

#[test]
fn a_file_of_another_kind_is_left_alone() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("precious.txt");
    fs::write(&path, "precious").expect("a new file");
    assert_refused(&[&format!("unix:{}", path.display())], 1, "a file of another kind stands there");
    assert_eq!(fs::read_to_string(&path).expect("it is still there"), "precious");
}

#[test]
fn a_file_that_took_the_place_of_ours_is_left_alone() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let server = Server::start(&[&format!("unix:{}", path.display())]);
    fs::remove_file(&path).expect("ours to remove");
    let _listener = UnixListener::bind(&path).expect("a free path");
    server.stop();
    assert!(fs::symlink_metadata(&path).is_ok(), "it is another's");
}

#[test]
fn a_directory_that_is_not_there_is_said_to_be_missing() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("missing").join("echo.sock");
    assert_refused(&[&format!("unix:{}", path.display())], 1, "no such directory");
}

/// The test gives root's rights up if it has them.
#[test]
fn a_port_that_takes_a_right_is_refused_to_those_without() {
    const NAME: &str = "a_port_that_takes_a_right_is_refused_to_those_without";
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let start: u16 = start.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    if start < 2 {
        return skip(NAME, "this system lets everyone bind every port");
    }
    let port = (start - 1).min(1023).to_string();
    // Users other than its owner can read and run this copy, which they can't where it was built.
    let directory = tempdir().expect("a directory");
    let copy = directory.path().join("echoloop");
    fs::copy(env!("CARGO_BIN_EXE_echoloop"), &copy).expect("a copy");
    for path in [directory.path(), &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours to change");
    }
    let mut command = Command::new(&copy);
    if rustix::process::geteuid().is_root() {
        if installed("setpriv").is_none() {
            return skip(NAME, "it runs as root, and setpriv, which would give that up, is not installed");
        }
        command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all"]);
        command.args(["--inh-caps", "-all", "--no-new-privs", "--"]).arg(&copy);
    }
    command.arg(format!("127.0.0.1:{port}"));
    let refused = run(command);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let word =
        format!("echoloop: cannot listen on 127.0.0.1:{port}: permission denied (ports below 1024 need");
    assert!(refused.stderr.contains(&word), "{refused:?}");
}
