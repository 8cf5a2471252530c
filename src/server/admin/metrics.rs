//! The figures as text for Prometheus, in both formats that it reads.
//!
//! `prometheus-client` writes OpenMetrics 1.0. A scraper that does not ask for that gets the older text format, version
//! 0.0.4, as from the official libraries: people see it with `curl`, and `promtool check metrics` reads it. The two
//! differ only in comments, so this file makes the older text from the OpenMetrics text.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::figures::{Figures, ProcessFigures};
use crate::server::counters::{Counters, Turns};
use crate::server::datagrams::DatagramCounts;
use crate::server::histogram::Histogram;

/// A format of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All figures as text.
pub(super) fn metrics(figures: &Figures, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(figures.clone())));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("a string takes all, and no figure is out of range");
    match format {
        Format::OpenMetrics => text,
        Format::Prometheus => older(&text),
    }
}

/// OpenMetrics names a family without the suffix of its samples, knows units and has an end. In the older format the
/// family has the name of its samples, units and end are comments, and information is a gauge.
fn older(text: &str) -> String {
    let mut older = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", _, words] => help = Some(words),
            ["#", "TYPE", family, kind] => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    kind => ("", kind),
                };
                let help = help.take().unwrap_or_default();
                older += &format!("# HELP {family}{suffix} {help}\n# TYPE {family}{suffix} {kind}\n");
            }
            ["#", ..] => {}
            _ => {
                older += line;
                older.push('\n');
            }
        }
    }
    older
}

/// The figures at the time of one scrape.
#[derive(Debug)]
struct Scrape(Figures);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Scrape(figures) = self;
        let mut families = Families(encoder);
        families.connections(&figures.counters, figures.connections_allowed)?;
        families.buffers(figures)?;
        families.datagrams(&figures.datagrams)?;
        families.turns(&figures.counters.turns)?;
        families.process(&figures.process)
    }
}

struct Families<'a>(DescriptorEncoder<'a>);

/// The names follow the conventions of Prometheus: each has the measured quantity and its base unit.
impl Families<'_> {
    fn connections(&mut self, counters: &Counters, allowed: usize) -> fmt::Result {
        let Counters { open, accepted, summary, endings, .. } = counters;
        self.gauge("echoloop_connections_open", "Connections that are open", *open)?;
        self.gauge("echoloop_connections_allowed", "The most connections at once", allowed)?;
        self.counter("echoloop_connections_accepted", "Connections that the server took in", *accepted)?;
        self.counter(
            "echoloop_connections_refused",
            "Connections closed at once: too many",
            summary.refused,
        )?;
        self.by_reason("echoloop_connections_closed", "Connections that have ended", endings.each())?;
        self.counter(
            "echoloop_connections_cut_off",
            "Connections that ended with bytes lost",
            summary.cut_off,
        )?;
        self.bytes("echoloop_received", "Bytes read from connections", counters.traffic.received)?;
        self.bytes("echoloop_sent", "Bytes written to connections", counters.traffic.sent)?;
        self.bytes("echoloop_spliced", "Bytes sent through a pipe, uncopied", counters.traffic.spliced)?;
        self.bytes("echoloop_cut_off", "Bytes not answered, or not taken", counters.summary.bytes_cut_off)?;
        let pauses = [("limit", counters.pauses_at_limit), ("exhausted", counters.pauses_exhausted)];
        self.by_reason("echoloop_accept_pauses", "Times that accepting was paused", pauses)
    }

    fn buffers(&mut self, figures: &Figures) -> fmt::Result {
        let pauses = "Times that the server did not read a client which took too little";
        self.counter("echoloop_backpressure_pauses", pauses, figures.pauses_of_reading)?;
        let mut buffers = self.0.encode_descriptor(
            "echoloop_buffer",
            "Memory of read and write buffers",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        for (state, bytes) in [("in_use", figures.buffers.in_use), ("pooled", figures.buffers.pooled)] {
            buffers.encode_family(&[("state", state)])?.encode_gauge(&bytes)?;
        }
        self.gauge("echoloop_pipes_in_use", "Pipes that hold bytes of a connection", figures.pipes_in_use)
    }

    fn datagrams(&mut self, counts: &DatagramCounts) -> fmt::Result {
        let DatagramCounts { received, answered, ignored, dropped, overflowed } = *counts;
        self.counter("echoloop_datagrams_received", "Datagrams that were received", received)?;
        self.counter("echoloop_datagrams_answered", "Datagrams that were sent back", answered)?;
        self.counter("echoloop_datagrams_ignored", "Datagrams that are never answered, for safety", ignored)?;
        self.counter("echoloop_datagrams_dropped", "Datagrams whose answer the kernel refused", dropped)?;
        let Some(overflowed) = overflowed else { return Ok(()) };
        let help = "Datagrams that the kernel dropped because the receive buffer was full";
        self.counter("echoloop_datagrams_overflowed", help, overflowed)
    }

    fn turns(&mut self, turns: &Turns) -> fmt::Result {
        self.counter("echoloop_turns", "Turns of the event loop", turns.turns)?;
        self.counter("echoloop_events", "Events that the polls brought", turns.events)?;
        self.counter("echoloop_resumed", "Sources that were served from the run queue", turns.resumed)?;
        self.gauge("echoloop_run_queue_length", "Sources in the last run queue", turns.run_queue)?;
        self.seconds_histogram("echoloop_turn", "Time that a turn worked, its wait left out", &turns.times)
    }

    fn process(&mut self, figures: &ProcessFigures) -> fmt::Result {
        self.0
            .encode_descriptor("echoloop_build", "The program that runs", None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        self.0
            .encode_descriptor(
                "process_start_time",
                "When the server started, since 1970",
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?
            .encode_gauge(&figures.start_time())?;
        self.0
            .encode_descriptor(
                "process_cpu",
                "Processor time of the process",
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, f64, f64>(&figures.cpu.as_secs_f64(), None)?;
        if let Some(open) = figures.descriptors_open {
            let help = "Descriptors that were open at the start, and that the loop holds since";
            self.gauge("process_open_fds", help, open)?;
        }
        let allowed = usize::try_from(figures.descriptors_allowed).unwrap_or(usize::MAX);
        self.gauge("process_max_fds", "Descriptors that the process may have", allowed)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, f64>(&value, None)
    }

    fn bytes(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, f64>(&value, None)
    }

    fn by_reason(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (reason, value) in values {
            family
                .encode_family(&[("reason", reason)])?
                .encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
        }
        Ok(())
    }

    /// A value beyond the format's largest number counts as unbounded.
    fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn seconds_histogram(&mut self, name: &str, help: &str, times: &Histogram) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(times.sum(), times.count(), &times.buckets(), None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::server::admin::figures::tests::figures;

    #[test]
    fn the_older_format_names_a_family_as_its_samples() {
        let text = "# HELP a_bytes Some help.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total 1\n\
                    # HELP b Other: x y\n# TYPE b info\nb_info{version=\"1\"} 1\n\
                    # HELP c Help\n# TYPE c gauge\nc 2\n# EOF\n";
        assert_eq!(
            older(text),
            "# HELP a_bytes_total Some help.\n# TYPE a_bytes_total counter\na_bytes_total 1\n\
             # HELP b_info Other: x y\n# TYPE b_info gauge\nb_info{version=\"1\"} 1\n\
             # HELP c Help\n# TYPE c gauge\nc 2\n"
        );
    }

    #[test]
    fn figures_without_a_bound_are_in_range() {
        for format in [Format::OpenMetrics, Format::Prometheus] {
            let text = metrics(&figures(), format);
            assert!(text.contains("\necholoop_connections_open 3\n"), "{text}");
            assert!(text.contains("\necholoop_pipes_in_use 2\n"), "{text}");
            assert!(text.contains(&format!("\nprocess_max_fds {}\n", i64::MAX)), "{text}");
            assert!(text.contains("\nprocess_cpu_seconds_total 1.5\n"), "{text}");
            assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics, "{text}");
        }
    }

    #[test]
    fn the_buckets_of_a_histogram_are_cumulative() {
        let mut figures = figures();
        figures.counters.turns.times.record(Duration::from_nanos(900));
        figures.counters.turns.times.record(Duration::from_micros(2));
        figures.counters.turns.times.record(Duration::from_secs(2));
        let text = metrics(&figures, Format::OpenMetrics);
        for line in [
            "echoloop_turn_seconds_bucket{le=\"0.000001\"} 1",
            "echoloop_turn_seconds_bucket{le=\"0.0000025\"} 2",
            "echoloop_turn_seconds_bucket{le=\"1.0\"} 2",
            "echoloop_turn_seconds_bucket{le=\"+Inf\"} 3",
            "echoloop_turn_seconds_count 3",
        ] {
            assert!(text.lines().any(|shown| shown == line), "no {line} in\n{text}");
        }
    }
}
