//! The processor time of this process, from the first message to the end.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::Result;

static BEGUN: OnceLock<CpuMeter> = OnceLock::new();

/// A moment, and the processor time used up to it.
#[derive(Clone, Copy)]
pub(crate) struct CpuMeter {
    at: Instant,
    used: Duration,
}

impl CpuMeter {
    /// Begins to measure, unless another thread has.
    pub(crate) fn begin() {
        BEGUN.get_or_init(Self::now);
    }

    /// The processor time used since the beginning, and how long ago that is.
    pub(crate) fn used_in() -> Result<(Duration, Duration)> {
        let begun = BEGUN.get().ok_or("no message came")?;
        let now = Self::now();
        Ok((now.used - begun.used, now.at - begun.at))
    }

    fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
        let micros = (usage.user_time() + usage.system_time()).num_microseconds();
        Self { at: Instant::now(), used: Duration::from_micros(micros.unsigned_abs()) }
    }
}
