//! The cells of clients × sizes: every server in turn, A B C and then C B A, as often as there are rounds.

use std::error::Error;
use std::time::Duration;

use echoloop::load::{Load, Plan, Sizes};

use crate::Extent;
use crate::servers::{self, ALL, Kind, LITERAL, Server};

/// How long one measurement takes, as nearly as the warm-up can tell.
const MEASURED: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) clients: usize,
    pub(crate) size: usize,
}

/// What was measured of one server in one cell, a value a round.
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
        Extent::Quick => [(1, 16), (64, 16)].map(cell).to_vec(),
        Extent::Normal | Extent::Write => {
            [(1, 16), (50, 16), (1000, 512), (20, 65_536), (64, 65_536), (10_000, 64)].map(cell).to_vec()
        }
        Extent::Full => {
            let sizes = [16, 512, 4096, 65_536];
            let clients = [1, 10, 100, 1000, 10_000, 18_000];
            let all = sizes.iter().flat_map(|&size| clients.iter().map(move |&clients| (clients, size)));
            // What is under way has to fit into the sockets' buffers and the machine.
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
        let kinds = kinds.iter().copied().filter(|kind| takes_part(*kind, cell));
        let mut servers: Vec<(Kind, Server, Measured)> = Vec::new();
        for kind in kinds {
            servers.push((kind, Server::start(kind)?, Measured::default()));
        }
        for round in 0..rounds {
            eprint!("\r{} clients, {} bytes: round {} of {rounds}   ", cell.clients, cell.size, round + 1);
            let mut order: Vec<_> = servers.iter_mut().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for (_, server, measured) in order {
                once(server, cell, measured)?;
            }
        }
        eprintln!();
        rows.push((cell, servers.into_iter().map(|(kind, _, measured)| (kind, measured)).collect()));
    }
    Ok(rows)
}

fn takes_part(kind: Kind, cell: Cell) -> bool {
    // Reading a large message in sixteens says nothing that one cell does not say.
    cell.clients <= kind.most_clients && (kind != LITERAL || cell.size <= 512)
}

pub(crate) fn plan(server: &Server, cell: Cell) -> Plan {
    Plan {
        clients: cell.clients,
        sizes: Sizes::fixed(cell.size),
        duration: MEASURED / 2,
        ..Plan::new(vec![server.endpoint.clone()])
    }
}

fn once(server: &Server, cell: Cell, measured: &mut Measured) -> Result<(), Box<dyn Error>> {
    let mut load = servers::open(plan(server, cell))?;
    servers::on_core(1, || exchange(&mut load, server, cell, measured))?;
    let report = servers::on_core(1, || load.run())?;
    if report.errors.total() > 0 {
        return Err(format!("{} clients, {} bytes: {:?}", cell.clients, cell.size, report.failures).into());
    }
    let times = report.latency_us.ok_or("nothing was measured")?;
    measured.p50.push(times.p50);
    measured.p99.push(times.p99);
    Ok(())
}

fn exchange(
    load: &mut Load,
    server: &Server,
    cell: Cell,
    measured: &mut Measured,
) -> Result<(), Box<dyn Error>> {
    // The warm-up tells how many messages the measurement should have.
    let few = (2 * cell.clients).max(200) as u64;
    load.exchange(few)?;
    let warm = load.exchange(few)?;
    let rounds = (MEASURED.as_secs_f64() / warm.as_secs_f64()).ceil().max(1.0);
    let messages = few * rounds as u64;
    let (cpu, switches) = (server.cpu(), server.switches());
    let time = load.exchange(messages)?;
    let (cpu, switches) = (server.cpu() - cpu, server.switches() - switches);
    measured.rate.push(messages as f64 / time.as_secs_f64());
    measured.cpu.push(cpu.as_secs_f64() * 1e6 / messages as f64);
    measured.switches.push(switches as f64 * 1e3 / messages as f64);
    Ok(())
}
