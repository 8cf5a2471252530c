//! The aims of the server, and whether this run reached them.

use statistics::Spread;

use crate::cells::Row;
use crate::servers::{BARE, ECHOLOOP, Kind, THREADS, TOKIO};
use crate::single::Single;

/// One aim, and its measurement.
pub(crate) struct Aim {
    pub(crate) what: String,
    pub(crate) bound: Bound,
    pub(crate) measured: Spread,
    /// The same with the bare loop in our place. A server on the same calls can't reach an aim that the bare loop
    /// misses.
    pub(crate) of_bare_loop: Option<f64>,
}

#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, ratio: f64) -> bool {
        match self {
            Bound::AtMost(most) => ratio <= most,
            Bound::AtLeast(least) => ratio >= least,
        }
    }
}

impl Aim {
    /// By the median, which the other tables show.
    pub(crate) fn is_reached(&self) -> bool {
        self.bound.holds(self.measured.median)
    }

    /// The bare loop's ratio, if the bare loop does not reach the aim either.
    pub(crate) fn out_of_reach(&self) -> Option<f64> {
        self.of_bare_loop.filter(|&ratio| !self.is_reached() && !self.bound.holds(ratio))
    }

    /// True if the bound lies within the middle half of the measurements, so that another run may well say otherwise.
    pub(crate) fn is_close(&self) -> bool {
        let (Bound::AtMost(bound) | Bound::AtLeast(bound)) = self.bound;
        self.measured.lower_quartile <= bound && bound <= self.measured.upper_quartile
    }
}

/// The aims for the server's CPU time, cell by cell, as ratios of one server to another.
pub(crate) fn of_cells(rows: &[Row]) -> Vec<Aim> {
    let mut aims = Vec::new();
    for (cell, measured) in rows {
        let mut aim = |of: Kind, to: Kind, bound: Bound| {
            let cpu = |kind| measured.iter().find(|(other, _)| *other == kind).map(|(_, it)| &it.cpu);
            let (Some(values), Some(others)) = (cpu(of), cpu(to)) else { return };
            if let Some(ratio) = Spread::of_ratios(values, others) {
                let what = format!("CPU time of {} ÷ {}, {} × {}", of.name, to.name, cell.clients, cell.size);
                let of_bare_loop = cpu(BARE).filter(|_| to == ECHOLOOP);
                let of_bare_loop = of_bare_loop.and_then(|bare| Spread::of_ratios(values, bare));
                let of_bare_loop = of_bare_loop.map(|ratio| ratio.median);
                aims.push(Aim { what, bound, measured: ratio, of_bare_loop });
            }
        };
        // The server splices bulk data, so it costs less than a loop that copies.
        let most = match (cell.clients, cell.size) {
            (20, 65_536) => 0.90,
            (16, 262_144) => 0.65,
            _ => 1.03,
        };
        aim(ECHOLOOP, BARE, Bound::AtMost(most));
        let least = match (cell.clients, cell.size) {
            (..=64, 65_536..) => 5.0,
            (1000, 512) | (10_000, 64) => 1.05,
            (50, 16) => 1.02,
            _ => 1.0,
        };
        aim(TOKIO, ECHOLOOP, Bound::AtLeast(least));
        aim(THREADS, ECHOLOOP, Bound::AtLeast(1.0));
    }
    aims
}

/// The aims for connections a second and for the latency of one connection.
pub(crate) fn of_single(single: &Single) -> Vec<Aim> {
    let churn =
        |kind| single.churn.iter().find(|(other, _)| *other == kind).map_or(&[][..], |(_, churn)| &churn.cpu);
    let connections = Spread::of_ratios(churn(ECHOLOOP), churn(BARE)).map(|measured| Aim {
        what: "CPU time of echoloop ÷ bare mio, connect-echo-close".into(),
        bound: Bound::AtMost(0.92),
        measured,
        of_bare_loop: None,
    });
    let busy = Spread::of_ratios(&single.busy, &single.sleeping).map(|measured| Aim {
        what: "median latency of one connection, with ÷ without `--busy-poll`".into(),
        bound: Bound::AtMost(0.5),
        measured,
        of_bare_loop: None,
    });
    connections.into_iter().chain(busy).collect()
}
