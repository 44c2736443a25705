//! The pictures of a report, as SVG. Invariant: nothing in them comes from a venue but numbers.

use std::error::Error;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::metrics::{Latency, Trace};

type Drawn = Result<String, Box<dyn Error>>;

/// Okabe and Ito's colours, which most people can tell apart, and in print too; in place of their yellow, which is faint on white, a grey.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x66, 0x66, 0x66),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0xD5, 0x5E, 0x00),
];
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
const SIZE: (u32, u32) = (720, 400);
const FONT: &str = "sans-serif";

/// The colour of the curve or bar with this index, as CSS has it.
pub(super) fn colour(index: usize) -> String {
    let RGBColor(red, green, blue) = COLOURS[index % COLOURS.len()];
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// For each distribution, in its colour, the time that a share of its messages did not exceed; the share approaches 100 % to the right.
pub(super) fn percentiles(curves: &[(usize, &Latency)]) -> Drawn {
    let most = curves.iter().map(|(_, latency)| latency.count()).max().unwrap_or(0).max(100) as f64;
    let highest = curves.iter().map(|(_, latency)| latency.max_ns()).max().unwrap_or(0).max(10_000) as f64;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .margin_right(28)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d((1.0..most).log_scale(), (LOWEST_NS..highest * 1.5).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("share of the messages")
            .x_label_formatter(&|distance| share(*distance))
            .y_label_formatter(&|ns| time(*ns))
            .label_style((FONT, 16).into_font().color(&INK))
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (index, latency) in curves {
            let total = latency.count() as f64;
            let mut below = 0;
            let mut points = Vec::new();
            for (ns, count) in latency.buckets() {
                let height = (ns as f64).max(LOWEST_NS);
                points.push((1.0 / (1.0 - below as f64 / total), height));
                below += count;
                points.push(((1.0 / (1.0 - below as f64 / total)).min(most), height));
            }
            let colour = COLOURS[index % COLOURS.len()];
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// The course of a quantile: a point an interval, seconds since the start and nanoseconds.
pub(super) type Course = Vec<(f64, f64)>;

/// Several quantiles over time.
pub(super) fn timeline(courses: &[Course]) -> Drawn {
    let points = || courses.iter().flatten();
    let end = points().map(|(at, _)| *at).fold(1.0, f64::max);
    let highest = points().map(|(_, ns)| *ns).fold(10_000.0, f64::max);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .margin_right(28)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..end, (LOWEST_NS..highest * 1.5).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("seconds")
            .x_label_formatter(&|at| if end < 20.0 { format!("{at:.1}") } else { format!("{at:.0}") })
            .y_label_formatter(&|ns| time(*ns))
            .label_style((FONT, 16).into_font().color(&INK))
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (index, course) in courses.iter().enumerate() {
            let line = course.iter().map(|(at, ns)| (*at, ns.max(LOWEST_NS)));
            chart.draw_series(LineSeries::new(line, COLOURS[index % COLOURS.len()].stroke_width(2)))?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// A bar a message, the slowest on top, a piece a stage.
pub(super) fn bars(traces: &[Trace]) -> Drawn {
    let longest = traces.iter().map(|trace| trace.total_ns).max().unwrap_or(0).max(1) as f64;
    let height = 50 + 24 * u32::try_from(traces.len()).unwrap_or(0).max(1);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (SIZE.0, height)).into_drawing_area();
        let rows = traces.len() as f64;
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .margin_right(110)
            .x_label_area_size(30)
            .build_cartesian_2d(0.0..longest, rows..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_label_formatter(&|ns| time(*ns))
            .label_style((FONT, 16).into_font().color(&INK))
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()?;
        let words = (FONT, 16).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        for (row, trace) in traces.iter().enumerate() {
            let (top, bottom, mut left) = (row as f64 + 0.15, row as f64 + 0.85, 0.0);
            for (index, (_, ns)) in stages_of(trace).into_iter().enumerate() {
                let right = left + ns as f64;
                let colour = COLOURS[(index + FIRST_STAGE) % COLOURS.len()];
                let piece = Rectangle::new([(left, top), (right, bottom)], colour.filled());
                chart.draw_series([piece])?;
                left = right;
            }
            let total = Text::new(format!(" {}", time(trace.total_ns as f64)), (left, row as f64 + 0.5), words.clone());
            chart.draw_series([total])?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// The pieces of a message's bar.
pub(super) fn stages_of(trace: &Trace) -> [(&'static str, u64); 5] {
    [
        ("read_to_parse", trace.read_to_parse_ns),
        ("inflate", trace.inflate_ns.unwrap_or(0)),
        ("parse", trace.parse_ns + trace.route_ns),
        ("queue", trace.queue_ns),
        ("handle", trace.handle_ns),
    ]
}

/// The colour of a bar's first piece: that of the same stage among the curves, where `kernel_to_read` comes before it.
pub(super) const FIRST_STAGE: usize = 1;

/// A time in the unit that fits it.
pub(super) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => return format!("{ns:.0} ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 9.95 { 1 } else { 0 };
    let text = format!("{value:.digits$}");
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// The share of which this is the distance, `1 / (1 - share)`, as a percentage: 1, 10, 100 are 0 %, 90 %, 99 %.
fn share(distance: f64) -> String {
    let nines = distance.log10().round().max(0.0) as usize;
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more - 2)),
    }
}

/// Below this a logarithmic axis shows nothing of interest.
const LOWEST_NS: f64 = 10.0;
