//! Bulk data that goes through a pipe in the kernel: the same bytes come back, and the metrics count them.

use std::thread;

use rustix::process::Signal;

use crate::admin::{figure, with_admin};
use crate::support::{Client, Server, assert_same, eventually, pattern, skip, socket_with_small_buffers};

/// Reads of a page come back full, so that the server soon splices bulk data.
const SMALL_READS: [&str; 2] = ["--read-size", "4KiB"];

fn spliced(server: &Server) -> f64 {
    figure(server, "echoloop_spliced_bytes_total")
}

/// All of the message is there when the server looks, and all of it returns.
fn echo_at_once(server: &Server, client: &Client, seed: u64) {
    let message = pattern(64 << 10, seed);
    server.while_held(|| client.send(&message));
    assert_same(&client.receive(message.len()), &message);
}

/// `false`: this system has no `splice(2)` for sockets.
fn splices(test: &str) -> bool {
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        skip(test, "only Linux splices");
        return false;
    }
    true
}

#[test]
fn bulk_data_is_spliced_and_the_figures_tell_of_it() {
    if !splices("bulk_data_is_spliced_and_the_figures_tell_of_it") {
        return;
    }
    let server = with_admin(&SMALL_READS);
    let client = server.connect();
    client.echo(b"a small message is copied");
    assert_eq!(spliced(&server), 0.0);
    echo_at_once(&server, &client, 1);
    let by_then = spliced(&server);
    assert!(by_then > 0.0 && by_then < f64::from(64 << 10), "the first reads were copied: {by_then}");
    assert_eq!(figure(&server, "echoloop_pipes_in_use"), 0.0, "an empty pipe is given back");

    // A client that takes nothing leaves bytes in a pipe.
    let message = pattern(64 << 20, 2);
    let sent = client.send_until_stalled(&message);
    assert!(sent < message.len(), "the server stops a client that takes nothing");
    assert_eq!(figure(&server, "echoloop_pipes_in_use"), 1.0);
    server.signal(Signal::USR1);
    server.await_log("; 1 pipes in use");
    assert!(!server.log().contains(", 0 of them spliced; "), "{}", server.log());
    // The figure counts the pipe's descriptors and the scraper's own. The scraper before may still be connected.
    eventually("the descriptors are those that it has", || {
        figure(&server, "process_open_fds") == server.descriptors() as f64 + 1.0
    });
    assert_same(&client.receive(sent), &message[..sent]);
    assert_eq!(figure(&server, "echoloop_pipes_in_use"), 0.0);
    assert!(spliced(&server) > by_then);
    client.end_sending();
    assert_same(&client.receive_rest(), b"");
}

#[test]
fn nothing_is_spliced_unless_it_may_be() {
    let server = with_admin(&[&SMALL_READS[..], &["--splice", "never"]].concat());
    let client = server.connect();
    echo_at_once(&server, &client, 1);
    assert_eq!(spliced(&server), 0.0);
}

/// A splice stops before an urgent byte and says that nothing is there, although a read returns it.
#[test]
fn urgent_bytes_of_a_spliced_connection_are_echoed_in_their_place() {
    if !splices("urgent_bytes_of_a_spliced_connection_are_echoed_in_their_place") {
        return;
    }
    let server = with_admin(&SMALL_READS);
    let client = server.connect();
    let send_urgent = || {
        client.send(b"abc");
        assert_eq!(client.socket().send_out_of_band(b"X").expect("an urgent byte"), 1);
        client.send(b"def");
    };
    for round in 0..20 {
        // From the round before, the connection knows of the urgent byte, and splices all the same.
        let before = spliced(&server);
        echo_at_once(&server, &client, round);
        echo_at_once(&server, &client, round);
        assert!(spliced(&server) > before, "round {round}");
        // Alone, and then behind bulk data that is being spliced.
        send_urgent();
        assert_eq!(client.receive(7).escape_ascii().to_string(), "abcXdef");
        let message = pattern(128 << 10, round);
        client.send(&message);
        send_urgent();
        assert_same(&client.receive(message.len() + 7), &[&message[..], b"abcXdef"].concat());
        server.while_held(|| {
            client.send(&message[..64 << 10]);
            send_urgent();
        });
        assert_same(&client.receive((64 << 10) + 7), &[&message[..64 << 10], b"abcXdef"].concat());
    }
    client.end_sending();
    assert_same(&client.receive_rest(), b"");
}

/// The bytes of a reset connection stay in its pipe, so the server closes that pipe. Other pipes wait for the next
/// connection.
#[test]
fn resets_in_the_middle_of_splicing_leave_no_more_than_the_pool_of_pipes() {
    if !splices("resets_in_the_middle_of_splicing_leave_no_more_than_the_pool_of_pipes") {
        return;
    }
    const ROUNDS: usize = 3;
    const CLIENTS: usize = 24;
    const MOST_PIPES: usize = 16;
    let server = with_admin(&SMALL_READS);
    let bystander = server.connect();
    bystander.echo(b"before");
    let descriptors = server.descriptors();
    let message = pattern(64 << 20, 3);
    for round in 1..=ROUNDS {
        let before = spliced(&server);
        let clients: Vec<Client> =
            (0..CLIENTS).map(|_| Client::connect(socket_with_small_buffers(), server.address())).collect();
        thread::scope(|scope| {
            for client in &clients {
                scope.spawn(|| assert!(client.send_until_stalled(&message) < message.len()));
            }
        });
        let pipes = figure(&server, "echoloop_pipes_in_use");
        assert!(pipes >= 1.0 && pipes <= MOST_PIPES as f64, "{pipes} pipes");
        assert!(spliced(&server) > before, "round {round}");
        bystander.echo(b"beside them");
        clients.into_iter().for_each(Client::reset);
        let resets = || server.log().matches(": broken: connection reset by peer; ").count();
        eventually("every reset is logged as one", || resets() == round * CLIENTS);
        assert_eq!(figure(&server, "echoloop_pipes_in_use"), 0.0);
        // The scraper's connection may still be open.
        eventually("no descriptor is left but those of the pool", || {
            server.descriptors() <= descriptors + 2 * MOST_PIPES
        });
    }
    bystander.echo(b"after");
}
