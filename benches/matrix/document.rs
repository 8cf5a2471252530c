//! The measurements as tables: on standard output, and with `--write` in BENCHMARKS.md.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use statistics::Spread;

use crate::Extent;
use crate::aims::{Aim, Bound};
use crate::cells::{Cell, Measured, Row, SLICES};
use crate::plots;
use crate::scaling::Scaling;
use crate::servers::{ALL, BARE, ECHOLOOP, Kind};
use crate::single::Single;

/// The repository, to write files into. (Cargo starts a benchmark in the folder of its package.)
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const FOLDER: &str = "benches/plots";

/// A table of its own: its title, its figure, and the number of digits.
type Figure = (&'static str, fn(&Measured) -> &Vec<f64>, usize);

pub(crate) struct Document {
    text: String,
    extent: Extent,
}

impl Document {
    pub(crate) fn new(extent: Extent) -> Document {
        Document { text: String::new(), extent }
    }

    fn line(&mut self, line: &str) {
        println!("{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn table(&mut self, head: &[String], rows: &[Vec<String>]) {
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                rows.iter().chain([&head.to_vec()]).map(|row| row[column].chars().count()).max().unwrap_or(0)
            })
            .collect();
        let pad = |row: &[String]| {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
        };
        self.line(&pad(head));
        let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        self.line(&pad(&rule));
        for row in rows {
            self.line(&pad(row));
        }
        self.line("");
    }

    pub(crate) fn cells(&mut self, rows: &[Row]) {
        let figures: [Figure; 5] = [
            ("Server CPU time an echo, in microseconds", |measured| &measured.cpu, 2),
            ("Echoes a second", |measured| &measured.rate, 0),
            ("Median latency in microseconds", |measured| &measured.p50, 1),
            ("99th percentile of latency in microseconds", |measured| &measured.p99, 1),
            ("Context switches of the server, a thousand echoes", |measured| &measured.switches, 2),
        ];
        for (title, figure, digits) in figures {
            self.line(&format!("### {title}\n"));
            let head =
                std::iter::once("clients × bytes".into()).chain(ALL.iter().map(|kind| kind.name.into()));
            let body: Vec<Vec<String>> = rows
                .iter()
                .map(|(cell, measured)| {
                    let first =
                        measured.first().map(|(_, measured)| figure(measured)).cloned().unwrap_or_default();
                    let column = |kind: &Kind| {
                        let values =
                            measured.iter().find(|(other, _)| other == kind).map(|(_, it)| figure(it));
                        let spread = values.and_then(|values| Spread::of(values.iter().copied()));
                        let (Some(values), Some(spread)) = (values, spread) else { return "–".into() };
                        let ratio = Spread::of_ratios(values, &first).map_or(f64::NAN, |ratio| ratio.median);
                        if *kind == ECHOLOOP {
                            format!("{spread:.digits$}")
                        } else {
                            format!("{spread:.digits$} ×{ratio:.2}")
                        }
                    };
                    std::iter::once(name(*cell)).chain(ALL.iter().map(column)).collect()
                })
                .collect();
            self.table(&head.collect::<Vec<_>>(), &body);
        }
    }

    /// The aims, and in plain words whether the server reached them.
    pub(crate) fn aims(&mut self, aims: &[Aim]) {
        self.line("### Aims\n");
        let row = |aim: &Aim| {
            let bound = match aim.bound {
                Bound::AtMost(most) => format!("at most {most:.2}"),
                Bound::AtLeast(least) => format!("at least {least:.2}"),
            };
            let verdict = match (aim.is_reached(), aim.is_close()) {
                (true, false) => "reached",
                (true, true) => "reached, within the spread",
                (false, true) => "not reached, within the spread",
                (false, false) => "**not reached**",
            };
            vec![aim.what.clone(), bound, format!("{:.3}", aim.measured), verdict.into()]
        };
        let head = ["ratio", "aim", "median [quartiles]", "verdict"].map(String::from);
        self.table(&head, &aims.iter().map(row).collect::<Vec<_>>());
        let missed: Vec<&str> =
            aims.iter().filter(|aim| !aim.is_reached()).map(|aim| aim.what.as_str()).collect();
        let reached = aims.len() - missed.len();
        if missed.is_empty() {
            self.line(&format!("All of the {} aims were reached in this run.\n", aims.len()));
        } else {
            self.line(&format!(
                "{reached} of {} aims were reached in this run. Not reached: {}.\n",
                aims.len(),
                missed.join("; ")
            ));
        }
        for aim in aims {
            let Some(ratio) = aim.out_of_reach() else { continue };
            self.line(&format!(
                "{}: the bare mio loop in place of echoloop gives {ratio:.3}, so even a loop without limits, deadlines \
                 and an orderly end misses this aim with these system calls.\n",
                aim.what
            ));
        }
        self.line(
            "\"Within the spread\" means that the aim lies between the quartiles, so that another run may say otherwise.\n",
        );
    }

    pub(crate) fn single(&mut self, single: &Single) {
        if single.calls.is_empty() {
            self.line("System calls were not counted: there is no `strace`.\n");
        } else {
            self.line("### System calls an echo, 100 clients × 64 bytes\n");
            let row = |(kind, calls): &(Kind, f64)| vec![kind.name.into(), format!("{calls:.2}")];
            self.table(&["server".into(), "calls".into()], &single.calls.iter().map(row).collect::<Vec<_>>());
        }
        if !single.instructions.is_empty() {
            self.line("### Instructions an echo outside the kernel, 100 clients × 64 bytes\n");
            let row =
                |(kind, instructions): &(Kind, f64)| vec![kind.name.into(), format!("{instructions:.0}")];
            let rows: Vec<_> = single.instructions.iter().map(row).collect();
            self.table(&["server", "instructions"].map(String::from), &rows);
            self.line(
                "`valgrind` counts them. The rest of an echo is the kernel's work, in the same two system calls. Between \
                 servers that make the same calls, hundreds of instructions are one or two percent of an echo.\n",
            );
        }
        self.line("### Resident memory of the server for an idle connection that has echoed once\n");
        let row = |(kind, clients, bytes): &(Kind, usize, f64)| {
            vec![kind.name.into(), clients.to_string(), format!("{bytes:.0}")]
        };
        let head = ["server", "connections", "bytes a connection"].map(String::from);
        self.table(&head, &single.memory.iter().map(row).collect::<Vec<_>>());
        if let Some((.., bytes)) = single.memory.iter().find(|(kind, ..)| *kind == ECHOLOOP) {
            self.line(&format!(
                "With 64 KiB for each connection tokio avoids the many small reads, and pays with that memory. \
                 echoloop has the bulk speed of large buffers at {bytes:.0} bytes a connection.\n"
            ));
        }
        self.churn(single);
        self.line("### One connection, median latency in microseconds\n");
        let spread = |values: &[f64]| Spread::of(values.iter().copied()).unwrap_or_default();
        let ratio = Spread::of_ratios(&single.busy, &single.sleeping).unwrap_or_default();
        let rows = [
            vec!["echoloop".into(), format!("{:.1}", spread(&single.sleeping)), "1".into()],
            vec![
                "echoloop --busy-poll 100us".into(),
                format!("{:.1}", spread(&single.busy)),
                format!("{ratio:.2}"),
            ],
        ];
        self.table(&["server", "p50", "ratio"].map(String::from), &rows);
    }

    fn churn(&mut self, single: &Single) {
        self.line("### Connect, echo 64 bytes, close by reset: 64 at once\n");
        let bare = single.churn.iter().find(|(kind, _)| *kind == BARE).map(|(_, churn)| churn.cpu.clone());
        let rows: Vec<Vec<String>> = single
            .churn
            .iter()
            .map(|(kind, churn)| {
                let text = |spread: Option<Spread>, digits: usize| {
                    spread.map_or_else(|| "–".into(), |spread| format!("{spread:.digits$}"))
                };
                let ratio = Spread::of_ratios(&churn.cpu, bare.as_deref().unwrap_or_default());
                vec![
                    kind.name.into(),
                    text(Spread::of(churn.rate.iter().copied()), 0),
                    text(Spread::of(churn.cpu.iter().copied()), 2),
                    text(ratio, 3),
                ]
            })
            .collect();
        let head = ["server", "connections a second", "CPU µs a connection", "÷ bare mio"].map(String::from);
        self.table(&head, &rows);
    }

    pub(crate) fn scaling(&mut self, scaling: &Scaling) -> Result<(), Box<dyn Error>> {
        fs::create_dir_all(Path::new(ROOT).join(FOLDER))?;
        self.line("## How it grows\n");
        self.line("### CPU time an echo of 64 bytes, by the number of connections\n");
        self.line(&format!("![CPU time an echo by the number of connections]({FOLDER}/growth.svg)\n"));
        let kinds: Vec<Kind> = scaling.growth[0].1.iter().map(|(kind, _)| *kind).collect();
        let mut series: Vec<(&str, Vec<(f64, f64)>)> =
            kinds.iter().map(|kind| (kind.name, Vec::new())).collect();
        let mut rows = Vec::new();
        for (cell, measured) in &scaling.growth {
            let mut row = vec![cell.clients.to_string()];
            for ((_, measured), (_, points)) in measured.iter().zip(&mut series) {
                let spread = Spread::of(measured.cpu.iter().copied()).unwrap_or_default();
                points.push((cell.clients as f64, spread.median));
                row.push(format!("{spread:.2}"));
            }
            rows.push(row);
        }
        let head = std::iter::once("connections".into()).chain(kinds.iter().map(|kind| kind.name.into()));
        self.table(&head.collect::<Vec<_>>(), &rows);
        plots::lines(
            &Path::new(ROOT).join(FOLDER).join("growth.svg"),
            "µs of server CPU time an echo",
            &series,
        )?;

        self.line("### Memory of one process, by the number of idle connections\n");
        let row = |&(clients, bytes): &(usize, f64)| vec![clients.to_string(), format!("{bytes:.0}")];
        let head = ["connections", "bytes a connection"].map(String::from);
        self.table(&head, &scaling.memory.iter().map(row).collect::<Vec<_>>());

        self.line("### Two processes on one port\n");
        self.line(&format!(
            "One process, and two with `--reuse-port`, each driven by two generators with 500 clients: {:.0} and {:.0} \
             echoes a second, ×{:.2}. On a machine with two cores the generators need one of them, so this shows that the \
             processes share the port, and not how far they scale.\n",
            scaling.one_process,
            scaling.two_processes,
            scaling.two_processes / scaling.one_process
        ));
        self.crowd(scaling);
        Ok(())
    }

    fn crowd(&mut self, scaling: &Scaling) {
        let crowd = &scaling.crowd;
        self.line("### Very many connections on one machine\n");
        self.line(&format!(
            "{} servers and as many generators held {} of {} connections. Each echoed once when it was opened and once more \
             at the end; {} were lost. Each *end* of a connection took {:.0} bytes of the machine's memory, the \
             kernel's included; {:.0} bytes a connection were resident in the servers.\n",
            crowd.processes, crowd.opened, crowd.requested, crowd.lost, crowd.bytes_an_end, crowd.resident
        ));
        self.line("These figures give, for the server's end alone:\n");
        let row = |connections: f64| {
            let processes = (connections / 1_000_000.0).max(1.0);
            vec![
                format!("{connections:.0}"),
                format!("{:.1} GB", connections * crowd.bytes_an_end / 1e9),
                format!("{:.1} MB", connections * crowd.resident / 1e6),
                format!("{:.0}", (connections / 28_232.0).ceil()),
                format!("{:.0} of {:.0} descriptors", processes, connections / processes + 33.0),
            ]
        };
        let head = ["connections", "memory in all", "of it in the servers", "client addresses", "processes"];
        self.table(&head.map(String::from), &[row(100_000.0), row(1_000_000.0), row(10_000_000.0)]);
        self.line(
            "A client address has 28,232 ports towards one port of the server (`net.ipv4.ip_local_port_range` as Linux \
             sets it). A process may have as many descriptors as `LimitNOFILE` and `fs.nr_open` allow (1,048,576 as Linux \
             sets it), so a million connections need one process with a higher limit, and ten million need ten processes on \
             one port with `--reuse-port`.\n",
        );
    }

    /// Writes BENCHMARKS.md and its plots.
    pub(crate) fn write(&self) -> Result<(), Box<dyn Error>> {
        let text = format!("{}\n## Figures\n\n{}", method(self.extent.rounds()), self.text);
        Ok(fs::write(Path::new(ROOT).join("BENCHMARKS.md"), text.trim_end().to_owned() + "\n")?)
    }

    pub(crate) fn plot_ratios(&mut self, rows: &[Row]) -> Result<(), Box<dyn Error>> {
        fs::create_dir_all(Path::new(ROOT).join(FOLDER))?;
        let groups: Vec<(String, Vec<(&str, f64)>)> = rows
            .iter()
            .map(|(cell, measured)| {
                let first = measured.first().map(|(_, it)| it.cpu.clone()).unwrap_or_default();
                let ratio = |(kind, it): &(Kind, Measured)| {
                    (kind.name, Spread::of_ratios(&it.cpu, &first).unwrap_or_default().median)
                };
                (name(*cell), measured.iter().map(ratio).collect())
            })
            .collect();
        plots::bars(
            &Path::new(ROOT).join(FOLDER).join("ratios.svg"),
            "Server CPU time an echo, echoloop = 1 (the line), logarithmic",
            &groups,
        )?;
        self.line(&format!("![CPU time an echo beside echoloop]({FOLDER}/ratios.svg)\n"));
        Ok(())
    }
}

fn name(cell: Cell) -> String {
    format!("{} × {}", cell.clients, cell.size)
}

fn method(rounds: usize) -> String {
    let mut text = String::new();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let _ = write!(
        text,
        "# Benchmarks\n\n\
         Written by `cargo bench --bench matrix -- --write`; nothing in it is typed by hand.\n\n\
         ## Method\n\n\
         Every server is a process of its own on the first core; the clients are our load generator in one process on the \
         second. The generator verifies each byte that comes back, from every server: a wrong server is not fast, it is \
         wrong.\n\n\
         The rounds are interleaved (A B C, then C B A, …; {rounds} of them). Machines change their speed, so we compare \
         only measurements of the same round. A round measures rates and CPU times in up to {SLICES} slices, with the \
         connections to all servers open, unless these are too many for one process. A cell shows the median and the two \
         quartiles; the middle half of the measurements lies between the quartiles. Behind × stands the median of the \
         ratios to echoloop, each ratio taken to the measurement beside it. **Server CPU time an echo** is the figure to \
         trust: rate and latency also depend on the clients.\n\n\
         | server | what it is |\n|---|---|\n\
         | echoloop | the program as it is, with `--quiet` |\n\
         | bare mio | a mio loop with a slab and nothing else: no limits, deadlines, fairness, logs, orderly end |\n\
         | bare splice | the same, and instead of reading and writing it splices through pipes of 1 MiB; measured in bulk, and for \
         memory |\n\
         | tokio, 4 KiB | one thread, a task a connection, a buffer of 4 KiB, `read` and `write_all`, as its documentation does it |\n\
         | tokio, 64 KiB | the same with a buffer of 64 KiB for each connection |\n\
         | threads, 4 KiB; 64 KiB | a thread a connection, blocking, with such a buffer |\n\
         | 16-byte reads | echoloop with `--read-size 16` |\n\n\
         ## Limits\n\n\
         Loopback has no network in it: no loss, no distance, no interrupts. Client and server share a machine, its caches \
         and its memory. Ratios near 1 that differ by less than the spread say nothing.\n\n\
         ## Machine\n\n{cores} cores, {}, Linux {}.\n",
        processor.map_or("unknown", |(_, name)| name),
        kernel.trim().split('-').next().unwrap_or_default(),
    );
    text
}
