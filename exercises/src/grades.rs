//! The graders: each talks to a server over TCP, and knows nothing of its source.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::server::{Server, eventually};
use crate::{Grade, server::PATIENCE};

/// The bytes and the end of input reach the server together.
pub(crate) fn the_end_behind_a_short_read_is_seen(server: &Server) -> Grade {
    for _ in 0..20 {
        let client = server.connect()?;
        server.while_held(|| {
            send(&client, b"last words")?;
            client.shutdown(Shutdown::Write).map_err(|error| error.to_string())
        })?;
        receive(&client, b"last words")?;
        if rest(&client, "the end of input came with the last bytes, and the server does not see it")? != b""
        {
            return Err("more came back than was sent".into());
        }
    }
    Ok("20 of 20 clients that ended with their last bytes got them back, and the end".into())
}

pub(crate) fn a_waiting_client_is_served_when_a_descriptor_is_free(server: &Server) -> Grade {
    let mut served = Vec::new();
    for _ in 0..3 {
        let client = server.connect()?;
        echo(&client, b"served")?;
        served.push(client);
    }
    server.limit_descriptors()?;
    let waiting = server.connect()?;
    send(&waiting, b"and I?")?;
    echo(&served[0], b"the server has seen that nobody can be accepted")?;
    drop(served.pop());
    echo(&served[0], b"the server has seen that one has gone")?;
    receive(&waiting, b"and I?")
        .map_err(|error| format!("a descriptor is free, but the waiting client is not served: {error}"))?;
    Ok("a client that waited for a descriptor is served when one is free".into())
}

pub(crate) fn a_newcomer_does_not_get_the_event_of_another(server: &Server) -> Grade {
    const MOST: usize = 4;
    for _ in 0..5 {
        let mut clients = Vec::new();
        for _ in 0..MOST {
            let client = server.connect()?;
            echo(&client, b"in")?;
            clients.push(client);
        }
        // In one batch: a newcomer, for whom the oldest has to go, and the oldest's own end.
        let newcomer = server.while_held(|| {
            let newcomer = server.connect()?;
            drop(clients.remove(0));
            Ok(newcomer)
        })?;
        echo(&newcomer, b"am I in?").map_err(|error| format!("the newcomer was thrown out: {error}"))?;
        for client in &clients {
            echo(client, b"still in")
                .map_err(|error| format!("a client that should have stayed was thrown out: {error}"))?;
        }
        // The next four throw these out, one after the other.
    }
    Ok("5 of 5 newcomers stayed".into())
}

pub(crate) fn a_small_client_is_served_beside_a_flood(server: &Server) -> Grade {
    let (flooder, small) = (server.connect()?, server.connect()?);
    echo(&small, b"I am small")?;
    echo(&flooder, b"I am large")?;
    // All of the flood is in the kernel before the server goes on, and the small client's message behind it.
    server.hold()?;
    let flood = fill(&flooder)?;
    send(&small, b"and I?")?;
    let reader = flooder.try_clone().map_err(|error| error.to_string())?;
    let reader = std::thread::spawn(move || take(&reader, flood));
    // Step by step, so that nothing moves while the grader looks.
    while !has_input(&small)? {
        server.for_a_moment()?;
    }
    let left = server.left_of(&flooder)?;
    server.release()?;
    receive(&small, b"and I?")?;
    reader.join().map_err(|_| "the reader of the flood failed")??;
    let done = flood.saturating_sub(left);
    if done > flood / 2 {
        return Err(format!(
            "the small client had to wait until {done} of {flood} bytes of the other one were read"
        ));
    }
    Ok(format!("the small client had to wait until {done} of {flood} bytes of the other one were read"))
}

pub(crate) fn lines_are_found_wherever_reads_end(server: &Server) -> Grade {
    let client = server.connect()?;
    for (sent, expected) in
        [("hello\n", "5\n"), ("he", ""), ("llo\n", "5\n"), ("one\nthree\n\nf", "3\n5\n0\n"), ("our\n", "4\n")]
    {
        send(&client, sent.as_bytes())?;
        eventually("the server has read it", || server.unread(&client) == Ok(0))?;
        receive(&client, expected.as_bytes()).map_err(|error| format!("after {sent:?}: {error}"))?;
    }
    let long = [vec![b'x'; 5000], vec![b'\n']].concat();
    send(&client, &long)?;
    receive(&client, b"5000\n").map_err(|error| format!("a line of 5000 letters: {error}"))?;
    client.shutdown(Shutdown::Write).map_err(|error| error.to_string())?;
    match rest(&client, "the server does not see the end")? {
        nothing if nothing.is_empty() => Ok("each line has its answer, wherever reads end".into()),
        more => Err(format!("there was no line left, but it answered {:?}", String::from_utf8_lossy(&more))),
    }
}

pub(crate) fn all_of_the_answer_comes_after_the_end_of_input(server: &Server) -> Grade {
    // More than the kernel keeps for both directions together.
    let message: Vec<u8> = (0..32 << 20).map(|number: u32| (number % 251) as u8).collect();
    let client = server.connect()?;
    let sent = AtomicUsize::new(0);
    let answer = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_counted(&client, &message, &sent));
        await_standstill(server, &sent);
        let answer = rest(&client, "the server does not send the rest of its answer");
        sender.join().map_err(|_| "the sender failed")??;
        answer
    })?;
    if answer == message {
        Ok(format!("all {} bytes came back after the end of input", answer.len()))
    } else {
        Err(format!("{} of {} bytes came back", answer.len(), message.len()))
    }
}

/// Sends all of it, then ends the client's side.
fn send_counted(client: &TcpStream, message: &[u8], sent: &AtomicUsize) -> Result<(), String> {
    for piece in message.chunks(64 * 1024) {
        send(client, piece)?;
        sent.fetch_add(piece.len(), Ordering::Relaxed);
    }
    client.shutdown(Shutdown::Write).map_err(|error| error.to_string())
}

/// Waits until the sender has sent everything, or the server takes no more before the client reads: both are right. A
/// server that lacks a processor takes nothing either, but it does not sleep.
fn await_standstill(server: &Server, sent: &AtomicUsize) {
    let (start, mut before, mut looks) = (Instant::now(), usize::MAX, 0);
    while looks < 10 && start.elapsed() < PATIENCE / 2 {
        std::thread::sleep(Duration::from_millis(50));
        let now = sent.load(Ordering::Relaxed);
        looks = if now == before && server.sleeps() { looks + 1 } else { 0 };
        before = now;
    }
}

fn send(mut client: &TcpStream, bytes: &[u8]) -> Result<(), String> {
    client.write_all(bytes).map_err(|error| format!("the server takes no more: {error}"))
}

/// Reads exactly these bytes.
fn receive(mut client: &TcpStream, expected: &[u8]) -> Result<(), String> {
    let mut bytes = vec![0; expected.len()];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    client
        .read_exact(&mut bytes)
        .map_err(|error| format!("{:?} did not come: {}", text(expected), reason(&error)))?;
    if bytes == expected {
        Ok(())
    } else {
        Err(format!("{:?} came instead of {:?}", text(&bytes), text(expected)))
    }
}

fn echo(client: &TcpStream, bytes: &[u8]) -> Result<(), String> {
    send(client, bytes)?;
    receive(client, bytes)
}

/// Reads everything to the end.
fn rest(mut client: &TcpStream, fault: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match client.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("{fault} after {} bytes: {}", bytes.len(), reason(&error))),
    }
}

/// A read that has waited in vain fails with `WouldBlock`, which would puzzle a learner.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock => format!("the grader has waited for {PATIENCE:?}"),
        ErrorKind::UnexpectedEof => "the server has ended the connection".into(),
        _ => error.to_string(),
    }
}

fn has_input(client: &TcpStream) -> Result<bool, String> {
    client.set_nonblocking(true).map_err(|error| error.to_string())?;
    let found = client.peek(&mut [0]).is_ok();
    client.set_nonblocking(false).map_err(|error| error.to_string())?;
    Ok(found)
}

/// Reads and forgets this many bytes.
fn take(client: &TcpStream, count: usize) -> Result<(), String> {
    let copied = io::copy(&mut client.take(count as u64), &mut io::sink());
    copied.map(drop).map_err(|error| format!("the flood does not come back: {error}"))
}

/// Sends until the kernel takes no more; returns how much it took.
fn fill(mut client: &TcpStream) -> Result<usize, String> {
    let piece = [b'x'; 64 * 1024];
    let mut sent = 0;
    client.set_nonblocking(true).map_err(|error| error.to_string())?;
    while let Ok(count) = client.write(&piece) {
        sent += count;
    }
    client.set_nonblocking(false).map_err(|error| error.to_string())?;
    Ok(sent)
}
