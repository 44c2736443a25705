//! Knows which threads are the engine's own: a call that waits for the engine must not be made on one of them.

use std::cell::Cell;

use crate::error::{HyperSocketError, Result};

thread_local! {
    static OWN: Cell<bool> = const { Cell::new(false) };
    static IN_TURN: Cell<bool> = const { Cell::new(false) };
}

/// Marks the calling thread as one of ours.
pub(crate) fn mark() {
    OWN.set(true);
}

/// Marks the calling thread as in a turn of a loop, until the guard is dropped: it may be ours only now and then.
pub(crate) fn enter() -> OwnThread {
    OwnThread { before: OWN.replace(true), in_turn_before: IN_TURN.replace(true) }
}

/// See [`enter`].
pub(crate) struct OwnThread {
    before: bool,
    in_turn_before: bool,
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        OWN.set(self.before);
        IN_TURN.set(self.in_turn_before);
    }
}

/// Errs within a turn of a loop, for what only the loop could bring about.
///
/// # Errors
/// [`HyperSocketError::WouldDeadlock`].
pub(crate) fn refuse_in_turn(call: &'static str) -> Result<()> {
    if IN_TURN.get() { Err(HyperSocketError::WouldDeadlock(call)) } else { Ok(()) }
}

/// Errs on a thread of ours.
///
/// # Errors
/// [`HyperSocketError::WouldDeadlock`].
pub(crate) fn refuse(call: &'static str) -> Result<()> {
    if OWN.get() { Err(HyperSocketError::WouldDeadlock(call)) } else { Ok(()) }
}
