//! Row E2: the line client.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use echoloop::client::{ClientError, LineClient};

use crate::purpose::{Purpose, end_of_output, expect, read_to_end, reset, server};
use crate::support::{DEADLINE, Server};

fn client(server: &Purpose) -> LineClient {
    let endpoint = server.endpoint().parse().expect("an endpoint");
    LineClient::connect(&endpoint, Some(DEADLINE)).expect("it listens")
}

#[test]
fn e2_lines_end_with_cr_lf_or_lf_and_the_last_one_as_it_likes() {
    let server = server(|mut stream| {
        stream.write_all(b"one\r\ntwo\n\r\n a\rb \nlast\r").expect("it takes them");
        end_of_output(&stream);
        read_to_end(&mut stream);
    });
    let mut client = client(&server);
    for line in [b"one" as &[u8], b"two", b"", b" a\rb ", b"last"] {
        assert_eq!(client.read_line().expect("a line"), line);
    }
    for _ in 0..2 {
        assert!(matches!(client.read_line(), Err(ClientError::EndOfInput { .. })));
    }
}

#[test]
fn e2_written_lines_get_cr_lf() {
    let server = server(|mut stream| {
        assert_eq!(read_to_end(&mut stream), b"HELO me\r\n\r\n");
        stream.write_all(b"bye\r\n").expect("it takes them");
    });
    let mut client = client(&server);
    client.write_line("HELO me").expect("it takes them");
    client.write_line("").expect("it takes them");
    client.half_close().expect("it is connected");
    assert_eq!(client.read_line().expect("a line"), b"bye");
}

#[test]
fn e2_read_takes_so_many_bytes_or_all_there_are() {
    let server = server(|mut stream| {
        stream.write_all(b"line\nfour").expect("it takes them");
        stream.write_all(b"and the rest").expect("it takes them");
        end_of_output(&stream);
        read_to_end(&mut stream);
    });
    let mut client = client(&server);
    assert_eq!(client.read_line().expect("a line"), b"line");
    assert_eq!(client.read(4).expect("four bytes"), b"four");
    assert_eq!(client.read(0).expect("nothing"), b"");
    assert_eq!(client.read(usize::MAX).expect("the rest"), b"and the rest");
    assert_eq!(client.read(1).expect("nothing"), b"");
}

#[test]
fn e2_each_call_has_its_time() {
    let server = server(|mut stream| {
        expect(&mut stream, b"hello\r\n");
        stream.write_all(b"no end of li").expect("it takes them");
        read_to_end(&mut stream);
    });
    let mut client = client(&server);
    client.write_line("hello").expect("it takes them");
    client.set_timeout(Some(Duration::from_millis(150)));
    let start = Instant::now();
    assert!(matches!(client.read_line(), Err(ClientError::Timeout { .. })));
    assert!(start.elapsed() >= Duration::from_millis(150));
    assert_eq!(client.read(12).expect("what did come"), b"no end of li", "nothing is lost");
}

#[test]
fn e2_a_line_without_end_does_not_fill_the_memory() {
    let server = server(|mut stream| {
        let _ = stream.write_all(&vec![b'x'; 1 << 20]);
        read_to_end(&mut stream);
    });
    let mut client = client(&server);
    assert!(matches!(client.read_line(), Err(ClientError::LineTooLong { .. })));
}

#[test]
fn e2_a_peer_that_sends_and_does_not_read_does_not_fill_the_memory() {
    let server = server(|mut stream| {
        // The server does read in the end, so that a client without a bound would get through.
        if stream.write_all(&vec![b'x'; 48 * 1024 * 1024]).is_ok() {
            while let Ok(1..) = stream.read(&mut [0; 64 * 1024]) {}
        }
    });
    let mut client = client(&server);
    // More than the kernel takes for a peer that does not read.
    match client.write(&vec![b'y'; 32 * 1024 * 1024]) {
        Err(error @ ClientError::ReadAhead { .. }) => assert_eq!(error.exit_code(), 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn e2_a_reset_is_told_each_time() {
    let server = server(|mut stream| {
        expect(&mut stream, b"hello\r\n");
        reset(&stream);
    });
    let mut client = client(&server);
    client.write_line("hello").expect("it takes them");
    for _ in 0..2 {
        match client.read_line() {
            Err(error @ ClientError::Reset { .. }) => assert_eq!(error.exit_code(), 6),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn e2_what_comes_while_much_is_written_is_kept() {
    let server = Server::on_ipv4(&[]);
    let endpoint = server.endpoint().parse().expect("an endpoint");
    let mut client = LineClient::connect(&endpoint, Some(DEADLINE)).expect("it listens");
    // More than the buffers of both sides hold: a client that only wrote would wait for ever.
    let bytes: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
    client.write(&bytes).expect("it takes them");
    assert!(client.read(bytes.len()).expect("all of it") == bytes);
}
