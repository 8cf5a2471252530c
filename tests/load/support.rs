//! Servers that misbehave in one way each, and runs of the program against them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A run of `echoloop load` that has ended.
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) report: Value,
    pub(crate) errors: String,
}

impl Run {
    /// A number of the report, by its path.
    #[track_caller]
    pub(crate) fn number(&self, path: &str) -> f64 {
        let value = self.report.pointer(path).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("no number at {path} in {:#}\n{}", self.report, self.errors))
    }
}

/// Runs `echoloop load --json` to its end.
#[track_caller]
pub(crate) fn load(arguments: &[&str]) -> Run {
    as_run(run(&[&["load", "--json", "--quiet"], arguments].concat()))
}

/// Reads what a run with `--json` printed.
#[track_caller]
pub(crate) fn as_run(output: Output) -> Run {
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{errors}"));
    Run { status: output.status.code().expect("not killed"), report, errors }
}

/// Waits for a run of `load --json` that was [`spawn`]ed.
#[track_caller]
pub(crate) fn finish(load: Child) -> Run {
    as_run(load.wait_with_output().expect("it ends"))
}

/// Like [`load`], of a run that is short but might not end by itself if the program were wrong.
#[track_caller]
pub(crate) fn load_that_ends(arguments: &[&str]) -> Run {
    let mut process = spawn(&[&["load", "--json", "--quiet"], arguments].concat());
    let begin = Instant::now();
    while process.try_wait().expect("it is our child").is_none() {
        if begin.elapsed() > PATIENCE {
            let _ = process.kill();
        }
        thread::yield_now();
    }
    let ended_by_itself = begin.elapsed() <= PATIENCE;
    assert!(ended_by_itself, "{arguments:?} does not end");
    as_run(process.wait_with_output().expect("it has ended"))
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    spawn(arguments).wait_with_output().expect("it ends")
}

/// Starts the program.
pub(crate) fn spawn(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_echoloop"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what} did not come about");
        thread::yield_now();
    }
}

/// How many sockets a process has: a pair for signals, then one a connection.
pub(crate) fn sockets(process: i32) -> usize {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return 0 };
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// A pseudo-terminal: the side that reads it, and the side of a program.
pub(crate) fn terminal() -> (OwnedFd, File) {
    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
    grantpt(&control).and_then(|()| unlockpt(&control)).expect("it is ours");
    let name = ptsname(&control, Vec::new()).expect("it has a name");
    let slave = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("it is unlocked");
    (control, slave.into())
}

/// Our own server, as a process that ends with the test.
pub(crate) struct Server {
    process: Child,
    pub(crate) endpoint: String,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Server {
        let mut process = spawn(&[&["serve", "--quiet"], arguments].concat());
        let output = process.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let endpoint = line.trim().strip_prefix("listening on ").expect("an endpoint").to_owned();
        Server { process, endpoint }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it is our child");
    }

    /// Ends it without a chance to say anything.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it is our child");
        self.process.wait().expect("it has ended");
    }

    /// A plain echo on a free port of loopback.
    pub(crate) fn plain() -> Server {
        Server::start(&["127.0.0.1:0"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server in threads of the test, one a connection, which do with it as the test says.
pub(crate) struct Toy {
    pub(crate) address: SocketAddr,
    closing: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Toy {
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Toy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let closing = Arc::new(AtomicBool::new(false));
        let (closed, serve) = (Arc::clone(&closing), Arc::new(serve));
        let accepting = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let _ = stream.set_nodelay(true);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        Toy { address, closing, accepting: Some(accepting) }
    }

    /// Echoes, but changes what is sent back: `change` gets the offset in the stream and the bytes.
    pub(crate) fn changing(change: impl Fn(usize, &mut Vec<u8>) + Send + Sync + 'static) -> Toy {
        Toy::start(move |mut stream| {
            let (mut offset, mut buffer) = (0, [0; 4096]);
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let mut bytes = buffer[..count].to_vec();
                change(offset, &mut bytes);
                offset += count;
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        })
    }

    pub(crate) fn endpoint(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts, so that it sees that it is to end.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Resets the connection instead of closing it.
pub(crate) fn reset(stream: TcpStream) {
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}
