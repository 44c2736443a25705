//! Curves of a cost as something grows, as one SVG file.

use hypersockets::Result;
use plotters::prelude::*;

/// One plot: both axes count in powers.
pub(crate) struct Curve {
    pub(crate) title: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws the curves side by side, two a row.
///
/// # Errors
/// Where the file cannot be written.
pub(crate) fn svg(file: &str, curves: &[Curve]) -> Result<()> {
    let rows = curves.len().div_ceil(2);
    let root = SVGBackend::new(file, (900, 300 * rows as u32)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| error.to_string())?;
    for (area, curve) in root.split_evenly((rows, 2)).iter().zip(curves) {
        draw(area, curve).map_err(|error| error.to_string())?;
    }
    root.present().map_err(|error| error.to_string().into())
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    curve: &Curve,
) -> std::result::Result<(), DrawingAreaErrorKind<B::ErrorType>>
where
    B::ErrorType: 'static,
{
    let across = decades(curve.points.iter().map(|point| point.0));
    let up = decades(curve.points.iter().map(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .caption(&curve.title, ("sans-serif", 14))
        .margin(12)
        .margin_right(36)
        .x_label_area_size(24)
        .y_label_area_size(56)
        .build_cartesian_2d(across.log_scale(), up.log_scale())?;
    let plain = |value: &f64| value.to_string();
    chart.configure_mesh().light_line_style(TRANSPARENT).x_label_formatter(&plain).y_label_formatter(&plain).draw()?;
    chart.draw_series(LineSeries::new(curve.points.iter().copied(), &BLUE))?;
    chart.draw_series(curve.points.iter().map(|&point| Circle::new(point, 3, BLUE.filled())))?;
    Ok(())
}

/// From a power of ten to a power of ten, so that there is something to read the values by.
fn decades(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (least, most) =
        values.fold((f64::MAX, 1.0), |(least, most): (f64, f64), value| (least.min(value), most.max(value)));
    10f64.powf(least.log10().floor())..10f64.powf(most.log10().ceil())
}
