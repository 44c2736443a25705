//! What threads share, from one place, so that the models can put their own in its stead; and the one way to take a lock.

#[cfg(all(loom, test))]
mod model;

#[cfg(all(loom, test))]
pub(crate) use model::*;
#[cfg(not(all(loom, test)))]
pub(crate) use system::*;

#[cfg(not(all(loom, test)))]
mod system {
    pub(crate) use std::sync::Mutex;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, fence};
    use std::sync::{MutexGuard, PoisonError};
    pub(crate) use std::thread::{Builder, JoinHandle};

    pub(crate) use crossbeam_channel as channel;
    pub(crate) use crossbeam_utils::sync::{Parker, Unparker};

    /// A poisoned lock only means that a thread panicked while holding plain data that is still valid.
    pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) use std::sync::atomic::Ordering;
