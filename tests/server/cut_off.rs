//! Bytes that are lost when a connection ends, for whatever reason: the summary counts all of them, also bytes that the
//! kernel held and the server never read. Over a Unix socket, sent bytes have arrived, so the sum is exact.

use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::{TempDir, tempdir};

use crate::support::{Client, Server, pattern};

/// A client that has sent all that the server and the kernel take, and reads nothing.
struct Stalled {
    _directory: TempDir,
    server: Server,
    client: Client,
    sent: u64,
}

impl Stalled {
    #[track_caller]
    fn with(options: &[&str]) -> Stalled {
        let directory = tempdir().expect("a directory");
        let path = directory.path().join("echo.sock");
        // The test makes it before the tested time begins.
        let message = pattern(4 << 20, 25);
        let server = Server::start(&[options, &[&format!("unix:{}", path.display())]].concat());
        let client = Client::unix(&path);
        client.socket().set_write_timeout(Some(Duration::from_millis(300))).expect("a positive time");
        let (mut stream, mut sent) = (&client, 0);
        // On a busy machine, the tested time may be over before this is.
        while let Ok(count) = stream.write(&message[sent..]) {
            sent += count;
        }
        assert!(sent < message.len(), "the server stops a client that takes nothing");
        Stalled { _directory: directory, server, client, sent: sent as u64 }
    }

    /// Waits for the end of the connection for this reason, then stops the server.
    #[track_caller]
    fn assert_counted_after(self, reason: &str) {
        self.server.await_log(&format!("unix client 1: {reason}"));
        let (status, log) = self.server.stop();
        assert_eq!(status.code(), Some(0), "{log}");
        assert_counted(&log, self.sent, true);
    }
}

/// The number before these words.
#[track_caller]
fn number(text: &str, words: &str) -> u64 {
    let (before, _) = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {text}"));
    let number = before.rsplit(' ').next().expect("a split has a part");
    number.parse().unwrap_or_else(|_| panic!("no number before {words:?} in {text}"))
}

/// Every sent byte came back or was cut off. `unread`: some of them never left the kernel.
#[track_caller]
fn assert_counted(log: &str, sent: u64, unread: bool) {
    let (_, summary) = log.split_once("stopped: ").expect("a summary");
    let bytes = summary.split_once("cut off with ").expect("a count").1;
    assert_eq!(number(summary, " connections cut off"), 1, "{log}");
    assert_eq!(number(summary, " bytes out") + number(&format!(" {bytes}"), " bytes"), sent, "{log}");
    assert_eq!(number(summary, " bytes in") < sent, unread, "{log}");
}

#[test]
fn the_idle_timeout_owns_up_to_unread_input() {
    let options = ["--idle-timeout", "1s", "--write-timeout", "none"];
    Stalled::with(&options).assert_counted_after("idle for too long");
}

#[test]
fn the_write_timeout_owns_up_to_unread_input() {
    Stalled::with(&["--write-timeout", "1s"]).assert_counted_after("the peer took nothing for too long");
}

#[test]
fn a_reset_owns_up_to_unread_input() {
    let Stalled { _directory, server, client, sent } = Stalled::with(&[]);
    // The client closes its Unix socket with unread bytes, which resets the connection.
    drop(client);
    server.await_log("unix client 1: broken: ");
    let (_, log) = server.stop();
    assert_counted(&log, sent, true);
}

#[test]
fn the_end_of_the_drain_owns_up_to_unread_input() {
    let Stalled { _directory, server, client, sent } = Stalled::with(&["--drain", "500ms"]);
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("unix client 1: cut off: the time to drain is over; "), "{log}");
    assert_counted(&log, sent, true);
    drop(client);
}

#[test]
fn a_second_signal_owns_up_to_unread_input() {
    let Stalled { _directory, server, client, sent } = Stalled::with(&["--drain", "1year"]);
    server.signal(Signal::TERM);
    server.await_log("stopping: 1 connections have 1year to end");
    server.signal(Signal::INT);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    let (_, line) = log.split_once("unix client 1: cut off: a second signal; ").expect("a line of its own");
    let (_, failure) = log.split_once("a second signal: 1 connections cut off with").expect("a failure");
    assert!(number(line, " bytes in") < sent, "{log}");
    assert_eq!(number(line, " bytes out") + number(failure, " bytes"), sent, "{log}");
    drop(client);
}

/// A lingering connection reads input and throws it away; a part is still unread when the time is over.
#[test]
fn the_linger_timeout_owns_up_to_what_was_thrown_away_and_to_unread_input() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let server = Server::start(&["--once", "--drain", "1s", &format!("unix:{}", path.display())]);
    let client = Client::unix(&path);
    // More bytes than the server reads in a turn, as far as the system allows.
    client.socket().set_send_buffer_size(1 << 20).expect("a larger send buffer");
    client.send(b"the first chunk is answered, not the rest");
    assert_eq!(client.receive(16), b"the first chunk ");
    let sent = server.while_held(|| {
        let sent = client.send_until_stalled(&pattern(4 << 20, 26));
        // The time to linger passes meanwhile.
        std::thread::sleep(Duration::from_millis(1100));
        sent
    });
    server.await_log("unix client 1: we ended it, and the peer did not follow in time");
    let (_, log) = server.stop();
    let sent = 41 + sent as u64;
    // The server looks once for the event and once for the deadline, at four reads of 64 KiB each time.
    assert_counted(&log, sent, sent > 600_000);
}
