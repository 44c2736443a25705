//! When a message passed which point on its way. Invariant: what travels with a message is 32 bytes, measured or not.

use std::fmt;
use std::time::{Duration, Instant};

use crate::clock;

/// The stamps that travel with a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trail {
    /// When the read returned that completed the message; on the stamps' clock, as all here.
    pub(crate) received_ns: u64,
    /// From the kernel's own stamp to the read's return, both on the wall clock; marked where the stamp is of this very message, and not
    /// of a later byte.
    kernel: Span,
    /// From the loop's turning to the socket to the read's return.
    readable: Span,
    /// Inflating the message, within the time from the read's return to the parser's call; unknown where it was not compressed.
    inflate: Span,
    // From the read's return:
    decoded: Span,
    parsed: Span,
    queued: Span,
}

/// What the kernel said about a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelStamp {
    /// From the kernel's stamp to the read's return.
    pub(crate) to_read_ns: u64,
    /// It is the stamp of the byte that the plaintext ends with.
    pub(crate) is_of_last_byte: bool,
}

impl Trail {
    pub(crate) fn new(received_ns: u64) -> Self {
        let unknown = Span::UNKNOWN;
        Self {
            received_ns,
            kernel: unknown,
            readable: unknown,
            inflate: unknown,
            decoded: unknown,
            parsed: unknown,
            queued: unknown,
        }
    }

    /// When the loop turned to the socket.
    pub(crate) fn readable(&mut self, then_ns: u64) {
        self.readable = Span::of(self.received_ns.saturating_sub(then_ns));
    }

    /// The kernel's stamp of the read; `is_last`: the message ends where the read ended.
    pub(crate) fn kernel(&mut self, stamp: KernelStamp, is_last: bool) {
        let span = Span::of(stamp.to_read_ns);
        self.kernel = if is_last && stamp.is_of_last_byte { span.marked() } else { span };
    }

    /// How long it took to inflate the message; `None` where it was not compressed.
    pub(crate) fn inflate(&mut self, took_ns: Option<u64>) {
        self.inflate = took_ns.map_or(Span::UNKNOWN, Span::of);
    }

    /// The message is cut out of the read, and its parser is about to be called.
    pub(crate) fn decoded(&mut self, now_ns: u64) {
        self.decoded = self.since_received(now_ns);
    }

    pub(crate) fn parsed(&mut self, now_ns: u64) {
        self.parsed = self.since_received(now_ns);
    }

    /// The route is known, and the hand-over begins.
    pub(crate) fn queued(&mut self, now_ns: u64) {
        self.queued = self.since_received(now_ns);
    }

    fn since_received(&self, now_ns: u64) -> Span {
        Span::of(now_ns.saturating_sub(self.received_ns))
    }

    pub(super) fn readable_to_read_ns(&self) -> u64 {
        self.readable.ns().unwrap_or(0)
    }

    /// From the kernel's stamp to the read's return, and whether the stamp is of this very message.
    pub(super) fn kernel_to_read(&self) -> Option<(u64, bool)> {
        Some((self.kernel.ns()?, self.kernel.is_marked()))
    }

    /// Inflating the message, of the time to `decoded`; `None` where it was not compressed.
    pub(super) fn inflate_ns(&self) -> Option<u64> {
        let [decoded, ..] = self.after_read_ns();
        Some(self.inflate.ns()?.min(decoded))
    }

    /// The three instants after the read, as nanoseconds from it. Where one was not stamped, it is the one before.
    pub(super) fn after_read_ns(&self) -> [u64; 3] {
        let decoded = self.decoded.ns().unwrap_or(0);
        let parsed = self.parsed.ns().unwrap_or(decoded).max(decoded);
        [decoded, parsed, self.queued.ns().unwrap_or(parsed).max(parsed)]
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Stamps::new(*self, None).fmt(f)
    }
}

/// A time in four bytes, with room for a mark: in nanoseconds up to 1 s, in microseconds up to 17 minutes, longer ones as 17 minutes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Span(u32);

impl Span {
    const UNKNOWN: Self = Self(u32::MAX);
    const IN_US: u32 = 1 << 31;
    const MARK: u32 = 1 << 30;

    fn of(ns: u64) -> Self {
        match u32::try_from(ns) {
            Ok(ns) if ns < Self::MARK => Self(ns),
            _ => Self(Self::IN_US | u32::try_from(ns / 1000).unwrap_or(u32::MAX).min(Self::MARK - 2)),
        }
    }

    fn marked(self) -> Self {
        Self(self.0 | Self::MARK)
    }

    fn is_marked(self) -> bool {
        self.0 & Self::MARK != 0
    }

    fn ns(self) -> Option<u64> {
        let value = u64::from(self.0 & !(Self::IN_US | Self::MARK));
        match self {
            Self::UNKNOWN => None,
            Self(span) if span & Self::IN_US == 0 => Some(value),
            Self(_) => Some(value * 1000),
        }
    }
}

/// When a message passed which point on its way to its handler. All but [`received`](Self::received) need
/// [`measure_latency`](crate::ClientBuilder::measure_latency).
///
/// Stamps are read from the processor's counter and put on the monotonic clock all at once, so that the distances between
/// them are exact.
#[derive(Clone, Copy)]
pub struct Stamps {
    trail: Trail,
    dequeued_ns: Option<u64>,
    received: Instant,
}

impl Stamps {
    pub(crate) fn new(trail: Trail, dequeued_ns: Option<u64>) -> Self {
        Self { trail, dequeued_ns, received: clock::instant_of(trail.received_ns) }
    }

    /// When the read that completed the message returned from the kernel; all messages of one read share it.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// The time from [`received`](Self::received) to now.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(clock::stamp_ns().saturating_sub(self.trail.received_ns))
    }

    /// How long the bytes had lain in the kernel when they were read, by the kernel's receive time (SO_TIMESTAMPING,
    /// [`SocketOptions::kernel_timestamps`](crate::SocketOptions::kernel_timestamps)). TCP gives one such time a read, that
    /// of its last byte: for a message that does not end there
    /// ([`kernel_is_exact`](Self::kernel_is_exact) is false) it had lain there for at least this long.
    pub fn kernel_to_read(&self) -> Option<Duration> {
        self.trail.kernel_to_read().map(|(ns, _)| Duration::from_nanos(ns))
    }

    /// Whether the kernel's time is of the byte that this message ends with.
    pub fn kernel_is_exact(&self) -> bool {
        self.trail.kernel_to_read().is_some_and(|(_, exact)| exact)
    }

    /// When the loop turned to the socket: it was said to be readable, or is looked at anyway.
    pub fn readable(&self) -> Option<Instant> {
        let ns = self.trail.readable.ns()?;
        self.received.checked_sub(Duration::from_nanos(ns))
    }

    /// How long it took to inflate the message, since the read that completed it; `None` where it did not come compressed.
    pub fn inflate(&self) -> Option<Duration> {
        self.trail.inflate_ns().map(Duration::from_nanos)
    }

    /// When the message was cut out of the read and its parser was about to be called; with parser lanes, on the lane.
    pub fn decoded(&self) -> Option<Instant> {
        self.after_read(self.trail.decoded)
    }

    /// When the router had parsed it.
    pub fn parsed(&self) -> Option<Instant> {
        self.after_read(self.trail.parsed)
    }

    /// When its route was known and it was put into the route's queue, or given to the inline handler.
    pub fn queued(&self) -> Option<Instant> {
        self.after_read(self.trail.queued)
    }

    /// When it was taken out of the queue, for its handler.
    pub fn dequeued(&self) -> Option<Instant> {
        // The counters of two cores may differ by some nanoseconds; nothing is taken out before it was put in.
        let [.., queued] = self.trail.after_read_ns();
        let after = self.dequeued_ns?.saturating_sub(self.trail.received_ns).max(queued);
        Some(self.received + Duration::from_nanos(after))
    }

    fn after_read(&self, span: Span) -> Option<Instant> {
        span.ns().map(|ns| self.received + Duration::from_nanos(ns))
    }
}

impl fmt::Debug for Stamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trail, dequeued_ns, .. } = self;
        f.debug_struct("Stamps")
            .field("kernel_to_read_ns", &trail.kernel.ns())
            .field("readable_to_read_ns", &trail.readable.ns())
            .field("inflate_ns", &trail.inflate_ns())
            .field("read_to_decoded_ns", &trail.decoded.ns())
            .field("read_to_parsed_ns", &trail.parsed.ns())
            .field("read_to_queued_ns", &trail.queued.ns())
            .field("read_to_dequeued_ns", &dequeued_ns.map(|ns| ns.saturating_sub(trail.received_ns)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_exact_to_a_second_and_good_to_a_microsecond_beyond_marked_or_not() {
        let exact = [0, 1, 999, 1_073_741_823].map(|ns| (ns, ns));
        let longest = (u64::MAX, 1_073_741_822_000);
        let rounded = [(1_073_741_824, 1_073_741_000), (5_000_000_999, 5_000_000_000), longest];
        for (ns, kept) in exact.into_iter().chain(rounded) {
            let span = Span::of(ns);
            assert_eq!((span.ns(), span.is_marked()), (Some(kept), false));
            assert_eq!((span.marked().ns(), span.marked().is_marked()), (Some(kept), true));
        }
        assert_eq!(Span::UNKNOWN.ns(), None);
    }

    #[test]
    fn a_trail_is_small_and_keeps_its_points_in_order() {
        assert_eq!(size_of::<Trail>(), 32);
        let mut trail = Trail::new(1_000);
        trail.readable(900);
        trail.decoded(1_010);
        trail.parsed(1_200);
        trail.queued(1_230);
        assert_eq!((trail.readable_to_read_ns(), trail.after_read_ns()), (100, [10, 200, 230]));
        assert_eq!((Trail::new(7).after_read_ns(), Trail::new(7).inflate_ns()), ([0, 0, 0], None));
    }

    #[test]
    fn inflating_is_part_of_the_time_to_the_parsers_call() {
        let mut trail = Trail::new(1_000);
        trail.inflate(Some(6));
        trail.decoded(1_010);
        assert_eq!(trail.inflate_ns(), Some(6));
        // Two cores' counters, on a lane.
        trail.decoded(1_004);
        assert_eq!(trail.inflate_ns(), Some(4));
        trail.inflate(None);
        assert_eq!(trail.inflate_ns(), None);
    }

    #[test]
    fn the_kernels_time_is_exact_only_for_the_message_that_ends_the_read() {
        let mut trail = Trail::new(1_000);
        assert_eq!(trail.kernel_to_read(), None);
        let stamp = KernelStamp { to_read_ns: 50, is_of_last_byte: true };
        trail.kernel(stamp, false);
        assert_eq!(trail.kernel_to_read(), Some((50, false)));
        trail.kernel(stamp, true);
        assert_eq!(trail.kernel_to_read(), Some((50, true)));
        trail.kernel(KernelStamp { is_of_last_byte: false, ..stamp }, true);
        assert_eq!(trail.kernel_to_read(), Some((50, false)), "part of a TLS record is still to come");
    }
}
