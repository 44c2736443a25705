//! What [`loom`] knows how to schedule, in place of what the system gives. Each part promises no more than its original does,
//! so that a model cannot pass thanks to its stand-in.

pub(crate) use loom::sync::Mutex;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, fence};
pub(crate) use loom::thread::{Builder, JoinHandle};

use std::sync::Arc;
use std::time::Duration;

use loom::sync::Condvar;

/// Runs `body` in every interleaving of its threads with so many preemptions; `LOOM_MAX_PREEMPTIONS` sets another bound.
pub(crate) fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 100_000;
    builder.check(body);
}

pub(crate) mod channel;

/// A lock of the models, or of the system: the latter guards what no model is about, and never while a thread may be
/// switched.
pub(crate) trait Lock {
    type Guard<'a>
    where
        Self: 'a;

    fn guard(&self) -> Self::Guard<'_>;
}

impl<T> Lock for Mutex<T> {
    type Guard<'a>
        = loom::sync::MutexGuard<'a, T>
    where
        T: 'a;

    fn guard(&self) -> Self::Guard<'_> {
        self.lock().unwrap()
    }
}

impl<T: ?Sized> Lock for std::sync::Mutex<T> {
    type Guard<'a>
        = std::sync::MutexGuard<'a, T>
    where
        T: 'a;

    fn guard(&self) -> Self::Guard<'_> {
        self.lock().unwrap()
    }
}

impl<L: Lock + ?Sized> Lock for Arc<L> {
    type Guard<'a>
        = L::Guard<'a>
    where
        L: 'a;

    fn guard(&self) -> Self::Guard<'_> {
        (**self).guard()
    }
}

pub(crate) fn lock<L: Lock + ?Sized>(mutex: &L) -> L::Guard<'_> {
    mutex.guard()
}

/// Sleeps until unparked, and never because time has passed: a wake that is lost is a deadlock.
pub(crate) struct Parker(Unparker);

#[derive(Clone)]
pub(crate) struct Unparker(Arc<(Mutex<bool>, Condvar)>);

impl Parker {
    pub(crate) fn new() -> Self {
        Self(Unparker(Arc::new((Mutex::new(false), Condvar::new()))))
    }

    pub(crate) fn unparker(&self) -> &Unparker {
        &self.0
    }

    pub(crate) fn park_timeout(&self, _: Duration) {
        let (token, rung) = &*self.0.0;
        let mut token = lock(token);
        while !std::mem::take(&mut *token) {
            token = rung.wait(token).unwrap();
        }
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        let (token, rung) = &*self.0;
        *lock(token) = true;
        rung.notify_one();
    }
}

impl std::fmt::Debug for Unparker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unparker")
    }
}
