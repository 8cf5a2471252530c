//! Notices to a service manager such as systemd: `sd_notify(3)`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use echoloop::describe;

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
            log::warn!(
                "cannot tell the service manager at {} `{what}`: {}",
                path.display(),
                describe(&error)
            );
        }
    }
}

/// A manager that does not read must not hold the loop: it loses a notice that it can't take at once.
fn send(path: &OsStr, message: &[u8]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match path.as_bytes().strip_prefix(b"@") {
        None => socket.send_to(message, path),
        Some(name) => socket.send_to_addr(message, &abstract_address(name)?),
    }
    .map(drop)
}

/// A name that is in no file system.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

/// Only Linux has such names.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}
