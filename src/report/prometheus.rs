//! Prometheus' text format, version 0.0.4.

use std::fmt::Write;

use crate::metrics::{Latency, LatencyReport, Metrics};

/// What clients count and measure, as a Prometheus server scrapes it: counters, and a summary of each stage in seconds
/// since the client was built.
///
/// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
#[derive(Debug, Default)]
pub struct Prometheus {
    /// In the order in which they must be printed: a family's samples stand together.
    families: Vec<(&'static str, &'static str, String)>,
}

const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

impl Prometheus {
    /// No clients yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a client under this name; a latency where it [measures](crate::ClientBuilder::measure_latency).
    #[must_use]
    pub fn client(mut self, client: &str, metrics: &Metrics, latency: Option<&LatencyReport>) -> Self {
        let client = escaped(client);
        for (name, count) in [
            ("hypersockets_dials_total", metrics.dials),
            ("hypersockets_reconnects_total", metrics.reconnect_count),
            ("hypersockets_messages_received_total", metrics.messages_received),
            ("hypersockets_bytes_received_total", metrics.bytes_received),
            ("hypersockets_messages_sent_total", metrics.messages_sent),
            ("hypersockets_sends_dropped_total", metrics.sends_dropped),
            ("hypersockets_parse_errors_total", metrics.parse_errors),
            ("hypersockets_unrouted_total", metrics.unrouted),
            ("hypersockets_events_dropped_total", metrics.events_dropped),
        ] {
            let family = self.family(name, "counter");
            let _ = writeln!(family, "{name}{{client=\"{client}\"}} {count}");
        }
        for route in &metrics.routes {
            let labels = format!("client=\"{client}\",route=\"{}\"", escaped(&route.route));
            for (name, count) in [
                ("hypersockets_route_handled_total", route.handled),
                ("hypersockets_route_dropped_total", route.dropped),
                ("hypersockets_route_handler_errors_total", route.errors),
                ("hypersockets_route_handler_panics_total", route.panics),
            ] {
                let family = self.family(name, "counter");
                let _ = writeln!(family, "{name}{{{labels}}} {count}");
            }
            let family = self.family("hypersockets_route_depth", "gauge");
            let _ = writeln!(family, "hypersockets_route_depth{{{labels}}} {}", route.depth);
        }
        if let Some(latency) = latency {
            for route in &latency.routes {
                for (stage, measured) in route.stages.named() {
                    let labels = format!("client=\"{client}\",route=\"{}\",stage=\"{stage}\"", escaped(&route.route));
                    self.summary("hypersockets_stage_seconds", &labels, measured);
                }
            }
            let labels = format!("client=\"{client}\"");
            self.summary("hypersockets_tick_to_trade_seconds", &labels, &latency.tick_to_trade);
            self.summary("hypersockets_round_trip_seconds", &labels, &latency.round_trips);
            self.summary("hypersockets_loop_gap_seconds", &labels, &latency.loop_gaps);
        }
        self
    }

    /// The text to serve as `text/plain; version=0.0.4`.
    pub fn render(&self) -> String {
        let family = |(name, kind, samples): &(&str, &str, String)| format!("# TYPE {name} {kind}\n{samples}");
        self.families.iter().map(family).collect()
    }

    fn summary(&mut self, name: &'static str, labels: &str, latency: &Latency) {
        let samples = self.family(name, "summary");
        let seconds = |ns: f64| ns / 1e9;
        // Without a message there is no quantile; NaN says so.
        for quantile in QUANTILES {
            let value = match latency.count() {
                0 => f64::NAN,
                _ => seconds(latency.quantile_ns(quantile) as f64),
            };
            let _ = writeln!(samples, "{name}{{{labels},quantile=\"{quantile}\"}} {value}");
        }
        let sum = seconds(latency.mean_ns() * latency.count() as f64);
        let _ = writeln!(samples, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {}", latency.count());
    }

    fn family(&mut self, name: &'static str, kind: &'static str) -> &mut String {
        let at = self.families.iter().position(|(known, ..)| *known == name).unwrap_or_else(|| {
            self.families.push((name, kind, String::new()));
            self.families.len() - 1
        });
        &mut self.families[at].2
    }
}

/// A label's value: backslash, quote and line feed are escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
