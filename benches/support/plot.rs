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
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) =
            values.fold((f64::MAX, f64::MIN_POSITIVE), |(least, most), value| (least.min(value), most.max(value)));
        least * 0.8..most * 1.25
    };
    let across = range(&mut curve.points.iter().map(|point| point.0));
    let up = range(&mut curve.points.iter().map(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .caption(&curve.title, ("sans-serif", 14))
        .margin(12)
        .x_label_area_size(24)
        .y_label_area_size(56)
        .build_cartesian_2d(across.log_scale(), up.log_scale())?;
    chart.configure_mesh().light_line_style(TRANSPARENT).draw()?;
    chart.draw_series(LineSeries::new(curve.points.iter().copied(), &BLUE))?;
    chart.draw_series(curve.points.iter().map(|&point| Circle::new(point, 3, BLUE.filled())))?;
    Ok(())
}
