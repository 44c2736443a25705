//! Latency for other programs and other people: JSON, CSV, HdrHistogram's percentile text and interval log, Prometheus,
//! and a page of HTML (feature `report`).
//!
//! ```
//! use hypersockets::report;
//! # fn show(client: &hypersockets::Client) -> std::io::Result<()> {
//! let latency = client.latency();
//! std::fs::write("latency.json", report::json(&latency).to_string())?;
//! std::fs::write("queue.hgrm", report::hgrm(&latency.stages.queue))?;
//! std::fs::write("latency.html", report::HtmlReport::new("BTC feed").render(&latency))?;
//! # Ok(())
//! # }
//! ```

// | endpoint                          | Prometheus over HTTP, on loopback          |
// | html                              | a page                                     |
// | plot                              | its pictures                               |
// | interval_log, prometheus, tables  | one format each                            |

mod endpoint;
mod html;
mod interval_log;
mod plot;
mod prometheus;
mod tables;

pub use endpoint::PrometheusEndpoint;
pub use html::HtmlReport;
pub use interval_log::IntervalLog;
pub use prometheus::Prometheus;
pub use tables::{csv, hgrm, json};

#[cfg(test)]
mod tests;
