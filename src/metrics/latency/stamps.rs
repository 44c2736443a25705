//! When a message passed which point on its way. Invariant: what travels with a message is 32 bytes, measured or not.

use std::fmt;
use std::time::{Duration, Instant};

use crate::clock;

/// The stamps that travel with a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trail {
    /// When the read returned that completed the message; on the stamps' clock, as all here.
    pub(crate) received_ns: u64,
    /// From the kernel's own stamp to the read's return, both on the wall clock.
    kernel: Span,
    /// From the loop's turning to the socket to the read's return.
    readable: Span,
    // From the read's return:
    decoded: Span,
    parsed: Span,
    queued: Span,
    /// The kernel's stamp is of this very message, and not of a later byte.
    kernel_is_exact: bool,
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
            decoded: unknown,
            parsed: unknown,
            queued: unknown,
            kernel_is_exact: false,
        }
    }

    /// When the loop turned to the socket.
    pub(crate) fn readable(&mut self, then_ns: u64) {
        self.readable = Span::of(self.received_ns.saturating_sub(then_ns));
    }

    /// The kernel's stamp of the read; `is_last`: the message ends where the read ended.
    pub(crate) fn kernel(&mut self, stamp: KernelStamp, is_last: bool) {
        self.kernel = Span::of(stamp.to_read_ns);
        self.kernel_is_exact = is_last && stamp.is_of_last_byte;
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
        Some((self.kernel.ns()?, self.kernel_is_exact))
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

/// A time in four bytes: in nanoseconds up to 2 s, in microseconds up to 35 minutes, longer ones as 35 minutes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Span(u32);

impl Span {
    const UNKNOWN: Self = Self(u32::MAX);
    const IN_US: u32 = 1 << 31;

    fn of(ns: u64) -> Self {
        match u32::try_from(ns) {
            Ok(ns) if ns < Self::IN_US => Self(ns),
            _ => Self(Self::IN_US | u32::try_from(ns / 1000).unwrap_or(u32::MAX).min(Self::IN_US - 2)),
        }
    }

    fn ns(self) -> Option<u64> {
        match self {
            Self::UNKNOWN => None,
            Self(span) if span < Self::IN_US => Some(u64::from(span)),
            Self(span) => Some(u64::from(span & !Self::IN_US) * 1000),
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
    fn a_span_is_exact_to_two_seconds_and_good_to_a_microsecond_beyond() {
        for ns in [0, 1, 999, 2_147_483_647] {
            assert_eq!(Span::of(ns).ns(), Some(ns));
        }
        assert_eq!(Span::of(2_147_483_648).ns(), Some(2_147_483_000));
        assert_eq!(Span::of(5_000_000_999).ns(), Some(5_000_000_000));
        assert_eq!(Span::of(u64::MAX).ns(), Some(2_147_483_646_000), "35 minutes, and not unknown");
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
        assert_eq!(Trail::new(7).after_read_ns(), [0, 0, 0]);
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
