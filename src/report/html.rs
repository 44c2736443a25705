//! A page of HTML that stands alone: no script, no request to anywhere. Invariant: what a venue or a user named is escaped.

use std::fmt::Write;

use super::plot::{self, time};
use crate::metrics::{Latency, LatencyReport};

/// A latency report as a page of HTML with SVG pictures: a table and a percentile curve of each stage, the course of the
/// total, and the slowest messages as stacked bars. For a screen, a phone and paper.
#[derive(Debug, Clone)]
pub struct HtmlReport {
    title: String,
    notes: Vec<(String, String)>,
    moments: Vec<Moment>,
    began_unix_ns: Option<u64>,
}

/// An interval's total.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at_secs: f64,
    quantiles_ns: [f64; 3],
}

const COURSES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)];

impl HtmlReport {
    /// A page under this title.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), notes: Vec::new(), moments: Vec::new(), began_unix_ns: None }
    }

    /// Adds a line to the facts at the top: what was measured, where, how.
    #[must_use]
    pub fn note(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.notes.push((name.into(), value.into()));
        self
    }

    /// Adds an interval to the timeline: what [`LatencyReport::since`] gives. Only three numbers of it are kept, and of
    /// many intervals neighbours are merged, the worse of each kept.
    pub fn interval(&mut self, interval: &LatencyReport) {
        let covers_ns = u64::try_from(interval.covers.as_nanos()).unwrap_or(u64::MAX);
        let began = *self.began_unix_ns.get_or_insert(interval.taken_unix_ns.saturating_sub(covers_ns));
        let total = &interval.stages.total;
        if total.count() == 0 {
            return;
        }
        self.moments.push(Moment {
            at_secs: interval.taken_unix_ns.saturating_sub(began) as f64 / 1e9,
            quantiles_ns: COURSES.map(|(_, quantile)| total.quantile_ns(quantile) as f64),
        });
        if self.moments.len() > MOST_MOMENTS {
            self.moments = self.moments.chunks(2).map(Moment::worst).collect();
        }
    }

    /// The page; `report` is the whole time's.
    pub fn render(&self, report: &LatencyReport) -> String {
        let title = escaped(&self.title);
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        );
        // Writing into a String cannot fail.
        let _ = writeln!(page, "<dl>");
        let covers = format!("{:.1} s", report.covers.as_secs_f64());
        let handled = report.stages.total.count().to_string();
        let own = [("Measured for".to_owned(), covers), ("Messages handled".to_owned(), handled)];
        for (name, value) in self.notes.iter().chain(&own) {
            let _ = writeln!(page, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(value));
        }
        let _ = writeln!(page, "</dl>");

        // A stage keeps its colour where another was not measured.
        let stages = report.stages.named().into_iter().enumerate();
        let (names, curves): (Vec<_>, Vec<_>) = stages
            .filter(|(_, (_, latency))| latency.count() > 0)
            .map(|(colour, (name, latency))| ((colour, name), (colour, latency)))
            .unzip();
        page += "<h2>Stage by stage</h2>\n";
        page += &table(report);
        section(&mut page, "Percentiles", &legend(names), plot::percentiles(&curves));
        if !self.moments.is_empty() {
            let course = |index: usize| self.moments.iter().map(move |m| (m.at_secs, m.quantiles_ns[index])).collect();
            let courses: Vec<_> = (0..COURSES.len()).map(course).collect();
            section(
                &mut page,
                "Total over time",
                &legend(COURSES.map(|(name, _)| name).into_iter().enumerate()),
                plot::timeline(&courses),
            );
        }
        if !report.slowest.is_empty() {
            let slowest = &report.slowest[..report.slowest.len().min(MOST_TRACES)];
            let came_compressed = slowest.iter().any(|trace| trace.inflate_ns.is_some());
            let pieces = (plot::FIRST_STAGE..).zip(plot::stages_of(&slowest[0]).map(|(name, _)| name));
            let legend = legend(pieces.filter(|(_, name)| came_compressed || *name != "inflate"));
            section(&mut page, "The slowest messages", &legend, plot::bars(slowest));
            page += "<div class=\"scroll\"><table>\n<thead><tr><th>Route</th><th>Session</th><th>Total</th>\
                     <th>In the kernel</th></tr></thead>\n<tbody>\n";
            for trace in slowest {
                let kernel = match (trace.kernel_to_read_ns, trace.kernel_is_exact) {
                    (None, _) => "–".to_owned(),
                    (Some(ns), true) => time(ns as f64),
                    (Some(ns), false) => format!("≥ {}", time(ns as f64)),
                };
                let (route, epoch, total) = (escaped(&trace.route), trace.epoch, time(trace.total_ns as f64));
                let _ = writeln!(page, "<tr><td>{route}</td><td>{epoch}</td><td>{total}</td><td>{kernel}</td></tr>");
            }
            page += "</tbody></table></div>\n";
        }
        page += "</body>\n</html>\n";
        page
    }
}

impl Moment {
    fn worst(moments: &[Moment]) -> Moment {
        let last = moments[moments.len() - 1];
        let worst = |index: usize| moments.iter().map(|moment| moment.quantiles_ns[index]).fold(0.0, f64::max);
        Moment { quantiles_ns: [worst(0), worst(1), worst(2)], ..last }
    }
}

fn table(report: &LatencyReport) -> String {
    let mut text = String::from(
        "<div class=\"scroll\"><table>\n<thead><tr><th>Stage</th><th>Count</th><th>Mean</th><th>p50</th><th>p90</th>\
         <th>p99</th><th>p99.9</th><th>Max</th></tr></thead>\n<tbody>\n",
    );
    let beside = [
        ("tick_to_trade", &report.tick_to_trade),
        ("round_trips", &report.round_trips),
        ("loop_gaps", &report.loop_gaps),
    ];
    for (name, latency) in report.stages.named().into_iter().chain(beside).filter(|(_, all)| all.count() > 0) {
        let quantiles = [0.5, 0.9, 0.99, 0.999].map(|quantile| time(latency.quantile_ns(quantile) as f64));
        let (count, mean, max) = (latency.count(), time(Latency::mean_ns(latency)), time(latency.max_ns() as f64));
        let _ = writeln!(
            text,
            "<tr><td>{name}</td><td>{count}</td><td>{mean}</td><td>{}</td><td>{max}</td></tr>",
            quantiles.join("</td><td>")
        );
    }
    let stages = &report.stages;
    text += "</tbody></table></div>\n";
    if stages.kernel_upper_bounds > 0 {
        let _ = writeln!(
            text,
            "<p>{} messages shared a read with a later one: the kernel stamps the last byte of a read, so how long they lay \
             in the kernel is not known, and they are not in <code>kernel_to_read</code>.</p>",
            stages.kernel_upper_bounds
        );
    }
    let offset = &stages.venue_to_read;
    if offset.count() > 0 {
        let at = |quantile| {
            let ns = offset.quantile_ns(quantile);
            format!("{}{}", if ns < 0 { "−" } else { "" }, time(ns.unsigned_abs() as f64))
        };
        let _ = writeln!(
            text,
            "<p>Our clock at the read less the venue's time in the message: lowest {}, median {}, p99 {}. That is the way here \
             and the difference of two clocks in one number; {} of {} messages came before their own time.</p>",
            at(0.0),
            at(0.5),
            at(0.99),
            offset.count_ahead(),
            offset.count()
        );
    }
    text
}

/// Names in their colours.
fn legend<'a>(names: impl IntoIterator<Item = (usize, &'a str)>) -> String {
    let entry = |(colour, name)| format!("<span style=\"--c:{}\">{name}</span>", plot::colour(colour));
    names.into_iter().map(entry).collect()
}

fn section(page: &mut String, title: &str, legend: &str, drawn: Result<String, impl std::fmt::Display>) {
    // Drawing into memory fails for nothing that was measured; if it should, the tables are still worth having.
    let picture = drawn.unwrap_or_else(|error| format!("<p>No picture: {}</p>", escaped(&error.to_string())));
    let _ = writeln!(page, "<section>\n<h2>{title}</h2>\n<p class=\"legend\">{legend}</p>\n{picture}</section>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A pixel and a half each.
const MOST_MOMENTS: usize = 600;
/// As many as fit a page.
const MOST_TRACES: usize = 16;

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
dl { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 0; } dt { font-size: .8rem; color: #666; } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; display: block; }
.legend { margin: 0; } .legend span { margin-right: 1.2rem; white-space: nowrap; }
.legend span::before { content: ''; display: inline-block; width: .8em; height: .8em; margin-right: .4em; background: var(--c); print-color-adjust: exact; -webkit-print-color-adjust: exact; }
section { break-inside: avoid; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; } }
";
