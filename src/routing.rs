//! Which handler gets which route, and how messages get there.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use crate::handler::MessageHandler;
use crate::idle::IdleStrategy;
use crate::metrics::{RouteStats, StaleLimits};
use crate::pipeline::{
    HandlerThread, Overflow, Placement, PlannedEnd, QueuePolicy, RoutePlan, RouteReceiver, RoutingPlan, receiver,
};
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
        Self { plan: RoutingPlan { router, routes: Vec::new(), default: None, factory: None }, sender }
    }

    pub(crate) fn into_plan(self) -> RoutingPlan<R> {
        self.plan
    }

    /// Gives the messages of route `key` to `handler`, on a thread of its own.
    pub fn handler(self, key: R::RouteKey, handler: impl MessageHandler<R::Message>) -> Self {
        self.handler_with(key, handler, RouteOptions::new())
    }

    /// Gives the messages of route `key` to `handler`, placed and queued as `options` say.
    pub fn handler_with(
        mut self,
        key: R::RouteKey,
        handler: impl MessageHandler<R::Message>,
        options: RouteOptions<R::Message>,
    ) -> Self {
        self.plan.routes.push((key, NewRoute::with(handler, options).plan));
        self
    }

    /// Gives the messages of all other routes to `handler`, on a thread of its own. Without one they are dropped, counted
    /// as `unrouted` and reported.
    pub fn default_handler(self, handler: impl MessageHandler<R::Message>) -> Self {
        self.default_handler_with(handler, RouteOptions::new())
    }

    /// Like [`default_handler`](Self::default_handler), placed and queued as `options` say.
    pub fn default_handler_with(
        mut self,
        handler: impl MessageHandler<R::Message>,
        options: RouteOptions<R::Message>,
    ) -> Self {
        self.plan.default = Some(NewRoute::with(handler, options).plan);
        self
    }

    /// Asks `make` for a handler when a message comes whose key nobody registered: a new market needs no restart. Its handler
    /// gets `Live` first, then that message. `None` leaves the message to the default handler; `make` is asked again at the
    /// next one.
    ///
    /// It is called where messages are parsed, so it should be quick. A thread for each new route takes some 50 µs to
    /// start; [`RouteOptions::on`] a shared thread takes less. Bound what you make by what the venue lists: a route stays
    /// until the client is shut down. A route that cannot be started is reported as
    /// [`RouteFailed`](crate::ClientEvent::RouteFailed).
    pub fn route_factory(
        mut self,
        mut make: impl FnMut(&R::RouteKey) -> Option<NewRoute<R::Message>> + Send + 'static,
    ) -> Self {
        self.plan.factory = Some(Box::new(move |key| make(key).map(|route| route.plan)));
        self
    }

    /// Keeps the messages of route `key` for a thread of yours that pulls them:
    ///
    /// ```
    /// # use hypersockets::{MessageRouter, Result, WsMessage};
    /// # struct Lines;
    /// # impl MessageRouter for Lines {
    /// #     type Message = String;
    /// #     type RouteKey = &'static str;
    /// #     fn parse(&self, message: WsMessage<'_>) -> Result<String> { Ok(message.as_text().unwrap_or("").to_owned()) }
    /// #     fn route_key(&self, _: &String) -> &'static str { "BTC" }
    /// # }
    /// let mut quotes = None;
    /// let builder = hypersockets::builder().url("ws://127.0.0.1:9/ws").router(Lines, |mut routing| {
    ///     quotes = Some(routing.receiver("BTC"));
    ///     routing
    /// });
    /// let mut quotes = quotes.expect("the closure has run");
    /// assert!(matches!(quotes.try_next(), hypersockets::Pulled::Empty));
    /// ```
    pub fn receiver(&mut self, key: R::RouteKey) -> RouteReceiver<R::Message> {
        self.receiver_with(key, RouteOptions::new())
    }

    /// Like [`receiver`](Self::receiver), queued as `options` say; of where to run they tell only how
    /// [`next_timeout`](RouteReceiver::next_timeout) waits.
    pub fn receiver_with(&mut self, key: R::RouteKey, options: RouteOptions<R::Message>) -> RouteReceiver<R::Message> {
        let stats = RouteStats::new(format!("{key:?}"), options.limits, true);
        let (queue, receiver) = receiver(options.policy, &stats, options.thread.idle_strategy());
        let plan = RoutePlan { end: PlannedEnd::Receiver { queue, stats }, limits: options.limits };
        self.plan.routes.push((key, plan));
        receiver
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

/// A route that a [`route_factory`](Routing::route_factory) makes.
#[must_use]
pub struct NewRoute<M> {
    plan: RoutePlan<M>,
}

impl<M: Send + 'static> NewRoute<M> {
    /// A route with a thread of its own.
    pub fn new(handler: impl MessageHandler<M>) -> Self {
        Self::with(handler, RouteOptions::new())
    }

    /// A route placed and queued as `options` say.
    pub fn with(handler: impl MessageHandler<M>, options: RouteOptions<M>) -> Self {
        let RouteOptions { thread, place, policy, limits } = options;
        let placement = match place {
            Place::Own => Placement::Thread(thread),
            Place::Shared(thread) => Placement::Shared(thread),
            Place::Inline => Placement::Inline,
        };
        Self { plan: RoutePlan { end: PlannedEnd::Handler { handler: Box::new(handler), placement, policy }, limits } }
    }
}

impl<M> fmt::Debug for NewRoute<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRoute").finish_non_exhaustive()
    }
}

/// Where a route's handler runs, how it waits, how much may wait for it, and when it counts as stale.
#[must_use]
pub struct RouteOptions<M> {
    /// Counts where the place is [`Place::Own`].
    thread: ThreadOptions,
    place: Place,
    policy: QueuePolicy<M>,
    limits: StaleLimits,
}

#[derive(Debug, Clone)]
enum Place {
    Own,
    Shared(HandlerThread),
    Inline,
}

impl<M: Send + 'static> RouteOptions<M> {
    /// A thread of its own, unpinned, waiting adaptively, behind an unbounded queue; never stale.
    pub fn new() -> Self {
        Self {
            thread: ThreadOptions::new(),
            place: Place::Own,
            policy: QueuePolicy::Unbounded,
            limits: StaleLimits::default(),
        }
    }

    /// Where messages are parsed, within the read that brought them: no queue and no other thread, so the fastest there is.
    /// The handler must be quick: while it runs, no connection of the loop (or lane) is served. What is said of threads
    /// means nothing then; a bound for its queue is an error when the client is built.
    pub fn inline(mut self) -> Self {
        self.place = Place::Inline;
        self
    }

    /// On a thread that it shares with other routes, of this or other clients. What is said of a thread of its own means
    /// nothing then.
    pub fn on(mut self, thread: &HandlerThread) -> Self {
        self.place = Place::Shared(thread.clone());
        self
    }

    /// On a thread of its own, described as a whole.
    pub fn thread(mut self, options: impl Into<ThreadOptions>) -> Self {
        self.thread = options.into();
        self.place = Place::Own;
        self
    }

    /// The name of its own thread; Linux shows the first 15 bytes. By default `hs:` and the end of the route key.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.thread = self.thread.name(name);
        self
    }

    /// Pins its own thread to this core; building errs where the process may not use it.
    pub fn core(mut self, core: usize) -> Self {
        self.thread = self.thread.core(core);
        self
    }

    /// Pins its own thread to this core where the process may use it; elsewhere a warning in the log, and unpinned.
    pub fn prefer_core(mut self, core: usize) -> Self {
        self.thread = self.thread.prefer_core(core);
        self
    }

    /// How its own thread waits.
    pub fn idle(mut self, strategy: IdleStrategy) -> Self {
        self.thread = self.thread.idle(strategy);
        self
    }

    /// The stack of its own thread, in bytes.
    pub fn stack_bytes(mut self, bytes: usize) -> Self {
        self.thread = self.thread.stack_bytes(bytes);
        self
    }

    /// Lets at most `capacity` messages wait; what becomes of the others is counted as `dropped`, and told to the handler as
    /// [`Dropped`](crate::ConnectionEvent::Dropped) where they are missing. Connection events are never dropped.
    pub fn bounded(mut self, capacity: usize, overflow: Overflow) -> Self {
        self.policy = QueuePolicy::Bounded { capacity, overflow };
        self
    }

    /// Keeps only the latest message of each key: it takes the place of the one that waits under the same key, so that keys
    /// keep the order of their first arrival. Messages on two sides of a connection event do not replace each other. At
    /// most `capacity` messages wait; beyond that the oldest goes. What was replaced counts as `dropped` and is told
    /// as [`Dropped`](crate::ConnectionEvent::Dropped), right before the message that stands for it.
    ///
    /// `key` runs where messages are parsed; if it panics, the message counts as dropped.
    pub fn conflate<K>(mut self, capacity: usize, key: impl Fn(&M) -> K + Send + Sync + 'static) -> Self
    where
        K: Clone + Eq + Hash + Send + 'static,
    {
        self.policy = QueuePolicy::conflated(capacity, key);
        self
    }

    /// Counts the route as stale where the connection is live and no message has come for it for this long.
    ///
    /// A stale route is told to its handler as [`Stale`](crate::ConnectionEvent::Stale), to the client as
    /// [`RouteStale`](crate::ClientEvent::RouteStale), and holds the client's halted flag true until data comes.
    pub fn stale_after(mut self, silence: Duration) -> Self {
        self.limits.silence = Some(silence);
        self
    }

    /// Counts the route as stale where a message is not handled this long after it arrived: its handler has fallen behind.
    /// It is told as for [`stale_after`](Self::stale_after).
    pub fn max_queue_age(mut self, age: Duration) -> Self {
        self.limits.age = Some(age);
        self
    }
}

// Derived, these two would ask the same of the message.
impl<M> Clone for RouteOptions<M> {
    fn clone(&self) -> Self {
        let Self { thread, place, policy, limits } = self;
        Self { thread: thread.clone(), place: place.clone(), policy: policy.clone(), limits: *limits }
    }
}

impl<M> fmt::Debug for RouteOptions<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread, place, policy, limits } = self;
        f.debug_struct("RouteOptions")
            .field("thread", thread)
            .field("place", place)
            .field("policy", policy)
            .field("limits", limits)
            .finish()
    }
}

impl<M: Send + 'static> Default for RouteOptions<M> {
    fn default() -> Self {
        Self::new()
    }
}
