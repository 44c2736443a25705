//! The routes of a client as they were registered, and how they are started.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxBuildHasher;

use super::Pipeline;
use super::handler::GuardedHandler;
use super::laned::Laned;
use super::lanes::LanePool;
use super::queue::{QueueIn, QueuePolicy};
use super::site::{Factory, Made, Route, RouteEnd, Site};
use super::threads::{HandlerThread, HandlerThreads};
use crate::error::{HyperSocketError, Result};
use crate::handler::{MessageHandler, Outlet};
use crate::metrics::{PipelineStats, RouteStats, StaleLimits};
use crate::router::MessageRouter;
use crate::state::Shared;
use crate::sync::Mutex;
use crate::thread::ThreadOptions;

/// Where a route's handler runs.
#[derive(Debug, Clone)]
pub(crate) enum Placement {
    /// On a thread of its own.
    Thread(ThreadOptions),
    /// On a thread with other routes.
    Shared(HandlerThread),
    /// Where messages are parsed, within the parse.
    Inline,
}

/// One route as the user registered it.
pub(crate) struct RoutePlan<M> {
    pub(crate) end: PlannedEnd<M>,
    pub(crate) limits: StaleLimits,
}

/// Who gets the messages of a route.
pub(crate) enum PlannedEnd<M> {
    Handler {
        handler: Box<dyn MessageHandler<M>>,
        placement: Placement,
        policy: QueuePolicy<M>,
    },
    /// The receiver is the caller's already.
    Receiver {
        queue: QueueIn<M>,
        stats: Arc<RouteStats>,
    },
}

impl<M> RoutePlan<M> {
    /// Errs where the route cannot be what it is asked to be.
    pub(super) fn check(&self, route: &str) -> Result<()> {
        let PlannedEnd::Handler { placement, policy, .. } = &self.end else { return Ok(()) };
        if let Placement::Thread(options) = placement {
            options.check()?;
        }
        match (placement, policy.capacity()) {
            (_, Some(0)) => invalid(format!("route {route}: a queue for 0 messages")),
            (Placement::Inline, Some(_)) => {
                invalid(format!("route {route} is inline, so it has no queue to bound: place it on a thread"))
            }
            (Placement::Inline, None) if self.limits.age.is_some() => {
                invalid(format!("route {route} is inline, so nothing waits for it: max_queue_age says nothing"))
            }
            _ => Ok(()),
        }
    }
}

fn invalid<T>(what: String) -> Result<T> {
    Err(HyperSocketError::InvalidConfig(what))
}

/// All routes of one client as registered, before any thread is started.
pub(crate) struct RoutingPlan<R: MessageRouter> {
    pub(crate) router: R,
    pub(crate) routes: Vec<(R::RouteKey, RoutePlan<R::Message>)>,
    pub(crate) default: Option<RoutePlan<R::Message>>,
    pub(crate) factory: Option<Factory<R>>,
}

/// What the routes of a client get from the client.
pub(crate) struct Surroundings {
    pub(crate) shared: Arc<Shared>,
    pub(crate) measure_latency: bool,
    /// Makes a way back to the socket for a thread that is not the loop.
    pub(crate) outlet: OutletMaker,
    /// Ends the session of this epoch, for the sake of this route.
    pub(crate) sever: Sever,
    /// Hears of the first route that had a message without a sequence.
    pub(crate) unnumbered: Option<Unnumbered>,
    /// How long a message waits for another line to fill the hole before it.
    pub(crate) hold: Duration,
}

/// Makes a way back to the socket.
pub(crate) type OutletMaker = Arc<dyn Fn() -> Box<dyn Outlet + Send> + Send + Sync>;

/// Takes the reason why the feed cannot be put together.
pub(crate) type Unnumbered = Box<dyn Fn(&str) + Send + Sync>;

/// Takes the epoch, and the name of the route.
pub(crate) type Sever = Box<dyn Fn(u64, &str) + Send + Sync>;

/// The routes of one client, running.
pub(crate) struct Started {
    pub(crate) pipeline: Box<dyn Pipeline>,
    pub(crate) threads: Arc<HandlerThreads>,
    pub(crate) stats: Arc<PipelineStats>,
    /// How many parse sites there are.
    pub(crate) sites: usize,
}

/// A [`RoutingPlan`] whose router's type has been forgotten. `Send`, so that a builder may be built on another thread.
pub(crate) trait StartRoutes: Send {
    /// Starts the handler threads, with the parse sites on these lanes, or one on the loop.
    ///
    /// # Errors
    /// `InvalidConfig` where a key was registered twice or a route contradicts itself, `CoreUnavailable`, `Io` where a
    /// thread cannot start. What was started ends.
    fn start(self: Box<Self>, surroundings: Surroundings, lanes: Option<&LanePool>) -> Result<Started>;
}

impl<R: MessageRouter> StartRoutes for RoutingPlan<R> {
    fn start(self: Box<Self>, surroundings: Surroundings, lanes: Option<&LanePool>) -> Result<Started> {
        self.check()?;
        let Self { router, routes, default, factory } = *self;
        let (router, sites) = (Arc::new(router), lanes.map_or(1, LanePool::len));
        let base =
            Arc::new(Base { surroundings, threads: Arc::new(HandlerThreads::new()), stats: Arc::default(), sites });
        if router.is_numbered_per_connection() {
            base.stats.note_numbered_per_connection();
        }
        let mut started = Vec::with_capacity(routes.len());
        for (key, plan) in routes {
            started.push((Some(key.clone()), base.start_route(&key, plan)?));
        }
        if let Some(plan) = default {
            started.push((None, base.start_named("default".to_owned(), plan)?));
        }
        let made = Arc::new(Mutex::new(Made::new(factory)));
        let mut parse_sites: Vec<_> = (0..sites)
            .map(|lane| Site::new(Arc::clone(&router), lane, Arc::clone(&base), Arc::clone(&made)))
            .collect::<Result<_>>()?;
        for (key, routes) in started {
            for (site, route) in parse_sites.iter_mut().zip(routes) {
                site.take(key.clone(), route);
            }
        }
        let (threads, stats) = (Arc::clone(&base.threads), Arc::clone(&base.stats));
        let pipeline: Box<dyn Pipeline> = match lanes {
            Some(pool) => Box::new(Laned::start(router, &base, parse_sites, pool)),
            None => Box::new(parse_sites.swap_remove(0)),
        };
        Ok(Started { pipeline, threads, stats, sites })
    }
}

impl<R: MessageRouter> RoutingPlan<R> {
    fn check(&self) -> Result<()> {
        let mut known = HashSet::with_capacity_and_hasher(self.routes.len(), FxBuildHasher);
        for (key, plan) in &self.routes {
            if !known.insert(key) {
                return invalid(format!("route {key:?} has two handlers"));
            }
            plan.check(&format!("{key:?}"))?;
        }
        self.default.as_ref().map_or(Ok(()), |plan| plan.check("default"))
    }
}

/// What all routes and parse sites of one client stand on.
pub(super) struct Base {
    pub(super) surroundings: Surroundings,
    pub(super) threads: Arc<HandlerThreads>,
    pub(super) stats: Arc<PipelineStats>,
    /// How many parse sites there are.
    pub(super) sites: usize,
}

impl Base {
    /// Starts one route; one end for each parse site.
    pub(super) fn start_route<K: Debug, M: Send + 'static>(
        &self,
        key: &K,
        plan: RoutePlan<M>,
    ) -> Result<Vec<Route<M>>> {
        self.start_named(format!("{key:?}"), plan)
    }

    fn start_named<M: Send + 'static>(&self, name: String, plan: RoutePlan<M>) -> Result<Vec<Route<M>>> {
        let stats = match &plan.end {
            PlannedEnd::Handler { .. } => RouteStats::new(name, plan.limits, false),
            PlannedEnd::Receiver { stats, .. } => Arc::clone(stats),
        };
        if self.surroundings.measure_latency {
            stats.measure_latency();
        }
        let ends = self.start_ends(plan, &stats)?;
        self.stats.add_route(&stats);
        Ok(ends.into_iter().map(|end| Route { end, stats: Arc::clone(&stats) }).collect())
    }

    fn start_ends<M: Send + 'static>(&self, plan: RoutePlan<M>, stats: &Arc<RouteStats>) -> Result<Vec<RouteEnd<M>>> {
        let Surroundings { shared, outlet, .. } = &self.surroundings;
        let queue = match plan.end {
            PlannedEnd::Receiver { queue, .. } => queue,
            PlannedEnd::Handler { handler, placement, policy } => {
                let handler = GuardedHandler::new(handler, Arc::clone(stats), Arc::clone(shared));
                match placement {
                    Placement::Thread(options) => self.threads.start(handler, stats, policy, outlet(), &options)?,
                    Placement::Shared(thread) => self.threads.seat(handler, stats, policy, outlet(), &thread)?,
                    Placement::Inline if self.sites == 1 => return Ok(vec![RouteEnd::Inline(handler)]),
                    Placement::Inline => {
                        let handler = Arc::new(Mutex::new(handler));
                        return Ok((0..self.sites).map(|_| RouteEnd::Locked(Arc::clone(&handler))).collect());
                    }
                }
            }
        };
        let queue = Arc::new(queue);
        Ok((0..self.sites).map(|_| RouteEnd::Queue(Arc::clone(&queue))).collect())
    }
}
