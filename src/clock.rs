//! The one place that asks the machine what time it is; everywhere else time is a parameter.

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
