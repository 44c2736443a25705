//! The counters of one route: what its parse site writes, what its handler writes, and what anyone may read of both.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::{Counter, StageRecorder};

/// A route's name, counters and limits, shared by its two ends and the client.
#[derive(Debug)]
pub(crate) struct RouteStats {
    pub(crate) name: String,
    pub(crate) limits: StaleLimits,
    /// Its messages are pulled by a thread of the caller's.
    pub(crate) pulled: bool,
    /// The lane that had its first message, plus one.
    lane: AtomicUsize,
    /// Set once, before the first message, where latency is measured.
    latency: OnceLock<StageRecorder>,
    // Apart, so that neither side takes the other's cache line with each message.
    parse_side: CachePadded<ParseSide>,
    handler_side: CachePadded<HandlerSide>,
}

/// When a route counts as stale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StaleLimits {
    /// While live, a message at least so often.
    pub(crate) silence: Option<Duration>,
    /// No message may wait longer than this.
    pub(crate) age: Option<Duration>,
}

impl StaleLimits {
    pub(super) fn shortest(self) -> Option<Duration> {
        self.silence.into_iter().chain(self.age).min()
    }
}

/// Written by the parse site (by several, where a router breaks the rule of `shard_key`).
#[derive(Debug, Default)]
struct ParseSide {
    queued: Counter,
    dropped: Counter,
    last_arrival_ns: Counter,
    /// When the oldest message arrived that found the queue empty last.
    waiting_since_ns: Counter,
    high_water: Counter,
    /// The last arrival that the rest here knows of.
    settled_ns: Counter,
    /// `handled` and the rest as the parse site saw them last: it looks again only where that could matter.
    seen_done: Counter,
}

impl ParseSide {
    /// Counts one message; `many` parse sites may do so at once.
    fn count(&self, many: bool) {
        if many {
            self.queued.add_shared(1);
        } else {
            self.queued.add(1);
        }
    }
}

/// Written by the handler's thread.
#[derive(Debug, Default)]
struct HandlerSide {
    handled: Counter,
    errors: Counter,
    panics: Counter,
    abandoned: Counter,
    /// When the message arrived that was taken out last.
    taken_ns: Counter,
}

impl RouteStats {
    pub(crate) fn new(name: String, limits: StaleLimits, pulled: bool) -> Arc<Self> {
        Arc::new(Self {
            name,
            limits,
            pulled,
            lane: AtomicUsize::new(0),
            latency: OnceLock::new(),
            parse_side: CachePadded::default(),
            handler_side: CachePadded::default(),
        })
    }

    /// Whether this lane may have its messages: the first that asks, and no other.
    pub(crate) fn is_of_lane(&self, lane: usize) -> bool {
        let known = self.lane.load(Ordering::Relaxed);
        known == lane + 1
            || known == 0
                && match self.lane.compare_exchange(0, lane + 1, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => true,
                    Err(first) => first == lane + 1,
                }
    }

    pub(crate) fn measure_latency(&self) {
        self.latency.get_or_init(StageRecorder::default);
    }

    pub(crate) fn latency(&self) -> Option<&StageRecorder> {
        self.latency.get()
    }

    /// A message is about to be handled inline, or queued: before the hand-over, or the handler could be ahead of the count.
    /// `many` parse sites may count at once.
    pub(crate) fn arriving(&self, received_ns: u64, many: bool) {
        self.parse_side.last_arrival_ns.set(received_ns);
        self.parse_side.count(many);
    }

    /// The message was queued. What needs a look at the handler's line waits until here: a handler that spins takes the
    /// message meanwhile.
    pub(crate) fn handed_over(&self, received_ns: u64) {
        let side = &self.parse_side;
        let queued = side.queued.get();
        // One look for each read of the socket, and one where this may be a new record.
        if side.settled_ns.get() != received_ns {
            side.seen_done.set(self.done());
            if side.seen_done.get() + 1 >= queued {
                side.waiting_since_ns.set(received_ns);
            }
            side.settled_ns.set(received_ns);
        }
        if queued.saturating_sub(side.seen_done.get()) > side.high_water.get() {
            side.seen_done.set(self.done());
        }
        // It waited, however shortly.
        let depth = queued.saturating_sub(side.seen_done.get()).max(1);
        if depth > side.high_water.get() {
            side.high_water.set(depth);
        }
    }

    /// The queue's policy threw messages away.
    pub(crate) fn dropped(&self, count: u64) {
        self.parse_side.dropped.add_shared(count);
    }

    /// A message that arrived then was taken out.
    pub(crate) fn taken(&self, received_ns: u64) {
        self.handler_side.taken_ns.set(received_ns);
    }

    pub(crate) fn handled(&self) {
        self.handler_side.handled.add(1);
    }

    pub(crate) fn erred(&self) {
        self.handler_side.errors.add(1);
    }

    pub(crate) fn panicked(&self) {
        self.handler_side.panics.add(1);
    }

    /// Messages were thrown away since nobody waits for them any more.
    pub(crate) fn abandoned(&self, count: u64) {
        self.handler_side.abandoned.add_shared(count);
    }

    /// When the last message arrived; 0 before the first.
    pub(crate) fn last_arrival_ns(&self) -> u64 {
        self.parse_side.last_arrival_ns.get()
    }

    /// When the oldest message arrived that is not handled yet.
    pub(crate) fn oldest_ns(&self) -> Option<u64> {
        let side = &self.parse_side;
        let (arrived_ns, settled_ns) = (side.last_arrival_ns.get(), side.settled_ns.get());
        match self.depth() {
            0 => None,
            // The only one, and it is being handed over.
            1 if arrived_ns != settled_ns => Some(arrived_ns),
            // What was taken out last is being handled, or is the nearest known to what comes next.
            _ => Some(side.waiting_since_ns.get().max(self.handler_side.taken_ns.get())),
        }
    }

    /// Messages that arrived and are neither handled nor thrown away.
    pub(crate) fn depth(&self) -> u64 {
        // Read first, so that it is never too large for `queued`.
        let done = self.done();
        self.parse_side.queued.get().saturating_sub(done)
    }

    fn done(&self) -> u64 {
        self.handler_side.handled.get() + self.handler_side.abandoned.get() + self.parse_side.dropped.get()
    }

    pub(super) fn read(&self, now_ns: u64) -> RouteMetrics {
        let (parse_side, handler_side) = (&self.parse_side, &self.handler_side);
        RouteMetrics {
            route: self.name.clone(),
            handled: handler_side.handled.get(),
            abandoned: handler_side.abandoned.get(),
            dropped: parse_side.dropped.get(),
            depth: self.depth(),
            high_water: parse_side.high_water.get(),
            oldest_age: self.oldest_ns().map(|oldest| Duration::from_nanos(now_ns.saturating_sub(oldest))),
            queued: parse_side.queued.get(),
            errors: handler_side.errors.get(),
            panics: handler_side.panics.get(),
        }
    }
}

/// The counters of one route at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteMetrics {
    /// The route key, as its `Debug` prints it; `default` for the default handler.
    pub route: String,
    /// Messages that arrived for the route.
    pub queued: u64,
    /// Messages handled; for a pull route: taken out of its queue.
    pub handled: u64,
    /// Messages waiting in the queue or being handled.
    pub depth: u64,
    /// The largest `depth` so far; 0 for an inline route, where nothing waits.
    pub high_water: u64,
    /// How long ago the oldest message arrived that is not handled yet. Between two messages, for a moment, it may still
    /// be that of the one before.
    pub oldest_age: Option<Duration>,
    /// Messages that the queue's policy threw away or replaced by newer ones.
    pub dropped: u64,
    /// Handler calls that returned an error.
    pub errors: u64,
    /// Handler calls that panicked.
    pub panics: u64,
    /// Messages thrown away because the caller's shutdown deadline passed, or the receiver of a pull route was dropped.
    pub abandoned: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Arc<RouteStats> {
        RouteStats::new("BTC".to_owned(), StaleLimits::default(), false)
    }

    fn arrive(stats: &RouteStats, received_ns: u64) {
        stats.arriving(received_ns, false);
        stats.handed_over(received_ns);
    }

    fn handle(stats: &RouteStats, received_ns: u64) {
        stats.taken(received_ns);
        stats.handled();
    }

    #[test]
    fn the_oldest_is_the_one_being_handled_then_the_one_behind_it() {
        let stats = stats();
        assert_eq!(stats.oldest_ns(), None);
        arrive(&stats, 10);
        arrive(&stats, 20);
        assert_eq!(stats.oldest_ns(), Some(10), "nobody has taken it yet");
        stats.taken(10);
        assert_eq!(stats.oldest_ns(), Some(10));
        stats.handled();
        stats.taken(20);
        assert_eq!(stats.oldest_ns(), Some(20));
        stats.handled();
        assert_eq!(stats.oldest_ns(), None);
        arrive(&stats, 90);
        assert_eq!(stats.oldest_ns(), Some(90), "it found the queue empty");
    }

    #[test]
    fn the_high_water_mark_counts_what_waited_at_once() {
        let stats = stats();
        for received_ns in 1..=100 {
            arrive(&stats, received_ns);
            handle(&stats, received_ns);
        }
        assert_eq!((stats.depth(), stats.read(0).high_water), (0, 1));
        for _ in 0..7 {
            arrive(&stats, 200);
        }
        assert_eq!(stats.read(0).high_water, 7);
        for _ in 0..7 {
            handle(&stats, 200);
        }
        // One read that brings many, to a handler that keeps up.
        for _ in 0..1_000 {
            arrive(&stats, 300);
            handle(&stats, 300);
        }
        assert_eq!((stats.depth(), stats.read(0).high_water), (0, 7));
    }

    #[test]
    fn what_a_policy_drops_waits_no_longer() {
        let stats = stats();
        arrive(&stats, 1);
        arrive(&stats, 2);
        stats.dropped(1);
        assert_eq!((stats.depth(), stats.read(5).oldest_age), (1, Some(Duration::from_nanos(4))));
    }
}
