//! Growth: cost and memory from one connection to very many, on one core, on two, and on one machine.

use std::error::Error;
use std::fs;
use std::process::{Child, Command, Stdio};

use echoloop::load::Report;
use echoloop::{Endpoint, Host};

use crate::cells::{self, Cell, Row};
use crate::servers::{self, BARE, ECHOLOOP, Kind, Server, TOKIO};
use crate::single;

const COUNTS: [usize; 7] = [1, 10, 100, 1000, 5000, 10_000, 18_000];
/// A curve needs fewer rounds than a ratio: its points stand beside each other.
const ROUNDS: usize = 3;
/// Processes of the largest crowd, and the connections that each of them holds.
const PROCESSES: usize = 6;
const HELD: usize = 16_700;

pub(crate) struct Scaling {
    /// CPU time an echo, at 64 bytes, over the number of connections.
    pub(crate) growth: Vec<Row>,
    /// Resident bytes of the server a connection, over their number.
    pub(crate) memory: Vec<(usize, f64)>,
    /// Echoes a second of one process and of two on one port, with two generators each.
    pub(crate) one_process: f64,
    pub(crate) two_processes: f64,
    pub(crate) crowd: Crowd,
}

/// Very many connections held at once.
pub(crate) struct Crowd {
    pub(crate) processes: usize,
    pub(crate) requested: u64,
    pub(crate) opened: u64,
    pub(crate) lost: u64,
    /// The machine's memory for each end of a connection.
    pub(crate) bytes_an_end: f64,
    /// The part of it that is resident in the servers.
    pub(crate) resident: f64,
}

pub(crate) fn measure() -> Result<Scaling, Box<dyn Error>> {
    let counts = COUNTS.map(|clients| Cell { clients, size: 64 });
    let growth = cells::interleaved(&counts, &[ECHOLOOP, BARE, TOKIO], ROUNDS)?;
    let mut memory = Vec::new();
    for clients in [1000, 5000, 10_000, 18_000] {
        memory.push((clients, single::memory(ECHOLOOP, clients)?));
    }
    let one_process = two_generators(&[Server::start(ECHOLOOP)?])?;
    let first = Server::start(SHARING)?;
    let Endpoint::Tcp { host: Host::Address(_), port } = first.endpoint else { return Err("not TCP".into()) };
    let second = Server::start_sharing(port)?;
    let two_processes = two_generators(&[first, second])?;
    Ok(Scaling { growth, memory, one_process, two_processes, crowd: crowd()? })
}

const SHARING: Kind = Kind::ours("--reuse-port", &["--reuse-port"]);

fn two_generators(servers: &[Server]) -> Result<f64, Box<dyn Error>> {
    let endpoint = servers[0].endpoint.to_string();
    let generate =
        || generator(&endpoint, &["--clients", "500", "--duration", "3s", "--warmup", "500ms", "--reset"]);
    let generators = [generate()?, generate()?];
    let mut rate = 0.0;
    for generator in generators {
        rate += report(generator)?.rate;
    }
    Ok(rate)
}

fn crowd() -> Result<Crowd, Box<dyn Error>> {
    let mut servers = Vec::new();
    for _ in 0..PROCESSES {
        servers.push(Server::start(ECHOLOOP)?);
    }
    let (before, resident) = (available()?, servers.iter().map(Server::resident).sum::<u64>());
    let mut generators = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        // Each pair has a source network of its own, since every address has its own ports.
        let source = format!("127.{}.0.0/16", 20 + index);
        let (endpoint, clients) = (server.endpoint.to_string(), HELD.to_string());
        let arguments = ["--hold", "--clients", &clients, "--source", &source, "--duration", "8s", "--reset"];
        generators.push(generator(&endpoint, &arguments)?);
    }
    let wanted = PROCESSES * HELD;
    let (mut least, mut most_resident) = (before, resident);
    // The generators hold for seconds after the last one has connected; free memory is lowest when all are there.
    while generators.iter_mut().any(|child| matches!(child.try_wait(), Ok(None))) {
        least = least.min(available()?);
        most_resident = most_resident.max(servers.iter().map(Server::resident).sum());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let mut crowd = Crowd {
        processes: PROCESSES,
        requested: wanted as u64,
        opened: 0,
        lost: 0,
        bytes_an_end: (before - least) as f64 / (2 * wanted) as f64,
        resident: (most_resident - resident) as f64 / wanted as f64,
    };
    for generator in generators {
        let report = report(generator)?;
        crowd.opened += report.connections.opened;
        crowd.lost += report.connections.lost;
    }
    Ok(crowd)
}

fn generator(endpoint: &str, arguments: &[&str]) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(servers::program());
    command.args(["load", "--quiet", "--json", endpoint]).args(arguments);
    Ok(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?)
}

fn report(generator: Child) -> Result<Report, Box<dyn Error>> {
    let output = generator.wait_with_output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn available() -> Result<u64, Box<dyn Error>> {
    let available = servers::kibibytes(&fs::read_to_string("/proc/meminfo")?, "MemAvailable");
    Ok(available.ok_or("no MemAvailable")? * 1024)
}
