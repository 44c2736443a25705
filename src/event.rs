//! What happens to a connection, as handlers and clients are told.

use std::time::Duration;

use crate::error::DisconnectReason;
use crate::ids::SendId;

/// A change of the connection, put into every route's own queue, in its place among the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The connection is live: authenticated where that was asked for. All following messages belong to this epoch.
    Live {
        /// Counts the live spells of this client, from 1.
        epoch: u64,
    },
    /// The connection is gone. Everything that had fully arrived was delivered before this; what the venue sent from here
    /// to the next `Live` is lost, so books must be built anew. Also told at our own shutdown, with the reason
    /// [`Shutdown`](DisconnectReason::Shutdown): then no `Live` follows.
    Lost {
        /// The epoch that ended.
        epoch: u64,
        /// Why.
        reason: DisconnectReason,
        /// The last send of this session that the kernel had taken entirely, with all before it; `None`: not one. What was
        /// sent after it never left, but for sends of inline handlers: those overtake what is queued.
        written_through: Option<SendId>,
    },
    /// The client has moved to a new connection, without a hole: see [`Client::rotate`](crate::Client::rotate). All following
    /// messages belong to this epoch.
    Rotated {
        /// The epoch that has begun.
        epoch: u64,
    },
    /// The venue's numbers skip here, in the stream of the message that follows: see
    /// [`MessageRouter::sequence`](crate::MessageRouter::sequence). Where the feed has several lines, none of them had these.
    Gap {
        /// The stream.
        stream: u64,
        /// The first number that is missing.
        first: u64,
        /// The last number that is missing.
        last: u64,
    },
    /// Messages of this route are missing here: its queue was full and its policy threw them away, or newer ones took their
    /// place.
    Dropped {
        /// How many.
        count: u64,
    },
    /// This route is stale: see [`RouteOptions::stale_after`](crate::RouteOptions::stale_after) and
    /// [`max_queue_age`](crate::RouteOptions::max_queue_age).
    Stale {
        /// Which limit was crossed.
        why: Staleness,
    },
    /// This route is stale no longer.
    Fresh,
}

/// Which limit a stale route has crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Staleness {
    /// The connection is live, and no message has come for this route for as long as this.
    Silent(Duration),
    /// The oldest message that is not handled yet has waited for as long as this.
    Behind(Duration),
}

/// What [`Client::events`](crate::Client::events) tells: the connection's changes and the faults that were survived.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The connection changed.
    Connection(ConnectionEvent),
    /// A dial failed; the next follows after `retry_in`.
    DialFailed {
        /// Counts the failed dials in a row, from 1.
        attempt: usize,
        /// Why.
        reason: DisconnectReason,
        /// The wait before the next dial.
        retry_in: Duration,
    },
    /// The next dial waits for its turn under a [`ConnectionLimit`](crate::ConnectionLimit), or for the host's `Retry-After`.
    HeldBack {
        /// The wait before the dial.
        retry_in: Duration,
    },
    /// The client is closed and will not dial again.
    Closed {
        /// Why: [`Shutdown`](DisconnectReason::Shutdown), or what made it give up.
        reason: DisconnectReason,
    },
    /// A parser erred or panicked; the message was dropped.
    ParseFailed {
        /// The error or the panic's message.
        error: String,
    },
    /// A handler erred or panicked; the route goes on.
    HandlerFailed {
        /// The route, as its `Debug` prints it.
        route: String,
        /// The error or the panic's message.
        error: String,
    },
    /// The venue has accepted a subscription.
    Subscribed {
        /// Its name.
        name: String,
    },
    /// The venue has refused a subscription; the others go on, and it is sent again in the next session.
    SubscriptionFailed {
        /// Its name.
        name: String,
        /// The venue's own words.
        why: String,
    },
    /// The venue's numbers skip.
    RouteGap {
        /// The route of the message behind the hole, as its `Debug` prints it.
        route: String,
        /// The stream.
        stream: u64,
        /// The first number that is missing.
        first: u64,
        /// The last number that is missing.
        last: u64,
    },
    /// A rotation was given up; the client stays on the connection that it has.
    RotationFailed {
        /// Why.
        reason: DisconnectReason,
    },
    /// A route has become stale; it counts for the halted flag from now on.
    RouteStale {
        /// The route, as its `Debug` prints it.
        route: String,
        /// Which limit was crossed.
        why: Staleness,
    },
    /// A route is stale no longer.
    RouteFresh {
        /// The route, as its `Debug` prints it.
        route: String,
    },
    /// A factory's route could not be started; its messages go to the default handler, or count as unrouted.
    RouteFailed {
        /// The route, as its `Debug` prints it.
        route: String,
        /// The error.
        error: String,
    },
    /// A route was seen on two parser lanes: the router's `shard_key` splits it, and its order is not kept.
    RouteOnTwoLanes {
        /// The route, as its `Debug` prints it.
        route: String,
    },
    /// A message had a route that nobody handles; it was dropped.
    Unrouted {
        /// The route, as its `Debug` prints it.
        route: String,
    },
}
