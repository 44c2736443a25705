//! What a handler does in every peer alike: it takes the time where it matters, counts and sums.

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
    /// The digest of the message that was sent last.
    pub(crate) last_digest: u64,
    /// When the first was sent; where nothing is stamped, when it was handled.
    pub(crate) first_ns: u64,
    pub(crate) last_handled_ns: u64,
    /// From the venue's send to here, in nanoseconds, without the warm-up.
    pub(crate) latency_ns: Histogram<u64>,
    /// The newest stamp, or the number of the message where nothing is stamped.
    newest: u64,
    /// How many messages the venue sends to all handlers together.
    expected: u64,
}

impl Tally {
    pub(crate) fn new(expected: u64) -> Self {
        Self {
            messages: 0,
            overtaken: 0,
            digest: 0,
            last_digest: 0,
            first_ns: u64::MAX,
            last_handled_ns: 0,
            latency_ns: Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order"),
            newest: 0,
            expected,
        }
    }

    pub(crate) fn record(&mut self, update: &Update) {
        if self.messages == 0 {
            CpuMeter::begin();
        }
        let now = stamp::now_ns();
        let stamp_ns = update.stamp_ns();
        self.messages += 1;
        self.overtaken += u64::from(stamp_ns < self.newest);
        let digest = message_digest(update.content_digest(), stamp_ns);
        if stamp_ns > self.newest {
            self.newest = stamp_ns;
            self.last_digest = digest;
        }
        self.digest = self.digest.wrapping_add(digest);
        self.first_ns = self.first_ns.min(stamp_ns);
        self.last_handled_ns = now;
        if stamp_ns - self.first_ns >= WARM_UP_NS {
            self.latency_ns.saturating_record(now.saturating_sub(stamp_ns));
        }
    }

    /// Of what is not parsed only the first and the last are timed: a look at the clock would cost as much as the message.
    pub(crate) fn count(&mut self, digest: u64) {
        if self.messages == 0 {
            CpuMeter::begin();
            self.first_ns = stamp::now_ns();
        }
        self.messages += 1;
        self.newest = self.messages;
        self.last_digest = digest;
        self.digest = self.digest.wrapping_add(digest);
        if self.messages == self.expected {
            self.last_handled_ns = stamp::now_ns();
        }
    }

    /// Whether all messages of the venue have come to this handler.
    pub(crate) fn is_complete(&self) -> bool {
        self.messages == self.expected
    }

    /// Both together.
    pub(crate) fn merge(mut self, other: &Self) -> Self {
        self.messages += other.messages;
        self.overtaken += other.overtaken;
        self.digest = self.digest.wrapping_add(other.digest);
        if other.newest > self.newest {
            self.newest = other.newest;
            self.last_digest = other.last_digest;
        }
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_handled_ns = self.last_handled_ns.max(other.last_handled_ns);
        self.latency_ns.add(&other.latency_ns).expect("all tallies have the same bounds");
        self
    }
}

/// Counted but not timed: threads start, pages are touched for the first time, code is loaded.
const WARM_UP_NS: u64 = 200_000_000;
/// A latency of a minute is as bad as any longer.
const LONGEST_NS: u64 = 60_000_000_000;
