//! `--plot`: the percentile curve, and rate and latency over time, as SVG.

use super::super::series::Point;
use super::super::times::{Histogram, text};
use super::chart::{self, Area, LINE, Line, Path, PlotError, SECOND_LINE};
use super::json::Report;
use super::table::title;

/// The picture, in pixels.
const SIZE: (u32, u32) = (900, 1050);

/// Draws the percentiles of latency, and rate and latency over time, as SVG.
///
/// # Errors
/// When a part of it can't be drawn.
pub fn plot(report: &Report) -> Result<String, PlotError> {
    let steps = |name, value: fn(&Point) -> Option<f64>, colour| Line {
        name,
        paths: steps(&report.series, value),
        colour,
    };
    let rate = [steps("rate", |point| Some(point.rate), LINE)];
    let latency = [steps("p50", |point| point.p50_us, LINE), steps("p99", |point| point.p99_us, SECOND_LINE)];
    chart::picture(
        &title(report),
        SIZE,
        &[
            &|area| draw_percentiles(area, &report.histograms.latency),
            &|area| chart::over_time(area, "replies a second", &rate, &|value| format!("{value:.0}")),
            &|area| chart::over_time(area, "latency", &latency, &text),
        ],
    )
}

/// The values of a series, each a level line as long as its interval. Where there is no value there is a gap.
fn steps(series: &[Point], value: impl Fn(&Point) -> Option<f64>) -> Vec<Path> {
    let mut paths: Vec<Path> = Vec::new();
    let mut before = None;
    for point in series {
        let end = point.at + point.seconds;
        let Some(value) = value(point) else {
            before = None;
            continue;
        };
        let joins = before.is_some_and(|before: f64| point.at - before < 1e-6);
        match paths.last_mut().filter(|_| joins) {
            Some(path) => path.extend([(point.at, value), (end, value)]),
            None => paths.push(vec![(point.at, value), (end, value)]),
        }
        before = Some(end);
    }
    paths
}

/// The curve ends at its maximum, which is marked: one value lies there, and none beyond.
fn draw_percentiles(area: &Area<'_>, latency: &Histogram) -> Result<(), PlotError> {
    let path = percentiles(latency);
    let Some(&end) = path.last() else { return Ok(()) };
    let mark = (end, format!("maximum of {}: {}", latency.len(), text(end.1)));
    let line = Line { name: "latency", paths: vec![path], colour: LINE };
    chart::logarithmic(area, "latency by percentile", &[line], (&percentile, &text), &[mark])
}

/// Latency over `1/(1 - quantile)`, up to the percentile that only one value lies beyond.
fn percentiles(latency: &Histogram) -> Path {
    if latency.is_empty() {
        return Path::new();
    }
    let finest = latency.len() as f64;
    let curve = latency.iter_quantiles(5).map(|value| {
        (1.0 / (1.0 - value.quantile_iterated_to()), value.value_iterated_to().max(1) as f64 / 1e3)
    });
    let mut path: Path = curve.take_while(|(distance, _)| *distance < finest).collect();
    // A chart of one point has no axis.
    path.push((finest.max(2.0), latency.max().max(1) as f64 / 1e3));
    path
}

/// `1/(1 - quantile)` as a percentile.
fn percentile(distance: f64) -> String {
    let nines = distance.log10().round().max(0.0) as usize;
    format!("{:.*} %", nines.saturating_sub(2), (1.0 - 1.0 / distance) * 100.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn point(at: f64, seconds: f64, p50_us: Option<f64>) -> Point {
        Point { at, seconds, p50_us, ..Point::default() }
    }

    #[test]
    fn a_value_is_as_long_as_its_interval_and_without_replies_there_is_a_gap() {
        let series = [
            point(0.0, 1.0, Some(5.0)),
            point(1.0, 1.0, Some(7.0)),
            point(2.0, 1.0, None),
            point(3.0, 0.5, Some(6.0)),
        ];
        let paths = steps(&series, |point| point.p50_us);
        assert_eq!(
            paths,
            [vec![(0.0, 5.0), (1.0, 5.0), (1.0, 7.0), (2.0, 7.0)], vec![(3.0, 6.0), (3.5, 6.0)]]
        );
    }

    #[test]
    fn the_curve_ends_at_the_maximum_of_so_many() {
        let mut latency = Histogram::new();
        assert_eq!(percentiles(&latency), []);
        (1..=1000).for_each(|microseconds| latency.add_time(Duration::from_micros(microseconds)));
        let path = percentiles(&latency);
        assert_eq!(path.last().map(|point| point.0), Some(1000.0));
        assert!(path.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{path:?}");
    }
}
