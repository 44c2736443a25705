//! A channel that promises release and acquire, and nothing beyond: a look may find it empty although something has been
//! sent, as long as nothing else tells the looking thread that it has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use loom::sync::Condvar;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use crossbeam_channel::{RecvTimeoutError, SendError, TryRecvError};

struct Shared<T> {
    /// Held between two points where loom may switch threads, and never across one.
    slots: std::sync::Mutex<VecDeque<T>>,
    sent: AtomicUsize,
    taken: AtomicUsize,
    senders: AtomicUsize,
    receiver_is_gone: AtomicUsize,
    capacity: usize,
    /// For [`Receiver::recv_deadline`].
    closed: (Mutex<()>, Condvar),
}

pub(crate) struct Sender<T>(Arc<Shared<T>>);

pub(crate) struct Receiver<T>(Arc<Shared<T>>);

pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        slots: std::sync::Mutex::default(),
        sent: AtomicUsize::new(0),
        taken: AtomicUsize::new(0),
        senders: AtomicUsize::new(1),
        receiver_is_gone: AtomicUsize::new(0),
        capacity,
        closed: (Mutex::new(()), Condvar::new()),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    pub(crate) fn send(&self, item: T) -> Result<(), SendError<T>> {
        if self.0.receiver_is_gone.load(Ordering::Acquire) != 0 {
            return Err(SendError(item));
        }
        // The turn and the item at one point: the next point where threads switch is behind both.
        self.0.sent.fetch_add(1, Ordering::AcqRel);
        self.0.slots.lock().unwrap().push_back(item);
        Ok(())
    }

    pub(crate) fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        let waiting = self.0.sent.load(Ordering::Acquire) - self.0.taken.load(Ordering::Acquire);
        if waiting < self.0.capacity { self.send(item) } else { Err(SendError(item)) }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            let (lock, closed) = &self.0.closed;
            drop(lock.lock().unwrap());
            closed.notify_all();
        }
    }
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        // In this order: what was sent before the last sender left is found.
        let closed = self.0.senders.load(Ordering::Acquire) == 0;
        if self.is_empty() {
            return Err(if closed { TryRecvError::Disconnected } else { TryRecvError::Empty });
        }
        self.0.taken.fetch_add(1, Ordering::AcqRel);
        Ok(self.0.slots.lock().unwrap().pop_front().expect("it was counted"))
    }

    pub(crate) fn try_iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.sent.load(Ordering::Acquire) == self.0.taken.load(Ordering::Relaxed)
    }

    /// Waits for what never comes: for the last sender to leave. A deadline that is not in the past is never met.
    pub(crate) fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        let (lock, closed) = &self.0.closed;
        let mut guard = lock.lock().unwrap();
        while self.0.senders.load(Ordering::Acquire) != 0 {
            if deadline <= Instant::now() {
                return Err(RecvTimeoutError::Timeout);
            }
            guard = closed.wait(guard).unwrap();
        }
        Err(RecvTimeoutError::Disconnected)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.receiver_is_gone.store(1, Ordering::Release);
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}
