//! A child process that does not outlive its test, and what the kernel tells of it.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// The unit of times in `/proc`, the same on every processor that matters (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// A running child. It is killed and waited for when this is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
}

/// A child that has ended by itself.
#[derive(Debug)]
pub(crate) struct Finished {
    /// `None`: a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(mut command: Command) -> Finished {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let stdout = collect(process.child.stdout.take().expect("it is piped"));
    let stderr = collect(process.child.stderr.take().expect("it is piped"));
    let code = process.wait().code();
    Finished {
        code,
        stdout: stdout.join().expect("the reader does not panic"),
        stderr: stderr.join().expect("the reader does not panic"),
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Process {
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command) -> Process {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Process { child }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("our child can be signalled");
    }

    /// Holds the process while something is done, so that it finds all of that at once when it goes on.
    pub(crate) fn while_held<T>(&self, something: impl FnOnce() -> T) -> T {
        self.signal(Signal::STOP);
        eventually("it stands still", || {
            let stat = fs::read_to_string(self.proc("stat")).expect("a running child has this");
            stat.rsplit_once(')').is_some_and(|(_, behind)| behind.starts_with(" T"))
        });
        let result = something();
        self.signal(Signal::CONT);
        result
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child can be asked for").is_none()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the child has ended", || {
            status = self.child.try_wait().expect("our child can be waited for");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        self.entries("fd")
    }

    /// The smallest descriptor that it does not have: the next one that it gets.
    pub(crate) fn next_descriptor(&self) -> usize {
        let directory = fs::read_dir(self.proc("fd")).expect("a running child has this");
        let taken: HashSet<usize> =
            directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        (0..).find(|number| !taken.contains(number)).expect("there are as many numbers as one likes")
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> usize {
        self.entries("task")
    }

    /// Its memory that is in RAM.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(self.proc("status")).expect("a running child has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kibibytes = line.trim().strip_suffix(" kB").expect("a number of kB");
        kibibytes.parse::<usize>().expect("a number") * 1024
    }

    /// The time that it has spent on a processor.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).expect("a running child has this");
        // The name, in parentheses, may hold spaces: count from behind it (proc_pid_stat(5): fields 14 and 15).
        let (_, behind) = stat.rsplit_once(')').expect("the name is in parentheses");
        let ticks: u64 = behind
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("a number of ticks"))
            .sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    fn entries(&self, directory: &str) -> usize {
        fs::read_dir(self.proc(directory)).expect("a running child has this").count()
    }

    pub(crate) fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if it has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
