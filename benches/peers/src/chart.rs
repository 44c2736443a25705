//! Bar charts as one SVG file: a chart per table, this library's bar in a colour of its own.

use std::fmt::Write;

use crate::Result;

/// One chart.
pub(crate) struct Bars {
    pub(crate) title: String,
    /// The bar to set off.
    pub(crate) ours: &'static str,
    /// Who, and how much; from zero.
    pub(crate) bars: Vec<(&'static str, f64)>,
}

/// Draws the charts one below the other, under a line that says where they were measured.
///
/// # Errors
/// None: a `String` takes everything.
pub(crate) fn svg(machine: &str, charts: &[Bars]) -> Result<String> {
    let bars: usize = charts.iter().map(|chart| chart.bars.len()).sum();
    let height = MARGIN * 3 + charts.len() * (TITLE + GAP) + bars * BAR;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let mut y = MARGIN + 8;
    text(&mut out, MARGIN, y, "#666", machine)?;
    y += MARGIN;
    for chart in charts {
        y += TITLE;
        text(&mut out, MARGIN, y, "black", &chart.title)?;
        let most = chart.bars.iter().map(|&(_, value)| value).fold(f64::MIN_POSITIVE, f64::max);
        for &(name, value) in &chart.bars {
            y += BAR;
            let long = (LONGEST as f64 * value / most).max(1.0);
            let colour = if name == chart.ours { "#0b7a75" } else { "#b8c4ce" };
            text(&mut out, MARGIN, y, "black", name)?;
            let top = y - BAR / 2 - 4;
            writeln!(
                out,
                "<rect x=\"{NAMES}\" y=\"{top}\" width=\"{long:.1}\" height=\"{}\" fill=\"{colour}\"/>",
                BAR - 6
            )?;
            text(&mut out, NAMES + long as usize + 6, y, "#444", &shown(value))?;
        }
        y += GAP;
    }
    out.push_str("</svg>\n");
    Ok(out)
}

fn text(out: &mut String, x: usize, y: usize, colour: &str, words: &str) -> Result<()> {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    Ok(writeln!(out, "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{words}</text>")?)
}

fn shown(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

const WIDTH: usize = 800;
const MARGIN: usize = 16;
const TITLE: usize = 20;
const BAR: usize = 20;
const GAP: usize = 16;
/// Where bars begin.
const NAMES: usize = 190;
/// The longest bar, with room for its figure.
const LONGEST: usize = WIDTH - NAMES - 80;
