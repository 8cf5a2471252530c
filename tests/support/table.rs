//! The kernel's view of a TCP socket that is not ours.

use std::fs;
use std::net::SocketAddr;

/// A line of `/proc/net/tcp`, which `proc(5)` describes.
#[derive(Debug)]
pub(crate) struct TcpRow {
    /// 1 is ESTABLISHED, 8 CLOSE_WAIT: the peer's end has come.
    pub(crate) state: u8,
    /// Bytes that were not read yet; the peer's end counts as one.
    pub(crate) unread: u64,
    /// 2 is the timer of keep-alive.
    pub(crate) timer: u8,
}

impl TcpRow {
    pub(crate) const CLOSE_WAIT: u8 = 8;
    pub(crate) const KEEPALIVE: u8 = 2;

    /// The IPv4 socket with these ends, if there is one.
    pub(crate) fn find(local: SocketAddr, peer: SocketAddr) -> Option<TcpRow> {
        let table = fs::read_to_string("/proc/net/tcp").expect("Linux has this");
        let ends = [local, peer].map(|address| format!(":{:04X}", address.port()));
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let found = fields[1].ends_with(&ends[0]) && fields[2].ends_with(&ends[1]);
            let number = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
            let after_colon = |field: &str| number(field.split_once(':').expect("two numbers").1);
            let before_colon = |field: &str| number(field.split_once(':').expect("two numbers").0);
            found.then(|| TcpRow {
                state: number(fields[3]) as u8,
                unread: after_colon(fields[4]),
                timer: before_colon(fields[5]) as u8,
            })
        })
    }
}
