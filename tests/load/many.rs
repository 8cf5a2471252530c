//! Very many connections.

use crate::support::Server;
use crate::toys::load;

/// Two processes with a limit of 20,000 descriptors can have this many connections between them.
const MANY: usize = 15_000;

#[test]
fn fifteen_thousand_connections_are_ramped_verified_and_held() {
    let most = echoloop::DescriptorLimit::raise().connections(1);
    let clients = MANY.min(most).to_string();
    let server = Server::plain();
    let run = load(&[
        server.endpoint(),
        "--hold",
        "--clients",
        &clients,
        "--duration",
        "200ms",
        "--source",
        "127.9.0.0/16",
        "--reset",
    ]);
    assert_eq!(run.status, 0, "{:#}\n{}", run.report["errors"], run.errors);
    let clients: f64 = clients.parse().expect("a number");
    assert_eq!(run.number("/connections/opened"), clients);
    assert_eq!(run.number("/connections/lost"), 0.0);
    assert_eq!(run.number("/messages/received"), 2.0 * clients);
}
