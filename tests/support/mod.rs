//! The common ground of the integration tests: the real program as a child that surely ends, clients that can't wait
//! for ever, and conditions instead of times.
#![allow(dead_code, unused_imports, reason = "each test crate uses its own part of this")]

mod bytes;
mod client;
mod examples;
mod foreign;
mod process;
mod server;
mod sockets;
mod table;
mod terminal;

use std::thread::sleep;
use std::time::{Duration, Instant};

pub(crate) use self::bytes::{assert_same, pattern};
pub(crate) use self::client::{Client, socket_with_small_buffers};
pub(crate) use self::examples::{examples, study_programs};
pub(crate) use self::foreign::{installed, missing_for, skip};
pub(crate) use self::process::{Finished, Process, run};
pub(crate) use self::server::{Server, program, with_descriptors};
pub(crate) use self::sockets::{
    assert_answered, deserted_address, has_ipv6, listener, own_address, udp_socket,
};
pub(crate) use self::table::TcpRow;
pub(crate) use self::terminal::{terminal, written_on};

/// An event that has not come by now never will. Generous, since a busy machine is slow, and only a test that fails
/// waits as long as this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until the condition holds.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(DEADLINE, what, condition);
}

/// Waits until the condition holds, at most this long.
#[track_caller]
pub(crate) fn within(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < time, "it never came to this: {what}");
        sleep(Duration::from_millis(5));
    }
}
