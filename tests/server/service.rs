//! As a service: readiness and stopping notices, and the units that come with the source.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::tempdir;

use crate::activation::activated;
use crate::support::{DEADLINE, Process, Server, installed, program, run, skip};

/// A service manager that listens on this path.
fn manager(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).expect("a free path");
    socket.set_read_timeout(Some(DEADLINE)).expect("a positive time");
    socket
}

#[track_caller]
fn assert_told(manager: &UnixDatagram, message: &str) {
    let mut buffer = [0; 100];
    let length = manager.recv(&mut buffer).expect("a notice comes");
    assert_eq!(String::from_utf8_lossy(&buffer[..length]), message);
}

#[test]
fn systemd_is_told_when_it_listens_and_when_it_stops() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = manager(&path);
    let mut command = program(&["127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path);
    let server = Server::spawn(command, 1);
    assert_told(&manager, "READY=1");
    let client = server.connect();
    client.echo(b"ready");
    server.signal(Signal::TERM);
    // While a connection is still open.
    assert_told(&manager, "STOPPING=1");
    assert_eq!(client.receive_rest(), b"");
    drop(client);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_service_manager_may_listen_on_an_abstract_name() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let name = format!("echoloop-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = UnixDatagram::bind_addr(&address).expect("a free name");
    manager.set_read_timeout(Some(DEADLINE)).expect("a positive time");
    let mut command = program(&["127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let server = Server::spawn(command, 1);
    assert_told(&manager, "READY=1");
    server.stop();
    assert_told(&manager, "STOPPING=1");
}

#[test]
fn a_service_manager_that_is_not_there_or_does_not_read_is_no_obstacle() {
    let directory = tempdir().expect("a directory");
    let mut command = program(&["127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", directory.path().join("nobody"));
    let server = Server::spawn(command, 1);
    server.await_log("cannot tell the service manager at");
    server.connect().echo(b"all the same");
    assert_eq!(server.stop().0.code(), Some(0));

    let path = directory.path().join("full");
    let manager = manager(&path);
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("a flag");
    while filler.send_to(b"x", &path).is_ok() {}
    let mut command = program(&["127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path);
    let server = Server::spawn(command, 1);
    server.connect().echo(b"all the same");
    assert_eq!(server.stop().0.code(), Some(0));
    drop(manager);
}

/// Units whose server opens its ports itself.
const OPENING: [&str; 2] = ["echoloop.service", "echoloop@.service"];
/// Units whose ports systemd opens.
const ACTIVATED: [&str; 2] = ["echoloop-activated.socket", "echoloop-activated.service"];

/// The unit, for the program under test.
fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd").join(name);
    let text = fs::read_to_string(path).expect("a unit");
    text.replace("/usr/local/bin/echoloop", env!("CARGO_BIN_EXE_echoloop"))
}

/// The values that a unit gives a keyword, one or several.
fn values<'a>(unit: &'a str, keyword: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(keyword)?.strip_prefix('=')).collect()
}

/// The words behind the program in the unit's command.
fn arguments(unit: &str) -> Vec<&str> {
    let [command] = values(unit, "ExecStart")[..] else { panic!("one command") };
    command.split_whitespace().skip(1).collect()
}

#[test]
fn systemd_takes_the_units_and_finds_them_tight() {
    if installed("systemd-analyze").is_none() {
        return skip("systemd_takes_the_units_and_finds_them_tight", "systemd-analyze is not installed");
    }
    let directory = tempdir().expect("a directory");
    // systemd-analyze judges a template as one of its instances.
    let file = |name: &str| directory.path().join(name.replace("@.", "@0."));
    let units = [OPENING, ACTIVATED].concat();
    for name in &units {
        fs::write(file(name), unit(name)).expect("a file can be written");
    }
    for name in units {
        for arguments in
            [&["verify", "--man=no"] as &[_], &["security", "--offline=true", "--threshold=20", "--no-pager"]]
        {
            // A socket has no rights to judge.
            if name.ends_with(".socket") && arguments[0] == "security" {
                continue;
            }
            let mut command = Command::new("systemd-analyze");
            command.args(arguments).arg(file(name));
            let finished = run(command);
            assert_eq!(finished.code, Some(0), "{finished:?}");
            let about_us = |line: &&str| line.contains("echoloop") && arguments[0] == "verify";
            assert_eq!(finished.stderr.lines().find(about_us), None, "{finished:?}");
        }
    }
}

#[test]
fn the_command_of_each_unit_starts_and_says_that_it_is_ready() {
    for name in OPENING {
        // On free ports of loopback, so that every user can run it anywhere.
        let text = unit(name).replace("udp://:7", "udp://127.0.0.1:0").replace(" :7", " 127.0.0.1:0");
        assert_is_ready_and_stops(program(&arguments(&text)));
    }
}

#[test]
fn the_activated_unit_serves_what_its_socket_unit_opens() {
    let (socket, service) = (unit(ACTIVATED[0]), unit(ACTIVATED[1]));
    // A port alone stands for every address of both families, on one socket. The tests of activation cover datagrams.
    assert_eq!((values(&socket, "ListenStream"), values(&socket, "ListenDatagram")), (vec!["7"], vec!["7"]));
    assert_eq!(values(&socket, "Accept"), ["no"]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let [name] = values(&socket, "FileDescriptorName")[..] else { panic!("one name") };
    assert_is_ready_and_stops(activated(&arguments(&service), &[(name, &listener), (name, &datagrams)]));
}

#[track_caller]
fn assert_is_ready_and_stops(mut command: Command) {
    let directory = tempdir().expect("a directory");
    let socket = directory.path().join("notify");
    let manager = manager(&socket);
    command.env("NOTIFY_SOCKET", &socket).stdout(std::process::Stdio::null());
    let mut process = Process::spawn(&mut command);
    assert_told(&manager, "READY=1");
    process.signal(Signal::TERM);
    assert_told(&manager, "STOPPING=1");
    assert!(process.wait().success());
}
