//! The ladder: the skill of each step, and the failure that the next one mends.
//!
//! Each step runs as a program of its own. None of these tests waits for a time to pass: a test knows that something does
//! *not* happen when something later has happened, and asks the kernel then.

#[path = "../support/mod.rs"]
mod support;

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};
use support::{Client, Server, TcpRow, assert_same, eventually, pattern, study_programs};

const MESSAGE: &[u8] = b"This is the message. It will be repeated.";

/// Far more than the kernel keeps for a connection.
const FLOOD: usize = 64 << 20;

fn start(step: &str) -> Server {
    let mut command = Command::new(study_programs().join(step));
    command.arg("127.0.0.1:0");
    Server::spawn(command, 1)
}

/// Sends all of it, ends sending, and gets all of it back.
#[track_caller]
fn echoes(server: &Server, length: usize) {
    let bytes = pattern(length, length as u64);
    assert_same(&server.connect().exchange(&bytes), &bytes);
}

/// The bytes of this client that the server has not read.
fn unread(server: &Server, client: &Client) -> u64 {
    TcpRow::find(server.address(), client.local_address()).expect("they are connected").unread
}

#[test]
fn step_1_blocking_loses_nothing_but_serves_one_at_a_time() {
    let server = start("01_blocking");
    echoes(&server, 1_000_000);

    let first = server.connect();
    first.echo(b"now it is mine");
    let second = server.connect();
    second.send(MESSAGE);
    eventually("the bytes have arrived", || unread(&server, &second) == MESSAGE.len() as u64);
    first.echo(b"still mine");
    assert_eq!(unread(&server, &second), MESSAGE.len() as u64, "nobody reads the second one");
    assert!(!second.has_input());
    drop(first);
    assert_same(&second.receive(MESSAGE.len()), MESSAGE);
}

#[test]
fn step_2_threads_serve_all_at_once_but_each_costs_a_thread() {
    let server = start("02_threads");
    echoes(&server, 1_000_000);
    eventually("only the main thread is left", || server.threads() == 1);

    let silent: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    server.connect().echo(MESSAGE);
    eventually("a thread a client", || server.threads() > silent.len());
}

#[test]
fn step_2_threads_end_for_all_when_there_is_no_room_for_one_more() {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -v 200000; exec \"$0\" 127.0.0.1:0"])
        .arg(study_programs().join("02_threads"));
    let mut server = Server::spawn(command, 1);
    let first = server.connect();
    first.echo(MESSAGE);
    let mut clients = Vec::new();
    while clients.len() < 5000
        && server.is_running()
        && let Ok(client) = TcpStream::connect(server.address())
    {
        clients.push(client);
    }
    let (status, log) = server.wait();
    // It dies of its panic, or of a signal if there is not even memory left to report the panic.
    assert!(!status.success(), "{log}");
    assert!(log.contains("failed to spawn thread"), "{log}");
}

#[test]
fn step_3_busy_serves_all_in_one_thread_but_never_sleeps() {
    let server = start("03_busy_nonblocking");
    let silent: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    echoes(&server, 100_000);
    assert_eq!(server.threads(), 1);
    for client in &silent {
        client.echo(MESSAGE);
    }
    spins(&server);
}

/// The server uses the processor although no client asks for anything.
#[track_caller]
fn spins(server: &Server) {
    let before = server.cpu_time();
    eventually("it spends time on nothing", || server.cpu_time() - before > Duration::from_millis(300));
}

/// The server uses next to no processor time while a busy server uses 300 ms.
#[track_caller]
fn sleeps(server: &Server) {
    let busy = start("03_busy_nonblocking");
    let before = server.cpu_time();
    spins(&busy);
    let spent = server.cpu_time() - before;
    assert!(spent <= Duration::from_millis(30), "{spent:?} for nothing");
}

#[test]
fn step_4_poll_sleeps_but_loses_what_one_read_leaves() {
    let server = start("04_poll_once");
    server.connect().echo(b"sixteen bytes ok");
    sleeps(&server);

    let client = server.connect();
    client.send(MESSAGE);
    assert_same(&client.receive(16), &MESSAGE[..16]);
    // When the server answers another client, it has done all that it will do for that event.
    server.connect().echo(b"later");
    assert_eq!(unread(&server, &client), MESSAGE.len() as u64 - 16, "it lies in the kernel");
    assert!(!client.has_input());
    // The next byte makes the next edge, which brings the next sixteen, and so on for ever.
    client.send(b"!");
    assert_same(&client.receive(16), &MESSAGE[16..32]);
}

#[test]
fn step_5_drained_returns_everything_but_keeps_it_without_bound() {
    let server = start("05_poll_drained");
    echoes(&server, 1_000_000);
    sleeps(&server);

    let flood = pattern(FLOOD, 5);
    let client = server.connect();
    assert_eq!(client.send_until_stalled(&flood), FLOOD, "it takes everything");
    eventually("all of it is in its memory", || server.resident_bytes() > FLOOD / 2);
    client.end_sending();
    assert_same(&client.receive_rest(), &flood);
}

#[test]
fn step_5_drained_leaves_clients_waiting_for_ever_when_descriptors_run_out() {
    let server = start("05_poll_drained");
    let mut served: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    served.iter().for_each(|client| client.echo(b"I am served"));
    let (open, limit) = (server.descriptors(), Some(server.next_descriptor() as u64));
    prlimit(Some(server.pid()), Resource::Nofile, Rlimit { current: limit, maximum: limit })
        .expect("our child may be limited");
    let waiting = server.connect();
    waiting.send(MESSAGE);
    // When the server has answered later events, it has handled the listener's. It answers two, in case the first
    // shared the batch.
    (0..2).for_each(|_| served[0].echo(b"the loop has gone round"));
    // A descriptor becomes free, and the listener is ready. But it became ready long ago, so there is no edge.
    drop(served.pop());
    server.await_descriptors(open - 1);
    served[0].echo(b"the loop has gone round");
    assert_eq!(server.descriptors(), open - 1, "nobody was accepted");
    assert!(!waiting.has_input());
    // The next client to connect makes the next edge, and the server accepts the client that waited longest.
    let _edge = server.connect();
    assert_same(&waiting.receive(MESSAGE.len()), MESSAGE);
}

#[test]
fn step_6_the_reactor_answers_whole_lines_and_bounds_what_it_keeps() {
    let server = start("06_reactor");
    server.connect().ask(b"one\ntwo\nthr", b"1 one\n2 two\n");
    sleeps(&server);
    assert_eq!(server.threads(), 1);

    let before = server.resident_bytes();
    let client = server.connect();
    let taken = client.send_until_stalled(&vec![b'\n'; FLOOD]);
    assert!(taken < FLOOD, "it does not take all of it");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes");
    server.connect().ask(b"others are served\n", b"1 others are served\n");
    client.end_sending();
    let numbers: String = (1..=taken).map(|number| format!("{number} \n")).collect();
    assert_same(&client.receive_rest(), numbers.as_bytes());
}

#[test]
fn step_6_the_reactor_finds_a_line_wherever_reads_cut_it() {
    let server = start("06_reactor");
    let client = server.connect();
    for (sent, reply) in [("on", ""), ("e\ntw", "1 one\n"), ("o", ""), ("\n\nfour\n", "2 two\n3 \n4 four\n")]
    {
        client.send(sent.as_bytes());
        eventually("it has been read", || unread(&server, &client) == 0);
        assert_same(&client.receive(reply.len()), reply.as_bytes());
    }
    // A line without its end gets no answer, and the end of input is the end.
    client.send(b"a line that does not end");
    client.end_sending();
    assert_same(&client.receive_rest(), b"");

    let endless = server.connect();
    endless.send(&[b'x'; 1500]);
    assert_same(&endless.receive_rest(), b"line too long\n");
}

/// A reader takes in each step of the ladder at one look.
#[test]
fn every_step_is_short_and_says_how_to_see_its_failure_and_its_mend() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("ladder");
    let steps =
        ["01_blocking", "02_threads", "03_busy_nonblocking", "04_poll_once", "05_poll_drained", "06_reactor"];
    for (number, step) in steps.into_iter().enumerate() {
        let is_top = number == 5;
        let file =
            directory.join(if is_top { "top/src/bin" } else { "src/bin" }).join(step).with_extension("rs");
        let source = std::fs::read_to_string(file).expect("it is there");
        let program = source.lines().filter(|line| !line.starts_with("//!") && !line.trim().is_empty());
        let lines = program.count();
        assert!(lines <= if is_top { 100 } else { 80 }, "{step}: {lines} lines");
        let package = if is_top { "-p ladder-top".into() } else { format!("-p ladder --bin {step}") };
        assert!(source.contains(&format!("//! cargo run {package} -- [ADDRESS]")), "{step}");
        assert!(is_top || source.contains("failure:**"), "{step} shows no failure");
        let mend =
            steps.get(number + 1).map_or("**Mended:**".into(), |next| format!("**Mended** by `{next}`:"));
        assert!(source.contains(&mend), "{step} does not say {mend}");
    }
}
