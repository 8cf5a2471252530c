//! The cells of clients × sizes: every server in turn, A B C and then C B A, as often as there are rounds.

use std::error::Error;
use std::time::Duration;

use echoloop::load::{Load, Plan, Sizes};

use crate::Extent;
use crate::servers::{self, ALL, Kind, Server};

/// The time of one measurement, as nearly as the warm-up can tell.
const MEASURED: Duration = Duration::from_millis(300);
/// The most slices of a measurement, if one process can drive the servers side by side …
pub(crate) const SLICES: usize = 10;
/// … and the fewest messages of each client in a slice: the first one comes from all clients at once.
const MESSAGES_A_SLICE: u64 = 20;
/// Connections that this process can hold, with some descriptors to spare.
const OPEN_AT_ONCE: usize = 15_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) clients: usize,
    pub(crate) size: usize,
}

/// The measurements of one server in one cell, a value a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) rate: Vec<f64>,
    /// Microseconds of the server's CPU time an echo.
    pub(crate) cpu: Vec<f64>,
    /// Context switches of the server, a thousand echoes.
    pub(crate) switches: Vec<f64>,
    /// Latency in microseconds.
    pub(crate) p50: Vec<f64>,
    pub(crate) p99: Vec<f64>,
}

pub(crate) type Row = (Cell, Vec<(Kind, Measured)>);

fn cells(extent: Extent) -> Vec<Cell> {
    let cell = |(clients, size)| Cell { clients, size };
    match extent {
        Extent::Quick => [(1, 16), (64, 16), (4, 65_536)].map(cell).to_vec(),
        Extent::Normal | Extent::Write => {
            [(1, 16), (50, 16), (1000, 512), (20, 65_536), (16, 262_144), (10_000, 64)].map(cell).to_vec()
        }
        Extent::Full => {
            let sizes = [16, 512, 4096, 65_536];
            let clients = [1, 10, 100, 1000, 10_000, 18_000];
            let all = sizes.iter().flat_map(|&size| clients.iter().map(move |&clients| (clients, size)));
            // The bytes under way have to fit into the sockets' buffers and the machine.
            all.filter(|(clients, size)| clients * size <= 1 << 28).map(cell).collect()
        }
    }
}

pub(crate) fn measure(extent: Extent) -> Result<Vec<Row>, Box<dyn Error>> {
    interleaved(&cells(extent), &ALL, extent.rounds())
}

/// Measures servers in these cells, in turn.
pub(crate) fn interleaved(cells: &[Cell], kinds: &[Kind], rounds: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for &cell in cells {
        eprint!("\r{} clients, {} bytes                    ", cell.clients, cell.size);
        let kinds = kinds.iter().copied().filter(|kind| kind.takes_part(cell.clients, cell.size));
        let mut servers: Vec<(Kind, Server, Measured)> = Vec::new();
        for kind in kinds {
            servers.push((kind, Server::start(kind)?, Measured::default()));
        }
        let side_by_side = servers.len() * cell.clients <= OPEN_AT_ONCE;
        if side_by_side {
            exchange_side_by_side(&mut servers, cell, rounds)?;
        }
        for round in 0..rounds {
            for (_, server, measured) in in_turn(&mut servers, round) {
                let mut load = servers::open(plan(server, cell))?;
                if !side_by_side {
                    servers::on_core(1, || {
                        let messages = messages(&mut load, cell)?;
                        exchange(&mut load, server, measured, messages)
                    })?;
                }
                latency(load, cell, measured)?;
            }
        }
        rows.push((cell, servers.into_iter().map(|(kind, _, measured)| (kind, measured)).collect()));
    }
    eprintln!();
    Ok(rows)
}

/// A B C, and the next time C B A.
pub(crate) fn in_turn<T>(servers: &mut [T], round: usize) -> Vec<&mut T> {
    let mut order: Vec<_> = servers.iter_mut().collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Opens the connections to all servers at once, so that it never measures a server long before the next: the load of
/// other programs changes from one tenth of a second to the next.
fn exchange_side_by_side(
    servers: &mut [(Kind, Server, Measured)],
    cell: Cell,
    rounds: usize,
) -> Result<(), Box<dyn Error>> {
    let mut loaded = Vec::new();
    for (_, server, measured) in servers {
        let mut load = servers::open(plan(server, cell))?;
        let messages = servers::on_core(1, || messages(&mut load, cell))?;
        loaded.push((load, server, measured, messages));
    }
    // The same number for each server, so that each measurement has its counterpart.
    let most = loaded.first().map_or(0, |(.., messages)| messages / (MESSAGES_A_SLICE * cell.clients as u64));
    let slices = most.clamp(1, SLICES as u64);
    for slice in 0..rounds * slices as usize {
        for (load, server, measured, messages) in in_turn(&mut loaded, slice) {
            servers::on_core(1, || exchange(load, server, measured, messages.div_ceil(slices)))?;
        }
    }
    Ok(())
}

pub(crate) fn plan(server: &Server, cell: Cell) -> Plan {
    Plan {
        clients: cell.clients,
        sizes: Sizes::fixed(cell.size),
        duration: MEASURED / 2,
        ..Plan::new(vec![server.endpoint.clone()])
    }
}

fn latency(load: Load, cell: Cell, measured: &mut Measured) -> Result<(), Box<dyn Error>> {
    let report = servers::on_core(1, || load.run())?;
    if report.errors.total() > 0 {
        return Err(format!("{} clients, {} bytes: {:?}", cell.clients, cell.size, report.failures).into());
    }
    let times = report.latency_us.ok_or("nothing was measured")?;
    measured.p50.push(times.p50);
    measured.p99.push(times.p99);
    Ok(())
}

/// The number of messages that take [`MEASURED`], as a warm-up tells.
fn messages(load: &mut Load, cell: Cell) -> Result<u64, Box<dyn Error>> {
    let few = (2 * cell.clients).max(200) as u64;
    load.exchange(few)?;
    let warm = load.exchange(few)?;
    let rounds = (MEASURED.as_secs_f64() / warm.as_secs_f64()).ceil().max(1.0);
    Ok(few * rounds as u64)
}

fn exchange(
    load: &mut Load,
    server: &Server,
    measured: &mut Measured,
    messages: u64,
) -> Result<(), Box<dyn Error>> {
    let (cpu, switches) = (server.cpu(), server.switches());
    let time = load.exchange(messages)?;
    let (cpu, switches) = (server.cpu() - cpu, server.switches() - switches);
    measured.rate.push(messages as f64 / time.as_secs_f64());
    measured.cpu.push(cpu.as_secs_f64() * 1e6 / messages as f64);
    measured.switches.push(switches as f64 * 1e3 / messages as f64);
    Ok(())
}
