//! The user's end of a route: the trait, and what comes with each message.

use std::fmt;

use crate::error::Result;
use crate::event::ConnectionEvent;
use crate::ids::{ConnectionId, SendId};
use crate::message::WsMessage;
use crate::metrics::{Stamps, Trail};
use crate::router::SubscriptionReply;

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
    arrival: &'a Arrival,
    /// Known where latency is measured.
    dequeued_ns: Option<u64>,
    outlet: &'a mut dyn Outlet,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(arrival: &'a Arrival, dequeued_ns: Option<u64>, outlet: &'a mut dyn Outlet) -> Self {
        Self { arrival, dequeued_ns, outlet }
    }

    /// When the message passed which point.
    pub fn stamps(&self) -> Stamps {
        Stamps::new(self.arrival.trail, self.dequeued_ns)
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
    /// socket, from any other thread through the command queue. Where latency is measured, the time from the read that
    /// brought the message to the kernel's taking this one enters
    /// [`tick_to_trade`](crate::LatencyReport::tick_to_trade).
    ///
    /// # Errors
    /// [`EpochChanged`](crate::HyperSocketError::EpochChanged) where that session is over,
    /// [`NotConnected`](crate::HyperSocketError::NotConnected),
    /// [`WriteBufferFull`](crate::HyperSocketError::WriteBufferFull).
    pub fn send(&mut self, message: WsMessage<'_>) -> Result<SendId> {
        let tick_ns = self.dequeued_ns.map(|_| self.arrival.trail.received_ns);
        self.outlet.send(message, self.arrival.epoch, tick_ns)
    }
}

impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("arrival", self.arrival).finish_non_exhaustive()
    }
}

/// A way back to the socket that a message came from.
pub(crate) trait Outlet {
    /// `tick_ns`: when the message was read that this one answers, where that is measured.
    fn send(&mut self, message: WsMessage<'_>, epoch: u64, tick_ns: Option<u64>) -> Result<SendId>;

    /// A message that came from there answers a subscription. Told on the loop, where the socket is.
    fn subscription_replied(&mut self, _reply: SubscriptionReply) {}
}

/// Where and when a message came in: travels with it to its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub(crate) connection: ConnectionId,
    /// Which of the lines of its feed brought it.
    pub(crate) line: u8,
    /// A subscription is unanswered on its connection.
    pub(crate) awaits_reply: bool,
    pub(crate) epoch: u64,
    pub(crate) trail: Trail,
}

impl Arrival {
    /// When the message passed which point.
    pub fn stamps(&self) -> Stamps {
        Stamps::new(self.trail, None)
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
