//! Addresses where nobody listens, and a connection to itself.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use super::super::plan::{Arrivals, Pace, Usage};
use super::super::queue::Attempt;
use super::super::slot::StreamClient;
use super::super::stream::Stream;
use super::super::{Load, Verdict};
use super::*;
use crate::net::{CONNECTION_INTEREST, Connection, Socket, Target};
use crate::reactor::Stage;
use crate::{Server, ServerOptions, StopSignal};

#[test]
fn where_nobody_listens_the_next_address_is_tried_by_all_who_were_refused() {
    for usage in [Usage::Exchange, Usage::Churn] {
        let stop = StopSignal::new().expect("a socket pair");
        let handle = stop.handle().expect("a descriptor");
        let any = "127.0.0.1:0".parse().expect("an endpoint");
        let server = Server::bind(&[any], ServerOptions::default(), stop).expect("loopback");
        let alive = server.endpoints()[0].trim_start_matches("tcp://").parse().expect("an address");
        let server = std::thread::spawn(move || server.run());
        let dead = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback"));
        let [first, second] = dead.map(|listener| listener.local_addr().expect("it is bound"));
        let endpoint = "localhost:7".parse().expect("an endpoint");
        let plan = Plan { messages: Some(100), clients: 8, usage, ..Plan::new(vec![endpoint]) };
        let mut load = Load::new(plan, StopSignal::new().expect("a pipe")).expect("it is possible");
        load.run.clients().set_targets(Targets::of_addresses([first, second, alive].map(Target::Tcp).into()));
        let report = load.run().expect("the loop runs");
        handle.stop();
        server.join().expect("no panic").expect("it served");
        assert_eq!(Verdict::of(&report, &[]), Verdict::Good, "{report:?}");
        assert_eq!((report.messages.sent, report.messages.received), (100, 100));
    }
}

#[test]
fn bytes_that_wait_in_the_kernel_when_the_time_is_over_came_in_time() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let address = listener.local_addr().expect("it is bound");
    let socket = std::net::TcpStream::connect(address).expect("it listens");
    let (mut server, _) = listener.accept().expect("it has connected");
    socket.set_nonblocking(true).expect("it can be");
    let probe = socket.try_clone().expect("a descriptor");
    let endpoint = address.to_string().parse().expect("an endpoint");
    let plan = Plan { clients: 1, greeting: 5, timeout: Duration::from_secs(1), ..Plan::new(vec![endpoint]) };
    let mut load = Load::new(plan, StopSignal::new().expect("a socket pair")).expect("it is possible");
    let (clients, context, now) = (load.run.clients(), load.reactor.context(), Moment::now());
    let Attempt { client, .. } = clients.dialler.queue.take(&clients.traffic, now).expect("there is one");
    let connection = Connection::connecting(Socket::Tcp(mio::net::TcpStream::from_std(socket)), now);
    let stream = Stream::new(0, 5, &clients.traffic, now);
    let slot = Slot::Stream(StreamClient { connection, stream, client, is_ending: false });
    let token = context.insert(slot, CONNECTION_INTEREST, Stage::Connections).expect("it is watched");
    clients.ready(context, token, Readiness::WRITABLE);
    assert_eq!((clients.traffic.figures.open, clients.streams.ungreeted()), (1, 1));

    server.write_all(b"hello").expect("there is room");
    let start = std::time::Instant::now();
    while !probe.peek(&mut [0; 6]).is_ok_and(|count| count == 5) {
        assert!(start.elapsed() < Duration::from_secs(60), "it comes over loopback");
        std::thread::yield_now();
    }
    clients.sweep(context, now + Duration::from_secs(2));
    assert_eq!((clients.traffic.figures.open, clients.streams.ungreeted()), (1, 0), "it is greeted");
    assert_eq!(clients.traffic.figures.errors.total(), 0);
}

#[test]
fn a_connection_to_itself_is_a_refusal() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback");
    let own = socket.local_addr().expect("it is bound");
    socket.connect(&own).expect("a simultaneous open");
    socket.set_nonblocking(true).expect("it can be");
    let endpoint = own.as_socket().expect("an address").to_string().parse().expect("an endpoint");
    let plan = Plan { messages: Some(10), clients: 1, ..Plan::new(vec![endpoint]) };
    let mut load = Load::new(plan, StopSignal::new().expect("a socket pair")).expect("it is possible");
    let now = Moment::now();
    let Clients { traffic, dialler, .. } = load.run.clients();
    let Attempt { client, .. } = dialler.queue.take(traffic, now).expect("there is one client");
    let connection = Connection::connecting(Socket::Tcp(mio::net::TcpStream::from_std(socket.into())), now);
    let stream = Stream::new(0, 0, traffic, now);
    let slot = Slot::Stream(StreamClient { connection, stream, client, is_ending: false });
    load.reactor.context().insert(slot, CONNECTION_INTEREST, Stage::Connections).expect("it is watched");
    let report = load.run().expect("the loop runs");
    assert_eq!((report.connections.opened, report.errors.refused), (0, 1), "{report:?}");
}

#[test]
fn where_nobody_listens_the_next_address_is_tried_and_no_message_is_missing() {
    for pace in
        [Pace::Closed { think: Duration::ZERO }, Pace::Open { rate: 2000.0, arrivals: Arrivals::Fixed }]
    {
        let [dead, alive] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback"));
        let addresses = [&dead, &alive].map(|socket| socket.local_addr().expect("it is bound"));
        drop(dead);
        alive.set_read_timeout(Some(Duration::from_secs(60))).expect("a positive time");
        let server = std::thread::spawn(move || {
            let mut buffer = [0; 100];
            for _ in 0..100 {
                let (length, from) = alive.recv_from(&mut buffer).expect("a datagram comes");
                alive.send_to(&buffer[..length], from).expect("it can be sent");
            }
        });
        let endpoint = "udp://localhost:7".parse().expect("an endpoint");
        let timeout = Duration::from_secs(60);
        let plan =
            Plan { messages: Some(100), depth: 2, clients: 3, timeout, pace, ..Plan::new(vec![endpoint]) };
        let mut load = Load::new(plan, StopSignal::new().expect("a pipe")).expect("it is possible");
        load.run.clients().set_targets(Targets::of_addresses(addresses.map(Target::Udp).into()));
        let report = load.run().expect("the loop runs");
        server.join().expect("no panic");
        assert_eq!(Verdict::of(&report, &[]), Verdict::Good, "{report:?}");
        assert_eq!((report.messages.sent, report.messages.received, report.bytes.sent), (100, 100, 6400));
    }
}

/// An echo over UDP until an empty datagram comes.
fn echo() -> (SocketAddr, std::thread::JoinHandle<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let address = socket.local_addr().expect("it is bound");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a positive time");
    let serving = std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((1.., from)) = socket.recv_from(&mut buffer) {
            // All messages have the same length.
            socket.send_to(&buffer[..64], from).expect("it can be sent");
        }
    });
    (address, serving)
}

fn stop(address: SocketAddr, serving: std::thread::JoinHandle<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    socket.send_to(&[], address).expect("it can be sent");
    serving.join().expect("no panic");
}

#[test]
fn where_no_way_leads_the_next_address_is_tried() {
    let (alive, serving) = echo();
    // The broadcast address: the system forbids it to a socket without SO_BROADCAST.
    let forbidden = SocketAddr::from((Ipv4Addr::BROADCAST, alive.port()));
    let endpoint = "udp://localhost:7".parse().expect("an endpoint");
    let plan = Plan { messages: Some(50), clients: 3, ..Plan::new(vec![endpoint]) };
    let mut load = Load::new(plan, StopSignal::new().expect("a pipe")).expect("it is possible");
    load.run.clients().set_targets(Targets::of_addresses([forbidden, alive].map(Target::Udp).into()));
    let report = load.run().expect("the loop runs");
    stop(alive, serving);
    assert_eq!(Verdict::of(&report, &[]), Verdict::Good, "{report:?}");
    assert_eq!((report.connections.opened, report.messages.received), (3, 50), "{report:?}");
}

#[test]
fn what_was_taken_back_and_is_not_due_again_is_not_sent() {
    let (alive, serving) = echo();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let dead = socket.local_addr().expect("it is bound");
    drop(socket);
    let endpoint = "udp://localhost:7".parse().expect("an endpoint");
    let plan = Plan {
        duration: Duration::from_millis(500),
        pace: Pace::Open { rate: 200.0, arrivals: Arrivals::Fixed },
        clients: 4,
        timeout: Duration::from_secs(60),
        ..Plan::new(vec![endpoint])
    };
    let mut load = Load::new(plan, StopSignal::new().expect("a pipe")).expect("it is possible");
    load.run.clients().set_targets(Targets::of_addresses([dead, alive].map(Target::Udp).into()));
    let report = load.run().expect("the loop runs");
    stop(alive, serving);
    let messages = report.messages;
    assert_eq!((messages.sent + messages.not_sent, report.errors.total()), (100, 0), "{report:?}");
    assert!((1..=4).contains(&messages.not_sent), "one of each client that had sent: {report:?}");
}
