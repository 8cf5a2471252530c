//! Distributions of times: recorded in a histogram, read as percentiles, written as text.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::AdditionError;
use hdrhistogram::serialization::{Deserializer as Decoder, Serializer as _, V2DeflateSerializer};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Three significant digits: 0.1 % of any value.
const DIGITS: u8 = 3;
/// The longest time. A longer one counts as this long.
const LONGEST: Duration = Duration::from_secs(3600);

/// Durations in nanoseconds, with three significant digits, in constant memory. As JSON it is text: HdrHistogram's
/// compressed V2 format in base64, which the HdrHistogram libraries of other languages decode.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

/// The distributions of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Histograms {
    /// From sending to the complete reply; in an open loop from when the message was due.
    pub latency: Histogram,
    /// Open loop: from really sending to the complete reply.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<Histogram>,
    /// Open loop: how late messages left although their connection was free.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lag: Option<Histogram>,
    /// From beginning to connect until the connection was established.
    pub connect: Histogram,
}

/// A distribution of times, in microseconds, with three significant digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many there are.
    pub count: u64,
    /// The smallest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile; the maximum if there are fewer than 1,000.
    pub p99_9: f64,
    /// The 99.99th percentile; the maximum if there are fewer than 10,000.
    pub p99_99: f64,
    /// The largest.
    pub max: f64,
}

/// One figure of a distribution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statistic {
    pub(super) name: &'static str,
    pub(super) of: fn(&Times) -> f64,
    /// One value in this many lies beyond the figure; 0 if it is no percentile.
    one_in: u64,
}

/// All figures of a distribution, in the order of every table.
pub(super) const STATISTICS: [Statistic; 9] = [
    Statistic { name: "min", of: |times| times.min, one_in: 0 },
    Statistic { name: "mean", of: |times| times.mean, one_in: 0 },
    Statistic { name: "p50", of: |times| times.p50, one_in: 2 },
    Statistic { name: "p90", of: |times| times.p90, one_in: 10 },
    Statistic { name: "p95", of: |times| times.p95, one_in: 20 },
    Statistic { name: "p99", of: |times| times.p99, one_in: 100 },
    Statistic { name: "p99.9", of: |times| times.p99_9, one_in: 1_000 },
    Statistic { name: "p99.99", of: |times| times.p99_99, one_in: 10_000 },
    Statistic { name: "max", of: |times| times.max, one_in: 0 },
];

impl Statistic {
    /// The figure as text; `=max` if there are too few values for this percentile.
    pub(super) fn shown(&self, times: &Times) -> String {
        self.of_enough(times).map_or_else(|| "=max".into(), text)
    }

    /// The figure in microseconds; `None` if there are too few values for this percentile.
    pub(super) fn of_enough(&self, times: &Times) -> Option<f64> {
        (!self.is_the_maximum(times)).then(|| (self.of)(times))
    }

    /// Whether there are too few values for this percentile: only their maximum lies beyond it.
    pub(super) fn is_the_maximum(&self, times: &Times) -> bool {
        self.one_in > times.count
    }
}

impl Times {
    /// The distribution as if each time were shorter by this many microseconds.
    pub(super) fn less(self, microseconds: f64) -> Times {
        let less = |time: f64| (time - microseconds).max(0.0);
        Times {
            count: self.count,
            min: less(self.min),
            mean: less(self.mean),
            p50: less(self.p50),
            p90: less(self.p90),
            p95: less(self.p95),
            p99: less(self.p99),
            p99_9: less(self.p99_9),
            p99_99: less(self.p99_99),
            max: less(self.max),
        }
    }
}

impl Histogram {
    pub(super) fn new() -> Histogram {
        // The bounds are constants that hdrhistogram accepts, as does its own constructor without bounds.
        let inner = hdrhistogram::Histogram::new_with_bounds(1, nanoseconds(LONGEST), DIGITS);
        Histogram(inner.expect("1 ns to an hour with three digits is a valid range"))
    }

    pub(super) fn add_time(&mut self, time: Duration) {
        self.0.saturating_record(nanoseconds(time));
    }

    /// A quantile in microseconds; nothing if nothing was recorded.
    pub(super) fn microseconds(&self, quantile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// The figures of the distribution; `None` if nothing was recorded.
    pub(super) fn times(&self) -> Option<Times> {
        let at = |quantile| self.microseconds(quantile);
        Some(Times {
            count: self.0.len(),
            min: self.0.min() as f64 / 1e3,
            mean: self.0.mean() / 1e3,
            p50: at(0.5)?,
            p90: at(0.9)?,
            p95: at(0.95)?,
            p99: at(0.99)?,
            p99_9: at(0.999)?,
            p99_99: at(0.9999)?,
            max: self.0.max() as f64 / 1e3,
        })
    }
}

impl Histograms {
    pub(super) fn new(open_loop: bool) -> Histograms {
        Histograms {
            latency: Histogram::new(),
            service: open_loop.then(Histogram::new),
            lag: open_loop.then(Histogram::new),
            connect: Histogram::new(),
        }
    }

    /// Adds the distributions of another generator.
    pub(super) fn merge(&mut self, other: &Histograms) -> Result<(), AdditionError> {
        self.latency.add(&*other.latency)?;
        self.connect.add(&*other.connect)?;
        for (sum, more) in [(&mut self.service, &other.service), (&mut self.lag, &other.lag)] {
            if let (Some(sum), Some(more)) = (sum, more) {
                sum.add(&**more)?;
            }
        }
        Ok(())
    }
}

impl Deref for Histogram {
    type Target = hdrhistogram::Histogram<u64>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Histogram {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .map_err(|error| S::Error::custom(format!("a histogram can't be encoded: {error}")))?;
        serializer.serialize_str(&BASE64.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Histogram, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text).map_err(|error| D::Error::custom(format!("no base64: {error}")))?;
        let decoded = Decoder::new().deserialize(&mut bytes.as_slice());
        decoded.map(Histogram).map_err(|error| D::Error::custom(format!("no histogram: {error}")))
    }
}

/// Microseconds with three digits and a unit.
pub(super) fn text(microseconds: f64) -> String {
    let (value, unit) = match microseconds {
        // A value that would be rounded to 1000 has the next unit.
        us if us < 0.9995 => (us * 1e3, "ns"),
        us if us < 999.5 => (us, "µs"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (microseconds, expected) in [
            (0.0, "0.00 ns"),
            (0.5, "500 ns"),
            (1.0, "1.00 µs"),
            (12.345, "12.3 µs"),
            (999.0, "999 µs"),
            (999.6, "1.00 ms"),
            (999_900.0, "1.00 s"),
            (1500.0, "1.50 ms"),
            (2e6, "2.00 s"),
        ] {
            assert_eq!(text(microseconds), expected);
        }
    }

    #[test]
    fn a_percentile_of_too_few_values_is_their_maximum() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.times(), None);
        (1..=1000).for_each(|microseconds| histogram.add_time(Duration::from_micros(microseconds)));
        let times = histogram.times().expect("there are some");
        assert_eq!((times.count, times.min, times.max), (1000, 1.0, times.p99_99));
        let maxima = STATISTICS.iter().filter(|statistic| statistic.is_the_maximum(&times));
        assert_eq!(maxima.map(|statistic| statistic.name).collect::<Vec<_>>(), ["p99.99"]);
        assert!((times.p95 - 950.0).abs() < 1.0 && times.p99_9 < times.max, "{times:?}");
    }

    #[test]
    fn a_histogram_is_text_in_json_and_comes_back_whole() {
        let mut histogram = Histogram::new();
        for nanoseconds in [1, 999, 123_456, 7_000_000_000, u64::MAX] {
            histogram.saturating_record(nanoseconds);
        }
        let json = serde_json::to_string(&histogram).expect("it can be encoded");
        assert!(json.starts_with("\"HISTFAAA"), "the beginning of every compressed V2 histogram: {json}");
        assert_eq!(serde_json::from_str::<Histogram>(&json).expect("it is one"), histogram);
        for nonsense in ["7", "\"?\"", "\"\"", "\"SElTVA==\""] {
            assert!(serde_json::from_str::<Histogram>(nonsense).is_err(), "{nonsense}");
        }
    }
}
