//! Parses, finds the route, and hands over: the pipeline of a client whose messages are parsed on the loop.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::Sender;
use rustc_hash::FxBuildHasher;

use super::Pipeline;
use super::handler::{Envelope, GuardedHandler, HandlerThreads, NewOutlet, panic_text};
use crate::error::{HyperSocketError, Result};
use crate::event::{ClientEvent, ConnectionEvent};
use crate::handler::{MessageHandler, Origin, Outlet};
use crate::message::WsMessage;
use crate::metrics::RouteStats;
use crate::router::{MessageRouter, Parsed, Scratch};
use crate::state::Shared;
use crate::thread::ThreadOptions;

/// Where a route's handler runs.
#[derive(Debug, Clone)]
pub(crate) enum Placement {
    /// On a thread of its own.
    Thread(ThreadOptions),
    /// On the loop, within the read that brought the message.
    Inline,
}

/// One route as the user registered it.
pub(crate) struct RoutePlan<M> {
    pub(crate) handler: Box<dyn MessageHandler<M>>,
    pub(crate) placement: Placement,
}

/// The routes of one client, running.
pub(crate) struct Started {
    pub(crate) pipeline: Box<dyn Pipeline>,
    pub(crate) threads: HandlerThreads,
    pub(crate) stats: Vec<Arc<RouteStats>>,
}

/// All routes of one client as registered, before any thread is started.
pub(crate) struct RoutingPlan<R: MessageRouter> {
    pub(crate) router: R,
    pub(crate) routes: Vec<(R::RouteKey, RoutePlan<R::Message>)>,
    pub(crate) default: Option<RoutePlan<R::Message>>,
}

impl<R: MessageRouter> RoutingPlan<R> {
    /// Checks that the handler threads can be where they are asked to be.
    pub(crate) fn check_threads(&self) -> Result<()> {
        let mut plans = self.routes.iter().map(|(_, plan)| plan).chain(&self.default);
        plans.try_for_each(|plan| match &plan.placement {
            Placement::Thread(options) => options.check(),
            Placement::Inline => Ok(()),
        })
    }

    /// Starts the handler threads.
    ///
    /// # Errors
    /// `InvalidConfig` where a key was registered twice; `Io` where a thread cannot start. What was started ends.
    pub(crate) fn start(self, shared: &Arc<Shared>, measure_latency: bool, outlet: NewOutlet<'_>) -> Result<Started> {
        let mut threads = HandlerThreads::new();
        let mut stats = Vec::new();
        let mut start = |name: String, plan: RoutePlan<R::Message>| {
            let route = RouteStats::new(name, measure_latency);
            stats.push(Arc::clone(&route));
            let handler = GuardedHandler::new(plan.handler, Arc::clone(&route), Arc::clone(shared));
            Ok::<_, HyperSocketError>(Route {
                stats: route,
                end: match plan.placement {
                    Placement::Inline => RouteEnd::Inline(handler),
                    Placement::Thread(options) => RouteEnd::Queue(threads.start(handler, &options, outlet())?),
                },
            })
        };
        let mut index = HashMap::with_capacity_and_hasher(self.routes.len(), FxBuildHasher);
        let mut routes = Vec::with_capacity(self.routes.len() + 1);
        for (key, plan) in self.routes {
            let name = format!("{key:?}");
            if index.insert(key, routes.len()).is_some() {
                return Err(HyperSocketError::InvalidConfig(format!("route {name} has two handlers")));
            }
            routes.push(start(name, plan)?);
        }
        let default = match self.default {
            Some(plan) => {
                routes.push(start("default".to_owned(), plan)?);
                Some(routes.len() - 1)
            }
            None => None,
        };
        let shared = Arc::clone(shared);
        let scratch = Scratch::default();
        let pipeline = Routes { router: self.router, index, routes, default, parsed: Vec::new(), scratch, shared };
        Ok(Started { pipeline: Box::new(pipeline), threads, stats })
    }
}

struct Route<M> {
    end: RouteEnd<M>,
    stats: Arc<RouteStats>,
}

enum RouteEnd<M> {
    Queue(Sender<Envelope<M>>),
    Inline(GuardedHandler<M>),
}

struct Routes<R: MessageRouter> {
    router: R,
    index: HashMap<R::RouteKey, usize, FxBuildHasher>,
    routes: Vec<Route<R::Message>>,
    default: Option<usize>,
    /// What the message at hand was parsed into; empty between messages.
    parsed: Vec<R::Message>,
    scratch: Scratch,
    shared: Arc<Shared>,
}

impl<R: MessageRouter> Routes<R> {
    /// Parses into `self.parsed`; what was pushed before an error or a panic stays there.
    fn parse(&mut self, raw: WsMessage<'_>) {
        let mut out = Parsed::new(&mut self.parsed, &mut self.scratch);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.router.parse_each(raw, &mut out)));
        let counters = &self.shared.counters;
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(HyperSocketError::Skip)) => return counters.skipped.add(1),
            Ok(Err(error)) => {
                counters.parse_errors.add(1);
                error.to_string()
            }
            Err(panic) => {
                counters.parse_panics.add(1);
                panic_text(panic.as_ref())
            }
        };
        self.shared.report(|| ClientEvent::ParseFailed { error });
    }

    /// The route of a message; a panic of `route_key`, or of the key's own `Hash`, `Eq` or `Debug`, costs the message, as
    /// one of `parse` does.
    fn find(&self, message: &R::Message) -> Option<usize> {
        let found = catch_unwind(AssertUnwindSafe(|| {
            let key = self.router.route_key(message);
            let found = self.index.get(&key).copied().or(self.default);
            if found.is_none() {
                self.shared.counters.unrouted.add(1);
                self.shared.report(|| ClientEvent::Unrouted { route: format!("{key:?}") });
            }
            found
        }));
        found.unwrap_or_else(|panic| {
            self.shared.counters.parse_panics.add(1);
            self.shared.report(|| ClientEvent::ParseFailed { error: panic_text(panic.as_ref()) });
            None
        })
    }
}

impl<R: MessageRouter> Pipeline for Routes<R> {
    fn deliver(&mut self, raw: WsMessage<'_>, origin: Origin, outlet: &mut dyn Outlet) {
        debug_assert!(self.parsed.is_empty(), "messages were left over from the one before");
        self.parse(raw);
        let mut parsed = std::mem::take(&mut self.parsed);
        self.shared.counters.parsed.add(parsed.len() as u64);
        for message in parsed.drain(..) {
            let Some(found) = self.find(&message) else { continue };
            let Route { end, stats } = &mut self.routes[found];
            // Before the hand-over, or the handler could be ahead of the count.
            stats.counters.queued.add(1);
            match end {
                RouteEnd::Inline(handler) => handler.handle(message, origin, outlet),
                RouteEnd::Queue(queue) => {
                    if queue.send(Envelope::Message { message, origin }).is_err() {
                        // Its thread is gone: only a bug of ours can end it before the queue is dropped.
                        debug_assert!(false, "handler thread of route {} is gone", stats.name);
                        stats.counters.abandoned.add(1);
                    }
                }
            }
        }
        self.parsed = parsed;
    }

    fn event(&mut self, event: &ConnectionEvent) {
        for route in &mut self.routes {
            match &mut route.end {
                RouteEnd::Inline(handler) => handler.event(event),
                RouteEnd::Queue(queue) => {
                    let sent = queue.send(Envelope::Event(event.clone()));
                    debug_assert!(sent.is_ok(), "handler thread of route {} is gone", route.stats.name);
                }
            }
        }
    }

    fn drained(&mut self) {
        for route in &mut self.routes {
            if let RouteEnd::Inline(handler) = &mut route.end {
                handler.end_batch();
            }
        }
    }

    fn stop(&mut self) {
        for route in self.routes.drain(..) {
            if let RouteEnd::Inline(mut handler) = route.end {
                handler.stop();
            }
        }
        self.index.clear();
        self.default = None;
    }
}
