//! Every byte comes back, once and in order, whatever the length, the transport and the sizes of chunks and reads.

use std::net::TcpListener;
use std::thread;

use tempfile::tempdir;

use crate::support::{Client, Server, assert_same, pattern, skip};

/// Around the chunk, around the read size, and far beyond what the kernel buffers.
const LENGTHS: [usize; 10] = [0, 1, 15, 16, 17, 65_535, 65_536, 65_537, 1 << 20, 8 << 20];

fn echoes(connect: impl Fn() -> Client, lengths: &[usize]) {
    for &length in lengths {
        let message = pattern(length, length as u64);
        assert_same(&connect().exchange(&message), &message);
    }
}

#[test]
fn every_length_comes_back_over_ipv4() {
    let server = Server::on_ipv4(&[]);
    echoes(|| server.connect(), &LENGTHS);
    echoes(|| server.connect(), &[64 << 20]);
}

#[test]
fn every_length_comes_back_over_ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skip("every_length_comes_back_over_ipv6", "this machine has no ::1");
    }
    let server = Server::start(&["[::1]:0"]);
    assert!(server.address().is_ipv6());
    echoes(|| server.connect(), &LENGTHS);
}

#[test]
fn every_length_comes_back_over_a_unix_socket() {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let endpoint = format!("unix:{}", path.display());
    let server = Server::start(&[&endpoint]);
    assert_eq!(server.endpoints(), [endpoint]);
    echoes(|| Client::unix(&path), &LENGTHS);
    echoes(|| Client::unix(&path), &[64 << 20]);
}

#[test]
fn a_chunk_of_one_byte_changes_no_byte() {
    let server = Server::on_ipv4(&["--chunk", "1"]);
    echoes(|| server.connect(), &LENGTHS);
}

#[test]
fn literal_reads_of_16_bytes_change_no_byte() {
    let server = Server::on_ipv4(&["--read-size", "16"]);
    echoes(|| server.connect(), &LENGTHS[..9]);
}

#[test]
fn the_smallest_buffers_change_no_byte() {
    let server = Server::on_ipv4(&["--read-size", "1", "--chunk", "1", "--write-limit", "1"]);
    echoes(|| server.connect(), &LENGTHS[..8]);
}

#[test]
fn buffers_larger_than_any_message_change_no_byte() {
    let server = Server::on_ipv4(&["--read-size", "32MiB", "--chunk", "32MiB", "--write-limit", "64MiB"]);
    echoes(|| server.connect(), &LENGTHS);
}

#[test]
fn chunks_that_are_logged_change_no_byte() {
    let server = Server::on_ipv4(&["-v"]);
    echoes(|| server.connect(), &LENGTHS[..9]);
}

/// With chunks of one byte it does not matter where a read ends: each byte gets its prefix.
#[test]
fn each_chunk_of_one_byte_has_its_prefix() {
    let server = Server::on_ipv4(&["--chunk", "1", "--prefix", "<\\x00>"]);
    for length in [0, 1, 16, 65_537, 1 << 20] {
        let message = pattern(length, 1);
        let expected: Vec<u8> = message.iter().flat_map(|&byte| [b'<', 0, b'>', byte]).collect();
        assert_same(&server.connect().exchange(&message), &expected);
    }
}

/// Up to a page, the kernel hands one write over as a whole, so the test knows the borders of the chunks.
#[test]
fn a_read_is_cut_into_chunks_from_its_start() {
    for chunk in [1, 7, 16, 1000, 4096, 70_000] {
        let server = Server::on_ipv4(&["--chunk", &chunk.to_string(), "--prefix", "Echo=>"]);
        let client = server.connect();
        for length in [1, 15, 16, 17, 1000, 1001, 4096] {
            let message = pattern(length, length as u64);
            let reply: Vec<u8> =
                message.chunks(chunk).flat_map(|chunk| [b"Echo=>", chunk].concat()).collect();
            client.ask(&message, &reply);
        }
        client.end_sending();
        assert_same(&client.receive_rest(), b"");
    }
}

/// The kernel chooses where reads end, so the test splits the pieces at a mark that the message does not contain.
#[test]
fn a_long_message_comes_back_in_pieces_of_at_most_a_chunk() {
    let message: Vec<u8> = pattern(3 << 20, 2).into_iter().map(|byte| byte & 0x7f).collect();
    for chunk in [16, 1000, 65_536, 1 << 20] {
        let server = Server::on_ipv4(&["--chunk", &chunk.to_string(), "--prefix", "\\xff"]);
        let reply = server.connect().exchange(&message);
        let mut pieces = reply.split(|&byte| byte == 0xff);
        assert_eq!(pieces.next(), Some(&[] as &[u8]), "the prefix comes first");
        let pieces: Vec<&[u8]> = pieces.collect();
        assert!(pieces.iter().all(|piece| (1..=chunk).contains(&piece.len())));
        assert!(pieces.len() >= message.len() / chunk);
        assert_same(&pieces.concat(), &message);
    }
}

#[test]
fn a_byte_at_a_time_comes_back_a_byte_at_a_time() {
    let server = Server::on_ipv4(&[]);
    let client = server.connect();
    for byte in pattern(2000, 3) {
        client.echo(&[byte]);
    }
}

#[test]
fn clients_do_not_get_each_others_bytes() {
    let server = Server::on_ipv4(&[]);
    thread::scope(|scope| {
        for seed in 0..16 {
            let server = &server;
            scope.spawn(move || {
                let message = pattern(1 << 20, seed);
                assert_same(&server.connect().exchange(&message), &message);
            });
        }
    });
}
