//! A plan divided among several processes, and the orders that each of them gets.

use std::num::NonZero;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::encoding::seconds;
use super::plan::{Pace, Plan};
use super::step::StepPlan;

/// The time that generators have to start, before they open connections.
const STARTING: Duration = Duration::from_millis(500);
/// The connections that a generator opens in a second: a careful guess.
const OPENED_A_SECOND: f64 = 5000.0;

/// The share of one process: the first line that it reads from standard input, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Its part of the plan.
    pub plan: Plan,
    /// The processor that the process keeps to, counted among its allowed ones.
    pub core: Option<usize>,
    /// How long its intervals are.
    #[serde(rename = "interval_s", with = "seconds")]
    pub interval: Duration,
    /// Whether it tells its progress while it runs.
    pub watched: bool,
}

/// An order to a process: a further line, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// When messages begin to flow, in seconds since 1970.
    pub start_at: f64,
    /// One step of a search. Without it the process carries out the whole plan, and gets no more orders.
    pub step: Option<StepPlan>,
}

/// The plan has too little to do for this many processes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{processes} processes need at least {processes} {what}, and there are {there_are}")]
pub struct SharesError {
    /// How many processes.
    pub processes: usize,
    /// Clients or messages.
    pub what: &'static str,
    /// How many of these.
    pub there_are: u64,
}

/// Divides a plan into `processes` shares.
///
/// # Errors
/// When there are fewer clients or messages than shares.
pub fn shares(
    plan: &Plan,
    processes: usize,
    interval: Duration,
    watched: bool,
) -> Result<Vec<Share>, SharesError> {
    let counts = [("clients", Some(plan.clients as u64)), ("messages", plan.messages)];
    for (what, count) in counts {
        if let Some(there_are) = count.filter(|count| *count < processes as u64) {
            return Err(SharesError { processes, what, there_are });
        }
    }
    // The scheduler moves a generator that may run anywhere; on a core of its own the generator keeps its cache. With
    // fewer cores than generators the scheduler knows better.
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = |place: usize| Share {
        plan: part(plan, place, processes),
        core: (processes > 1 && processes <= cores).then_some(place),
        interval,
        watched,
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

impl Share {
    /// How long processes with these shares need to start and to open their connections.
    pub(super) fn time_to_open(shares: &[Share]) -> Duration {
        let clients: usize = shares.iter().map(|share| share.plan.clients).sum();
        let ramp: Option<f64> = shares.iter().map(|share| share.plan.connect_rate).sum();
        let rate = ramp.unwrap_or(f64::INFINITY).min(OPENED_A_SECOND * shares.len() as f64);
        STARTING + Duration::try_from_secs_f64(clients as f64 / rate).unwrap_or(STARTING)
    }
}

impl Order {
    /// An order to begin at this time.
    pub(super) fn new(start: SystemTime, step: Option<StepPlan>) -> Order {
        let start_at = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Order { start_at, step }
    }

    /// The time to begin.
    pub fn start(&self) -> Option<SystemTime> {
        Duration::try_from_secs_f64(self.start_at).ok().map(|since| SystemTime::UNIX_EPOCH + since)
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Arrivals;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

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
            let shares = shares(&plan(), processes, SECOND, false).expect("there is enough");
            let sum = |of: fn(&Plan) -> f64| shares.iter().map(|share| of(&share.plan)).sum::<f64>();
            assert_eq!((shares.len(), sum(|plan| plan.clients as f64)), (processes, 10.0));
            assert_eq!(sum(|plan| plan.messages.expect("a number") as f64), 101.0);
            assert!((sum(|plan| plan.rate().expect("a rate")) - 1000.0).abs() < 1e-9);
            let mut seeds: Vec<u64> = shares.iter().map(|share| share.plan.seed).collect();
            seeds.dedup();
            assert_eq!(seeds.len(), processes, "all are distinct");
            assert!(shares.iter().all(|share| share.plan.check().is_ok()));
        }
        let error = shares(&plan(), 11, SECOND, false).expect_err("too many").to_string();
        assert_eq!(error, "11 processes need at least 11 clients, and there are 10");
    }

    #[test]
    fn there_is_time_to_open_connections_at_their_rate() {
        let time = |connect_rate| {
            let plan = Plan { connect_rate, ..plan() };
            Share::time_to_open(&shares(&plan, 2, SECOND, false).expect("there is enough"))
        };
        assert_eq!(time(None), STARTING + Duration::from_millis(1));
        assert_eq!(time(Some(5.0)), STARTING + Duration::from_secs(2));
    }

    #[test]
    fn shares_and_orders_are_json() {
        let share = shares(&plan(), 2, SECOND, true).expect("there is enough").remove(1);
        let json = serde_json::to_string(&share).expect("it can be written");
        assert_eq!(serde_json::from_str::<Share>(&json).expect("it can be read"), share);
        let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let order = Order::new(start, Some(StepPlan { rate: 7.0, duration: Duration::from_secs(3) }));
        let json = serde_json::to_string(&order).expect("it can be written");
        assert_eq!(json, r#"{"start_at":1.5,"step":{"rate":7.0,"duration_s":3.0}}"#);
        assert_eq!(serde_json::from_str::<Order>(&json).expect("it can be read").start(), Some(start));
    }
}
