//! The only place in the simulator that asks the machine what time it is. Invariant: a turn reads it once.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks: deadlines run on `at`, messages carry `unix_ms`.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    pub(super) at: Instant,
    pub(super) unix_ms: u64,
}

pub(super) fn read() -> Stamp {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Stamp { at: Instant::now(), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
}
