//! From a raw message to its handler. Invariant: whatever belongs to one route passes one thread after the other, through one
//! queue each, so order is structural.
//!
//! A parse site ([`site`]) is where messages become typed: on the loop, or on each parser lane ([`lanes`], with [`laned`] in
//! its place on the loop). From there a route leads to its handler: on a thread ([`threads`]) behind a queue ([`queue`],
//! [`bounded`]), to a caller who pulls ([`receiver`]), or right there. Several connections can feed one pipeline ([`lines`]): a
//! parse site puts their numbered messages into one order ([`splice`]).

mod bounded;
mod handler;
mod laned;
mod lanes;
mod lines;
mod plan;
mod queue;
mod receiver;
mod site;
mod splice;
#[cfg(test)]
mod tests;
#[cfg(all(loom, test))]
mod tests_models;
mod threads;

use std::sync::Arc;

use crate::error::DisconnectReason;
use crate::event::ConnectionEvent;
use crate::handler::{Arrival, Outlet};
use crate::message::WsMessage;
use crate::metrics::RouteStats;

pub(crate) use lanes::LanePool;
pub(crate) use lines::{CoverageBoard, LineChange, MOST_LINES, Told, Troubles, feed_of_lines, feed_of_two};
pub(crate) use plan::{
    OutletMaker, Placement, PlannedEnd, RoutePlan, RoutingPlan, StartRoutes, Started, Surroundings, Unnumbered,
};
pub use queue::Overflow;
pub(crate) use queue::QueuePolicy;
pub(crate) use receiver::receiver;
pub use receiver::{Pulled, RouteReceiver};
pub use threads::HandlerThread;
pub(crate) use threads::HandlerThreads;

#[cfg(test)]
pub(crate) use tests::surroundings;

/// One connection's way to its handlers. The one virtual call per message: it hides the router's types from the engine.
pub(crate) trait Pipeline: Send {
    /// Parses and routes one message, stamping its arrival on the way; `outlet` is the socket it came from.
    fn deliver(&mut self, raw: &WsMessage<'_>, arrival: &mut Arrival, outlet: &mut dyn Outlet);

    /// Puts an event into every route's queue, behind what was delivered before.
    fn event(&mut self, event: &ConnectionEvent);

    /// Puts an event into the queue of one route.
    fn route_event(&mut self, route: &Arc<RouteStats>, event: &ConnectionEvent);

    /// All messages of one read were delivered: what was collected goes on.
    fn read_done(&mut self);

    /// The socket is drained for now: inline handlers end their batch.
    fn drained(&mut self);

    /// The lines that feed it have changed.
    fn line(&mut self, change: &LineChange);

    /// When [`release`](Self::release) is due, on the stamps' clock; `None` while nothing waits for another line.
    fn next_release_ns(&self) -> Option<u64>;

    /// Lets go on what has waited long enough for another line.
    fn release(&mut self, now_ns: u64);

    /// Gives away the pipeline that it leads to, where it is one of several ends; they lead nowhere then.
    fn take_inner(&mut self) -> Option<Box<dyn Pipeline>> {
        None
    }

    /// The venue has been asked for a session.
    fn coming(&mut self) {}

    /// The connection could not be made, or is over for good.
    fn troubled(&mut self, _reason: &DisconnectReason) {}

    /// Whether another connection feeds it, too, so that nobody would notice the end of this one.
    fn is_relieved(&self) -> bool {
        false
    }

    /// Nothing will follow: inline handlers stop here; handler threads drain their queues and leave.
    fn stop(&mut self);
}
