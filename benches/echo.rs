//! Round trips of parallel clients, for our server and for the servers that you would have written instead. The clients
//! check every byte: a wrong server is not fast, it is wrong. Server and clients are two processes with a core each.
#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr, reason = "a benchmark is a program")]

mod baselines;
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod servers;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use echoloop::load::{Plan, Sizes};

use self::servers::{ALL, Server};

fn round_trips(criterion: &mut Criterion) {
    for clients in [1, 64, 4096] {
        for size in [16, 64 * 1024] {
            let mut group = criterion.benchmark_group(format!("{clients} clients, {size} bytes"));
            group.throughput(Throughput::Elements(clients));
            for kind in ALL {
                // A megabyte in sixteens is 65,536 calls each way: no benchmark should wait for four thousand such
                // messages.
                if kind == servers::SPLICE && size < servers::BULK {
                    continue;
                }
                if kind == servers::LITERAL && clients as usize * size > 1 << 22 {
                    continue;
                }
                let server = Server::start(kind).expect("the server starts");
                let endpoints = vec![server.endpoint.clone()];
                let plan =
                    Plan { clients: clients as usize, sizes: Sizes::fixed(size), ..Plan::new(endpoints) };
                let mut load = servers::open(plan).expect("the server accepts");
                group.bench_function(BenchmarkId::from_parameter(kind.name), |bencher| {
                    bencher.iter_custom(|rounds| {
                        servers::on_core(1, || load.exchange(rounds * clients))
                            .expect("every byte comes back")
                    });
                });
            }
            group.finish();
        }
    }
}

fn main() {
    if servers::was_baseline() {
        return;
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    round_trips(&mut criterion);
    criterion.final_summary();
}
