//! The only place in the simulator that asks the machine what time it is. Invariant: a turn reads it once.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks: deadlines run on `at`, messages carry the wall clock.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    pub(super) at: Instant,
    pub(super) unix_ns: u64,
}

impl Stamp {
    pub(super) fn unix_ms(self) -> u64 {
        self.unix_ns / 1_000_000
    }
}

pub(super) fn read() -> Stamp {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Stamp { at: Instant::now(), unix_ns: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX) }
}
