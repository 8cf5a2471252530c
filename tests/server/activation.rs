//! Socket activation: another process has opened the sockets, and keeps them while servers come and go.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tempfile::tempdir;

use crate::support::{
    Client, Process, Server, assert_answered, assert_same, installed, listener, program, run, skip,
    udp_socket,
};

/// The first descriptor that a service manager hands over (`sd_listen_fds(3)`).
const FIRST: i32 = 3;

/// The program with open sockets, each with its name, handed over as a service manager does.
pub(crate) fn activated(arguments: &[&str], sockets: &[(&str, &dyn AsFd)]) -> Command {
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    let mut command = handing_over(arguments, sockets);
    command.env("LISTEN_FDNAMES", names.join(":")).env("LISTEN_FDS", sockets.len().to_string());
    command
}

/// Hands over the descriptors and LISTEN_PID alone. Only the new process knows its number, so a shell sets LISTEN_PID
/// and becomes the program.
fn handing_over(arguments: &[&str], sockets: &[(&str, &dyn AsFd)]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"]);
    let program = program(arguments);
    command.arg(program.get_program()).args(program.get_args());
    let mapping = |(child_fd, (_, socket)): (i32, &(&str, &dyn AsFd))| FdMapping {
        parent_fd: socket.as_fd().try_clone_to_owned().expect("a descriptor"),
        child_fd,
    };
    let mappings = (FIRST..).zip(sockets).map(mapping).collect();
    command.fd_mappings(mappings).expect("each descriptor once");
    command
}

/// A UDP socket as a `ListenDatagram=` with a port alone makes it: for every IPv6 address, and every IPv4 one.
fn dual_stack() -> Option<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).ok()?;
    socket.set_only_v6(false).ok()?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).ok()?;
    Some(socket.into())
}

fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().expect("it is bound").port()
}

#[test]
fn a_client_that_comes_while_no_server_runs_is_answered_by_the_next_one() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let (tcp, address) = listener();
    let unix = UnixListener::bind(&path).expect("a free path");
    let connect = || [Client::tcp(address), Client::unix(&path)];
    let mut waiting = connect();
    for _ in 0..3 {
        for client in &waiting {
            client.send(b"sent before it ran");
        }
        let server = Server::spawn(activated(&[], &[("tcp", &tcp), ("unix", &unix)]), 2);
        for client in &waiting {
            assert_same(&client.receive(18), b"sent before it ran");
        }
        for client in connect() {
            client.echo(b"while it runs");
        }
        server.signal(Signal::TERM);
        server.await_log("stopping: ");
        // The first server's connections are still open, so it still runs; new connections are for the next server.
        let next = connect();
        for client in &waiting {
            assert_same(&client.receive_rest(), b"");
        }
        waiting = next;
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(
            log.contains("stopped: 4 connections served") && log.contains(" 0 connections cut off"),
            "{log}"
        );
        assert!(fs::symlink_metadata(&path).is_ok(), "the socket file is not the server's to remove");
    }
}

#[test]
fn every_kind_is_served_and_so_are_the_endpoints_of_the_command_line() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let (tcp, address) = listener();
    let unix = UnixListener::bind(&path).expect("a free path");
    let udp = udp_socket(Ipv4Addr::LOCALHOST);
    let udp_address = udp.local_addr().expect("it is bound");
    let sockets: &[(&str, &dyn AsFd)] = &[("echo-tcp", &tcp), ("", &udp), ("echo-unix", &unix)];
    let server = Server::spawn(activated(&["127.0.0.1:0"], sockets), 4);
    assert_eq!(
        server.endpoints()[..3],
        [format!("tcp://{address}"), format!("udp://{udp_address}"), format!("unix:{}", path.display())]
    );
    let own = server.endpoints()[3].strip_prefix("tcp://").expect("TCP").parse().expect("an address");
    for client in [Client::tcp(address), Client::unix(&path), Client::tcp(own)] {
        client.echo(b"served");
    }
    let client = udp_socket(Ipv4Addr::LOCALHOST);
    client.send_to(b"served", udp_address).expect("it can be sent");
    assert_answered(&client, udp_address, b"served");
    server.await_log(&format!("inherited tcp://{address}: descriptor 3, named \"echo-tcp\""));
    server.await_log(&format!("inherited udp://{udp_address}: descriptor 4, named \"unknown\""));
    server.await_log(": descriptor 5, named \"echo-unix\"");
    drop(tcp);
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn inherited_sockets_take_the_place_of_the_default_endpoint_and_are_made_nonblocking() {
    let (tcp, address) = listener();
    let mut command = activated(&[], &[("", &tcp)]);
    command.env_remove("LISTEN_FDNAMES");
    let server = Server::spawn(command, 1);
    Client::tcp(address).echo(b"served");
    server.await_log("descriptor 3, named \"unknown\"");
    #[cfg(target_os = "linux")]
    {
        let flags = fs::read_to_string(format!("/proc/{}/fdinfo/{FIRST}", server.pid())).expect("it is open");
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).expect("it has flags").trim();
        // O_NONBLOCK, or accept would wait; O_CLOEXEC, as all descriptors of the program have it.
        assert!(flags.ends_with("4002") && flags.starts_with("02"), "{flags}");
    }
    let (_, log) = server.stop();
    assert_eq!(log.matches("listening on").count(), 1, "{log}");
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let (tcp, _) = listener();
    for pid in [None, Some("1"), Some("")] {
        let mut command = program(&["127.0.0.1:0"]);
        command.env("LISTEN_FDS", "1").env_remove("LISTEN_PID");
        if let Some(pid) = pid {
            command.env("LISTEN_PID", pid);
        }
        let socket = tcp.as_fd().try_clone_to_owned().expect("a descriptor");
        command.fd_mappings(vec![FdMapping { parent_fd: socket, child_fd: FIRST }]).expect("one descriptor");
        let server = Server::spawn(command, 1);
        server.connect().echo(b"as ever");
        let (_, log) = server.stop();
        assert!(!log.contains("inherited tcp") && log.contains("no sockets are inherited"), "{log}");
    }
}

#[test]
fn what_cannot_be_served_is_said_with_what_to_change() {
    let (tcp, address) = listener();
    let client = Client::tcp(address);
    let (accepted, _) = tcp.accept().expect("a client");
    let (_reader, pipe) = std::io::pipe().expect("a pipe");
    let (unix, _peer) = UnixStream::pair().expect("a pair");
    let (datagrams, _peer) = UnixDatagram::pair().expect("a pair");
    let packets = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    for (socket, word) in [
        (&accepted as &dyn AsFd, "it is one accepted connection; set `Accept=no`"),
        (&unix, "it is one accepted connection; set `Accept=no`"),
        (&pipe, "it is no internet or Unix socket, or not open"),
        (&datagrams, "a Unix datagram socket; use `ListenStream=`"),
        (&packets, "a sequential packet socket; use `ListenStream=`"),
        (&deaf, "it does not listen"),
    ] {
        let refused = run(activated(&["-q"], &[("good", &tcp), ("the odd one", socket)]));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let expected = "echoloop: cannot serve the inherited socket \"the odd one\" (descriptor 4): ";
        let reason = refused.stderr.strip_prefix(expected);
        let reason = reason.unwrap_or_else(|| panic!("no {expected:?} in {refused:?}"));
        assert!(reason.contains(word), "nothing of {word:?} in {refused:?}");
        assert_eq!(refused.stdout, "");
    }
    drop(client);
}

#[test]
fn a_number_of_sockets_that_makes_no_sense_is_said() {
    let (tcp, _) = listener();
    for (count, word) in [
        ("2", "(descriptor 4): it is no internet or Unix socket, or not open"),
        ("-1", "cannot serve inherited sockets: LISTEN_FDS is \"-1\"; a number below"),
        ("many", "LISTEN_FDS is \"many\"; a number below"),
        ("2000000000", "LISTEN_FDS is \"2000000000\"; a number below"),
    ] {
        let mut command = handing_over(&["-q"], &[("", &tcp)]);
        command.env("LISTEN_FDS", count);
        let refused = run(command);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(word), "nothing of {word:?} in {refused:?}");
    }
}

/// The kernel copies a listener's options into a new connection. These connections came before the server set any
/// option.
#[test]
fn urgent_bytes_of_connections_that_had_waited_stay_in_their_place() {
    let (tcp, address) = listener();
    let early = Client::tcp(address);
    let ask = |client: &Client| {
        client.send(b"abc");
        assert_eq!(client.socket().send_out_of_band(b"X").expect("an urgent byte"), 1);
        client.send(b"def");
    };
    ask(&early);
    let _server = Server::spawn(activated(&[], &[("tcp", &tcp)]), 1);
    assert_same(&early.receive(7), b"abcXdef");
    let late = Client::tcp(address);
    ask(&late);
    assert_same(&late.receive(7), b"abcXdef");
}

#[test]
fn datagrams_are_answered_from_the_address_that_was_asked_even_if_they_had_waited() {
    let ipv4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    let sockets = [Some(ipv4), dual_stack()];
    for socket in sockets.iter().flatten() {
        let server_at = |address: IpAddr| SocketAddr::new(address, port(socket));
        let mut addresses: Vec<IpAddr> = vec![Ipv4Addr::new(127, 1, 2, 3).into(), Ipv4Addr::LOCALHOST.into()];
        if socket.local_addr().expect("it is bound").is_ipv6() {
            addresses.push(Ipv6Addr::LOCALHOST.into());
        }
        let any = |address: &IpAddr| match address {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let clients: Vec<UdpSocket> = addresses.iter().map(|address| udp_socket(any(address))).collect();
        for (client, address) in clients.iter().zip(&addresses) {
            client.send_to(b"early", server_at(*address)).expect("it can be sent");
        }
        let server = Server::spawn(activated(&["-v"], &[("udp", socket)]), 1);
        for (client, address) in clients.iter().zip(&addresses) {
            assert_answered(client, server_at(*address), b"early");
            client.send_to(b"late", server_at(*address)).expect("it can be sent");
            assert_answered(client, server_at(*address), b"late");
        }
        // The log shows an IPv4 sender as such, whatever the socket.
        let sender = clients[0].local_addr().expect("it is bound").port();
        server.await_log(&format!("udp 127.0.0.1:{sender}: received b'late'"));
        let (status, log) = server.stop();
        assert_eq!(status.code(), Some(0), "{log}");
        let count = 2 * addresses.len();
        assert!(log.contains(&format!("{count} datagrams, {count} answered, 0 ignored, 0 dropped")), "{log}");
    }
}

#[test]
fn a_broadcast_is_not_answered_whatever_the_socket_and_whenever_it_came() {
    let ipv4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    for socket in [Some(ipv4), dual_stack()].iter().flatten() {
        let crowd = udp_socket(Ipv4Addr::LOCALHOST);
        crowd.set_broadcast(true).expect("SO_BROADCAST");
        let broadcast = (Ipv4Addr::new(127, 255, 255, 255), port(socket));
        crowd.send_to(b"early", broadcast).expect("it can be sent");
        let server = Server::spawn(activated(&["-v"], &[("udp", socket)]), 1);
        crowd.send_to(b"late", broadcast).expect("it can be sent");
        server.await_log("not answered: it is not known to be for this machine alone");
        let client = udp_socket(Ipv4Addr::LOCALHOST);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port(socket)));
        client.send_to(b"alone", address).expect("it can be sent");
        assert_answered(&client, address, b"alone");
        // The server can't tell the early broadcast from a datagram to it alone, but the kernel sends nothing from a
        // broadcast address.
        let (_, log) = server.stop();
        assert!(log.contains("3 datagrams, 1 answered, 1 ignored, 1 dropped"), "{log}");
        crowd.set_nonblocking(true).expect("a flag");
        assert_eq!(crowd.recv(&mut [0; 9]).expect_err("no answer").kind(), ErrorKind::WouldBlock);
    }
}

/// Closing our descriptor does not take a socket out of the poll while somebody else holds it.
#[test]
fn a_socket_that_others_keep_does_not_wake_a_server_that_has_closed_it() {
    let (tcp, address) = listener();
    let server = Server::spawn(activated(&["-vv", "--max-accepts", "1"], &[("tcp", &tcp)]), 1);
    let client = Client::tcp(address);
    client.echo(b"served");
    let waiting = Client::tcp(address);
    waiting.send(b"for the next one");
    // The kernel reports every event of the socket no later than this echo.
    client.echo(b"served still");
    drop(client);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("came after its source was removed"), "{log}");
    let next = Server::spawn(activated(&[], &[("tcp", &tcp)]), 1);
    assert_same(&waiting.receive(16), b"for the next one");
    drop(next);
}

#[test]
fn it_runs_under_the_activator_of_systemd() {
    let activator = "systemd-socket-activate";
    if installed(activator).is_none() {
        return skip("it_runs_under_the_activator_of_systemd", &format!("{activator} is not installed"));
    }
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let mut command = Command::new(activator);
    command.arg("--fdname=echo").arg("-l").arg(&path).arg(program(&[]).get_program()).arg("serve");
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut process = Process::spawn(&mut command);
    crate::support::eventually("it holds the socket", || path.exists());
    let client = Client::unix(&path);
    client.echo(b"the first client starts it");
    process.signal(Signal::TERM);
    assert_same(&client.receive_rest(), b"");
    drop(client);
    let mut log = String::new();
    let mut stderr = process.child.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut log).expect("text");
    assert!(process.wait().success(), "{log}");
    assert!(log.contains(": descriptor 3, named \"echo\""), "{log}");
}
