//! What threads share, from one place, so that the models in `models/` can put their own in its stead; and the one way to take
//! a lock.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub(crate) use std::sync::{Mutex, MutexGuard};
pub(crate) use std::thread::{Builder, JoinHandle};

use std::sync::PoisonError;

/// A poisoned lock only means that a thread panicked while holding plain data that is still valid.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
