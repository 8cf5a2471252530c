//! `--plot`: the percentile curve, and rate and latency over time, as an SVG file.

use std::path::Path;

use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use super::report::Report;
use super::table::time;

/// The picture, in pixels.
const SIZE: (u32, u32) = (900, 1050);
/// Readable on a white and on a dark page.
const LINE: RGBColor = RGBColor(31, 119, 180);
const SECOND_LINE: RGBColor = RGBColor(214, 96, 40);
const INK: RGBColor = RGBColor(110, 110, 110);
/// The curve is drawn up to the percentile that one message in so many has.
const FINEST: f64 = 1e6;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw {path}: {reason}")]
pub struct PlotError {
    path: String,
    reason: String,
}

impl Report {
    /// Draws the percentiles of latency, and rate and latency over time.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn plot(&self, path: &Path) -> Result<(), PlotError> {
        let mut picture = String::new();
        let failed = |reason: String| PlotError { path: path.display().to_string(), reason };
        self.draw(&mut picture).map_err(|error| failed(error.to_string()))?;
        std::fs::write(path, picture).map_err(|error| failed(crate::system::describe(&error)))
    }

    fn draw(&self, picture: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::with_string(picture, SIZE).into_drawing_area();
        let root = root.titled(&self.title(), ("sans-serif", 15).into_font().color(&INK))?;
        let parts = root.split_evenly((3, 1));
        let [percentiles, rate, latency] = &parts[..] else { return Ok(()) };
        self.draw_percentiles(percentiles)?;
        let rates = self.series.iter().map(|point| (point.at, point.rate)).collect();
        over_time(rate, "replies a second", &[("rate", rates, LINE)], |value| format!("{value:.0}"))?;
        let of = |value: fn(&super::figures::Point) -> f64| {
            self.series.iter().map(|point| (point.at, value(point))).collect()
        };
        let lines = [("p50", of(|point| point.p50_us), LINE), ("p99", of(|point| point.p99_us), SECOND_LINE)];
        over_time(latency, "latency", &lines, time)?;
        root.present()?;
        Ok(())
    }

    fn draw_percentiles(&self, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
        let Some(latency) = self.latency.as_ref().filter(|latency| !latency.is_empty()) else {
            return Ok(());
        };
        let finest = (latency.len() as f64).clamp(10.0, FINEST);
        let curve: Vec<(f64, f64)> = latency
            .iter_quantiles(5)
            .map(|value| {
                let distance = 1.0 / (1.0 - value.quantile()).max(1.0 / finest);
                (distance, value.value_iterated_to() as f64 / 1e3)
            })
            .collect();
        let (low, high) = (latency.min().max(1) as f64 / 1e3 * 0.9, latency.max().max(2) as f64 / 1e3 * 1.1);
        let axes = ((1.0..finest).log_scale(), (low..high).log_scale());
        let mut chart = chart(area, "latency by percentile").build_cartesian_2d(axes.0, axes.1)?;
        draw_mesh(&mut chart, |distance| percentile(*distance), |value| time(*value))?;
        chart.draw_series(LineSeries::new(curve, LINE.stroke_width(2)))?;
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Line = (&'static str, Vec<(f64, f64)>, RGBColor);

/// Lines over the seconds of the run, from zero.
fn over_time(
    area: &Area<'_>,
    caption: &str,
    lines: &[Line],
    label: impl Fn(f64) -> String,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|(_, points, _)| points);
    let end = points().map(|point| point.0).fold(0.0, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    if end <= 0.0 || top <= 0.0 {
        return Ok(());
    }
    let names: Vec<&str> = lines.iter().map(|(name, ..)| *name).collect();
    let caption = format!("{caption} over time in seconds ({})", names.join(", "));
    let mut chart = chart(area, &caption).build_cartesian_2d(0.0..end, 0.0..top * 1.05)?;
    draw_mesh(&mut chart, |seconds| format!("{seconds:.1}"), |value| label(*value))?;
    for (name, points, colour) in lines {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    if lines.len() > 1 {
        let text = ("sans-serif", 12).into_font().color(&INK);
        chart.configure_series_labels().label_font(text).border_style(INK.mix(0.5)).draw()?;
    }
    Ok(())
}

/// What all charts have in common before their axes are known.
fn chart<'area, 'picture>(
    area: &'area Area<'picture>,
    caption: &str,
) -> ChartBuilder<'area, 'picture, SVGBackend<'picture>> {
    let mut chart = ChartBuilder::on(area);
    chart.caption(caption, ("sans-serif", 14).into_font().color(&INK));
    chart.margin(8).x_label_area_size(30).y_label_area_size(70);
    chart
}

/// The axes with their labels, and faint lines across.
fn draw_mesh<X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    x_label: impl Fn(&f64) -> String,
    y_label: impl Fn(&f64) -> String,
) -> Result<(), Box<dyn std::error::Error>>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .axis_style(INK)
        .label_style(("sans-serif", 12).into_font().color(&INK))
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.25))
        .x_label_formatter(&x_label)
        .y_label_formatter(&y_label)
        .draw()?;
    Ok(())
}

/// `1/(1 - quantile)` as a percentile.
fn percentile(distance: f64) -> String {
    let nines = distance.log10().round().max(0.0) as usize;
    format!("{:.*} %", nines.saturating_sub(2), (1.0 - 1.0 / distance) * 100.0)
}
