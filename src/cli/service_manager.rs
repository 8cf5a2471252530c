//! Notices to a service manager such as systemd: `sd_notify(3)`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use echoloop::describe;
use socket2::{Domain, SockAddr, Socket, Type};

/// The address of the service manager, read once at the start.
#[derive(Clone, Debug)]
pub(super) struct ServiceManager(Option<OsString>);

impl ServiceManager {
    pub(super) fn from_environment() -> ServiceManager {
        ServiceManager(std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()))
    }

    /// The server listens on all endpoints: units that depend on it may start.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The server accepts no more connections and lets the open ones end.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, what: &str) {
        let Some(path) = &self.0 else { return };
        if let Err(error) = send(path, what.as_bytes()) {
            let (path, reason) = (path.display(), describe(&error));
            log::warn!("cannot tell the service manager at {path} `{what}`: {reason}");
        }
    }
}

/// A manager that does not read must not hold the loop. So `send` drops a notice that the manager can't take at once.
fn send(path: &OsStr, message: &[u8]) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    // A leading `@` marks an abstract name. The kernel wants a NUL in its place.
    let mut path = path.as_bytes().to_vec();
    if let Some(first @ b'@') = path.first_mut() {
        *first = 0;
    }
    socket.send_to(message, &SockAddr::unix(OsStr::from_bytes(&path))?).map(drop)
}
