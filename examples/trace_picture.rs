//! Draws a part of a recording of `echoloop --trace`, as an SVG on standard output.
//!
//! ```text
//! echoloop --trace trace.json
//! cargo run --example trace_picture -- trace.json > trace.svg                # the ten milliseconds with the most to see
//! cargo run --example trace_picture -- trace.json 1250.5 2 > trace.svg     # 2 ms, from 1250.5 ms on
//! ```
//!
//! It has drawn the picture of the guide. To look around in a trace, open it in <https://ui.perfetto.dev> instead.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its user")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use serde::Deserialize;

/// In pixels: the whole, the names of the rows, a row.
const WIDTH: f64 = 900.0;
const NAMES: f64 = 130.0;
const ROW: f64 = 34.0;
/// The width of a letter: a bar shows its name if there is room for all of them.
const LETTER: f64 = 6.0;
/// Readable on a white and on a dark page.
const STYLE: &str = "<style>.trace text{font:11px sans-serif;fill:#808080}.trace .name{font-weight:bold}\
    .trace .label{fill:#fff}.trace .poll+.label{fill:#808080}.trace rect{fill:#808080}.trace line{stroke:#808080;stroke-opacity:.4}\
    .trace .open{fill-opacity:.15}.trace .poll{fill-opacity:.3}.trace .run{fill:#9467bd}\
    .trace .deadlines{fill:#8c564b}.trace .read{fill:#1f77b4}.trace .write{fill:#2ca02c}.trace .paused{fill:#d66028}\
    .trace .mark{stroke:#d62728;stroke-opacity:1}</style>";

/// The parts of an event that the picture needs.
#[derive(Deserialize)]
struct Event {
    name: String,
    ph: char,
    tid: u64,
    ts: f64,
    #[serde(default)]
    dur: f64,
    args: Arguments,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Arguments {
    name: String,
}

/// A bar on a row; `depth` other bars are around it.
struct Bar {
    name: String,
    depth: usize,
    from: f64,
    to: f64,
}

/// The kind of a bar for a whole connection. Its name is that of its row.
const OPEN: &str = "open";

impl Bar {
    /// The first word of its name, which decides its colour.
    fn kind(&self) -> &str {
        match self.name.split(' ').next() {
            Some("unix") => OPEN,
            Some(address) if address.contains(':') => OPEN,
            kind => kind.unwrap_or_default(),
        }
    }
}

#[derive(Default)]
struct Row {
    name: String,
    bars: Vec<Bar>,
    marks: Vec<(String, f64)>,
    open: Vec<usize>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let milliseconds = |index: usize| arguments.get(index).map(|text| text.parse::<f64>());
    let (path, window) = match (arguments.first(), milliseconds(1), milliseconds(2), arguments.len()) {
        (Some(path), None, None, 1) => (path, None),
        (Some(path), Some(Ok(from)), Some(Ok(length)), 3) if length > 0.0 => {
            (path, Some((from * 1e3, (from + length) * 1e3)))
        }
        _ => {
            eprintln!("usage: trace_picture FILE.json [FROM LENGTH]   (in milliseconds)");
            return ExitCode::from(2);
        }
    };
    match std::fs::read_to_string(path).map_err(|error| error.to_string()).and_then(|text| read(&text)) {
        Ok(rows) => {
            print!("{}", draw(&rows, window.unwrap_or_else(|| most_to_see(&rows))));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("trace_picture: cannot read {path}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An event is a line. So the file of a killed server can be read as well: a missing bracket or a torn line is no event.
fn read(text: &str) -> Result<BTreeMap<u64, Row>, String> {
    let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
    for event in
        text.lines().filter_map(|line| serde_json::from_str::<Event>(line.trim_end_matches(',')).ok())
    {
        let row = rows.entry(event.tid).or_default();
        // A bar that has ended is not around this one; an unknown end is later than all others. (The file
        // counts in microseconds with three decimals, which no sum of two hits exactly.)
        row.open.retain(|&open| row.bars[open].to > event.ts + 0.0005);
        let bar = |to| Bar { name: escaped(&event.name), depth: row.open.len(), from: event.ts, to };
        match event.ph {
            'M' if event.name == "thread_name" => row.name = escaped(&event.args.name),
            'X' | 'B' => {
                let bar = bar(if event.ph == 'X' { event.ts + event.dur } else { f64::INFINITY });
                row.open.push(row.bars.len());
                row.bars.push(bar);
            }
            'E' => {
                if let Some(open) = row.open.pop() {
                    row.bars[open].to = event.ts;
                }
            }
            'i' => row.marks.push((escaped(&event.name), event.ts)),
            _ => {}
        }
    }
    rows.retain(|_, row| !row.bars.is_empty());
    if rows.is_empty() { Err("it holds no events".into()) } else { Ok(rows) }
}

/// The window with the most different bars and marks: each name counts once a row, however often it comes.
fn most_to_see(rows: &BTreeMap<u64, Row>) -> (f64, f64) {
    const LENGTH: f64 = 10_000.0;
    // Keeps all of them away from the edges.
    const MARGIN: f64 = LENGTH / 20.0;
    let mut begun: Vec<(f64, (u64, &str))> = Vec::new();
    for (&number, row) in rows {
        begun.extend(row.bars.iter().map(|bar| (bar.from, (number, bar.kind()))));
        begun.extend(row.marks.iter().map(|(name, at)| (*at, (number, name.as_str()))));
    }
    begun.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut best, mut from, mut last) = (0, 0.0, 0);
    let mut within: BTreeMap<(u64, &str), usize> = BTreeMap::new();
    for (first, &(start, thing)) in begun.iter().enumerate() {
        while let Some((_, next)) = begun.get(last).filter(|(at, _)| *at < start + LENGTH - 2.0 * MARGIN) {
            *within.entry(*next).or_default() += 1;
            last += 1;
        }
        if within.len() > best {
            (best, from) = (within.len(), begun[first].0);
        }
        if let Some(count) = within.get_mut(&thing) {
            *count -= 1;
            if *count == 0 {
                within.remove(&thing);
            }
        }
    }
    let from = (from - MARGIN).max(0.0);
    (from, from + LENGTH)
}

fn draw(rows: &BTreeMap<u64, Row>, (from, to): (f64, f64)) -> String {
    let place = |time: f64| NAMES + (time.clamp(from, to) - from) / (to - from) * (WIDTH - NAMES - 10.0);
    let in_window = |bar: &&Bar| bar.from < to && bar.to > from;
    let is_drawn = |row: &&Row| row.bars.iter().filter(in_window).any(|bar| bar.kind() != OPEN);
    let rows: Vec<&Row> = rows.values().filter(is_drawn).collect();
    let height = rows.len() as f64 * ROW + 24.0;
    // Without an empty line, which would end the picture within Markdown.
    let mut svg = format!(
        "<svg class=\"trace\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n{STYLE}\n"
    );
    for (number, row) in rows.iter().enumerate() {
        let top = number as f64 * ROW + 4.0;
        let _ = writeln!(svg, "<text class=\"name\" x=\"0\" y=\"{}\">{}</text>", top + 18.0, row.name);
        for bar in row.bars.iter().filter(in_window) {
            draw_bar(&mut svg, bar, top, place(bar.from), place(bar.to));
        }
        for (name, at) in row.marks.iter().filter(|(_, at)| (from..to).contains(at)) {
            let (x, bottom) = (place(*at), top + ROW - 6.0);
            let _ = writeln!(
                svg,
                "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"><title>{name}</title></line>"
            );
        }
    }
    draw_axis(&mut svg, (from, to), height, place);
    svg + "</svg>\n"
}

fn draw_bar(svg: &mut String, bar: &Bar, top: f64, left: f64, right: f64) {
    let inset = (bar.depth as f64 * 4.0).min(ROW / 3.0);
    let (y, height, width) = (top + inset, ROW - 6.0 - 2.0 * inset, (right - left).max(0.5));
    let kind = bar.kind();
    let (name, time) = (&bar.name, length(bar.to - bar.from));
    let _ = writeln!(
        svg,
        "<rect class=\"{kind}\" x=\"{left:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\"><title>{name}, {time}</title></rect>"
    );
    if kind != OPEN && name.len() as f64 * LETTER < width {
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"{:.1}\" y=\"{}\">{name}</text>",
            left + 2.0,
            y + height / 2.0 + 4.0
        );
    }
}

fn draw_axis(svg: &mut String, (from, to): (f64, f64), height: f64, place: impl Fn(f64) -> f64) {
    // One, two or five times a power of ten, so that there are five to twelve labels.
    let rough = (to - from) / 10.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= rough);
    let step = step.unwrap_or(rough);
    for number in 0..=((to - from) / step) as usize {
        let time = number as f64 * step;
        let x = place(from + time);
        let _ = writeln!(svg, "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{}\"/>", height - 16.0);
        // The last label has to fit into the picture.
        if x + 40.0 > WIDTH {
            continue;
        }
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{}\">{}</text>", height - 4.0, length(time));
    }
}

/// Microseconds as people say them.
fn length(microseconds: f64) -> String {
    match microseconds {
        time if time.is_infinite() => "not ended".into(),
        time if time >= 1e6 => format!("{:.2} s", time / 1e6),
        time if time >= 1e3 => format!("{:.1} ms", time / 1e3),
        time => format!("{time:.0} µs"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
