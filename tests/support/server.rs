//! The server under test: the real program, on ports that the system picks.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use rustix::process::Signal;

use super::{Client, DEADLINE, Process, eventually, own_address};

/// A running server, and its log so far.
pub(crate) struct Server {
    process: Process,
    endpoints: Vec<String>,
    log: Arc<Mutex<Vec<u8>>>,
    log_reader: Option<JoinHandle<()>>,
}

/// The program with these arguments.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    command.args(arguments);
    command
}

/// The program, in a process whose hard limit is this many descriptors.
pub(crate) fn with_descriptors(limit: usize, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {limit} && exec \"$0\" \"$@\""));
    command.arg(env!("CARGO_BIN_EXE_echoloop")).args(arguments);
    command
}

impl Server {
    /// Starts it, and waits until it listens on one address.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Server {
        Server::spawn(program(arguments), 1)
    }

    /// On a free IPv4 port, with further arguments.
    #[track_caller]
    pub(crate) fn on_ipv4(arguments: &[&str]) -> Server {
        Server::start(&[arguments, &["127.0.0.1:0"]].concat())
    }

    /// A plain echo on a free IPv4 port, whose log has warnings alone.
    #[track_caller]
    pub(crate) fn plain() -> Server {
        Server::on_ipv4(&["--quiet"])
    }

    /// A plain echo on an address of this test's own, where nobody else takes the port of a killed server.
    #[track_caller]
    pub(crate) fn on_own_address(number: u8) -> Server {
        Server::start(&["--quiet", &format!("{}:0", own_address(number))])
    }

    /// Starts any command that becomes the server, and waits until it has announced this many endpoints.
    #[track_caller]
    pub(crate) fn spawn(command: Command, addresses: usize) -> Server {
        let mut process = Process::start(command);
        let log = Arc::new(Mutex::new(Vec::new()));
        let log_reader = {
            let (log, stderr) = (Arc::clone(&log), process.child.stderr.take().expect("it is piped"));
            Some(thread::spawn(move || collect(stderr, &log)))
        };
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(process.child.stdout.take().expect("it is piped"));
        // The thread ends with the server, and nothing has to wait for it.
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut server = Server { process, endpoints: Vec::new(), log, log_reader };
        for _ in 0..addresses {
            match lines.recv_timeout(DEADLINE) {
                Ok(line) => {
                    let endpoint = line.strip_prefix("listening on ");
                    let endpoint =
                        endpoint.unwrap_or_else(|| panic!("unexpected on standard output: {line}"));
                    server.endpoints.push(endpoint.to_owned());
                }
                Err(error) => panic!("it does not listen ({error}); its log:\n{}", server.log()),
            }
        }
        server
    }

    /// The endpoints that it says it listens on.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The first of them.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    /// The first TCP address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.endpoints.iter().find_map(|endpoint| endpoint.strip_prefix("tcp://"));
        address.expect("it listens on TCP").parse().expect("an address")
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::tcp(self.address())
    }

    /// Where its admin endpoint is, as it says in the log: a URL, or `unix:PATH`.
    #[track_caller]
    pub(crate) fn admin(&self) -> String {
        self.await_log("admin on ");
        let log = self.log();
        let mut words = log.lines().filter_map(|line| line.split_once("admin on "));
        words.next().expect("it has an admin endpoint").1.to_owned()
    }

    /// The first TCP address of its admin endpoint.
    #[track_caller]
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin().strip_prefix("http://").expect("it is on TCP").parse().expect("an address")
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().expect("no reader panics")).into_owned()
    }

    /// Waits until it has logged this.
    #[track_caller]
    pub(crate) fn await_log(&self, text: &str) {
        let start = std::time::Instant::now();
        while !self.log().contains(text) {
            assert!(start.elapsed() < DEADLINE, "nothing of {text:?} in the log:\n{}", self.log());
            thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until this many descriptors are open, for example after all clients have left.
    #[track_caller]
    pub(crate) fn await_descriptors(&self, expected: usize) {
        eventually(&format!("{expected} open descriptors"), || self.descriptors() == expected);
    }

    /// Waits until it has ended by itself; returns its whole log as well.
    #[track_caller]
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.process.wait();
        if let Some(reader) = self.log_reader.take() {
            reader.join().expect("the reader does not panic");
        }
        (status, self.log())
    }

    /// Asks it to stop and waits until it has; returns its whole log as well.
    #[track_caller]
    pub(crate) fn stop(self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.wait()
    }
}

/// Shares each piece as soon as it has read it.
fn collect(mut stream: impl Read, log: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        log.lock().expect("no reader panics").extend_from_slice(&buffer[..count]);
    }
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
