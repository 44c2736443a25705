//! A queue that holds no more messages than its policy allows.
//!
//! Invariant: an event is never dropped, replaced or passed by a message; where messages are missing, the queue says so in
//! their place.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::queue::{Envelope, Overflow};
use crate::event::ConnectionEvent;
use crate::handler::Arrival;
use crate::sync::channel::TryRecvError;
use crate::sync::{Mutex, lock};

/// A bounded queue whose kind of key is forgotten.
pub(crate) trait Bounded<M>: Send + Sync {
    fn push(&self, message: M, arrival: Arrival) -> Pushed;

    fn push_event(&self, event: ConnectionEvent);

    fn pop(&self) -> Result<Envelope<M>, TryRecvError>;

    /// Nothing will be pushed any more.
    fn close(&self);

    /// Nothing will be popped any more; how many messages that leaves behind.
    fn abandon(&self) -> u64;
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits.
    Queued,
    /// It waits, and another one was thrown away, or replaced.
    Displaced,
    /// It was thrown away itself.
    Refused,
    /// Nobody takes messages any more.
    Abandoned,
}

/// Tells which messages replace each other.
pub(super) type KeyOf<M, K> = Arc<dyn Fn(&M) -> K + Send + Sync>;

/// See the module. With a key, a message replaces the one that waits under the same key.
pub(super) struct BoundedQueue<M, K> {
    capacity: usize,
    overflow: Overflow,
    key_of: Option<KeyOf<M, K>>,
    waiting: Mutex<Waiting<M, K>>,
}

struct Waiting<M, K> {
    slots: VecDeque<Slot<M, K>>,
    /// How many slots have left at the front, by `pop` or otherwise: slot `n` ever pushed is at `n - left`.
    left: u64,
    messages: usize,
    /// The slot of each key that may still be replaced: those behind the last event.
    replaceable: HashMap<K, u64, FxBuildHasher>,
    closed: bool,
    abandoned: bool,
}

enum Slot<M, K> {
    Message {
        message: M,
        arrival: Arrival,
        key: Option<K>,
        /// How many this one stands for, itself apart.
        replaced: u64,
    },
    /// This many messages are missing here.
    Hole(u64),
    Event(ConnectionEvent),
}

impl<M, K: Clone + Eq + Hash> BoundedQueue<M, K> {
    pub(super) fn new(capacity: usize, overflow: Overflow, key_of: Option<KeyOf<M, K>>) -> Self {
        let waiting = Waiting {
            slots: VecDeque::new(),
            left: 0,
            messages: 0,
            replaceable: HashMap::default(),
            closed: false,
            abandoned: false,
        };
        Self { capacity, overflow, key_of, waiting: Mutex::new(waiting) }
    }
}

impl<M: Send, K: Clone + Eq + Hash + Send> Bounded<M> for BoundedQueue<M, K> {
    fn push(&self, message: M, arrival: Arrival) -> Pushed {
        let pushed = catch_unwind(AssertUnwindSafe(|| {
            // The user's code, and whatever a message does when it is dropped, runs outside the lock.
            let key = self.key_of.as_ref().map(|key_of| key_of(&message));
            let mut waiting = lock(&self.waiting);
            let (pushed, displaced) = waiting.push(message, arrival, key, self.capacity, self.overflow);
            drop(waiting);
            drop(displaced);
            pushed
        }));
        pushed.unwrap_or_else(|_| {
            // The user's key has panicked: that costs the message, and the handler is told.
            lock(&self.waiting).note_missing_at_the_back();
            Pushed::Refused
        })
    }

    fn push_event(&self, event: ConnectionEvent) {
        let mut waiting = lock(&self.waiting);
        if !waiting.abandoned {
            waiting.replaceable.clear();
            waiting.slots.push_back(Slot::Event(event));
        }
    }

    fn pop(&self) -> Result<Envelope<M>, TryRecvError> {
        lock(&self.waiting).pop()
    }

    fn close(&self) {
        lock(&self.waiting).closed = true;
    }

    fn abandon(&self) -> u64 {
        let mut waiting = lock(&self.waiting);
        waiting.abandoned = true;
        waiting.replaceable.clear();
        let messages = std::mem::take(&mut waiting.messages);
        let slots = std::mem::take(&mut waiting.slots);
        drop(waiting);
        drop(slots);
        messages as u64
    }
}

impl<M, K: Clone + Eq + Hash> Waiting<M, K> {
    /// What became of the message, and whichever message has to go.
    fn push(
        &mut self,
        message: M,
        arrival: Arrival,
        key: Option<K>,
        capacity: usize,
        overflow: Overflow,
    ) -> (Pushed, Option<M>) {
        if self.abandoned {
            return (Pushed::Abandoned, Some(message));
        }
        if let Some(at) = key.as_ref().and_then(|key| self.replaceable.get(key))
            && let Ok(at) = usize::try_from(at - self.left)
            && let Some(Slot::Message { message: old, arrival: old_arrival, replaced, .. }) = self.slots.get_mut(at)
        {
            *old_arrival = arrival;
            *replaced += 1;
            return (Pushed::Displaced, Some(std::mem::replace(old, message)));
        }
        let mut displaced = None;
        if self.messages >= capacity {
            if overflow != Overflow::DropOldest {
                self.note_missing_at_the_back();
                return (Pushed::Refused, Some(message));
            }
            displaced = self.take_oldest();
        }
        if let Some(key) = &key {
            self.replaceable.insert(key.clone(), self.left + self.slots.len() as u64);
        }
        self.messages += 1;
        self.slots.push_back(Slot::Message { message, arrival, key, replaced: 0 });
        (if displaced.is_some() { Pushed::Displaced } else { Pushed::Queued }, displaced)
    }

    fn note_missing_at_the_back(&mut self) {
        match self.slots.back_mut() {
            Some(Slot::Hole(missing)) => *missing += 1,
            _ => self.slots.push_back(Slot::Hole(1)),
        }
    }

    /// Takes the oldest message out of its slot, and leaves a hole there; two holes in a row become one.
    fn take_oldest(&mut self) -> Option<M> {
        let at = self.slots.iter().position(|slot| matches!(slot, Slot::Message { .. }))?;
        let Slot::Message { message, key, replaced, .. } = std::mem::replace(&mut self.slots[at], Slot::Hole(1)) else {
            return None;
        };
        self.messages -= 1;
        self.forget(key.as_ref(), self.left + at as u64);
        let mut missing = replaced + 1;
        if let Some(before) = at.checked_sub(1)
            && let Slot::Hole(earlier) = self.slots[before]
        {
            missing += earlier;
            // All before `at` are holes and events, which nobody looks up by number: the later slots keep theirs.
            self.slots.remove(before);
            self.left += 1;
            self.slots[before] = Slot::Hole(missing);
        } else {
            self.slots[at] = Slot::Hole(missing);
        }
        Some(message)
    }

    fn forget(&mut self, key: Option<&K>, slot: u64) {
        if let Some(key) = key
            && self.replaceable.get(key) == Some(&slot)
        {
            self.replaceable.remove(key);
        }
    }

    fn pop(&mut self) -> Result<Envelope<M>, TryRecvError> {
        if let Some(Slot::Message { replaced, .. }) = self.slots.front_mut()
            && *replaced > 0
        {
            let count = std::mem::take(replaced);
            return Ok(Envelope::Event(ConnectionEvent::Dropped { count }));
        }
        let Some(slot) = self.slots.pop_front() else {
            return Err(if self.closed { TryRecvError::Disconnected } else { TryRecvError::Empty });
        };
        self.left += 1;
        Ok(match slot {
            Slot::Message { message, arrival, key, .. } => {
                self.messages -= 1;
                self.forget(key.as_ref(), self.left - 1);
                Envelope::Message { message, arrival }
            }
            Slot::Hole(count) => Envelope::Event(ConnectionEvent::Dropped { count }),
            Slot::Event(event) => Envelope::Event(event),
        })
    }
}
