//! The causes of failed connections, their counts, and the remedies.

use std::fmt;
use std::io::{self, ErrorKind};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The cause of a failed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nobody listens there, or no route leads there.
    Refused,
    /// A handshake or a reply took too long.
    Timeout,
    /// The server's greeting did not come in time.
    Greeting,
    /// The peer reset the connection.
    Reset,
    /// The peer closed the connection although it was in use.
    Closed,
    /// Other bytes came back than were sent.
    Mismatch,
    /// This machine had no port, descriptor or memory left, or forbade it.
    Local,
}

/// The number of failed connections, by [`Cause`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// See [`Cause::Refused`].
    pub refused: u64,
    /// See [`Cause::Timeout`].
    pub timeout: u64,
    /// See [`Cause::Greeting`].
    #[serde(default)]
    pub greeting: u64,
    /// See [`Cause::Reset`].
    pub reset: u64,
    /// See [`Cause::Closed`].
    pub closed: u64,
    /// See [`Cause::Mismatch`].
    pub mismatch: u64,
    /// See [`Cause::Local`].
    pub local: u64,
}

impl Cause {
    /// The cause behind the system's error for a connect or an established connection.
    pub(super) fn of(error: &io::Error) -> Cause {
        let local = [
            Errno::ADDRNOTAVAIL,
            Errno::ADDRINUSE,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::ACCESS,
            Errno::PERM,
            Errno::AFNOSUPPORT,
            Errno::INVAL,
        ];
        match (error.kind(), Errno::from_io_error(error)) {
            (_, Some(code)) if local.contains(&code) => Cause::Local,
            (ErrorKind::TimedOut, _) => Cause::Timeout,
            (ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted, _) => {
                Cause::Reset
            }
            // No listener, no such host or network, no such socket file, a Unix listener whose backlog is full.
            _ => Cause::Refused,
        }
    }
}

/// The remedy for an error of this machine, as an addition to its message.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL) => {
            " (no source port is left, or the source address is not ours: --source 127.0.0.0/8 adds addresses towards \
             loopback, a second target adds as many again, `sysctl -w net.ipv4.ip_local_port_range='1024 65535'` adds \
             ports, and --reset leaves none in TIME_WAIT)"
        }
        Some(Errno::MFILE) => {
            " (this process has no descriptor left: raise `ulimit -n`; `echoloop doctor` says how far)"
        }
        Some(Errno::NFILE) => {
            " (the machine has no descriptor left: raise `sysctl fs.file-max`; `echoloop doctor` says how far)"
        }
        Some(Errno::AGAIN) => {
            " (the server's backlog is full: let it have a larger one, or use --connect-rate)"
        }
        _ => "",
    }
}

impl Errors {
    pub(super) fn count(&mut self, cause: Cause) {
        *match cause {
            Cause::Refused => &mut self.refused,
            Cause::Timeout => &mut self.timeout,
            Cause::Greeting => &mut self.greeting,
            Cause::Reset => &mut self.reset,
            Cause::Closed => &mut self.closed,
            Cause::Mismatch => &mut self.mismatch,
            Cause::Local => &mut self.local,
        } += 1;
    }

    /// Adds the errors of another generator.
    pub(super) fn merge(&mut self, other: &Errors) {
        let Errors { refused, timeout, greeting, reset, closed, mismatch, local } = other;
        self.refused += refused;
        self.timeout += timeout;
        self.greeting += greeting;
        self.reset += reset;
        self.closed += closed;
        self.mismatch += mismatch;
        self.local += local;
    }

    /// The number of all errors.
    pub fn total(&self) -> u64 {
        self.named().into_iter().map(|(count, _)| count).sum()
    }

    fn named(&self) -> [(u64, &'static str); 7] {
        let &Errors { refused, timeout, greeting, reset, closed, mismatch, local } = self;
        [
            (refused, "refused"),
            (timeout, "timed out"),
            (greeting, "not greeted in time"),
            (reset, "reset"),
            (closed, "closed early"),
            (mismatch, "mismatched"),
            (local, "for want of ports, descriptors or rights here"),
        ]
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let occurred = self.named().into_iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = occurred.map(|(count, name)| format!("{count} {name}")).collect();
        if words.is_empty() { f.write_str("none") } else { f.write_str(&words.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_have_their_cause() {
        for (code, cause) in [
            (Errno::CONNREFUSED, Cause::Refused),
            (Errno::NETUNREACH, Cause::Refused),
            (Errno::NOENT, Cause::Refused),
            (Errno::TIMEDOUT, Cause::Timeout),
            (Errno::CONNRESET, Cause::Reset),
            (Errno::PIPE, Cause::Reset),
            (Errno::ADDRNOTAVAIL, Cause::Local),
            (Errno::MFILE, Cause::Local),
        ] {
            assert_eq!(Cause::of(&code.into()), cause, "{code:?}");
        }
        assert!(remedy(&Errno::ADDRNOTAVAIL.into()).contains("--source"));
        assert!(remedy(&Errno::MFILE.into()).contains("ulimit -n"));
    }

    #[test]
    fn only_causes_that_occurred_are_named() {
        let mut errors = Errors::default();
        assert_eq!(errors.to_string(), "none");
        errors.count(Cause::Reset);
        errors.count(Cause::Mismatch);
        errors.count(Cause::Mismatch);
        assert_eq!(errors.to_string(), "1 reset, 2 mismatched");
        assert_eq!(errors.total(), 3);
    }
}
