//! A route's queue, from its parse site to its handler's thread: one way in, one way out, and a bell for who sleeps.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use super::bounded::{Bounded, BoundedQueue, KeyOf, Pushed};
use crate::event::ConnectionEvent;
use crate::handler::Arrival;
use crate::metrics::RouteStats;
use crate::sync::channel::{Receiver, Sender, TryRecvError, unbounded};
use crate::thread::ThreadBell;

/// What travels through a route's queue.
pub(crate) enum Envelope<M> {
    Message { message: M, arrival: Arrival },
    Event(ConnectionEvent),
}

/// What a bounded queue does with a message that finds it full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// Throws the oldest waiting message away.
    DropOldest,
    /// Throws the message itself away.
    DropNewest,
    /// Throws the message itself away, and ends the session: the client dials anew by its strategy, so that the handler
    /// starts from fresh snapshots.
    Disconnect,
}

/// How many messages may wait for a handler, and what becomes of the others.
pub(crate) enum QueuePolicy<M> {
    Unbounded,
    Bounded { capacity: usize, overflow: Overflow },
    Conflated { capacity: usize, make: MakeQueue<M> },
}

/// Makes a queue for this many messages.
pub(crate) type MakeQueue<M> = Arc<dyn Fn(usize) -> Arc<dyn Bounded<M>> + Send + Sync>;

impl<M> Clone for QueuePolicy<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Unbounded => Self::Unbounded,
            Self::Bounded { capacity, overflow } => Self::Bounded { capacity: *capacity, overflow: *overflow },
            Self::Conflated { capacity, make } => Self::Conflated { capacity: *capacity, make: Arc::clone(make) },
        }
    }
}

impl<M: Send + 'static> QueuePolicy<M> {
    /// A message replaces the one that waits under its key; where more keys wait than `capacity`, the oldest goes.
    pub(crate) fn conflated<K>(capacity: usize, key_of: impl Fn(&M) -> K + Send + Sync + 'static) -> Self
    where
        K: Clone + Eq + Hash + Send + 'static,
    {
        let key_of: KeyOf<M, K> = Arc::new(key_of);
        let make = move |capacity| {
            Arc::new(BoundedQueue::new(capacity, Overflow::DropOldest, Some(Arc::clone(&key_of)))) as Arc<_>
        };
        Self::Conflated { capacity, make: Arc::new(make) }
    }
}

impl<M> QueuePolicy<M> {
    /// The most that may wait.
    pub(super) fn capacity(&self) -> Option<usize> {
        match self {
            Self::Unbounded => None,
            Self::Bounded { capacity, .. } | Self::Conflated { capacity, .. } => Some(*capacity),
        }
    }
}

impl<M> fmt::Debug for QueuePolicy<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbounded => f.write_str("Unbounded"),
            Self::Bounded { capacity, overflow } => write!(f, "Bounded({capacity}, {overflow:?})"),
            Self::Conflated { capacity, .. } => write!(f, "Conflated({capacity})"),
        }
    }
}

/// A queue of this policy for one route; `bell` is that of the thread which takes out.
pub(super) fn queue<M: Send + 'static>(
    policy: QueuePolicy<M>,
    stats: &Arc<RouteStats>,
    bell: Arc<ThreadBell>,
) -> (QueueIn<M>, QueueOut<M>) {
    let (way_in, way_out, overflow) = match policy {
        QueuePolicy::Unbounded => {
            let (sender, receiver) = unbounded();
            (WayIn::Unbounded(Some(sender)), WayOut::Unbounded(receiver), Overflow::DropNewest)
        }
        QueuePolicy::Bounded { capacity, overflow } => {
            let queue = Arc::new(BoundedQueue::<M, ()>::new(capacity, overflow, None)) as Arc<dyn Bounded<M>>;
            (WayIn::Bounded(Arc::clone(&queue)), WayOut::Bounded(queue), overflow)
        }
        QueuePolicy::Conflated { capacity, make } => {
            let queue = make(capacity);
            (WayIn::Bounded(Arc::clone(&queue)), WayOut::Bounded(queue), Overflow::DropOldest)
        }
    };
    let queue_in = QueueIn { way: way_in, overflow, bell, stats: Arc::clone(stats) };
    (queue_in, QueueOut { way: way_out, stats: Arc::clone(stats) })
}

/// The end that a parse site holds. When the last holder drops it, the queue is closed.
pub(crate) struct QueueIn<M> {
    way: WayIn<M>,
    overflow: Overflow,
    bell: Arc<ThreadBell>,
    stats: Arc<RouteStats>,
}

enum WayIn<M> {
    /// `None` only while it is dropped.
    Unbounded(Option<Sender<Envelope<M>>>),
    Bounded(Arc<dyn Bounded<M>>),
}

impl<M> QueueIn<M> {
    /// Queues a message that has been counted as arrived; false where the queue's overflow wants the session to end.
    pub(super) fn send(&self, message: M, arrival: Arrival) -> bool {
        let mut keep = true;
        match &self.way {
            WayIn::Unbounded(sender) => {
                let sent = sender.as_ref().map(|sender| sender.send(Envelope::Message { message, arrival }));
                // Whoever took messages out is gone: the receiver of a pull route may be dropped.
                if !matches!(sent, Some(Ok(()))) {
                    self.stats.abandoned(1);
                }
            }
            WayIn::Bounded(queue) => match queue.push(message, arrival) {
                Pushed::Queued => {}
                Pushed::Displaced => self.stats.dropped(1),
                Pushed::Refused => {
                    self.stats.dropped(1);
                    keep = self.overflow != Overflow::Disconnect;
                }
                Pushed::Abandoned => self.stats.abandoned(1),
            },
        }
        self.bell.ring();
        keep
    }

    /// Queues an event, behind what was queued before; never refused.
    pub(super) fn event(&self, event: ConnectionEvent) {
        match &self.way {
            // Where nobody takes out any more, nobody needs to be told.
            WayIn::Unbounded(sender) => drop(sender.as_ref().map(|sender| sender.send(Envelope::Event(event)))),
            WayIn::Bounded(queue) => queue.push_event(event),
        }
        self.bell.ring();
    }
}

impl<M> Drop for QueueIn<M> {
    fn drop(&mut self) {
        match &mut self.way {
            WayIn::Unbounded(sender) => drop(sender.take()),
            WayIn::Bounded(queue) => queue.close(),
        }
        // Only now, or the sleeper could find the queue still open.
        self.bell.ring();
    }
}

/// The end that the handler's thread holds.
pub(super) struct QueueOut<M> {
    way: WayOut<M>,
    stats: Arc<RouteStats>,
}

enum WayOut<M> {
    Unbounded(Receiver<Envelope<M>>),
    Bounded(Arc<dyn Bounded<M>>),
}

impl<M> QueueOut<M> {
    /// What is next; `Disconnected` once the queue is closed and empty.
    pub(super) fn next(&self) -> Result<Envelope<M>, TryRecvError> {
        match &self.way {
            WayOut::Unbounded(queue) => queue.try_recv(),
            WayOut::Bounded(queue) => queue.pop(),
        }
    }
}

impl<M> Drop for QueueOut<M> {
    fn drop(&mut self) {
        let left = match &self.way {
            WayOut::Unbounded(queue) => {
                queue.try_iter().filter(|left| matches!(left, Envelope::Message { .. })).count() as u64
            }
            WayOut::Bounded(queue) => queue.abandon(),
        };
        self.stats.abandoned(left);
    }
}
