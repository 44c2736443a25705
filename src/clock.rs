//! The one place that asks the machine what time it is; everywhere else time is a parameter.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The monotonic clock (CLOCK_MONOTONIC on Linux): it does not jump when the wall clock is set. For deadlines.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The instant that far from now; one that the clock cannot name is as good as never.
pub(crate) fn after(wait: Duration) -> Instant {
    let now = now();
    now.checked_add(wait).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
}

/// The stamps' clock: nanoseconds from an origin of the process's own, never 0. It counts like the monotonic clock until
/// [`calibrate_stamps`] was called, and by the processor's counter from then on.
#[inline]
pub(crate) fn stamp_ns() -> u64 {
    match COUNTER.get() {
        Some(counter) => counter.begin_ns + counter.clock.delta_as_nanos(counter.begin_raw, counter.clock.raw()),
        None => monotonic_ns(),
    }
}

/// The stamp of an instant that was read just now: no second look at the same clock.
pub(crate) fn stamp_of(just_now: Instant) -> u64 {
    if COUNTER.get().is_some() { stamp_ns() } else { monotonic_ns_at(just_now) }
}

/// Lets stamps be read from the processor's time stamp counter, where it has one that can be trusted: half the price of the
/// system's clock. The first call of a process takes up to 0.2 s.
pub(crate) fn calibrate_stamps() {
    COUNTER.get_or_init(|| {
        let clock = quanta::Clock::new();
        Counter { begin_raw: clock.raw(), begin_ns: monotonic_ns(), clock }
    });
}

/// The instant of a stamp. The two clocks drift apart by millionths, so this goes by the distance from now.
pub(crate) fn instant_of(stamp_ns_then: u64) -> Instant {
    let (stamp, now) = (stamp_ns(), now());
    now.checked_sub(Duration::from_nanos(stamp.saturating_sub(stamp_ns_then))).unwrap_or(now)
}

/// The wall clock (CLOCK_REALTIME), as nanoseconds since 1970.
pub(crate) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

struct Counter {
    clock: quanta::Clock,
    begin_raw: u64,
    begin_ns: u64,
}

static COUNTER: OnceLock<Counter> = OnceLock::new();

fn monotonic_ns() -> u64 {
    monotonic_ns_at(now())
}

fn monotonic_ns_at(instant: Instant) -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let since = instant.saturating_duration_since(*ORIGIN.get_or_init(now));
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX - 1) + 1
}
