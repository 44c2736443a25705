//! The one place that asks the machine what time it is; everywhere else time is a parameter.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The monotonic clock (CLOCK_MONOTONIC on Linux): it does not jump when the wall clock is set.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The instant that far from now; one that the clock cannot name is as good as never.
pub(crate) fn after(wait: Duration) -> Instant {
    let now = now();
    now.checked_add(wait).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
}

/// An instant as nanoseconds since the process first asked, plus one: a number that fits an atomic, and is never 0.
pub(crate) fn to_ns(instant: Instant) -> u64 {
    u64::try_from(instant.saturating_duration_since(origin()).as_nanos()).unwrap_or(u64::MAX - 1) + 1
}

/// The instant of a number of [`to_ns`].
pub(crate) fn from_ns(ns: u64) -> Instant {
    origin() + Duration::from_nanos(ns.saturating_sub(1))
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(now)
}
