//! The one way to take a lock.

pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{MutexGuard, PoisonError};

pub(crate) use std::sync::Mutex;

/// A poisoned lock only means that a thread panicked while holding plain data that is still valid.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
