//! The file of a Unix socket: a server makes its own, replaces the file of a dead server, and removes its own in the
//! end.
//!
//! A server that was killed leaves its file behind, and the next server has to replace it. Only a `connect` can tell
//! whether a server is dead. But a living server refuses connections, too, between its `bind` and its `listen`. So a
//! server that makes a socket file holds a lock beside the file (`PATH.lock`) until it listens.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::endpoint::{is_abstract, unix_address};

/// A server holds the lock during a few system calls. A server that holds it for longer was stopped or hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to look whether the lock is free.
const LOOK: Duration = Duration::from_millis(10);

/// The reason why a Unix socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A server answers on this Unix socket.
    #[error("a live server answers on this socket (stop it, or choose another path)")]
    LiveSocket,
    /// Something that is not a socket stands in its place.
    #[error(
        "a file of another kind stands there, and only a socket is replaced (remove it, or choose another path)"
    )]
    NotASocket,
    /// Another server holds the lock, and doesn't give it back.
    #[error("another process is about to listen there, and holds {path} for too long (`fuser {path}` names it)", path = .0.display())]
    Locked(PathBuf),
}

/// The file of a Unix socket that we made; removed when dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Makes a Unix stream socket that listens, nonblocking, with its file. A name that begins with `@` has no file, and
/// goes with its last socket. This may wait for another server that is about to listen, so call it before a loop runs.
pub(super) fn listen(
    path: &Path,
    mode: Option<u32>,
    backlog: i32,
) -> Result<(Socket, Option<SocketFile>), BindError> {
    let address = unix_address(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if is_abstract(path) {
        match socket.bind(&address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(BindError::LiveSocket),
            result => result?,
        }
        socket.listen(backlog)?;
        return Ok((socket, None));
    }
    let _lock = Lock::take(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            make_way(path, &address)?;
            socket.bind(&address)?;
        }
        result => result?,
    }
    let file = SocketFile::of(path)?;
    if let Some(mode) = mode {
        // Set the mode before listening: until then nobody can connect, whatever the umask left.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket.listen(backlog)?;
    Ok((socket, Some(file)))
}

/// Removes the socket file of a dead server, and nothing else.
fn make_way(path: &Path, address: &SockAddr) -> Result<(), BindError> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(BindError::NotASocket);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Nonblocking: a living server whose backlog is full must not make us wait.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Any other error also means an owner: the socket may be of another type, such as a datagram socket.
        _ => Err(BindError::LiveSocket),
    }
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Only if the file is still ours: another server may have put its own in the place.
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the socket file {}, which stays behind: {error}", self.path.display());
        }
    }
}

/// The right to make or replace a socket file. The kernel releases the lock of a process that dies; the lock file that
/// such a process leaves behind hinders nobody.
struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    fn take(socket: &Path) -> Result<Lock, BindError> {
        let mut path = OsString::from(socket);
        path.push(".lock");
        let path = PathBuf::from(path);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let start = Instant::now();
        loop {
            let file = File::from(open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?);
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // The process that held the lock before has removed the file, so this lock excludes nobody. Try again.
                Ok(()) if !is_at(&file, &path)? => {}
                Ok(()) => return Ok(Lock { _file: file, path }),
                Err(Errno::WOULDBLOCK) if start.elapsed() > PATIENCE => return Err(BindError::Locked(path)),
                Err(Errno::WOULDBLOCK | Errno::INTR) => sleep(LOOK),
                Err(error) => return Err(BindError::Io(error.into())),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Remove the file while we hold the lock, so that nobody else can have taken it.
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the lock {}, which hinders nobody: {error}", self.path.display());
        }
    }
}

/// Whether the path leads to this open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::Barrier;
    use std::thread;

    use tempfile::tempdir;

    use super::*;

    const SERVERS: usize = 8;

    #[test]
    fn of_servers_that_find_a_dead_ones_file_together_one_listens() {
        let directory = tempdir().expect("a directory");
        for round in 0..100 {
            let path = directory.path().join(format!("{round}.sock"));
            drop(UnixListener::bind(&path).expect("a free path"));
            let together = Barrier::new(SERVERS);
            let listening: Vec<_> = thread::scope(|scope| {
                let servers: Vec<_> = (0..SERVERS)
                    .map(|_| {
                        scope.spawn(|| {
                            together.wait();
                            listen(&path, None, 8)
                        })
                    })
                    .collect();
                servers.into_iter().map(|server| server.join().expect("no panic")).collect()
            });
            assert_eq!(listening.iter().filter(|result| result.is_ok()).count(), 1, "{listening:?}");
            let refused = |result: &Result<_, BindError>| matches!(result, Err(BindError::LiveSocket));
            assert_eq!(listening.iter().filter(|result| refused(result)).count(), SERVERS - 1);
        }
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0, "no lock is left");
    }

    #[test]
    fn the_lock_of_a_server_that_died_hinders_nobody() {
        let directory = tempdir().expect("a directory");
        let path = directory.path().join("echo.sock");
        fs::write(directory.path().join("echo.sock.lock"), "").expect("a new file");
        let (socket, file) = listen(&path, None, 8).expect("a free path");
        drop((socket, file));
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0, "nothing is left");
    }

    #[test]
    fn a_lock_that_is_held_for_ever_is_named() {
        let directory = tempdir().expect("a directory");
        let path = directory.path().join("echo.sock");
        let _lock = Lock::take(&path).expect("a free path");
        let error = listen(&path, None, 8).expect_err("it is locked");
        assert!(matches!(&error, BindError::Locked(path) if path.ends_with("echo.sock.lock")), "{error}");
    }
}
