//! A distribution of times, as a histogram, and the recorder behind it: written by one thread, copied by whoever asks.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::sync::lock;

/// Written by one thread; the lock is taken by nobody else but a reader that copies. Allocates at the first record.
#[derive(Default)]
pub(crate) struct LatencyRecorder(Mutex<Option<Histogram<u64>>>);

impl LatencyRecorder {
    pub(crate) fn record_ns(&self, ns: u64) {
        lock(&self.0).get_or_insert_with(empty).saturating_record(ns);
    }

    pub(crate) fn snapshot(&self) -> Latency {
        lock(&self.0).clone().map(Latency::new).unwrap_or_default()
    }
}

impl fmt::Debug for LatencyRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyRecorder").finish_non_exhaustive()
    }
}

pub(super) fn empty() -> Histogram<u64> {
    // Three digits at 1 ns … 60 s: 0.1 % exact. 220 KiB, of which only the pages that are written take memory.
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("constant bounds that hdrhistogram accepts")
}

/// Longer times count as this.
const LONGEST_NS: u64 = 60_000_000_000;

/// A distribution of times, exact to 0.1 %, from 1 ns to 60 s (longer ones count as 60 s).
#[derive(Clone, PartialEq)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Latency {
    pub(super) fn new(histogram: Histogram<u64>) -> Self {
        Self { histogram }
    }

    pub(super) fn merged<'a>(parts: impl Iterator<Item = &'a Latency>) -> Self {
        let mut histogram = empty();
        for part in parts {
            histogram.add(&part.histogram).expect("both histograms have the same bounds");
        }
        Self { histogram }
    }

    /// What was added since `earlier`, which must be a look at the same distribution.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let mut histogram = empty();
        for bucket in self.histogram.iter_recorded() {
            let value = bucket.value_iterated_to();
            let added = bucket.count_at_value().saturating_sub(earlier.histogram.count_at(value));
            if added > 0 {
                histogram.saturating_record_n(value, added);
            }
        }
        Self { histogram }
    }

    /// For those who write it down as HdrHistogram does.
    #[cfg(feature = "report")]
    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// How many were measured.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The time that the given share of all did not exceed, in nanoseconds; `quantile` from 0.0 to 1.0.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    /// The mean, in nanoseconds; 0 where nothing was measured.
    pub fn mean_ns(&self) -> f64 {
        self.histogram.mean()
    }

    /// The largest, in nanoseconds.
    pub fn max_ns(&self) -> u64 {
        self.histogram.max()
    }

    /// The same, corrected for coordinated omission: for a source that says something every `expected` and had to wait
    /// with that while it was held up. Each time longer than `expected` brings with it those of the messages that should
    /// have come meanwhile. A feed whose venue goes on sending needs no correction: what waited in the socket has been
    /// measured.
    #[must_use]
    pub fn corrected(&self, expected: Duration) -> Self {
        let expected_ns = u64::try_from(expected.as_nanos()).unwrap_or(u64::MAX);
        Self { histogram: self.histogram.clone_correct(expected_ns) }
    }

    /// The filled buckets, from the shortest time up: the longest time in nanoseconds that counts for the bucket, and how
    /// many were in it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.histogram.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
    }
}

impl Default for Latency {
    /// Nothing measured.
    fn default() -> Self {
        Self { histogram: empty() }
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

/// Our clock less the venue's, for each message that carries the venue's time; see [`ClockOffset`].
#[derive(Default)]
pub(crate) struct OffsetRecorder(Mutex<Option<(Histogram<u64>, Histogram<u64>)>>);

impl OffsetRecorder {
    pub(crate) fn record_ns(&self, ns: i64) {
        let mut both = lock(&self.0);
        let (ahead, behind) = both.get_or_insert_with(|| (empty(), empty()));
        let histogram = if ns < 0 { ahead } else { behind };
        histogram.saturating_record(ns.unsigned_abs());
    }

    pub(crate) fn snapshot(&self) -> ClockOffset {
        let (ahead, behind) = lock(&self.0).clone().unwrap_or_else(|| (empty(), empty()));
        ClockOffset { ahead: Latency::new(ahead), behind: Latency::new(behind) }
    }
}

impl fmt::Debug for OffsetRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffsetRecorder").finish_non_exhaustive()
    }
}

/// The wall clock at the read less the venue's own time of the message
/// ([`event_time_ns`](crate::MessageRouter::event_time_ns)): what the venue took to send it, plus the way here, plus the
/// difference of two clocks that nobody can tell apart from them. Where it is negative, the venue's clock is ahead of
/// ours by at least that much.
#[derive(Clone, PartialEq)]
pub struct ClockOffset {
    /// Of messages that came before their own time.
    ahead: Latency,
    behind: Latency,
}

impl ClockOffset {
    pub(super) fn merged<'a>(parts: impl Iterator<Item = &'a ClockOffset> + Clone) -> Self {
        let ahead = Latency::merged(parts.clone().map(|part| &part.ahead));
        Self { ahead, behind: Latency::merged(parts.map(|part| &part.behind)) }
    }

    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self { ahead: self.ahead.since(&earlier.ahead), behind: self.behind.since(&earlier.behind) }
    }

    /// How many messages carried a time.
    pub fn count(&self) -> u64 {
        self.ahead.count() + self.behind.count()
    }

    /// How many of them came before their own time, so that the clocks must differ.
    pub fn count_ahead(&self) -> u64 {
        self.ahead.count()
    }

    /// The offset that the given share of the messages did not exceed, in nanoseconds; 0 where there was none.
    pub fn quantile_ns(&self, quantile: f64) -> i64 {
        let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        let rank = (quantile.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        match rank.checked_sub(self.ahead.count()) {
            // Counted from zero, the lowest of them is the last.
            None | Some(0) if self.ahead.count() > 0 => {
                let from_zero = (self.ahead.count() - rank + 1) as f64 / self.ahead.count() as f64;
                -signed(self.ahead.quantile_ns(from_zero))
            }
            rank if self.behind.count() > 0 => {
                signed(self.behind.quantile_ns(rank.unwrap_or(0) as f64 / self.behind.count() as f64))
            }
            _ => 0,
        }
    }

    /// The mean, in nanoseconds; 0 where there was none.
    pub fn mean_ns(&self) -> f64 {
        let sum = |part: &Latency| part.mean_ns() * part.count() as f64;
        if self.count() == 0 { 0.0 } else { (sum(&self.behind) - sum(&self.ahead)) / self.count() as f64 }
    }
}

impl fmt::Debug for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClockOffset")
            .field("count", &self.count())
            .field("min_ns", &self.quantile_ns(0.0))
            .field("p50_ns", &self.quantile_ns(0.5))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times_ns: &[u64]) -> Latency {
        let recorder = LatencyRecorder::default();
        times_ns.iter().for_each(|&ns| recorder.record_ns(ns));
        recorder.snapshot()
    }

    #[test]
    fn an_interval_holds_what_came_since_the_look_before() {
        let recorder = LatencyRecorder::default();
        recorder.record_ns(1_000);
        recorder.record_ns(900_000);
        let earlier = recorder.snapshot();
        recorder.record_ns(1_000);
        recorder.record_ns(2_000);
        let interval = recorder.snapshot().since(&earlier);
        assert_eq!((interval.count(), interval.max_ns()), (2, of(&[2_000]).max_ns()));
        assert_eq!(interval.buckets().map(|(_, count)| count).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn a_stall_stands_for_the_messages_that_it_held_up() {
        let stalled = of(&[10, 10, 1_000_000]);
        let corrected = stalled.corrected(Duration::from_micros(100));
        assert_eq!((stalled.count(), corrected.count()), (3, 12), "ten of 1 ms, 0.9 ms … 0.1 ms");
        assert!(corrected.quantile_ns(0.5) > 100_000);
    }

    #[test]
    fn longer_than_the_longest_counts_as_the_longest() {
        let latency = of(&[u64::MAX]);
        assert_eq!(latency.count(), 1);
        assert!(latency.max_ns() >= LONGEST_NS);
    }

    #[test]
    fn offsets_of_both_signs_are_ranked_as_one() {
        let recorder = OffsetRecorder::default();
        for ns in [-300, -200, -100, 0, 100, 200] {
            recorder.record_ns(ns);
        }
        let offset = recorder.snapshot();
        assert_eq!((offset.count(), offset.count_ahead()), (6, 3));
        let quantiles = [0.0, 1.0 / 3.0, 0.5, 0.6, 1.0].map(|quantile| offset.quantile_ns(quantile));
        assert_eq!(quantiles, [-300, -200, -100, 0, 200]);
        assert!((offset.mean_ns() + 50.0).abs() < 1.0, "{}", offset.mean_ns());
        assert_eq!(OffsetRecorder::default().snapshot().quantile_ns(0.5), 0);
    }
}
