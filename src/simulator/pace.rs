//! How a feed's rate becomes instants, and what a feed that was held up makes good for.

use std::time::{Duration, Instant};

/// Nothing older than this is made good for: what was missed before is never sent.
const CATCH_UP: Duration = Duration::from_millis(100);
/// What a rate too small to be one comes to.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// How long `count` of what comes `per_sec` take.
pub(super) fn time_of(count: f64, per_sec: f64) -> Duration {
    Duration::try_from_secs_f64(count / per_sec).unwrap_or(NEVER)
}

/// The earliest instant that something may still be due at.
pub(super) fn oldest_due(now: Instant) -> Instant {
    now.checked_sub(CATCH_UP).unwrap_or(now)
}
