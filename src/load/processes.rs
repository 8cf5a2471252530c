//! `--processes`: one run by several processes of the same program, since a process takes one core at most.
//!
//! ```text
//!   this process                              each generator
//!   divides the plan, says when to begin ───► reads its share from standard input
//!   waits for all of them, in one loop        opens its connections, waits for the common start, runs
//!   merges                               ◄─── prints its report
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use mio::unix::pipe::Receiver;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::plan::{Pace, Plan};
use super::report::{MergeError, ReadError, Report, merge, read};
use crate::reactor::{Context, Handler, Interest, Reactor, Readiness, Stage, Token};
use crate::system::{StopSignal, describe};

/// The longest report that is read. That of a day has some hundred kilobytes.
const LONGEST_REPORT: usize = 64 << 20;
/// The last words of a generator that are kept.
const LAST_WORDS: usize = 16 * 1024;
/// How long generators have to start, before they open connections.
const STARTING: Duration = Duration::from_millis(500);
/// Connections that a generator opens in a second, carefully guessed.
const OPENED_A_SECOND: f64 = 5000.0;

/// The share of one process: what it reads from standard input, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Its part of the plan.
    pub plan: Plan,
    /// When messages begin to flow, in seconds since 1970.
    pub start_at: f64,
    /// The processor that it keeps to, counted among those that it may use.
    pub core: Option<usize>,
}

/// Why several processes have no common result.
#[derive(Debug, thiserror::Error)]
pub enum ProcessesError {
    /// There is less to do than there are processes.
    #[error("{processes} processes need at least {processes} {what}, and there are {there_are}")]
    TooMany {
        /// How many processes.
        processes: usize,
        /// Clients or messages.
        what: &'static str,
        /// How many of these.
        there_are: u64,
    },
    /// One of them can't be started.
    #[error("cannot start generator {number} ({program}): {}", describe(source))]
    Start {
        /// Which one, counted from 1.
        number: usize,
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// One of them has failed. The others were stopped.
    #[error("generator {number} failed ({how}): {words}")]
    Died {
        /// Which one, counted from 1.
        number: usize,
        /// Its exit status.
        how: String,
        /// Its last words.
        words: String,
    },
    /// One of them printed something else than a report.
    #[error(transparent)]
    Report(#[from] ReadError),
    /// Their reports don't fit together.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// They were told twice to stop, and so have no results.
    #[error("interrupted twice: the generators were killed, and their results are lost")]
    Killed,
    /// The loop itself can't go on.
    #[error("the event loop failed: {}", describe(.0))]
    Loop(#[from] io::Error),
}

/// Divides a plan into so many shares that begin together, at the given time or as soon as all can be ready.
///
/// # Errors
/// When there are fewer clients or messages than shares.
pub fn shares(
    plan: &Plan,
    processes: usize,
    start_at: Option<SystemTime>,
) -> Result<Vec<Share>, ProcessesError> {
    let counts = [("clients", Some(plan.clients as u64)), ("messages", plan.messages)];
    for (what, count) in counts {
        if let Some(there_are) = count.filter(|count| *count < processes as u64) {
            return Err(ProcessesError::TooMany { processes, what, there_are });
        }
    }
    let start_at = start_at.unwrap_or_else(|| SystemTime::now() + time_to_open(plan, processes));
    let start_at = start_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    // A generator that may run anywhere is moved about; on a core of its own it keeps its cache. With fewer cores than
    // generators the scheduler knows better.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = |place: usize| Share {
        plan: part(plan, place, processes),
        start_at,
        core: (processes > 1 && processes <= cores).then_some(place),
    };
    Ok((0..processes).map(share).collect())
}

/// One part of the plan. Every client has the same rate as in the whole.
fn part(plan: &Plan, place: usize, processes: usize) -> Plan {
    let count = |whole: u64| {
        let (place, processes) = (place as u64, processes as u64);
        whole / processes + u64::from(place < whole % processes)
    };
    let clients = count(plan.clients as u64);
    let share = clients as f64 / plan.clients as f64;
    Plan {
        clients: usize::try_from(clients).unwrap_or(usize::MAX),
        messages: plan.messages.map(count),
        pace: match plan.pace {
            Pace::Open { rate, arrivals } => Pace::Open { rate: rate * share, arrivals },
            closed @ Pace::Closed { .. } => closed,
        },
        connect_rate: plan.connect_rate.map(|rate| rate * share),
        connecting: plan.connecting.div_ceil(processes),
        seed: plan.seed.wrapping_add(place as u64),
        ..plan.clone()
    }
}

fn time_to_open(plan: &Plan, processes: usize) -> Duration {
    let rate = plan.connect_rate.unwrap_or(f64::INFINITY).min(OPENED_A_SECOND * processes as f64);
    STARTING + Duration::try_from_secs_f64(plan.clients as f64 / rate).unwrap_or(STARTING)
}

/// Runs each share in a process of its own, `command` with the share on its standard input, and merges their reports.
/// A request from `stop` ends them all early; a second one kills them.
///
/// # Errors
/// When one of them can't be started or fails; the others are stopped then. When their reports don't fit together.
pub fn run_processes(
    mut command: impl FnMut() -> Command,
    shares: &[Share],
    stop: StopSignal,
) -> Result<Report, ProcessesError> {
    let mut reactor = Reactor::new()?;
    reactor.context().insert(Source::Stop(stop), Interest::READABLE, Stage::Signals)?;
    let mut generators = Generators { all: Vec::new(), reading: 0, requests: 0, failed: None };
    for (place, share) in shares.iter().enumerate() {
        let program = command();
        let name = Path::new(program.get_program()).display().to_string();
        let started = generators.start(reactor.context(), program, share);
        started.map_err(|source| ProcessesError::Start { number: place + 1, program: name, source })?;
    }
    reactor.run(&mut generators)?;
    generators.results()
}

/// The generators, and what they have said so far. Dropped, it leaves none behind.
struct Generators {
    all: Vec<Generator>,
    /// Pipes that have not ended yet.
    reading: usize,
    /// How often we were told to stop.
    requests: usize,
    /// The first generator that failed.
    failed: Option<usize>,
}

struct Generator {
    process: Child,
    report: Vec<u8>,
    words: Vec<u8>,
}

enum Source {
    Pipe { place: usize, is_report: bool, pipe: Receiver },
    Stop(StopSignal),
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Pipe { pipe, .. } => pipe.as_fd(),
            Source::Stop(stop) => stop.as_fd(),
        }
    }
}

impl Handler for Generators {
    type Source = Source;

    fn ready(&mut self, context: &mut Context<Source>, token: Token, _: Readiness) {
        match context.get_mut(token) {
            Some(Source::Stop(stop)) => {
                let requests = stop.received();
                self.stop_requested(context, requests);
            }
            Some(Source::Pipe { place, is_report, pipe }) => {
                let (place, is_report) = (*place, *is_report);
                let Some(generator) = self.all.get_mut(place) else { return };
                if generator.read(pipe, is_report) {
                    context.remove(token);
                    self.ended(context, place, is_report);
                }
            }
            None => {}
        }
    }
}

impl Generators {
    fn start(
        &mut self,
        context: &mut Context<Source>,
        mut command: Command,
        share: &Share,
    ) -> io::Result<()> {
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let place = self.all.len();
        let (input, output, errors) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        // From here on it is killed whatever goes wrong.
        self.all.push(Generator { process, report: Vec::new(), words: Vec::new() });
        let pipes = [(true, output.map(Receiver::from)), (false, errors.map(Receiver::from))];
        for (is_report, pipe) in pipes {
            let Some(pipe) = pipe else { continue };
            pipe.set_nonblocking(true)?;
            context.insert(
                Source::Pipe { place, is_report, pipe },
                Interest::READABLE,
                Stage::Connections,
            )?;
            self.reading += 1;
        }
        match input.map(|mut input| input.write_all(serde_json::to_string(share)?.as_bytes())) {
            // It has died already. Its last words are still to be read.
            Some(Err(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Some(result) => result,
            None => Ok(()),
        }
    }

    /// The first time each generator ends its run and reports; then there is nothing more to wait for.
    fn stop_requested(&mut self, context: &mut Context<Source>, requests: usize) {
        for _ in 0..requests {
            self.requests += 1;
            if self.requests > 1 {
                context.stop();
                return;
            }
            self.all.iter().for_each(|generator| generator.signal(Signal::TERM));
        }
    }

    /// A pipe has ended. Without a report in it, its generator has failed, and the others need not go on.
    fn ended(&mut self, context: &mut Context<Source>, place: usize, is_report: bool) {
        self.reading -= 1;
        if is_report && self.all[place].report.is_empty() && self.failed.is_none() {
            self.failed = Some(place);
            self.all.iter().for_each(|generator| generator.signal(Signal::TERM));
        }
        if self.reading == 0 {
            context.stop();
        }
    }

    fn results(mut self) -> Result<Report, ProcessesError> {
        if self.requests > 1 {
            return Err(ProcessesError::Killed);
        }
        if let Some(place) = self.failed {
            let how = self.all[place].process.wait()?.to_string();
            let words = self.all[place].last_words();
            return Err(ProcessesError::Died { number: place + 1, how, words });
        }
        let mut reports = Vec::new();
        for (place, generator) in self.all.iter_mut().enumerate() {
            generator.process.wait()?;
            for line in String::from_utf8_lossy(&generator.words).lines() {
                log::warn!("generator {}: {line}", place + 1);
            }
            let name = format!("generator {}", place + 1);
            reports.extend(read(&name, &String::from_utf8_lossy(&generator.report))?);
        }
        Ok(merge(&reports)?)
    }
}

impl Drop for Generators {
    fn drop(&mut self) {
        for generator in &mut self.all {
            // Both fail only if it has ended and was waited for.
            let _ = generator.process.kill();
            let _ = generator.process.wait();
        }
    }
}

impl Generator {
    /// Reads what there is. True at the end.
    fn read(&mut self, pipe: &mut Receiver, is_report: bool) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match pipe.read(&mut buffer) {
                Ok(count @ 1..) => self.keep(&buffer[..count], is_report),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return true,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8], is_report: bool) {
        if is_report {
            // A longer one is cut off, and so can't be read as a report.
            let room = LONGEST_REPORT - self.report.len();
            self.report.extend_from_slice(&bytes[..bytes.len().min(room)]);
        } else {
            self.words.extend_from_slice(bytes);
            let surplus = self.words.len().saturating_sub(LAST_WORDS);
            self.words.drain(..surplus);
        }
    }

    fn last_words(&self) -> String {
        let words = String::from_utf8_lossy(&self.words).trim().to_owned();
        if words.is_empty() { "it said nothing".into() } else { words.replace("echoloop: ", "") }
    }

    fn signal(&self, signal: Signal) {
        // It fails only if the process has ended.
        let _ = kill_process(Pid::from_child(&self.process), signal);
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Arrivals;
    use super::*;

    fn plan() -> Plan {
        Plan {
            clients: 10,
            messages: Some(101),
            pace: Pace::Open { rate: 1000.0, arrivals: Arrivals::Fixed },
            ..Plan::new(vec![":7".parse().expect("an endpoint")])
        }
    }

    #[test]
    fn the_shares_make_the_whole() {
        for processes in 1..=10 {
            let shares = shares(&plan(), processes, None).expect("there is enough");
            let sum = |of: fn(&Plan) -> f64| shares.iter().map(|share| of(&share.plan)).sum::<f64>();
            assert_eq!((shares.len(), sum(|plan| plan.clients as f64)), (processes, 10.0));
            assert_eq!(sum(|plan| plan.messages.expect("a number") as f64), 101.0);
            assert!((sum(|plan| plan.rate().expect("a rate")) - 1000.0).abs() < 1e-9);
            let mut seeds: Vec<u64> = shares.iter().map(|share| share.plan.seed).collect();
            seeds.dedup();
            assert_eq!(seeds.len(), processes, "all are distinct");
            assert!(
                shares.iter().all(|share| share.start_at == shares[0].start_at && share.plan.check().is_ok())
            );
        }
        let error = shares(&plan(), 11, None).expect_err("too many").to_string();
        assert_eq!(error, "11 processes need at least 11 clients, and there are 10");
    }

    #[test]
    fn a_share_is_json() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let share = shares(&plan(), 2, Some(start)).expect("there is enough").remove(1);
        let json = serde_json::to_string(&share).expect("it can be written");
        assert_eq!(serde_json::from_str::<Share>(&json).expect("it can be read"), share);
        assert_eq!(share.start_at, 1.5);
    }

    fn run(script: &str, count: usize) -> Result<Report, ProcessesError> {
        let shares = shares(&plan(), count, None).expect("there is enough");
        let command = || {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        run_processes(command, &shares, StopSignal::new().expect("a socket pair"))
    }

    #[test]
    fn one_that_dies_fails_the_run_with_its_words_and_stops_the_others() {
        // The second one would go on for ever.
        let script = r#"grep -q '"seed":1,' || exec sleep 1000; echo 'no port left' >&2; exit 3"#;
        let error = run(script, 2).expect_err("the first fails").to_string();
        assert!(error.starts_with("generator 1 failed (exit status: 3): no port left"), "{error}");
        let error = run("kill -KILL $$", 1).expect_err("it is killed").to_string();
        assert!(error.contains("signal: 9") && error.contains("it said nothing"), "{error}");
        let error = run("echo no report", 1).expect_err("it is none").to_string();
        assert!(error.contains("generator 1 is no report"), "{error}");
    }

    #[test]
    fn a_request_to_stop_reaches_all_of_them() {
        let stop = StopSignal::new().expect("a socket pair");
        let handle = stop.handle().expect("a descriptor");
        handle.stop();
        let shares = shares(&plan(), 3, None).expect("there is enough");
        let command = || {
            let mut command = Command::new("sh");
            command.args(["-c", "trap 'echo stopped >&2; exit 1' TERM; while :; do sleep 0.01; done"]);
            command
        };
        let error = run_processes(command, &shares, stop).expect_err("there is no report").to_string();
        assert!(error.contains("failed"), "{error}");
    }
}
