//! A route whose messages are pulled by a thread of the caller's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::queue::{Envelope, QueueIn, QueueOut, QueuePolicy, queue};
use crate::clock;
use crate::event::ConnectionEvent;
use crate::handler::Arrival;
use crate::idle::{IdleStrategy, Waiter};
use crate::metrics::RouteStats;
use crate::sync::Parker;
use crate::sync::channel::TryRecvError;
use crate::thread::{self, ThreadBell};

/// The messages and events of one route, for a thread of yours that takes them when it likes: in order, each once, like any
/// handler gets them. Made by [`Routing::receiver`](crate::Routing::receiver).
///
/// A shutdown does not wait for it: what waits here then can still be taken, and [`Pulled::Stopped`] comes behind it. If it
/// is dropped before, its messages are thrown away and counted as `abandoned`.
pub struct RouteReceiver<M> {
    queue: QueueOut<M>,
    stats: Arc<RouteStats>,
    bell: Arc<ThreadBell>,
    parker: Parker,
    waiter: Waiter,
}

/// What a [`RouteReceiver`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pulled<M> {
    /// A message, and how it came.
    Message(M, Arrival),
    /// The connection changed, exactly here between the messages.
    Event(ConnectionEvent),
    /// Nothing, for now.
    Empty,
    /// The client is shut down, and everything has been taken.
    Stopped,
}

/// A pull route: what the parse site holds, and what the caller does.
pub(crate) fn receiver<M: Send + 'static>(
    policy: QueuePolicy<M>,
    stats: &Arc<RouteStats>,
    idle: IdleStrategy,
) -> (QueueIn<M>, RouteReceiver<M>) {
    let (bell, parker) = thread::bell();
    let (queue_in, queue) = queue(policy, stats, Arc::clone(&bell));
    let waiter = Waiter::new(idle, false);
    (queue_in, RouteReceiver { queue, stats: Arc::clone(stats), bell, parker, waiter })
}

impl<M> RouteReceiver<M> {
    /// What is next, without waiting.
    pub fn try_next(&mut self) -> Pulled<M> {
        match self.queue.next() {
            Ok(Envelope::Message { message, arrival }) => {
                self.stats.taken(arrival.trail.received_ns);
                if let Some(latency) = self.stats.latency() {
                    // What the caller does with it is the caller's: the way ends here.
                    let now_ns = clock::stamp_ns();
                    latency.record(arrival.epoch, &arrival.trail, now_ns, now_ns);
                }
                self.stats.handled();
                Pulled::Message(message, arrival)
            }
            Ok(Envelope::Event(event)) => Pulled::Event(event),
            Err(TryRecvError::Empty) => Pulled::Empty,
            Err(TryRecvError::Disconnected) => Pulled::Stopped,
        }
    }

    /// What is next, waiting for it at most this long, by the route's idle strategy; [`Pulled::Empty`] where nothing came.
    pub fn next_timeout(&mut self, timeout: Duration) -> Pulled<M> {
        let deadline = clock::after(timeout);
        loop {
            let next = self.try_next();
            let now = clock::now();
            if !matches!(next, Pulled::Empty) {
                self.waiter.worked(|| now);
                return next;
            }
            if now >= deadline {
                return next;
            }
            let Some(longest) = self.waiter.pause(|| now) else { continue };
            self.bell.announce_sleep();
            let next = self.try_next();
            if matches!(next, Pulled::Empty) {
                self.parker.park_timeout(longest.min(deadline - now));
            }
            self.bell.woke();
            if !matches!(next, Pulled::Empty) {
                self.waiter.worked(clock::now);
                return next;
            }
        }
    }
}

impl<M> fmt::Debug for RouteReceiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteReceiver").field("route", &self.stats.name).finish_non_exhaustive()
    }
}
