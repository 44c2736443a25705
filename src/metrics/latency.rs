//! How long messages take from the socket to their handler's call, as a histogram per route; and pings to their pongs.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::sync::lock;

/// Written by one thread; the lock is taken by nobody else but a reader that copies. Allocates at the first record.
#[derive(Default)]
pub(crate) struct LatencyRecorder(Mutex<Option<Histogram<u64>>>);

impl LatencyRecorder {
    pub(crate) fn record(&self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        lock(&self.0).get_or_insert_with(empty).saturating_record(ns);
    }

    pub(crate) fn snapshot(&self) -> Latency {
        Latency { histogram: lock(&self.0).clone().unwrap_or_else(empty) }
    }
}

impl fmt::Debug for LatencyRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyRecorder").finish_non_exhaustive()
    }
}

fn empty() -> Histogram<u64> {
    // Three digits at 1 ns … 60 s: 0.1 % exact, some 220 KiB.
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds that hdrhistogram accepts")
}

/// A distribution of latencies, exact to 0.1 %, from 1 ns to 60 s (longer ones count as 60 s).
#[derive(Clone)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Latency {
    pub(crate) fn merged(parts: impl Iterator<Item = Latency>) -> Self {
        let mut histogram = empty();
        for part in parts {
            histogram.add(part.histogram).expect("both histograms have the same bounds");
        }
        Self { histogram }
    }

    /// How many messages were measured.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency that the given share of the messages did not exceed, in nanoseconds; `quantile` from 0.0 to 1.0.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    /// The mean, in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        self.histogram.mean()
    }

    /// The largest, in nanoseconds.
    pub fn max_ns(&self) -> u64 {
        self.histogram.max()
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency")
            .field("count", &self.count())
            .field("p50_ns", &self.quantile_ns(0.5))
            .field("p99_ns", &self.quantile_ns(0.99))
            .field("max_ns", &self.max_ns())
            .finish()
    }
}
