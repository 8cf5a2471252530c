//! UDP echo: every datagram whole, from the address that its sender used, and no answer that could serve an attack.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::{
    DEADLINE, Process, Server, assert_answered, assert_same, eventually, has_ipv6, installed, own_address,
    pattern, program, run, skip, udp_socket,
};

/// The addresses of the server's UDP endpoints.
fn udp(server: &Server) -> Vec<SocketAddr> {
    let addresses = server.endpoints().iter().filter_map(|endpoint| endpoint.strip_prefix("udp://"));
    addresses.map(|address| address.parse().expect("an address")).collect()
}

fn client_for(server: SocketAddr) -> UdpSocket {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    udp_socket(any)
}

#[track_caller]
fn echo(client: &UdpSocket, server: SocketAddr, bytes: &[u8]) {
    client.send_to(bytes, server).expect("it can be sent");
    assert_answered(client, server, bytes);
}

#[track_caller]
fn assert_silent(client: &UdpSocket) {
    client.set_nonblocking(true).expect("a flag");
    let error = client.recv_from(&mut [0; 9]).expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

/// The summary says what became of the datagrams.
#[track_caller]
fn assert_stopped(server: Server, datagrams: &str) {
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains(datagrams), "nothing of {datagrams:?} in the log:\n{log}");
}

#[test]
fn every_length_comes_back_whole_over_both_families() {
    let mut endpoints = vec!["udp://127.0.0.1:0"];
    if has_ipv6() {
        endpoints.push("udp://[::1]:0");
    }
    let server = Server::spawn(program(&endpoints), endpoints.len());
    for address in udp(&server) {
        let client = client_for(address);
        for length in [0, 1, 15, 16, 17, 1472, 1473, 9000, 65_506, 65_507] {
            echo(&client, address, &pattern(length, length as u64));
        }
    }
    let count = 10 * endpoints.len();
    assert_stopped(server, &format!("; {count} datagrams, {count} answered, 0 ignored, 0 dropped"));
}

#[test]
fn one_port_of_every_address_answers_from_the_one_that_was_asked() {
    let families = if has_ipv6() { 2 } else { 1 };
    let server = Server::spawn(program(&["udp://:0"]), families);
    let ports: Vec<u16> = udp(&server).iter().map(SocketAddr::port).collect();
    assert!(ports.iter().all(|port| port == &ports[0] && *port != 0), "{ports:?}");
    let mut addresses: Vec<IpAddr> =
        ["127.0.0.1", "127.45.67.89", "127.1.2.3"].map(|text| text.parse().expect("an address")).into();
    if has_ipv6() {
        addresses.push(Ipv6Addr::LOCALHOST.into());
    }
    for address in addresses {
        let address = SocketAddr::new(address, ports[0]);
        let client = client_for(address);
        for length in [0, 5, 65_507] {
            echo(&client, address, &pattern(length, 1));
        }
    }
    server.await_log("senders can be forged");
}

#[test]
fn nothing_is_warned_of_on_loopback_and_tcp_is_served_beside_it() {
    let server = Server::spawn(program(&["-v", "127.0.0.1:0", "udp://127.0.0.1:0"]), 2);
    let address = udp(&server)[0];
    let client = udp_socket(Ipv4Addr::LOCALHOST);
    for round in 0..100 {
        echo(&client, address, &pattern(100, round));
        server.connect().echo(b"TCP");
    }
    echo(&client, address, b"spam");
    let sender = client.local_addr().expect("it is bound");
    server.await_log(&format!("udp {sender}: received b'spam'"));
    server.await_log(&format!("udp {sender}: sending 4 bytes back"));
    let (_, log) = server.stop();
    assert!(!log.contains("WARN"), "{log}");
    assert!(log.contains("100 connections served") && log.contains("101 datagrams, 101 answered"), "{log}");
}

/// More datagrams than one turn takes.
#[test]
fn what_has_arrived_is_answered_when_the_last_connection_has_been_accepted() {
    let server = Server::spawn(program(&["--max-accepts", "1", "127.0.0.1:0", "udp://127.0.0.1:0"]), 2);
    let (address, client) = (udp(&server)[0], udp_socket(Ipv4Addr::LOCALHOST));
    let last = server.while_held(|| {
        for number in 0..150_u8 {
            client.send_to(&[number], address).expect("it can be sent");
        }
        server.connect()
    });
    for number in 0..150_u8 {
        let mut answer = [0; 2];
        assert_eq!(client.recv(&mut answer).expect("an answer comes"), 1);
        assert_eq!(answer[0], number);
    }
    last.echo(b"served");
    drop(last);
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn no_backlog_is_told_of_where_there_is_none() {
    let (_, log) = Server::start(&["udp://127.0.0.1:0"]).stop();
    assert!(!log.contains("backlog"), "{log}");
    let (_, log) = Server::on_ipv4(&[]).stop();
    assert!(log.contains("backlog"), "{log}");
}

#[test]
fn ports_below_1024_are_answered_only_if_that_was_said() {
    let low = |number| {
        (512..1024).rev().find_map(|port| match UdpSocket::bind((own_address(number), port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => None,
            result => Some(result),
        })
    };
    let Some(Ok(privileged)) = low(130) else {
        return skip(
            "ports_below_1024_are_answered_only_if_that_was_said",
            "ports below 1024 are not for us",
        );
    };
    privileged.set_read_timeout(Some(DEADLINE)).expect("a positive time");
    let server = Server::start(&["udp://127.0.0.1:0"]);
    privileged.send_to(b"forged", udp(&server)[0]).expect("it can be sent");
    // The server answers a later client, so it has seen the datagram before.
    echo(&udp_socket(Ipv4Addr::LOCALHOST), udp(&server)[0], b"honest");
    let willing = Server::start(&["--udp-any-source", "udp://127.0.0.1:0"]);
    assert_silent(&privileged);
    privileged.set_nonblocking(false).expect("a flag");
    echo(&privileged, udp(&willing)[0], b"a service");
    assert_stopped(server, "2 datagrams, 1 answered, 1 ignored, 0 dropped");
    assert_stopped(willing, "1 datagrams, 1 answered, 0 ignored, 0 dropped");
}

/// Sends as a forger would: from the address of one endpoint to another. --reuse-port lets the test have that address.
#[test]
fn the_server_never_answers_itself() {
    for endpoints in [["udp://127.0.0.1:0", "udp://127.0.0.2:0"], ["udp://127.0.0.1:0", "udp://0.0.0.0:0"]] {
        let arguments = [&["-v", "--udp-any-source", "--reuse-port"] as &[_], &endpoints].concat();
        let server = Server::spawn(program(&arguments), 2);
        let [target, own] = udp(&server)[..] else { panic!("two endpoints") };
        let forger = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        forger.set_reuse_port(true).expect("SO_REUSEPORT");
        forger.bind(&own.into()).expect("a shared port");
        forger.send_to(b"ping-pong", &target.into()).expect("it can be sent");
        server.await_log("not answered: its sender is this server");
        echo(&udp_socket(Ipv4Addr::LOCALHOST), target, b"honest");
        assert_stopped(server, "2 datagrams, 1 answered, 1 ignored, 0 dropped");
    }
}

/// Two servers on one port of two addresses would keep one forged datagram going for ever.
#[test]
fn a_sender_on_the_same_port_of_another_address_is_not_answered() {
    let server = Server::start(&["-v", "--udp-any-source", "udp://127.0.0.1:0"]);
    let address = udp(&server)[0];
    let other = UdpSocket::bind((own_address(131), address.port())).expect("an address of our own");
    other.send_to(b"ping-pong", address).expect("it can be sent");
    server.await_log("not answered: its sender is this server, or one on the same port");
    assert_silent(&other);
    echo(&udp_socket(other.local_addr().expect("it is bound").ip()), address, b"from another port");
    assert_stopped(server, "2 datagrams, 1 answered, 1 ignored, 0 dropped");
}

#[test]
fn datagrams_that_a_full_receive_buffer_drops_are_counted() {
    const SENT: usize = 500;
    let server = Server::start(&["--receive-buffer", "4KiB", "udp://127.0.0.1:0"]);
    let (address, client) = (udp(&server)[0], udp_socket(Ipv4Addr::LOCALHOST));
    server.await_log(&format!("udp://{address}: receive buffer of 4096 bytes"));
    server.while_held(|| {
        for _ in 0..SENT {
            client.send_to(&[0; 1000], address).expect("it can be sent");
        }
    });
    // The client sends on until the server answers one more, so the server has seen all of the others that it will see.
    let mut sent = SENT;
    client.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("a positive time");
    eventually("the flood is over", || {
        client.send_to(b"last", address).expect("it can be sent");
        sent += 1;
        let mut buffer = [0; 1000];
        while let Ok(length) = client.recv(&mut buffer) {
            if length == 4 {
                return true;
            }
        }
        false
    });
    server.signal(Signal::USR1);
    eventually("the report tells of them", || {
        let log = server.log();
        let overflowed = log.lines().find_map(|line| line.strip_suffix(" overflowed")?.rsplit_once(", "));
        overflowed.is_some_and(|(_, count)| count.parse::<usize>().expect("a number") > 0)
    });
    let (_, log) = server.stop();
    let summary = log.lines().find_map(|line| line.split_once("stopped: ")).expect("a summary").1;
    let count = |what: &str| -> usize {
        let words = summary.split([',', ';']).find_map(|words| words.trim().strip_suffix(what));
        words.unwrap_or_else(|| panic!("no {what:?} in {summary}")).parse().expect("a number")
    };
    assert!(count(" overflowed") > 0, "{summary}");
    assert_eq!(count(" datagrams") + count(" overflowed"), sent, "each is accounted for: {summary}");
}

#[test]
fn a_receive_buffer_that_is_not_granted_is_warned_of() {
    let server = Server::start(&["--receive-buffer", "1GiB", "udp://127.0.0.1:0"]);
    let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").expect("Linux has it");
    server.await_log(&format!(
        "receive buffer of {} bytes instead of 1073741824: `sysctl -w net.core.rmem_max=1073741824` raises it",
        most.trim()
    ));
    let without = Server::on_ipv4(&["--receive-buffer", "1MiB"]);
    without.await_log("--receive-buffer is about UDP, and there is no UDP endpoint");
}

#[test]
fn a_broadcast_is_not_answered() {
    let server = Server::start(&["-v", "udp://0.0.0.0:0"]);
    let port = udp(&server)[0].port();
    let crowd = udp_socket(Ipv4Addr::LOCALHOST);
    crowd.set_broadcast(true).expect("SO_BROADCAST");
    crowd.send_to(b"who is there?", ("127.255.255.255", port)).expect("it can be sent");
    server.await_log("not answered: it is not known to be for this machine alone");
    assert_silent(&crowd);
    echo(&udp_socket(Ipv4Addr::LOCALHOST), ([127, 0, 0, 1], port).into(), b"alone");
    assert_stopped(server, "2 datagrams, 1 answered, 1 ignored, 0 dropped");
}

#[test]
fn a_flood_whose_sender_never_reads_keeps_nobody_waiting() {
    let server = Server::spawn(program(&["-q", "127.0.0.1:0", "udp://127.0.0.1:0"]), 2);
    let address = udp(&server)[0];
    let flood = udp_socket(Ipv4Addr::LOCALHOST);
    let (other, before) = (server.connect(), server.resident_bytes());
    let payload = pattern(1400, 1);
    for _ in 0..100 {
        for _ in 0..200 {
            flood.send_to(&payload, address).expect("it can be sent");
        }
        other.echo(b"in time");
    }
    // A full buffer drops datagrams, as UDP allows; the server serves a patient client.
    let patient = udp_socket(Ipv4Addr::LOCALHOST);
    eventually("the flood has been answered", || {
        patient.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("a positive time");
        patient.send_to(b"patient", address).expect("it can be sent");
        patient.recv_from(&mut [0; 100]).is_ok()
    });
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more");
}

#[test]
fn what_arrived_before_the_stop_is_answered() {
    // More datagrams than a turn takes, and fewer than a socket's buffers have room for.
    const COUNT: usize = 200;
    let server = Server::start(&["udp://127.0.0.1:0"]);
    let (address, client) = (udp(&server)[0], udp_socket(Ipv4Addr::LOCALHOST));
    // The server really serves the port before the test holds it.
    echo(&client, address, b"first");
    server.while_held(|| {
        for number in 0..COUNT {
            client.send_to(&pattern(16, number as u64), address).expect("it can be sent");
        }
        server.signal(Signal::TERM);
    });
    for number in 0..COUNT {
        let mut buffer = [0; 100];
        let (length, _) = client.recv_from(&mut buffer).expect("an answer comes");
        assert_same(&buffer[..length], &pattern(16, number as u64));
    }
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("201 datagrams, 201 answered, 0 ignored, 0 dropped"), "{log}");
}

#[test]
fn what_waits_together_is_answered_each_to_its_sender_and_whole() {
    let server = Server::start(&["udp://127.0.0.1:0"]);
    let address = udp(&server)[0];
    let clients: Vec<UdpSocket> = (0..5).map(|_| udp_socket(Ipv4Addr::LOCALHOST)).collect();
    echo(&clients[0], address, b"first");
    let lengths = [0, 1, 700, 9000, 3, 0, 1400];
    let payload = |client: usize, length: usize| pattern(length, client as u64);
    server.while_held(|| {
        for length in lengths {
            for (number, client) in clients.iter().enumerate() {
                client.send_to(&payload(number, length), address).expect("it can be sent");
            }
        }
    });
    for (number, client) in clients.iter().enumerate() {
        for length in lengths {
            let mut buffer = [0; 10_000];
            let (received, _) = client.recv_from(&mut buffer).expect("an answer comes");
            assert_same(&buffer[..received], &payload(number, length));
        }
    }
    assert_stopped(server, "36 datagrams, 36 answered, 0 ignored, 0 dropped");
}

#[test]
fn netcat_socat_and_python_are_answered() {
    let server = Server::start(&["udp://127.0.0.1:0"]);
    let port = udp(&server)[0].port().to_string();
    let python = "import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for line in sys.stdin.buffer:
    s.sendto(line, ('127.0.0.1', int(sys.argv[1])))
    data, address = s.recvfrom(65535)
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()";
    for (name, arguments) in [
        ("nc", vec!["-u".to_owned(), "127.0.0.1".into(), port.clone()]),
        ("socat", vec!["-".to_owned(), format!("UDP:127.0.0.1:{port}")]),
        ("python3", vec!["-c".to_owned(), python.into(), port.clone()]),
    ] {
        if installed(name).is_none() {
            skip("netcat_socat_and_python_are_answered", &format!("{name} is not installed"));
            continue;
        }
        let mut command = Command::new(name);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        let mut input = process.child.stdin.take().expect("it is piped");
        let mut output = BufReader::new(process.child.stdout.take().expect("it is piped"));
        for message in ["one\n", "and another one\n"] {
            input.write_all(message.as_bytes()).expect("it takes input");
            let mut reply = String::new();
            output.read_line(&mut reply).expect("it writes text");
            assert_eq!(reply, message, "{name}");
        }
    }
}

#[test]
fn what_can_not_be_listened_on_is_said() {
    let server = Server::start(&["udp://127.0.0.1:0"]);
    let taken = format!("udp://{}", udp(&server)[0]);
    for (arguments, code, word) in [
        (&[taken.as_str()] as &[_], 1, "address already in use (`ss -lunp sport = :"),
        (&["udp://224.0.0.1:0"], 1, "cannot listen on 224.0.0.1:0: it stands for many machines"),
        (&["udp://127.255.255.255:0"], 1, "cannot listen on 127.255.255.255:0: it stands for many machines"),
        (&["udp://127.0.0.1:10009", "udp://127.0.0.1:10009"], 2, "udp://127.0.0.1:10009 is listed twice"),
    ] {
        let refused = run(program(arguments));
        assert_eq!(refused.code, Some(code), "{refused:?}");
        assert!(refused.stderr.contains(word), "nothing of {word:?} in {refused:?}");
        assert_eq!(refused.stdout, "");
    }
}
