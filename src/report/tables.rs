//! JSON, CSV and percentile text.

use std::fmt::Write;

use serde_json::{Value, json as object};

use crate::metrics::{ClockOffset, Latency, LatencyReport, Stages, Trace};

/// The quantiles that every summary shows, and their names.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The whole report as one JSON object; all times in nanoseconds. Each distribution is an object of `count`, `mean`,
/// `p50`, `p90`, `p99`, `p99.9` and `max`.
pub fn json(report: &LatencyReport) -> Value {
    let routes: Vec<_> = report
        .routes
        .iter()
        .map(|route| object!({ "route": route.route, "stages": stages(&route.stages), "venue_to_read": offset(&route.stages.venue_to_read) }))
        .collect();
    object!({
        "unit": "ns",
        "taken_unix_ns": report.taken_unix_ns,
        "covers_ns": u64::try_from(report.covers.as_nanos()).unwrap_or(u64::MAX),
        "stages": stages(&report.stages),
        "kernel_upper_bounds": report.stages.kernel_upper_bounds,
        "venue_to_read": offset(&report.stages.venue_to_read),
        "tick_to_trade": distribution(&report.tick_to_trade),
        "round_trips": distribution(&report.round_trips),
        "loop_gaps": distribution(&report.loop_gaps),
        "routes": routes,
        "slowest": report.slowest.iter().map(trace).collect::<Vec<_>>(),
    })
}

fn stages(stages: &Stages) -> Value {
    stages.named().into_iter().map(|(name, latency)| (name.to_owned(), distribution(latency))).collect()
}

fn distribution(latency: &Latency) -> Value {
    let mut entries = object!({ "count": latency.count(), "mean": latency.mean_ns() });
    for (name, quantile) in QUANTILES {
        entries[name] = latency.quantile_ns(quantile).into();
    }
    entries["max"] = latency.max_ns().into();
    entries
}

/// Between two clocks, so it may be negative; `ahead` counts those.
fn offset(offset: &ClockOffset) -> Value {
    let mut entries = object!({ "count": offset.count(), "ahead": offset.count_ahead(), "mean": offset.mean_ns() });
    entries["min"] = offset.quantile_ns(0.0).into();
    for (name, quantile) in QUANTILES {
        entries[name] = offset.quantile_ns(quantile).into();
    }
    entries["max"] = offset.quantile_ns(1.0).into();
    entries
}

fn trace(trace: &Trace) -> Value {
    object!({
        "route": trace.route,
        "epoch": trace.epoch,
        "received_unix_ns": trace.received_unix_ns,
        "kernel_to_read": trace.kernel_to_read_ns,
        "kernel_is_exact": trace.kernel_is_exact,
        "readable_to_read": trace.readable_to_read_ns,
        "read_to_parse": trace.read_to_parse_ns,
        "inflate": trace.inflate_ns,
        "parse": trace.parse_ns,
        "route_lookup": trace.route_ns,
        "queue": trace.queue_ns,
        "handle": trace.handle_ns,
        "total": trace.total_ns,
    })
}

/// A row a route and stage, behind a header; all times in nanoseconds. The rows of all routes together have an empty
/// `route`.
pub fn csv(report: &LatencyReport) -> String {
    let mut text = String::from("route,stage,count,mean_ns,p50_ns,p90_ns,p99_ns,p99.9_ns,max_ns\n");
    let mut row = |route: &str, stage: &str, latency: &Latency| {
        let [p50, p90, p99, p999] = QUANTILES.map(|(_, quantile)| latency.quantile_ns(quantile));
        let (count, mean, max) = (latency.count(), latency.mean_ns(), latency.max_ns());
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{},{stage},{count},{mean:.1},{p50},{p90},{p99},{p999},{max}", quoted(route));
    };
    report.stages.named().into_iter().for_each(|(stage, latency)| row("", stage, latency));
    row("", "tick_to_trade", &report.tick_to_trade);
    row("", "round_trips", &report.round_trips);
    row("", "loop_gaps", &report.loop_gaps);
    for route in &report.routes {
        route.stages.named().into_iter().for_each(|(stage, latency)| row(&route.route, stage, latency));
    }
    text
}

/// A field of RFC 4180: in quotes where it must be.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// One distribution as HdrHistogram's percentile text (`.hgrm`), in microseconds, five steps for each halving of the
/// distance to 100 %: what <https://hdrhistogram.github.io/HdrHistogram/plotFiles.html> plots.
pub fn hgrm(latency: &Latency) -> String {
    let in_us = |ns: f64| ns / 1000.0;
    let histogram = latency.histogram();
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in histogram.iter_quantiles(5) {
        let (value, quantile) = (in_us(step.value_iterated_to() as f64), step.quantile_iterated_to());
        total += step.count_since_last_iteration();
        let _ = match quantile < 1.0 {
            true => writeln!(text, "{value:>12.3} {quantile:>14.12} {total:>10} {:>14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(text, "{value:>12.3} {quantile:>14.12} {total:>10}"),
        };
    }
    let (mean, deviation, max) = (in_us(histogram.mean()), in_us(histogram.stdev()), in_us(histogram.max() as f64));
    let _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let _ = writeln!(text, "#[Max     = {max:>12.3}, Total count    = {:>12}]", histogram.len());
    let sub_buckets = (2 * 10_u32.pow(histogram.sigfig().into())).next_power_of_two();
    let _ = writeln!(text, "#[Buckets = {:>12}, SubBuckets     = {sub_buckets:>12}]", histogram.buckets());
    text
}
