//! The part that benchmarks use: connections opened once, messages exchanged any number of times.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use echoloop::load::{Arrivals, Load, LoadError, Pace, Plan, PlanError, Sizes, StepPlan, Usage};
use echoloop::{Endpoint, StopSignal};

use crate::support::Server;
use crate::toys::Toy;

const STEP: StepPlan = StepPlan { rate: 100.0, duration: Duration::from_millis(300) };

fn load(endpoint: &str, clients: usize) -> Load {
    let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
    let plan = Plan { clients, sizes: Sizes::fixed(100), messages: Some(50), ..Plan::new(vec![endpoint]) };
    Load::new(plan, StopSignal::new().expect("a socket pair")).expect("a plan that can be carried out")
}

#[test]
fn messages_are_exchanged_again_and_again() {
    let server = Server::plain();
    let mut load = load(server.endpoint(), 16);
    load.open().expect("the server listens");
    for messages in [1, 16, 1000, 17] {
        let time = load.exchange(messages).expect("an honest echo");
        assert!(!time.is_zero(), "{messages}");
    }
    let report = load.run().expect("the loop goes on");
    assert_eq!(
        (report.connections.opened, report.messages.sent),
        (16, 50),
        "exchanges are not part of the run"
    );
    assert!(report.fairness.most <= 50, "nor do they count for any client: {:?}", report.fairness);
}

#[test]
fn a_server_that_is_wrong_is_not_fast() {
    let server = Toy::changing(|offset, bytes| {
        if (offset..offset + bytes.len()).contains(&1000) {
            bytes[0] ^= 1;
        }
    });
    let mut load = load(&server.endpoint(), 2);
    load.open().expect("it listens");
    load.exchange(10).expect("the first bytes are right");
    let error = load.exchange(1000).expect_err("the byte at offset 1000 is wrong");
    assert!(matches!(&error, LoadError::Connections { failed: 2, .. }), "{error}");
    assert!(error.to_string().contains("looks like corruption"), "{error}");
}

#[test]
fn an_answer_that_comes_between_two_steps_counts_in_neither() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    server.set_read_timeout(Some(Duration::from_millis(1))).expect("it can wait");
    let endpoint = format!("udp://{}", server.local_addr().expect("it is bound"));
    let plan = Plan {
        clients: 2,
        sizes: Sizes::fixed(100),
        pace: Pace::Open { rate: 100.0, arrivals: Arrivals::Fixed },
        timeout: Duration::from_millis(50),
        ..Plan::new(vec![endpoint.parse().expect("an endpoint")])
    };
    let stop = StopSignal::new().expect("a socket pair");
    let mut load = Load::new(plan, stop).expect("a plan that can be carried out");
    for _ in 0..3 {
        let report = load.step(STEP).expect("the loop goes on");
        let fates = report.udp.expect("it is over UDP");
        assert_eq!((fates.lost, fates.late), (report.messages.sent, 0), "{fates:?}");
        let mut message = [0; 100];
        while let Ok((length, from)) = server.recv_from(&mut message) {
            server.send_to(&message[..length], from).expect("loopback");
        }
    }
}

/// Echoes datagrams at the address while the function runs.
fn while_echoed<R>(address: SocketAddr, run: impl FnOnce() -> R) -> R {
    let socket = UdpSocket::bind(address).expect("nobody else takes it");
    socket.set_read_timeout(Some(Duration::from_millis(10))).expect("it can wait");
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut message = [0; 100];
            while !ended.load(Ordering::SeqCst) {
                if let Ok((length, from)) = socket.recv_from(&mut message) {
                    socket.send_to(&message[..length], from).expect("loopback");
                }
            }
        });
        let result = run();
        ended.store(true, Ordering::SeqCst);
        result
    })
}

#[test]
fn clients_that_were_refused_in_one_step_are_there_in_the_next() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let address = socket.local_addr().expect("it is bound");
    drop(socket);
    let plan = Plan {
        clients: 4,
        sizes: Sizes::fixed(100),
        pace: Pace::Open { rate: 100.0, arrivals: Arrivals::Fixed },
        reconnect: Some("10ms..20ms".parse().expect("two times")),
        ..Plan::new(vec![format!("udp://{address}").parse().expect("an endpoint")])
    };
    let mut load = Load::new(plan, StopSignal::new().expect("a socket pair")).expect("a good plan");
    let mut step = || load.step(STEP).expect("the loop goes on");
    let served = while_echoed(address, &mut step);
    let refused = step();
    let served_again = while_echoed(address, &mut step);
    assert_eq!((served.connections.opened, refused.messages.received), (4, 0), "{:?}", refused.errors);
    assert!(served_again.messages.received > 0, "{:?}", served_again.errors);
    assert!(served_again.connections.opened >= 4, "{:?}", served_again.connections);
    let few = served_again.warnings.iter().find(|warning| warning.contains("were established"));
    assert_eq!(few, None);
}

#[test]
fn what_cannot_be_opened_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let endpoint = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    let error = load(&endpoint, 3).open().expect_err("nobody listens");
    assert!(error.to_string().contains("3 of 3 connections failed"), "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[test]
fn only_a_closed_loop_over_kept_connections_can_exchange() {
    let server = Server::plain();
    let usual = Plan::new(vec![server.endpoint().parse().expect("an endpoint")]);
    let rate = Pace::Open { rate: 100.0, arrivals: Arrivals::Fixed };
    for wrong in [
        Plan { usage: Usage::Churn, ..usual.clone() },
        Plan { usage: Usage::Hold, ..usual.clone() },
        Plan { pace: rate, ..usual.clone() },
    ] {
        let mut load = Load::new(wrong, StopSignal::new().expect("a socket pair")).expect("a good plan");
        assert!(matches!(load.open(), Err(LoadError::Plan(PlanError::Exchange))));
        assert!(matches!(load.exchange(1), Err(LoadError::Plan(PlanError::Exchange))));
    }
    let thinking = Plan { pace: Pace::Closed { think: Duration::from_millis(1) }, ..usual };
    let mut load = Load::new(thinking, StopSignal::new().expect("a socket pair")).expect("a good plan");
    load.open().expect("the server listens");
    load.exchange(100).expect("an honest echo");
}
