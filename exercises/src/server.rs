//! The server to grade: a child process that does not outlive its grade, and clients that can't wait for ever.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// A server that has not answered by now never will. A right one answers within milliseconds; the rest is for a busy
/// machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

/// The directory of this program, and of the servers that it grades.
pub(crate) fn directory() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    program.parent().map(Path::to_owned).ok_or_else(|| "this program is in no directory".into())
}

/// The profile that this program was built with.
pub(crate) fn profile() -> Result<String, String> {
    let directory = directory()?;
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Ok(if name == "debug" { "dev".into() } else { name.into() })
}

pub(crate) fn target_directory() -> Result<PathBuf, String> {
    directory()?.parent().map(Path::to_owned).ok_or_else(|| "there is no target directory".into())
}

impl Server {
    /// Starts the program on a free port.
    pub(crate) fn start(program: &Path) -> Result<Server, String> {
        let mut command = Command::new(program);
        command.arg("127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child =
            command.spawn().map_err(|error| format!("{} does not start: {error}", program.display()))?;
        let mut line = String::new();
        let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let address =
            line.trim().strip_prefix("listening on tcp://").and_then(|address| address.parse().ok());
        match (read, address) {
            (Some(Ok(_)), Some(address)) => Ok(Server { child, address }),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("{} does not say where it listens, but {line:?}", program.display()))
            }
        }
    }

    /// A client whose reads and writes give up after [`PATIENCE`].
    pub(crate) fn connect(&self) -> Result<TcpStream, String> {
        let connected = TcpStream::connect_timeout(&self.address, PATIENCE).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        connected.map_err(|error| format!("cannot connect: {error}"))
    }

    /// Holds the server while `something` happens, so that it finds all of it at once when it goes on.
    pub(crate) fn while_held<T>(&self, something: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        self.hold()?;
        let result = something();
        self.release()?;
        result
    }

    /// Stops it until [`Server::release`].
    pub(crate) fn hold(&self) -> Result<(), String> {
        self.signal(Signal::STOP)?;
        eventually("the server stands still", || self.state() == Some('T'))
    }

    pub(crate) fn release(&self) -> Result<(), String> {
        self.signal(Signal::CONT)
    }

    /// Lets a held server go on for as short a time as possible.
    pub(crate) fn for_a_moment(&self) -> Result<(), String> {
        self.release()?;
        std::thread::sleep(Duration::from_millis(1));
        self.hold()
    }

    /// Lets the server have no more descriptors than it has now.
    pub(crate) fn limit_descriptors(&self) -> Result<(), String> {
        let next =
            (0..).find(|number| !Path::new(&format!("/proc/{}/fd/{number}", self.child.id())).exists());
        let limit = Rlimit { current: next, maximum: next };
        prlimit(Some(self.pid()), Resource::Nofile, limit)
            .map(drop)
            .map_err(|error| format!("cannot limit it: {error}"))
    }

    /// The number of this client's bytes that the server has not read.
    pub(crate) fn unread(&self, client: &TcpStream) -> Result<u64, String> {
        Ok(queues(self.address, local(client)?)?.1)
    }

    /// The number of this client's bytes that are still in a buffer of the kernel, on one side or the other.
    pub(crate) fn left_of(&self, client: &TcpStream) -> Result<usize, String> {
        let local = local(client)?;
        Ok((queues(self.address, local)?.1 + queues(local, self.address)?.0) as usize)
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(self.pid(), signal).map_err(|error| format!("the server has died ({error})"))
    }

    /// True if it waits for something other than a processor.
    pub(crate) fn sleeps(&self) -> bool {
        self.state() == Some('S')
    }

    /// The letter that `proc(5)` explains.
    fn state(&self) -> Option<char> {
        self.proc("stat").rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both calls fail if the server has ended already, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn local(client: &TcpStream) -> Result<SocketAddr, String> {
    client.local_addr().map_err(|error| error.to_string())
}

/// The bytes in a socket's send and receive queue, as `/proc/net/tcp` has them.
fn queues(local: SocketAddr, peer: SocketAddr) -> Result<(u64, u64), String> {
    let ends = [local, peer].map(|address| format!(":{:04X}", address.port()));
    let table =
        std::fs::read_to_string("/proc/net/tcp").map_err(|error| format!("/proc/net/tcp: {error}"))?;
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.len() > 4 && row[1].ends_with(&ends[0]) && row[2].ends_with(&ends[1]));
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let queues = row
        .as_ref()
        .and_then(|row| row[4].split_once(':'))
        .map(|(sent, received)| (number(sent), number(received)));
    match queues {
        Some((Some(sent), Some(received))) => Ok((sent, received)),
        _ => Err("the connection is gone".into()),
    }
}

/// Waits until the condition holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > PATIENCE {
            return Err(format!("it never came to this: {what}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
