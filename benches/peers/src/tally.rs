//! What a handler does in every peer alike: it takes the time, then counts, checks and sums.

use hdrhistogram::Histogram;

use crate::cpu_time::CpuMeter;
use crate::payload::{Update, message_digest};
use crate::stamp;

/// What one handler has seen.
pub(crate) struct Tally {
    pub(crate) messages: u64,
    /// Messages that came after one that was sent later, on the same route.
    pub(crate) overtaken: u64,
    /// The sum of all messages' digests.
    pub(crate) digest: u64,
    pub(crate) first_stamp_ns: u64,
    pub(crate) last_handled_ns: u64,
    /// From the venue's send to here, in nanoseconds, without the warm-up.
    pub(crate) latency_ns: Histogram<u64>,
    newest_ns: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            messages: 0,
            overtaken: 0,
            digest: 0,
            first_stamp_ns: u64::MAX,
            last_handled_ns: 0,
            latency_ns: Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order"),
            newest_ns: 0,
        }
    }

    pub(crate) fn record(&mut self, update: &Update) {
        let now = stamp::now_ns();
        let stamp_ns = update.stamp_ns();
        if self.messages == 0 {
            CpuMeter::begin();
        }
        self.messages += 1;
        self.overtaken += u64::from(stamp_ns < self.newest_ns);
        self.newest_ns = self.newest_ns.max(stamp_ns);
        self.digest = self.digest.wrapping_add(message_digest(update.content_digest(), stamp_ns));
        self.first_stamp_ns = self.first_stamp_ns.min(stamp_ns);
        self.last_handled_ns = now;
        if stamp_ns - self.first_stamp_ns >= WARM_UP_NS {
            self.latency_ns.saturating_record(now.saturating_sub(stamp_ns));
        }
    }

    /// Both together.
    pub(crate) fn merge(mut self, other: &Self) -> Self {
        self.messages += other.messages;
        self.overtaken += other.overtaken;
        self.digest = self.digest.wrapping_add(other.digest);
        self.first_stamp_ns = self.first_stamp_ns.min(other.first_stamp_ns);
        self.last_handled_ns = self.last_handled_ns.max(other.last_handled_ns);
        self.latency_ns.add(&other.latency_ns).expect("all tallies have the same bounds");
        self
    }
}

/// Counted but not timed: threads start, pages are touched for the first time, code is loaded.
const WARM_UP_NS: u64 = 200_000_000;
/// A latency of a minute is as bad as any longer.
const LONGEST_NS: u64 = 60_000_000_000;
