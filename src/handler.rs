//! The user's end of a route: the trait, and what comes with each message.

use std::fmt;
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::Result;
use crate::event::ConnectionEvent;
use crate::ids::{ConnectionId, SendId};
use crate::message::WsMessage;

/// Handles the messages of one route, one at a time, in order.
///
/// An error or a panic costs the one message: it is counted, reported as an event, and the route goes on.
/// (With `panic = "abort"` nothing can be isolated: a panic ends the process.)
pub trait MessageHandler<M>: Send + 'static {
    /// Handles one message.
    ///
    /// # Errors
    /// Any; it is counted in `handler_errors` and reported.
    fn handle(&mut self, message: M) -> Result<()>;

    /// Handles one message with what is known about its way here. By default calls [`handle`](Self::handle).
    ///
    /// # Errors
    /// As for [`handle`](Self::handle).
    fn handle_delivery(&mut self, message: M, _delivery: &mut Delivery<'_>) -> Result<()> {
        self.handle(message)
    }

    /// The connection changed, exactly here between the messages.
    fn on_event(&mut self, _event: &ConnectionEvent) {}

    /// The queue was found empty after at least one message: a good place to publish what a burst has built up.
    fn on_batch_end(&mut self) {}

    /// The last call, after the last message.
    fn on_stop(&mut self) {}
}

impl<M, F> MessageHandler<M> for F
where
    F: FnMut(M) -> Result<()> + Send + 'static,
{
    fn handle(&mut self, message: M) -> Result<()> {
        self(message)
    }
}

/// What is known about a message when it is handled, and the way to answer it.
pub struct Delivery<'a> {
    arrival: Arrival,
    outlet: &'a mut dyn Outlet,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(arrival: Arrival, outlet: &'a mut dyn Outlet) -> Self {
        Self { arrival, outlet }
    }

    /// When the message passed which point.
    pub fn stamps(&self) -> Stamps {
        self.arrival.stamps
    }

    /// The live spell that the message arrived in.
    pub fn epoch(&self) -> u64 {
        self.arrival.epoch
    }

    /// The connection that the message arrived on.
    pub fn connection(&self) -> ConnectionId {
        self.arrival.connection
    }

    /// Sends on the connection that the message came from, in its epoch: from an inline handler on the loop straight to the
    /// socket, from any other thread through the command queue.
    ///
    /// # Errors
    /// [`EpochChanged`](crate::HyperSocketError::EpochChanged) where that session is over,
    /// [`NotConnected`](crate::HyperSocketError::NotConnected),
    /// [`WriteBufferFull`](crate::HyperSocketError::WriteBufferFull).
    pub fn send(&mut self, message: WsMessage<'_>) -> Result<SendId> {
        self.outlet.send(message, self.arrival.epoch)
    }
}

impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("arrival", &self.arrival).finish_non_exhaustive()
    }
}

/// A way back to the socket that a message came from.
pub(crate) trait Outlet {
    fn send(&mut self, message: WsMessage<'_>, epoch: u64) -> Result<SendId>;
}

/// Where and when a message came in: travels with it to its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub(crate) connection: ConnectionId,
    pub(crate) epoch: u64,
    pub(crate) stamps: Stamps,
}

impl Arrival {
    /// When the message passed which point.
    pub fn stamps(&self) -> Stamps {
        self.stamps
    }

    /// The live spell that the message arrived in.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The connection that the message arrived on.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }
}

/// When a message passed which point, on the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// As [`clock::to_ns`] counts: half the size of an `Instant` in every envelope.
    received_ns: u64,
}

impl Stamps {
    pub(crate) fn new(received: Instant) -> Self {
        Self { received_ns: clock::to_ns(received) }
    }

    pub(crate) fn received_ns(self) -> u64 {
        self.received_ns
    }

    /// When the read that completed the message returned from the kernel; all messages of one read share it.
    pub fn received(&self) -> Instant {
        clock::from_ns(self.received_ns)
    }

    /// The time from [`received`](Self::received) to now.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(clock::to_ns(clock::now()).saturating_sub(self.received_ns))
    }
}
