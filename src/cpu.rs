//! Cores: which ones the process may use, pinning a thread to one, and who may spin.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::error::{HyperSocketError, Result};
use crate::sync::lock;

/// The cores of the process's affinity mask, read once, before anything is pinned: threads inherit masks, so a later
/// look from a pinned thread would see one core only.
pub(crate) fn allowed() -> &'static [usize] {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    ALLOWED.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect())
}

/// Where a thread is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pin {
    /// Wherever the scheduler puts it.
    Anywhere,
    /// On this core, or not at all.
    Core(usize),
    /// On this core where the process may use it.
    Preferred(usize),
}

impl Pin {
    /// Checks that the process may use the core.
    ///
    /// # Errors
    /// [`HyperSocketError::CoreUnavailable`].
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Core(core) if !allowed().contains(&core) => {
                Err(HyperSocketError::CoreUnavailable { core, allowed: allowed().to_vec() })
            }
            _ => Ok(()),
        }
    }

    /// Pins the calling thread; the core that it has now, where it has one. The system may refuse (macOS knows no pinning).
    pub(crate) fn apply(self, thread: &str) -> Option<usize> {
        let (Self::Core(core) | Self::Preferred(core)) = self else { return None };
        let pinned = allowed().contains(&core) && core_affinity::set_for_current(core_affinity::CoreId { id: core });
        if !pinned {
            log::warn!("thread {thread}: core {core} is not to be had (allowed: {:?}); it runs unpinned", allowed());
        }
        pinned.then_some(core)
    }
}

/// A thread that never sleeps, by the user's wish. It warns where that is bound to hurt.
#[derive(Debug)]
pub(crate) struct Spinner {
    core: Option<usize>,
}

impl Spinner {
    pub(crate) fn new(thread: &str, core: Option<usize>) -> Self {
        let mut spinners = lock(&SPINNERS);
        match core {
            Some(core) if spinners.contains(&Some(core)) => {
                log::warn!(
                    "thread {thread} spins on core {core}, where another thread of ours spins: each has half of it"
                );
            }
            _ if spinners.len() >= allowed().len() => {
                log::warn!("thread {thread} is one more that spins than there are cores ({})", allowed().len());
            }
            Some(_) => {}
            None => {
                log::warn!("thread {thread} spins and is not pinned: the scheduler may put two spinners on one core");
            }
        }
        spinners.push(core);
        Self { core }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let mut spinners = lock(&SPINNERS);
        if let Some(own) = spinners.iter().position(|core| *core == self.core) {
            spinners.swap_remove(own);
        }
    }
}

static SPINNERS: Mutex<Vec<Option<usize>>> = Mutex::new(Vec::new());

/// The right to spin, counted over the process. Spinners that yield share a core at about a microsecond a look each, far
/// under the tens that waking a sleeper costs; with many on a core that turns round.
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
    *PERMITS.get_or_init(|| SPINNERS_PER_CORE * std::thread::available_parallelism().map_or(1, |cores| cores.get()))
}

/// Measured by benches/peers on two cores, a loop and four handlers: with one spinner in all, 0.8 to 1.0 of the async
/// pipeline's median; with eight, 0.4.
const SPINNERS_PER_CORE: usize = 4;
