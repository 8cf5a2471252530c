//! Charts as SVG: axes, steps over time, curves.

use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Readable on a white and on a dark page.
pub(in crate::load) const LINE: RGBColor = RGBColor(31, 119, 180);
pub(in crate::load) const SECOND_LINE: RGBColor = RGBColor(214, 96, 40);
const INK: RGBColor = RGBColor(110, 110, 110);
/// How wide lines are, in pixels.
const WIDTH: u32 = 2;

/// The reason why there is no picture.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw: {0}")]
pub struct PlotError(String);

/// A part of a picture.
pub(in crate::load) type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Draws one part.
pub(in crate::load) type Draw<'a> = &'a dyn Fn(&Area<'_>) -> Result<(), PlotError>;

/// Points that are joined.
pub(in crate::load) type Path = Vec<(f64, f64)>;

/// A line with its name; it may have gaps, and so consists of paths.
pub(in crate::load) struct Line {
    pub(in crate::load) name: &'static str,
    pub(in crate::load) paths: Vec<Path>,
    pub(in crate::load) colour: RGBColor,
}

/// Writes a number of an axis.
pub(in crate::load) type Label<'a> = &'a dyn Fn(f64) -> String;

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> PlotError {
        PlotError(error.to_string())
    }
}

/// A picture of several parts, one below the other, each with its share of the height.
pub(in crate::load) fn picture(
    title: &str,
    size: (u32, u32),
    parts: &[Draw<'_>],
) -> Result<String, PlotError> {
    let mut picture = String::new();
    {
        let root = SVGBackend::with_string(&mut picture, size).into_drawing_area();
        let font = ("sans-serif", 15).into_font().color(&INK);
        let root = root.titled(title, font)?;
        for (area, draw) in root.split_evenly((parts.len(), 1)).iter().zip(parts) {
            draw(area)?;
        }
        root.present()?;
    }
    Ok(picture)
}

/// Lines over an axis of time that begins at zero.
pub(in crate::load) fn over_time(
    area: &Area<'_>,
    caption: &str,
    lines: &[Line],
    label: Label<'_>,
) -> Result<(), PlotError> {
    let points = || lines.iter().flat_map(|line| line.paths.iter().flatten());
    let end = points().map(|point| point.0).fold(0.0, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    if end <= 0.0 || top <= 0.0 {
        return Ok(());
    }
    let names: Vec<&str> = lines.iter().map(|line| line.name).collect();
    let caption = format!("{caption} over time in seconds ({})", names.join(", "));
    let mut chart = chart(area, &caption).build_cartesian_2d(0.0..end, 0.0..top * 1.05)?;
    draw_mesh(&mut chart, &|seconds| format!("{seconds:.1}"), label)?;
    draw_lines(&mut chart, lines)
}

/// Lines over two logarithmic axes that hold all their points, and marks with words on them.
pub(in crate::load) fn logarithmic(
    area: &Area<'_>,
    caption: &str,
    lines: &[Line],
    labels: (Label<'_>, Label<'_>),
    marks: &[((f64, f64), String)],
) -> Result<(), PlotError> {
    let points = || lines.iter().flat_map(|line| line.paths.iter().flatten().copied());
    let range = |values: &dyn Fn((f64, f64)) -> f64| {
        let (low, high) = points()
            .map(values)
            .fold((f64::MAX, 0.0_f64), |range, value| (range.0.min(value), range.1.max(value)));
        low..high.max(low * 1.01)
    };
    if points().next().is_none() {
        return Ok(());
    }
    let (x, y) = (range(&|point| point.0), range(&|point| point.1));
    let y = y.start * 0.9..y.end * 1.1;
    let mut chart = chart(area, caption).build_cartesian_2d(x.log_scale(), y.log_scale())?;
    draw_mesh(&mut chart, labels.0, labels.1)?;
    draw_lines(&mut chart, lines)?;
    for (point, words) in marks {
        let style = ("sans-serif", 12).into_font().color(&INK).pos(Pos::new(HPos::Right, VPos::Top));
        let mark = EmptyElement::at(*point)
            + Circle::new((0, 0), 4, LINE.filled())
            + Text::new(words.clone(), (-8, 6), style);
        chart.draw_series([mark])?;
    }
    Ok(())
}

fn draw_lines<'chart, 'picture: 'chart, X, Y>(
    chart: &mut ChartContext<'chart, SVGBackend<'picture>, Cartesian2d<X, Y>>,
    lines: &[Line],
) -> Result<(), PlotError>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    for Line { name, paths, colour } in lines {
        let style = colour.stroke_width(WIDTH);
        let elements = paths.iter().map(|path| PathElement::new(path.clone(), style));
        chart
            .draw_series(elements)?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    if lines.len() > 1 {
        let font = ("sans-serif", 12).into_font().color(&INK);
        let mut labels = chart.configure_series_labels();
        labels.label_font(font).border_style(INK.mix(0.5)).draw()?;
    }
    Ok(())
}

/// Everything that charts have in common before their axes are known.
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
    x_label: Label<'_>,
    y_label: Label<'_>,
) -> Result<(), PlotError>
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
        .x_label_formatter(&|x| x_label(*x))
        .y_label_formatter(&|y| y_label(*y))
        .draw()?;
    Ok(())
}
