//! Cores: which ones the process may use, pinning a thread to one, and who may spin.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{HyperSocketError, Result};

/// The cores of the process's affinity mask, read once, before anything is pinned: threads inherit masks, so a later
/// look from a pinned thread would see one core only.
pub(crate) fn allowed() -> &'static [usize] {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    ALLOWED.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect())
}

/// Checks that the process may use `core`.
///
/// # Errors
/// [`HyperSocketError::CoreUnavailable`].
pub(crate) fn check(core: usize) -> Result<()> {
    if allowed().contains(&core) {
        Ok(())
    } else {
        Err(HyperSocketError::CoreUnavailable { core, allowed: allowed().to_vec() })
    }
}

/// Pins the calling thread; false where the system refused (macOS knows no pinning).
pub(crate) fn pin_current(core: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

/// The right to spin, counted over the process: at most `available_parallelism - 1` threads spin at once by default, or
/// two spinners could share a core with the thread that both wait for.
#[derive(Debug, Default)]
pub(crate) struct SpinPermit {
    held: bool,
}

static SPINNING: AtomicUsize = AtomicUsize::new(0);

impl SpinPermit {
    /// Takes a permit where one is left; true while it is held.
    pub(crate) fn acquire(&mut self) -> bool {
        if !self.held {
            let taken = SPINNING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spinning| {
                (spinning < permits()).then_some(spinning + 1)
            });
            self.held = taken.is_ok();
        }
        self.held
    }

    /// Takes a permit whether or not one is left: explicit busy spinning counts, but is never refused.
    pub(crate) fn force(&mut self) {
        if !self.held {
            SPINNING.fetch_add(1, Ordering::Relaxed);
            self.held = true;
        }
    }

    pub(crate) fn release(&mut self) {
        if std::mem::take(&mut self.held) {
            SPINNING.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for SpinPermit {
    fn drop(&mut self) {
        self.release();
    }
}

fn permits() -> usize {
    static PERMITS: OnceLock<usize> = OnceLock::new();
    *PERMITS.get_or_init(|| std::thread::available_parallelism().map_or(1, |cores| cores.get()).saturating_sub(1))
}
