//! The measured servers, as child processes on a core of their own, and the kernel's figures about them.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use echoloop::load::{Load, LoadError, Plan};
use echoloop::{Endpoint, StopSignal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::baselines;

/// The argument with which a benchmark starts itself again as a baseline.
pub(crate) const SERVE: &str = "--serve-baseline";

/// A server that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Arguments of the program; `None` for a baseline.
    arguments: Option<&'static [&'static str]>,
    /// The most clients that this server can sensibly serve.
    pub(crate) most_clients: usize,
}

pub(crate) const ECHOLOOP: Kind = Kind::ours("echoloop", &[]);
pub(crate) const BARE: Kind = Kind::baseline("bare mio", usize::MAX);
/// In bulk it is the yardstick; its cost elsewhere says nothing.
pub(crate) const SPLICE: Kind = Kind::baseline("bare splice", usize::MAX);
pub(crate) const TOKIO: Kind = Kind::baseline("tokio, 4 KiB", usize::MAX);
pub(crate) const TOKIO_LARGE: Kind = Kind::baseline("tokio, 64 KiB", usize::MAX);
/// Ten thousand threads measure the scheduler's patience and nothing else.
pub(crate) const THREADS: Kind = Kind::baseline("threads, 4 KiB", 4096);
pub(crate) const THREADS_LARGE: Kind = Kind::baseline("threads, 64 KiB", 4096);
pub(crate) const LITERAL: Kind = Kind::ours("16-byte reads", &["--read-size", "16"]);
pub(crate) const BUSY: Kind = Kind::ours("--busy-poll 100us", &["--busy-poll", "100us"]);

/// The servers of the tables, ours first.
pub(crate) const ALL: [Kind; 8] =
    [ECHOLOOP, BARE, SPLICE, TOKIO, TOKIO_LARGE, THREADS, THREADS_LARGE, LITERAL];
/// Messages of this size and more are bulk data.
pub(crate) const BULK: usize = 64 * 1024;

impl Kind {
    /// True if measuring it with this many clients and messages of this size is worth the time.
    pub(crate) fn takes_part(self, clients: usize, size: usize) -> bool {
        let fits = match self {
            SPLICE => size >= BULK,
            // Large messages in sixteens would say no more than small ones do.
            LITERAL => size <= 512,
            _ => true,
        };
        fits && clients <= self.most_clients
    }

    /// True if we measure it with small messages, one connection at a time.
    pub(crate) fn is_for_small(self) -> bool {
        self.takes_part(1, 64)
    }

    /// True if each of its clients has a thread.
    pub(crate) fn has_threads(self) -> bool {
        [THREADS, THREADS_LARGE].contains(&self)
    }

    const fn baseline(name: &'static str, most_clients: usize) -> Kind {
        Kind { name, arguments: None, most_clients }
    }

    /// The program with arguments of its own.
    pub(crate) const fn ours(name: &'static str, arguments: &'static [&'static str]) -> Kind {
        Kind { name, arguments: Some(arguments), most_clients: usize::MAX }
    }
}

/// A running server; it ends when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) endpoint: Endpoint,
    /// The process that serves. Under `strace` it is a child of `strace`, and not ours.
    process: u32,
}

impl Server {
    pub(crate) fn start(kind: Kind) -> io::Result<Server> {
        Server::start_under(kind, &[])
    }

    /// Starts it as the last argument of another command.
    pub(crate) fn start_under(kind: Kind, wrapper: &[&str]) -> io::Result<Server> {
        let own = std::env::current_exe()?;
        let mut line: Vec<String> = wrapper.iter().map(|&word| word.to_owned()).collect();
        match kind.arguments {
            Some(arguments) => {
                line.push(program().display().to_string());
                line.extend(["serve", "--quiet", "127.0.0.1:0"].map(String::from));
                line.extend(arguments.iter().map(|&word| word.to_owned()));
            }
            None => line.extend([own.to_string_lossy().into_owned(), SERVE.into(), kind.name.into()]),
        }
        Server::spawn(kind.name, 0, &line)
    }

    fn spawn(name: &str, core: usize, line: &[String]) -> io::Result<Server> {
        let mut child = on_core(core, || {
            Command::new(&line[0]).args(&line[1..]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
        })?;
        let mut announced = String::new();
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        BufReader::new(output).read_line(&mut announced)?;
        let endpoint = announced.trim().strip_prefix("listening on ").and_then(|text| text.parse().ok());
        let endpoint = endpoint.ok_or_else(|| io::Error::other(format!("{name} did not start")))?;
        let children =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        let process = children.split_whitespace().next().and_then(|id| id.parse().ok()).unwrap_or(child.id());
        Ok(Server { child, endpoint, process })
    }

    /// Starts the program on a port that another server has, on the second core.
    pub(crate) fn start_sharing(port: u16) -> io::Result<Server> {
        let (program, address) = (program().display().to_string(), format!("127.0.0.1:{port}"));
        let line = [&program, "serve", "--quiet", "--reuse-port", &address];
        Server::spawn("--reuse-port", 1, &line.map(String::from))
    }

    /// CPU time of all its threads, to the nanosecond.
    pub(crate) fn cpu(&self) -> Duration {
        let time = |path: String| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
        };
        Duration::from_nanos(self.tasks().iter().map(|task| time(format!("{task}/schedstat"))).sum())
    }

    /// Context switches of all its threads.
    pub(crate) fn switches(&self) -> u64 {
        let sum = |text: String| -> u64 {
            let lines = text.lines().filter(|line| line.contains("ctxt_switches"));
            lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
        };
        let text = |task| fs::read_to_string(format!("{task}/status")).unwrap_or_default();
        self.tasks().iter().map(|task| sum(text(task))).sum()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap_or_default();
        kibibytes(&text, "VmRSS").unwrap_or(0) * 1024
    }

    fn tasks(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process)).into_iter().flatten().flatten();
        tasks.map(|task| task.path().to_string_lossy().into_owned()).collect()
    }

    /// Ends it as a user would, and waits until it has.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        if let Some(process) = i32::try_from(self.process).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(process, rustix::process::Signal::TERM)?;
        }
        self.child.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process has gone already, after a stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An entry of `/proc/PID/status` or `/proc/meminfo`.
pub(crate) fn kibibytes(text: &str, entry: &str) -> Option<u64> {
    text.lines().find(|line| line.starts_with(entry))?.split_whitespace().nth(1)?.parse().ok()
}

/// The program, built as this benchmark is. Cargo gives its path to benchmarks of the same package only; when it is
/// there already, this only looks. It names the benchmark as well, so that Cargo chooses the same features for what both
/// need, and finds that compiled.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let own = std::env::current_exe().expect("a running program has a file");
        let profile = own.ancestors().nth(2).expect("it is in target/PROFILE/deps");
        let name = own.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.split('-').next());
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--package", "echoloop", "--package", "benches"])
            .args(["--profile", if profile.ends_with("debug") { "dev" } else { "bench" }])
            .args(["--bin", "echoloop", "--bench", name.expect("the name of a benchmark")])
            .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--target-dir"])
            .arg(profile.parent().expect("the target directory"))
            .status();
        assert!(status.is_ok_and(|status| status.success()), "the program compiles");
        profile.join("echoloop")
    })
}

/// Load from the second core, with all its connections open. They end by a reset, which leaves no port behind.
pub(crate) fn open(plan: Plan) -> Result<Load, LoadError> {
    on_core(1, || {
        let mut load = Load::new(Plan { reset: true, ..plan }, StopSignal::new()?)?;
        load.open()?;
        Ok(load)
    })
}

/// Runs a function on one core, if the machine has several. Processes that the function starts stay on that core.
pub(crate) fn on_core<T>(core: usize, what: impl FnOnce() -> T) -> T {
    let Ok(all) = sched_getaffinity(None) else { return what() };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core)).collect();
    let Some(&core) = cores.get(core) else { return what() };
    let mut one = CpuSet::new();
    one.set(core);
    // Without the right to do so the figures are less steady, and still true.
    let _ = sched_setaffinity(None, &one);
    let result = what();
    let _ = sched_setaffinity(None, &all);
    result
}

/// If this process was started as a baseline, serves here until that fails, which ends the process. Else returns false.
pub(crate) fn was_baseline() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(position) = arguments.iter().position(|argument| argument == SERVE) else { return false };
    let name = arguments.get(position + 1).map_or("", String::as_str);
    if let Err(error) = baselines::serve(name) {
        eprintln!("{name}: {error}");
        std::process::exit(1);
    }
    true
}
