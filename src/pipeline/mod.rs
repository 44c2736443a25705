//! From a raw message to its handler. Invariant: one connection, one pipeline, one queue per route, so order is structural.

mod handler;
mod routes;

use crate::event::ConnectionEvent;
use crate::handler::{Origin, Outlet};
use crate::message::WsMessage;

pub(crate) use handler::{HandlerThreads, NewOutlet};
pub(crate) use routes::{Placement, RoutePlan, RoutingPlan, Started};

/// One connection's way to its handlers. The one virtual call per message: it hides the router's types from the engine.
pub(crate) trait Pipeline: Send {
    /// Parses and routes one message; `outlet` is the socket it came from.
    fn deliver(&mut self, raw: WsMessage<'_>, origin: Origin, outlet: &mut dyn Outlet);

    /// Puts an event into every route's queue, behind what was delivered before.
    fn event(&mut self, event: &ConnectionEvent);

    /// The socket is drained for now: inline handlers end their batch.
    fn drained(&mut self);

    /// Nothing will follow: inline handlers stop here; handler threads drain their queues and leave.
    fn stop(&mut self);
}
