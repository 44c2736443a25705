//! Knows which threads are the engine's own: a call that waits for the engine must not be made on one of them.

use std::cell::Cell;

use crate::error::{HyperSocketError, Result};

thread_local! {
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// Marks the calling thread as one of ours.
pub(crate) fn mark() {
    OWN.set(true);
}

/// Marks the calling thread until the guard is dropped: for a thread that is ours only now and then.
pub(crate) fn enter() -> OwnThread {
    OwnThread { before: OWN.replace(true) }
}

/// See [`enter`].
pub(crate) struct OwnThread {
    before: bool,
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        OWN.set(self.before);
    }
}

/// Errs on a thread of ours.
///
/// # Errors
/// [`HyperSocketError::WouldDeadlock`].
pub(crate) fn refuse(call: &'static str) -> Result<()> {
    if OWN.get() { Err(HyperSocketError::WouldDeadlock(call)) } else { Ok(()) }
}
