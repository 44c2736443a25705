//! Which handler gets which route, and where it runs.

use std::fmt;

use crate::handler::MessageHandler;
use crate::idle::IdleStrategy;
use crate::pipeline::{Placement, RoutePlan, RoutingPlan};
use crate::router::MessageRouter;
use crate::sender::Sender;
use crate::thread::ThreadOptions;

/// The routes of a client; see [`ClientBuilder::router`](crate::ClientBuilder::router).
#[must_use = "routes count only when returned from the closure"]
pub struct Routing<R: MessageRouter> {
    plan: RoutingPlan<R>,
    sender: Sender,
}

impl<R: MessageRouter> Routing<R> {
    pub(crate) fn new(router: R, sender: Sender) -> Self {
        Self { plan: RoutingPlan { router, routes: Vec::new(), default: None }, sender }
    }

    pub(crate) fn into_plan(self) -> RoutingPlan<R> {
        self.plan
    }

    /// Gives the messages of route `key` to `handler`, on a thread of its own.
    pub fn handler(self, key: R::RouteKey, handler: impl MessageHandler<R::Message>) -> Self {
        self.handler_with(key, handler, RouteOptions::new())
    }

    /// Gives the messages of route `key` to `handler`, placed as `options` say.
    pub fn handler_with(
        mut self,
        key: R::RouteKey,
        handler: impl MessageHandler<R::Message>,
        options: RouteOptions,
    ) -> Self {
        let plan = RoutePlan { handler: Box::new(handler), placement: options.placement };
        self.plan.routes.push((key, plan));
        self
    }

    /// Gives the messages of all other routes to `handler`, on a thread of its own. Without one they are dropped, counted
    /// as `unrouted` and reported.
    pub fn default_handler(mut self, handler: impl MessageHandler<R::Message>) -> Self {
        let placement = RouteOptions::new().placement;
        self.plan.default = Some(RoutePlan { handler: Box::new(handler), placement });
        self
    }

    /// Sends on the client that is being built: for handlers that answer. It errs with
    /// [`NotConnected`](crate::HyperSocketError::NotConnected) until the client is live.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }
}

impl<R: MessageRouter> fmt::Debug for Routing<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.plan.routes.iter().map(|(key, _)| key).collect();
        f.debug_struct("Routing").field("routes", &keys).finish_non_exhaustive()
    }
}

/// Where a route's handler runs, and how it waits.
#[derive(Debug, Clone)]
#[must_use]
pub struct RouteOptions {
    placement: Placement,
}

impl RouteOptions {
    /// A thread of its own, unpinned, waiting adaptively.
    pub fn new() -> Self {
        Self { placement: Placement::Thread(ThreadOptions::new()) }
    }

    /// On the loop, within the read that brought the message: no queue and no other thread, so the fastest there is. The
    /// handler must be quick: while it runs, no connection of the loop is read. `core` and `idle` mean nothing then.
    pub fn inline(mut self) -> Self {
        self.placement = Placement::Inline;
        self
    }

    /// Pins the handler's thread to this core; building errs where the process may not use it.
    pub fn core(mut self, pinned: usize) -> Self {
        if let Placement::Thread(options) = self.placement {
            self.placement = Placement::Thread(options.core(pinned));
        }
        self
    }

    /// How the handler's thread waits.
    pub fn idle(mut self, strategy: IdleStrategy) -> Self {
        if let Placement::Thread(options) = self.placement {
            self.placement = Placement::Thread(options.idle(strategy));
        }
        self
    }
}

impl Default for RouteOptions {
    fn default() -> Self {
        Self::new()
    }
}
