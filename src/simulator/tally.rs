//! What the venue has sent and heard over its whole life, restarts included. Invariant: a message is counted after the
//! kernel took its last byte and before any byte behind it is offered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;

/// What a frame adds to the tally once the kernel has all of it.
#[derive(Clone, Copy)]
pub(super) enum Counted {
    /// Any text or binary frame but a book.
    Message,
    /// An l2Book of the coin with this index.
    Book(usize),
    /// No frame: the point behind the last frame of a recording.
    ReplayEnd,
}

pub(super) struct Tally {
    sent: AtomicU64,
    books: Vec<AtomicU64>,
    connections: AtomicU64,
    sessions: AtomicU64,
    texts: Mutex<Vec<(u64, String)>>,
    faults: Mutex<Vec<(u64, String)>>,
    replayed: Sender<()>,
}

impl Tally {
    pub(super) fn new(coins: usize, replayed: Sender<()>) -> Self {
        Tally {
            sent: AtomicU64::new(0),
            books: (0..coins).map(|_| AtomicU64::new(0)).collect(),
            connections: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            texts: Mutex::new(Vec::new()),
            faults: Mutex::new(Vec::new()),
            replayed,
        }
    }

    pub(super) fn count(&self, what: Counted) {
        match what {
            Counted::Message => {
                self.sent.fetch_add(1, Ordering::AcqRel);
            }
            Counted::Book(coin) => {
                self.books[coin].fetch_add(1, Ordering::AcqRel);
                self.sent.fetch_add(1, Ordering::AcqRel);
            }
            // The receiving end lives in the venue, which outlives every thread it joins.
            Counted::ReplayEnd => drop(self.replayed.send(())),
        }
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    pub(super) fn sent_on(&self, coin: usize) -> u64 {
        self.books[coin].load(Ordering::Acquire)
    }

    pub(super) fn open_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Acquire)
    }

    pub(super) fn open_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Acquire)
    }

    pub(super) fn hear(&self, session: u64, text: &str) {
        lock(&self.texts).push((session, text.to_owned()));
    }

    pub(super) fn heard(&self) -> Vec<(u64, String)> {
        lock(&self.texts).clone()
    }

    pub(super) fn blame(&self, session: u64, fault: String) {
        lock(&self.faults).push((session, fault));
    }

    pub(super) fn blamed(&self) -> Vec<(u64, String)> {
        lock(&self.faults).clone()
    }
}

/// A test that panics while it holds a lock must not hide its own message behind a poisoned one.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
