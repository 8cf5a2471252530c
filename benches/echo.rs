//! Round trips of parallel clients through the real program, every byte checked.
//!
//! The clients are in one thread like the server: each writes its message, then each reads its echo. So a round is
//! what one turn of the server's loop has to do for all of them.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// The program as a child process, on a port that the system chose.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_echoloop"))
            .args(["serve", "--quiet", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("it was asked for");
        BufReader::new(output).read_line(&mut line).expect("the program says what it listens on");
        let address = line.trim().strip_prefix("listening on tcp://").expect("a TCP address").to_owned();
        Server { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Clients {
    streams: Vec<TcpStream>,
    message: Vec<u8>,
    echo: Vec<u8>,
}

impl Clients {
    fn connect(server: &Server, count: usize, size: usize) -> Clients {
        let connect = |_| {
            let stream = TcpStream::connect(&server.address).expect("the server accepts");
            stream.set_nodelay(true).expect("a TCP socket");
            stream
        };
        let message = (0..size).map(|position| (position * 31 + 7) as u8).collect();
        Clients { streams: (0..count).map(connect).collect(), message, echo: vec![0; size] }
    }

    fn round(&mut self) {
        for stream in &mut self.streams {
            stream.write_all(&self.message).expect("the server reads");
        }
        for stream in &mut self.streams {
            self.echo.fill(0);
            stream.read_exact(&mut self.echo).expect("the server answers");
            assert!(black_box(&self.echo) == &self.message, "a wrong server is not fast, it is wrong");
        }
    }
}

fn round_trips(criterion: &mut Criterion) {
    let variants: [(&str, &[&str]); 2] =
        [("echoloop", &[]), ("literal 16-byte reads", &["--read-size", "16"])];
    for (clients, size) in [(1, 16), (64, 16), (64, 4096), (1, 64 * 1024)] {
        let mut group = criterion.benchmark_group(format!("{clients} clients, {size} bytes"));
        group.throughput(Throughput::Elements(clients as u64));
        for (name, arguments) in variants {
            let server = Server::start(arguments);
            let mut clients = Clients::connect(&server, clients, size);
            let id = BenchmarkId::from_parameter(name);
            group.bench_function(id, |bencher| bencher.iter(|| clients.round()));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = round_trips
}
criterion_main!(benches);
