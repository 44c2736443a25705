//! The one way to take a lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A poisoned lock only means that a thread panicked while holding plain data that is still valid.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
