//! Datagrams that the kernel dropped because the receive buffer of their socket was full.
//!
//! A socket can report its drops with the next datagram (SO_RXQ_OVFL). But then every datagram costs a control message,
//! and the drops at the end of a flood are never reported. Linux also lists the drops of each UDP socket in `/proc`,
//! where they cost nothing until somebody asks.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::time::Duration;

use rustix::fs::fstat;

use super::datagram::DatagramSocket;
use crate::reactor::Moment;

/// One table for each address family; each lists all UDP sockets of the network namespace.
const TABLES: [&str; 2] = ["/proc/self/net/udp", "/proc/self/net/udp6"];
/// Columns of a table, counted from 0.
const INODE: usize = 9;
const DROPS: usize = 12;
/// Reading a table takes longer the more sockets the machine has, so even a storm of questions reads the tables only
/// once in this time.
const FRESH: Duration = Duration::from_secs(1);

/// The drops of some sockets, each counted since the program began to watch it.
#[derive(Debug, Default)]
pub struct Overflow {
    sockets: Vec<Watched>,
    /// The system doesn't list one of the sockets.
    unlisted: bool,
    total: u64,
    read_at: Option<Moment>,
}

/// A socket under watch.
#[derive(Debug)]
struct Watched {
    inode: u64,
    /// The last value of the kernel's counter, which begins anew at 2³².
    drops: u32,
}

impl Overflow {
    /// Watches another socket.
    pub fn watch(&mut self, socket: &DatagramSocket) {
        let inode = fstat(socket).map(|status| status.st_ino);
        let found = inode.ok().and_then(|inode| listed().find(|found| found.inode == inode));
        // An inherited socket may have dropped datagrams before this moment. These don't count.
        self.unlisted |= found.is_none();
        self.sockets.extend(found);
    }

    /// How many datagrams the kernel dropped, up to a second ago. `None`: the system doesn't tell.
    pub fn recent(&mut self, now: Moment) -> Option<u64> {
        if self.read_at.is_none_or(|read_at| now.since(read_at) >= FRESH) {
            self.read_at = Some(now);
            return self.exact();
        }
        self.known()
    }

    /// How many datagrams the kernel dropped. `None`: the system doesn't tell.
    pub fn exact(&mut self) -> Option<u64> {
        // Without a free descriptor the tables can't be read. Then the earlier count still holds.
        let listed = if self.sockets.is_empty() { None } else { Some(listed()) };
        for found in listed.into_iter().flatten() {
            if let Some(known) = self.sockets.iter_mut().find(|known| known.inode == found.inode) {
                self.total += u64::from(found.drops.wrapping_sub(known.drops));
                known.drops = found.drops;
            }
        }
        self.known()
    }

    fn known(&self) -> Option<u64> {
        (!self.unlisted).then_some(self.total)
    }
}

/// All UDP sockets of this network namespace, read line by line. None if the system has no such tables.
fn listed() -> impl Iterator<Item = Watched> {
    let tables = TABLES.into_iter().filter_map(|path| File::open(path).ok());
    let lines = tables.flat_map(|table| BufReader::new(table).lines().map_while(io::Result::ok));
    lines.filter_map(|line| row(&line))
}

fn row(line: &str) -> Option<Watched> {
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    Some(Watched { inode: columns.get(INODE)?.parse().ok()?, drops: columns.get(DROPS)?.parse().ok()? })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_row_of_the_table_is_understood_and_its_heading_is_not() {
        let heading = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
        assert!(row(heading).is_none());
        let socket = "  470: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 23";
        let Watched { inode, drops } = row(socket).expect("a socket");
        assert_eq!((inode, drops), (4711, 23));
    }

    #[test]
    fn the_datagrams_beyond_a_full_buffer_are_counted() {
        const SENT: u64 = 2000;
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(mut socket) = DatagramSocket::bind(address.parse().expect("an address"), false) else {
                // A machine without IPv6.
                continue;
            };
            socket.set_receive_buffer(4096).expect("a small buffer");
            let mut overflow = Overflow::default();
            overflow.watch(&socket);
            assert_eq!(overflow.exact(), Some(0));
            let client = UdpSocket::bind(address).expect("a free port");
            for _ in 0..SENT {
                client.send_to(&[0; 100], socket.local_address()).expect("loopback");
            }
            let mut received = 0;
            while socket.receive(&mut [0; 100]).expect("a socket").is_some() {
                received += 1;
            }
            assert!(received < SENT, "the buffer was too large");
            assert_eq!(overflow.exact(), Some(SENT - received), "{address}");
            assert_eq!(overflow.exact(), Some(SENT - received), "and once: {address}");
        }
    }
}
