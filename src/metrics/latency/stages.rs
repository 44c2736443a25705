//! One route's histograms, a stage each, and its slowest messages.
//!
//! Invariant: the stages of a message follow each other without a gap, so their times sum to its total.

use std::fmt;
use std::sync::Mutex;

use hdrhistogram::Histogram;

use super::distribution::{ClockOffset, Latency, OffsetRecorder, empty};
use super::stamps::Trail;
use crate::clock;
use crate::sync::lock;

/// Where a route's messages are measured. The handler's side is written by the thread that handles, the other by the one
/// that parses.
#[derive(Default)]
pub(crate) struct StageRecorder {
    handled: Mutex<Recorded>,
    pub(crate) venue_to_read: OffsetRecorder,
}

/// What has been measured of the messages handled so far.
#[derive(Clone)]
struct Recorded {
    kernel_to_read: Histogram<u64>,
    kernel_upper_bounds: u64,
    read_to_parse: Histogram<u64>,
    inflate: Histogram<u64>,
    parse: Histogram<u64>,
    queue: Histogram<u64>,
    handle: Histogram<u64>,
    total: Histogram<u64>,
    slowest: Vec<Slow>,
}

/// One of the slowest messages.
#[derive(Clone, Copy)]
struct Slow {
    total_ns: u64,
    epoch: u64,
    trail: Trail,
    dequeued_ns: u64,
}

impl StageRecorder {
    /// A message was handled.
    pub(crate) fn record(&self, epoch: u64, trail: &Trail, dequeued_ns: u64, handled_ns: u64) {
        let mut recorded = lock(&self.handled);
        recorded.record(&Slow {
            total_ns: handled_ns.saturating_sub(trail.received_ns),
            epoch,
            trail: *trail,
            dequeued_ns,
        });
    }

    pub(crate) fn snapshot(&self) -> Stages {
        let recorded = lock(&self.handled).clone();
        Stages {
            kernel_to_read: Latency::new(recorded.kernel_to_read),
            kernel_upper_bounds: recorded.kernel_upper_bounds,
            read_to_parse: Latency::new(recorded.read_to_parse),
            inflate: Latency::new(recorded.inflate),
            parse: Latency::new(recorded.parse),
            queue: Latency::new(recorded.queue),
            handle: Latency::new(recorded.handle),
            total: Latency::new(recorded.total),
            venue_to_read: self.venue_to_read.snapshot(),
        }
    }

    /// The slowest messages so far, the slowest first.
    pub(crate) fn slowest(&self, route: &str) -> Vec<Trace> {
        let slowest = lock(&self.handled).slowest.clone();
        let (stamp_ns, unix_ns) = (clock::stamp_ns(), clock::unix_ns());
        let mut traces: Vec<_> = slowest.iter().map(|slow| slow.trace(route, unix_ns - stamp_ns)).collect();
        traces.sort_by_key(|trace| std::cmp::Reverse(trace.total_ns));
        traces
    }
}

impl fmt::Debug for StageRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageRecorder").finish_non_exhaustive()
    }
}

impl Default for Recorded {
    fn default() -> Self {
        Self {
            kernel_to_read: empty(),
            kernel_upper_bounds: 0,
            read_to_parse: empty(),
            inflate: empty(),
            parse: empty(),
            queue: empty(),
            handle: empty(),
            total: empty(),
            slowest: Vec::with_capacity(SLOWEST),
        }
    }
}

impl Recorded {
    fn record(&mut self, message: &Slow) {
        match message.trail.kernel_to_read() {
            Some((ns, true)) => self.kernel_to_read.saturating_record(ns),
            Some((_, false)) => self.kernel_upper_bounds += 1,
            None => {}
        }
        let [decoded, _, queued] = message.trail.after_read_ns();
        let dequeued = message.dequeued();
        let inflate = message.trail.inflate_ns();
        if let Some(ns) = inflate {
            self.inflate.saturating_record(ns);
        }
        self.read_to_parse.saturating_record(decoded - inflate.unwrap_or(0));
        self.parse.saturating_record(queued - decoded);
        self.queue.saturating_record(dequeued - queued);
        self.handle.saturating_record(message.total_ns.saturating_sub(dequeued));
        self.total.saturating_record(message.total_ns);
        self.keep_if_slow(message);
    }

    fn keep_if_slow(&mut self, message: &Slow) {
        if self.slowest.len() < SLOWEST {
            return self.slowest.push(*message);
        }
        // Sixteen are looked through only for a message that is among them.
        if message.total_ns > self.slowest[0].total_ns {
            self.slowest[0] = *message;
            let fastest = (0..SLOWEST).min_by_key(|&at| self.slowest[at].total_ns).unwrap_or(0);
            self.slowest.swap(0, fastest);
        }
    }
}

impl Slow {
    /// When its handler was called, as nanoseconds from the read; never before it was queued.
    fn dequeued(&self) -> u64 {
        let [_, _, queued] = self.trail.after_read_ns();
        self.dequeued_ns.saturating_sub(self.trail.received_ns).max(queued).min(self.total_ns.max(queued))
    }

    fn trace(&self, route: &str, unix_less_stamp_ns: u64) -> Trace {
        let [decoded, parsed, queued] = self.trail.after_read_ns();
        let (kernel, dequeued) = (self.trail.kernel_to_read(), self.dequeued());
        let inflate_ns = self.trail.inflate_ns();
        Trace {
            route: route.to_owned(),
            epoch: self.epoch,
            received_unix_ns: self.trail.received_ns + unix_less_stamp_ns,
            kernel_to_read_ns: kernel.map(|(ns, _)| ns),
            kernel_is_exact: kernel.is_some_and(|(_, exact)| exact),
            readable_to_read_ns: self.trail.readable_to_read_ns(),
            read_to_parse_ns: decoded - inflate_ns.unwrap_or(0),
            inflate_ns,
            parse_ns: parsed - decoded,
            route_ns: queued - parsed,
            queue_ns: dequeued - queued,
            handle_ns: self.total_ns.saturating_sub(dequeued),
            total_ns: self.total_ns,
        }
    }
}

/// How long messages took, stage by stage. The times of `read_to_parse`, `inflate`, `parse`, `queue` and `handle` sum to that of `total`,
/// message by message; so do their means, that of `inflate` with the share of the messages that came compressed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stages {
    /// From the kernel's receive time to the return of the read, both on the wall clock. Only messages whose own last byte
    /// the kernel stamped; empty without
    /// [`kernel_timestamps`](crate::SocketOptions::kernel_timestamps).
    pub kernel_to_read: Latency,
    /// Messages whose read ended with a later byte: they had lain in the kernel for at least as long as its stamp says, and
    /// are in no histogram of it.
    pub kernel_upper_bounds: u64,
    /// From the return of the read to the parser's call, less `inflate`: what came before it in the same read, and with parser lanes the way
    /// there.
    pub read_to_parse: Latency,
    /// Inflating the message, as far as that was done since the read that completed it. Only messages that came compressed (feature
    /// `deflate`).
    pub inflate: Latency,
    /// The router's parse, its route key, and finding the route.
    pub parse: Latency,
    /// In the route's queue, until the handler's call; next to nothing for inline routes.
    pub queue: Latency,
    /// The handler's call.
    pub handle: Latency,
    /// From the return of the read to the handler's return.
    pub total: Latency,
    /// Our wall clock at the read less the venue's own time, for messages that carry one.
    pub venue_to_read: ClockOffset,
}

impl Stages {
    pub(crate) fn merged<'a>(parts: impl Iterator<Item = &'a Stages> + Clone) -> Self {
        let all = |field: fn(&Stages) -> &Latency| Latency::merged(parts.clone().map(field));
        Self {
            kernel_to_read: all(|stages| &stages.kernel_to_read),
            kernel_upper_bounds: parts.clone().map(|stages| stages.kernel_upper_bounds).sum(),
            read_to_parse: all(|stages| &stages.read_to_parse),
            inflate: all(|stages| &stages.inflate),
            parse: all(|stages| &stages.parse),
            queue: all(|stages| &stages.queue),
            handle: all(|stages| &stages.handle),
            total: all(|stages| &stages.total),
            venue_to_read: ClockOffset::merged(parts.map(|stages| &stages.venue_to_read)),
        }
    }

    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            kernel_to_read: self.kernel_to_read.since(&earlier.kernel_to_read),
            kernel_upper_bounds: self.kernel_upper_bounds.saturating_sub(earlier.kernel_upper_bounds),
            read_to_parse: self.read_to_parse.since(&earlier.read_to_parse),
            inflate: self.inflate.since(&earlier.inflate),
            parse: self.parse.since(&earlier.parse),
            queue: self.queue.since(&earlier.queue),
            handle: self.handle.since(&earlier.handle),
            total: self.total.since(&earlier.total),
            venue_to_read: self.venue_to_read.since(&earlier.venue_to_read),
        }
    }

    /// The histograms with their names, in the order of a message's way, `total` last.
    pub fn named(&self) -> [(&'static str, &Latency); 7] {
        [
            ("kernel_to_read", &self.kernel_to_read),
            ("read_to_parse", &self.read_to_parse),
            ("inflate", &self.inflate),
            ("parse", &self.parse),
            ("queue", &self.queue),
            ("handle", &self.handle),
            ("total", &self.total),
        ]
    }
}

/// One message, from the kernel to its handler's return; all but `received_unix_ns` in nanoseconds that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trace {
    /// The route key, as its `Debug` prints it.
    pub route: String,
    /// The live spell that it came in.
    pub epoch: u64,
    /// When the read returned, as nanoseconds since 1970.
    pub received_unix_ns: u64,
    /// From the kernel's receive time to the return of the read, where the kernel was asked.
    pub kernel_to_read_ns: Option<u64>,
    /// Whether the kernel stamped this message, and not a later byte of the same read.
    pub kernel_is_exact: bool,
    /// From the loop's turning to the socket to the return of the read.
    pub readable_to_read_ns: u64,
    /// From the return of the read to the parser's call, less `inflate_ns`.
    pub read_to_parse_ns: u64,
    /// Inflating the message, where it came compressed.
    pub inflate_ns: Option<u64>,
    /// The router's parse.
    pub parse_ns: u64,
    /// The route key, and finding the route.
    pub route_ns: u64,
    /// In the route's queue.
    pub queue_ns: u64,
    /// The handler's call.
    pub handle_ns: u64,
    /// From the return of the read to the handler's return.
    pub total_ns: u64,
}

/// How many of a route's slowest messages keep their trace.
const SLOWEST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(received_ns: u64, [decoded, parsed, queued]: [u64; 3]) -> Trail {
        let mut trail = Trail::new(received_ns);
        trail.decoded(received_ns + decoded);
        trail.parsed(received_ns + parsed);
        trail.queued(received_ns + queued);
        trail
    }

    #[test]
    fn the_stages_of_each_message_sum_to_its_total() {
        let recorder = StageRecorder::default();
        for turn in 1..=1_000_u64 {
            let begin = turn * 10_000;
            recorder.record(1, &trail(begin, [7, 120, 150]), begin + 150 + turn, begin + 400 + turn * 2);
        }
        let stages = recorder.snapshot();
        let [_, parts @ .., (_, total)] = stages.named();
        let sum: f64 = parts.iter().map(|(_, part)| part.mean_ns()).sum();
        assert!((sum / total.mean_ns() - 1.0).abs() < 0.002, "{sum} of {}", total.mean_ns());
        assert!(parts.iter().all(|(name, part)| part.count() == if *name == "inflate" { 0 } else { 1_000 }));
        assert_eq!(stages.kernel_to_read.count(), 0);
    }

    #[test]
    fn inflating_is_a_stage_of_its_own_and_of_those_messages_alone_that_came_compressed() {
        let recorder = StageRecorder::default();
        let mut compressed = trail(10_000, [500, 620, 650]);
        compressed.inflate(Some(400));
        recorder.record(1, &compressed, 10_650, 10_900);
        recorder.record(1, &trail(20_000, [500, 620, 650]), 20_650, 20_800);
        let stages = recorder.snapshot();
        assert_eq!((stages.inflate.count(), stages.inflate.max_ns()), (1, 400));
        assert_eq!((stages.read_to_parse.count(), stages.read_to_parse.quantile_ns(0.5)), (2, 100));
        let traces = recorder.slowest("BTC");
        assert_eq!(
            [&traces[0], &traces[1]].map(|trace| (trace.read_to_parse_ns, trace.inflate_ns)),
            [(100, Some(400)), (500, None)]
        );
    }

    #[test]
    fn the_slowest_sixteen_keep_their_traces() {
        let recorder = StageRecorder::default();
        // 7 has no divisor in common with 1,000: every total from 1,000 to 1,999 once, in no order.
        for turn in 0..1_000_u64 {
            let (begin, total) = (turn * 10_000, 1_000 + turn * 7 % 1_000);
            recorder.record(turn, &trail(begin, [10, 30, 40]), begin + 100, begin + total);
        }
        let traces = recorder.slowest("BTC");
        assert_eq!(
            traces.iter().map(|trace| trace.total_ns).collect::<Vec<_>>(),
            (1_984..2_000).rev().collect::<Vec<_>>()
        );
        let Trace { read_to_parse_ns, parse_ns, route_ns, queue_ns, handle_ns, total_ns, .. } = traces[0].clone();
        assert_eq!((read_to_parse_ns, parse_ns, route_ns, queue_ns, handle_ns), (10, 20, 10, 60, total_ns - 100));
    }

    #[test]
    fn a_stamp_that_was_taken_out_of_order_costs_no_panic() {
        let recorder = StageRecorder::default();
        recorder.record(1, &trail(1_000, [50, 20, 10]), 900, 800);
        let stages = recorder.snapshot();
        assert_eq!((stages.total.count(), stages.queue.max_ns(), stages.handle.max_ns()), (1, 0, 0));
        assert_eq!(recorder.slowest("BTC").len(), 1);
    }
}
