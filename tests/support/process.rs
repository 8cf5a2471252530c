//! A child process that does not outlive its test, and the kernel's figures about it.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{DEADLINE, eventually, within};

/// A running child. Dropping this kills it and waits for it.
pub(crate) struct Process {
    pub(crate) child: Child,
}

/// A child that has ended by itself, and the text that it printed into pipes.
#[derive(Debug)]
pub(crate) struct Finished {
    /// `None`: a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end, with nothing on standard input.
#[track_caller]
pub(crate) fn run(command: Command) -> Finished {
    Process::start(command).finish()
}

impl Finished {
    /// It ended well; this is its output.
    #[track_caller]
    pub(crate) fn output(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// It ended with this status and exactly one line, which has all these parts.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert!(lines.len() == 1 && lines[0].starts_with("echoloop: "), "one clear line: {lines:?}");
        for part in parts {
            assert!(lines[0].contains(part), "`{}` does not say `{part}`", lines[0]);
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
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

    /// Starts a command with nothing on standard input, and with pipes for its output.
    #[track_caller]
    pub(crate) fn start(mut command: Command) -> Process {
        Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Reads its pipes until it has ended by itself.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        let readers = [self.child.stdout.take().map(collect), self.child.stderr.take().map(collect)];
        // A search for a rate may take minutes on a busy machine.
        within(5 * DEADLINE, "the end of its output", || {
            readers.iter().flatten().all(JoinHandle::is_finished)
        });
        let [stdout, stderr] = readers.map(|reader| {
            reader.map(|reader| reader.join().expect("the reader does not panic")).unwrap_or_default()
        });
        Finished { code: self.wait().code(), stdout, stderr }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("our child can be signalled");
    }

    /// Holds the process while something happens, so that it finds all of that at once when it goes on.
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

    /// Ends it without a chance to say anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our child can be killed");
        self.child.wait().expect("it has ended");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child can be asked for").is_none()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the child has ended", || !self.is_running());
        self.child.wait().expect("our child can be waited for")
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        self.entries("fd")
    }

    /// The smallest descriptor that the process does not have: the kernel gives it this one next.
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

    /// Its memory that is in RAM, without the pages of its program. (`status` has it too, but not up to date.)
    pub(crate) fn resident_bytes(&self) -> usize {
        let pages = fs::read_to_string(self.proc("smaps_rollup")).expect("a running child has this");
        let line = pages.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("it has memory");
        let kibibytes = line.trim().strip_suffix(" kB").expect("a number of kB");
        kibibytes.parse::<usize>().expect("a number") * 1024
    }

    /// The time that its threads have spent on a processor.
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(self.proc("task")).expect("a running child has this").flatten();
        let nanoseconds = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
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
