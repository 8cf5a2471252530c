//! Runs of `echoloop load`, and servers that misbehave in one way each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::support::{self, Finished, Process, listener, program};

/// A run of `echoloop load --json` that has ended.
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) report: Value,
    pub(crate) errors: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn of(finished: Finished) -> Run {
        let report = finished.json();
        Run { status: finished.code.expect("not killed"), report, errors: finished.stderr }
    }

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
    Run::of(run(&[&["load", "--json", "--quiet"], arguments].concat()))
}

/// Runs the program to its end.
#[track_caller]
pub(crate) fn run(arguments: &[&str]) -> Finished {
    support::run(program(arguments))
}

/// Starts the program.
#[track_caller]
pub(crate) fn spawn(arguments: &[&str]) -> Process {
    Process::start(program(arguments))
}

/// The number of a process's sockets: a pair for signals, then one a connection.
pub(crate) fn sockets(process: i32) -> usize {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return 0 };
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// A server in threads of the test. Each connection has a thread, which treats it as the test says.
pub(crate) struct Toy {
    pub(crate) address: SocketAddr,
    closing: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Toy {
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Toy {
        let (listener, address) = listener();
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

    /// Echoes, but changes the bytes: `change` gets their offset in the stream and the bytes.
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
        // Wakes the accepting thread, which then sees that it has to end.
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
