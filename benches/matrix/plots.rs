//! The plots of BENCHMARKS.md. No background and grey text, so that they can be read on light and on dark.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The ratio at which a bar has no length.
const LEAST: f64 = 0.5;
const GREY: RGBColor = RGBColor(128, 128, 128);
/// One for each server: told apart by most eyes, on light and on dark.
const COLOURS: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(230, 120, 20),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(160, 110, 90),
    RGBColor(214, 90, 160),
    RGBColor(130, 140, 40),
    RGBColor(40, 160, 175),
];

/// A line a server, over the number of connections on a logarithmic axis.
pub(crate) fn lines(
    path: &Path,
    title: &str,
    series: &[(&str, Vec<(f64, f64)>)],
) -> Result<(), Box<dyn Error>> {
    let points = || series.iter().flat_map(|(_, points)| points);
    let most = points().map(|&(_, y)| y).fold(0.0, f64::max) * 1.1;
    let last = points().map(|&(x, _)| x).fold(1.0, f64::max) * 1.2;
    let root = SVGBackend::new(path, (800, 400)).into_drawing_area();
    let text = ("sans-serif", 14).into_font().color(&GREY);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 16).into_font().color(&GREY))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((0.9..last).log_scale(), 0.0..most)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.25))
        .axis_style(GREY)
        .x_desc("connections")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .label_style(text.clone())
        .axis_desc_style(text.clone())
        .draw()?;
    for ((name, points), colour) in series.iter().zip(COLOURS) {
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
        chart
            .draw_series(line)?
            .label(*name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .label_font(text)
        .border_style(GREY.mix(0.4))
        .draw()?;
    root.present()?;
    Ok(())
}

/// A bar for each ratio, grouped by cell. The scale is logarithmic: reads of sixteen bytes cost more than thirty times
/// as much, beside which all else would look the same. A bar begins at half the cost, so that twice it and half of it
/// can be told by length.
pub(crate) fn bars(
    path: &Path,
    title: &str,
    groups: &[(String, Vec<(&str, f64)>)],
) -> Result<(), Box<dyn Error>> {
    let bars: usize = groups.iter().map(|(_, bars)| bars.len() + 1).sum();
    let root = SVGBackend::new(path, (800, 60 + 18 * bars as u32)).into_drawing_area();
    root.draw_text(
        title,
        &("sans-serif", 16).into_font().color(&GREY).pos(Pos::new(HPos::Left, VPos::Top)),
        (12, 12),
    )?;
    let most = groups.iter().flat_map(|(_, bars)| bars).map(|&(_, ratio)| ratio).fold(1.0, f64::max);
    let left = 230;
    let length = |ratio: f64| (480.0 * (ratio.max(LEAST) / LEAST).ln() / (most / LEAST).ln()) as i32;
    let style = ("sans-serif", 13).into_font().color(&GREY);
    let right_aligned = style.clone().pos(Pos::new(HPos::Right, VPos::Center));
    let left_aligned = style.pos(Pos::new(HPos::Left, VPos::Center));
    let mut y = 50;
    let one = left + length(1.0);
    root.draw(&PathElement::new([(one, 40), (one, 30 + 18 * bars as i32)], GREY.mix(0.6)))?;
    // Some groups lack a server, and each server keeps its colour.
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in groups.iter().flat_map(|(_, bars)| bars) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    for (group, bars) in groups {
        root.draw_text(group, &left_aligned, (12, y))?;
        for (name, ratio) in bars {
            let colour = COLOURS[names.iter().position(|other| other == name).unwrap_or(0) % COLOURS.len()];
            root.draw_text(name, &right_aligned, (left - 8, y))?;
            let end = left + length(*ratio);
            root.draw(&Rectangle::new([(left, y - 6), (end, y + 6)], colour.filled()))?;
            root.draw_text(&format!("{ratio:.2}"), &left_aligned, (end + 6, y))?;
            y += 18;
        }
        y += 18;
    }
    root.present()?;
    Ok(())
}
