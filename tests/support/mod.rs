//! The common ground of the integration tests: the real program as a child that surely ends, clients that can't wait
//! for ever, and conditions instead of times.
#![allow(dead_code, unused_imports, reason = "each test crate uses its own part of this")]

mod bytes;
mod client;
mod examples;
mod foreign;
mod process;
mod server;
mod table;

use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(crate) use self::bytes::{assert_same, pattern};
pub(crate) use self::client::{Client, socket_with_small_buffers};
pub(crate) use self::examples::{examples, study_programs};
pub(crate) use self::foreign::{installed, missing_for, skip};
pub(crate) use self::process::{Finished, Process, run};
pub(crate) use self::server::{Server, program};
pub(crate) use self::table::TcpRow;

/// When something that must happen has not happened by now, it never will. Generous, since a busy machine is slow,
/// and nothing waits as long as this unless it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until the condition holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "it never came to this: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// An address of this machine that no other process is likely to use, not even another run of these tests.
pub(crate) fn own_address(number: u8) -> IpAddr {
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    Ipv4Addr::new(127, high, low, number).into()
}
