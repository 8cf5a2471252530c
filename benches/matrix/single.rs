//! Figures of a server as a whole: system calls, memory, connections a second, busy polling.

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::Duration;

use echoloop::load::{Plan, Sizes, Usage};

use crate::Extent;
use crate::cells::{Cell, in_turn, plan};
use crate::servers::{self, ALL, BUSY, ECHOLOOP, Kind, LITERAL, Server};

#[derive(Debug, Default)]
pub(crate) struct Single {
    /// System calls an echo, at 100 clients × 64 bytes; empty without `strace`.
    pub(crate) calls: Vec<(Kind, f64)>,
    /// Instructions an echo outside the kernel, likewise; empty without `valgrind`.
    pub(crate) instructions: Vec<(Kind, f64)>,
    /// Resident bytes of the server for each idle connection that has echoed once, and the number of connections.
    pub(crate) memory: Vec<(Kind, usize, f64)>,
    pub(crate) churn: Vec<(Kind, Churn)>,
    /// Median latency of one connection in microseconds: of the default server, and with `--busy-poll`.
    pub(crate) sleeping: Vec<f64>,
    pub(crate) busy: Vec<f64>,
}

/// Connect, echo, close: a value a round.
#[derive(Debug, Default)]
pub(crate) struct Churn {
    pub(crate) rate: Vec<f64>,
    /// Microseconds of the server's CPU time a connection.
    pub(crate) cpu: Vec<f64>,
}

pub(crate) fn measure(extent: Extent) -> Result<Single, Box<dyn Error>> {
    let mut single = Single::default();
    for kind in ALL {
        eprint!("\r{}: system calls and memory          ", kind.name);
        if kind.is_for_small()
            && let Some(calls) = calls(kind)?
        {
            single.calls.push((kind, calls));
        }
        // A hundred connections are a hundred threads there, and valgrind runs one thread at a time.
        if kind.is_for_small()
            && !kind.has_threads()
            && let Some(instructions) = instructions(kind)?
        {
            single.instructions.push((kind, instructions));
        }
        let clients = if extent == Extent::Quick { 500 } else { 15_000.min(kind.most_clients) };
        single.memory.push((kind, clients, memory(kind, clients)?));
    }
    let kinds = ALL.into_iter().filter(|kind| kind.is_for_small() && *kind != LITERAL);
    single.churn = kinds.map(|kind| (kind, Churn::default())).collect();
    for round in 0..extent.rounds() {
        eprint!("\rconnections and busy polling: round {} of {}   ", round + 1, extent.rounds());
        for (kind, measured) in in_turn(&mut single.churn, round) {
            churn(*kind, measured)?;
        }
        single.sleeping.push(latency(ECHOLOOP)?);
        single.busy.push(latency(BUSY)?);
    }
    eprintln!();
    Ok(single)
}

/// The count of a tool for each echo of 100 clients × 64 bytes: the difference between few and many messages,
/// which leaves out what starting, connecting and ending take. `None` without the tool.
fn counted(
    kind: Kind,
    tool: &str,
    options: &[&str],
    total: fn(&str) -> Option<u64>,
) -> Result<Option<f64>, Box<dyn Error>> {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    const MESSAGES: u64 = 10_000;
    let cell = Cell { clients: 100, size: 64 };
    let count = |messages: u64| -> Result<u64, Box<dyn Error>> {
        let file = tempfile::NamedTempFile::new()?;
        let path = file.path().to_string_lossy().into_owned();
        let options: Vec<String> = options.iter().map(|option| option.replace("FILE", &path)).collect();
        let wrapper: Vec<&str> = [tool].into_iter().chain(options.iter().map(String::as_str)).collect();
        let server = Server::start_under(kind, &wrapper)?;
        let mut load = servers::open(plan(&server, cell))?;
        load.exchange(messages)?;
        drop(load);
        server.stop()?;
        Ok(total(&std::fs::read_to_string(&path)?).ok_or_else(|| format!("{tool} gave no total"))?)
    };
    let (few, many) = (count(MESSAGES / 10)?, count(MESSAGES + MESSAGES / 10)?);
    Ok(Some(many.saturating_sub(few) as f64 / MESSAGES as f64))
}

fn calls(kind: Kind) -> Result<Option<f64>, Box<dyn Error>> {
    counted(kind, "strace", &["-f", "-c", "-U", "calls,name", "-o", "FILE"], |text| {
        let total = text.lines().rfind(|line| line.trim_end().ends_with("total"));
        total?.split_whitespace().next()?.parse().ok()
    })
}

fn instructions(kind: Kind) -> Result<Option<f64>, Box<dyn Error>> {
    let options = ["--quiet", "--tool=callgrind", "--callgrind-out-file=FILE"];
    counted(kind, "valgrind", &options, |text| {
        text.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
    })
}

pub(crate) fn memory(kind: Kind, clients: usize) -> Result<f64, Box<dyn Error>> {
    let server = Server::start(kind)?;
    // The first connections make it allocate things that are not the price of a connection.
    let mut first = servers::open(plan(&server, Cell { clients: 50, size: 64 }))?;
    first.exchange(200)?;
    let before = server.resident();
    let mut load = servers::open(plan(&server, Cell { clients, size: 64 }))?;
    load.exchange(clients as u64)?;
    Ok((server.resident().saturating_sub(before)) as f64 / clients as f64)
}

fn churn(kind: Kind, measured: &mut Churn) -> Result<(), Box<dyn Error>> {
    let server = Server::start(kind)?;
    let plan = Plan {
        clients: 64,
        sizes: Sizes::fixed(64),
        usage: Usage::Churn,
        reset: true,
        duration: Duration::from_millis(300),
        ..Plan::new(vec![server.endpoint.clone()])
    };
    let load = echoloop::load::Load::new(plan, echoloop::StopSignal::new()?)?;
    let cpu = server.cpu();
    let report = servers::on_core(1, || load.run())?;
    // Threads that have ended take their figures with them.
    if !kind.has_threads() {
        measured.cpu.push((server.cpu() - cpu).as_secs_f64() * 1e6 / report.connections.opened as f64);
    }
    measured.rate.push(report.rate);
    Ok(())
}

fn latency(kind: Kind) -> Result<f64, Box<dyn Error>> {
    let server = Server::start(kind)?;
    let load = servers::open(plan(&server, Cell { clients: 1, size: 16 }))?;
    let report = servers::on_core(1, || load.run())?;
    Ok(report.latency_us.ok_or("nothing was measured")?.p50)
}
