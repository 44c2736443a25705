//! Wakes a thread that sleeps, and costs the waker one look where it does not.
//!
//! The sleeper: [`announce_sleep`](Bell::announce_sleep), look once more, sleep only if there is nothing, [`woke`](Bell::woke).
//! The waker: queue, then [`ring`](Bell::ring). Of "queued" and "asleep", at least one side then sees the other's.

use crate::sync::{AtomicBool, Ordering, fence};

/// Ends another thread's sleep, whether it has begun yet or not.
pub(crate) trait Wake {
    fn wake(&self);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Bell<W> {
    waker: W,
    /// The thread is, or is about to be, asleep.
    asleep: AtomicBool,
}

impl<W: Wake> Bell<W> {
    pub(crate) fn new(waker: W) -> Self {
        Self { waker, asleep: AtomicBool::new(false) }
    }

    /// Something was queued, or the queue was closed.
    pub(crate) fn ring(&self) {
        // Pairs with the fence in `announce_sleep`.
        fence(Ordering::SeqCst);
        // Read first: while the thread is awake, nobody takes the line from it. Of many who ring, one wakes.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// The thread will sleep unless its next look finds something.
    pub(crate) fn announce_sleep(&self) {
        // A swap, as everywhere: the flag's changes have one order, in which none is lost.
        self.asleep.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
    }

    /// The thread is awake again.
    pub(crate) fn woke(&self) {
        self.asleep.swap(false, Ordering::AcqRel);
    }
}
