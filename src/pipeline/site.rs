//! A parse site: parses, finds the route, and hands over. One on the loop, or one on each lane; each belongs to one thread.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::Pipeline;
use super::handler::{GuardedHandler, panic_text};
use super::lines::{CoverageBoard, LineChange};
use super::plan::{Base, RoutePlan};
use super::queue::QueueIn;
use super::splice::{Coverage, Hole, Splice, Verdict};
use super::threads::Leaving;
use crate::clock;
use crate::error::{HyperSocketError, Result};
use crate::event::{ClientEvent, ConnectionEvent};
use crate::handler::{Arrival, Outlet};
use crate::message::WsMessage;
use crate::metrics::{ParseCounters, RouteStats};
use crate::router::{MessageRouter, Parsed};
use crate::scratch::Scratch;
use crate::sync::{Mutex, lock};

/// One route, seen from one parse site.
pub(super) struct Route<M> {
    pub(super) end: RouteEnd<M>,
    pub(super) stats: Arc<RouteStats>,
}

pub(super) enum RouteEnd<M> {
    Queue(Arc<QueueIn<M>>),
    /// The only parse site has it for itself.
    Inline(GuardedHandler<M>),
    /// Whichever lane has a message for it takes it; by the rule of `shard_key` that is always the same one.
    Locked(Arc<Mutex<GuardedHandler<M>>>),
}

impl<M> Route<M> {
    /// The same route for another parse site; `None` where it belongs to the only one.
    fn again(&self) -> Option<Self> {
        let end = match &self.end {
            RouteEnd::Queue(queue) => RouteEnd::Queue(Arc::clone(queue)),
            RouteEnd::Locked(handler) => RouteEnd::Locked(Arc::clone(handler)),
            RouteEnd::Inline(_) => return None,
        };
        Some(Self { end, stats: Arc::clone(&self.stats) })
    }
}

impl<M: Send + 'static> Route<M> {
    fn event(&mut self, event: &ConnectionEvent) {
        match &mut self.end {
            RouteEnd::Queue(queue) => queue.event(event.clone()),
            RouteEnd::Inline(handler) => handler.event(event),
            RouteEnd::Locked(handler) => lock(handler).event(event),
        }
    }
}

/// Makes a route for a key that nobody registered; `None`: it wants none.
pub(crate) type Factory<R> =
    Box<dyn FnMut(&<R as MessageRouter>::RouteKey) -> Option<RoutePlan<<R as MessageRouter>::Message>> + Send>;

/// The routes that the factory made, known to all parse sites of a client.
pub(super) struct Made<R: MessageRouter> {
    factory: Option<Factory<R>>,
    routes: Vec<(R::RouteKey, Route<R::Message>)>,
    /// The last `Live`, while it holds: a new route hears of it first.
    live: Option<ConnectionEvent>,
}

impl<R: MessageRouter> Made<R> {
    pub(super) fn new(factory: Option<Factory<R>>) -> Self {
        Self { factory, routes: Vec::new(), live: None }
    }
}

/// See the module.
pub(super) struct Site<R: MessageRouter> {
    router: Arc<R>,
    lane: usize,
    base: Arc<Base>,
    counters: Arc<ParseCounters>,
    index: HashMap<R::RouteKey, usize, FxBuildHasher>,
    /// The key of the first route, as long as no other has one: then there is nothing to look up.
    only: Option<R::RouteKey>,
    routes: Vec<Route<R::Message>>,
    default: Option<usize>,
    made: Arc<Mutex<Made<R>>>,
    /// How many of `made` this site knows.
    adopted: usize,
    has_factory: bool,
    /// What the raw message at hand was parsed into; the next to go is the last. Empty between raw messages.
    parsed: Vec<R::Message>,
    /// Inline routes that handled something since the last `drained`.
    in_batch: Vec<usize>,
    scratch: Scratch,
    /// Whose code is running: who is to blame for a panic.
    step: Step,
    measures: bool,
    wall: WallTime,
    /// The last epoch that was severed by us: once is enough.
    severed: u64,
    splice: Splice<(R::Message, Arrival)>,
    /// Raw messages come from the loop, on its own thread.
    pub(super) is_on_loop: bool,
    /// The message at hand answers a subscription, where one was awaited.
    is_reply: bool,
    /// There is no other line, nor anything left of one, and of messages without a sequence was told.
    is_plain: bool,
    /// There is another line, or something left of one: what was brought may have to wait.
    in_lines: bool,
    /// A message without a sequence has been told of.
    unnumbered_known: bool,
    /// Where to write how far the watched line has come.
    board: Option<Arc<CoverageBoard>>,
    /// What [`board`](Self::board) says.
    published: Option<Coverage>,
    /// For handlers of messages that had to wait: the socket that they came from may be gone.
    outlet: Option<Box<dyn Outlet + Send>>,
    /// Dropped at the stop, for which the client waits.
    leaving: Option<Leaving>,
}

/// How far the message at hand has come.
#[derive(Debug, Clone, Copy)]
enum Step {
    Parse,
    /// On its way to its route; so many are left behind it.
    Find {
        left: usize,
    },
    /// In an inline handler, with the stamp of the hand-over where the route is measured.
    Handle {
        route: usize,
        queued_ns: Option<u64>,
    },
}

/// The last read that carried a venue's time, on both clocks: one look at the wall clock a read.
#[derive(Debug, Clone, Copy, Default)]
struct WallTime {
    received_ns: u64,
    received_unix_ns: u64,
}

impl<R: MessageRouter> Site<R> {
    pub(super) fn new(router: Arc<R>, lane: usize, base: Arc<Base>, made: Arc<Mutex<Made<R>>>) -> Result<Self> {
        let has_factory = lock(&made).factory.is_some();
        Ok(Self {
            router,
            lane,
            counters: base.stats.add_site(),
            index: HashMap::default(),
            only: None,
            routes: Vec::new(),
            default: None,
            adopted: 0,
            has_factory,
            made,
            parsed: Vec::new(),
            in_batch: Vec::new(),
            scratch: Scratch::default(),
            step: Step::Parse,
            measures: base.surroundings.measure_latency,
            wall: WallTime::default(),
            severed: 0,
            splice: Splice::new(base.surroundings.hold),
            is_on_loop: true,
            is_reply: false,
            is_plain: false,
            in_lines: false,
            unnumbered_known: false,
            board: None,
            published: None,
            outlet: None,
            leaving: Some(base.threads.leaving()?),
            base,
        })
    }

    pub(super) fn counters(&self) -> &Arc<ParseCounters> {
        &self.counters
    }

    /// Takes a route in; `None` is the key of the default one.
    pub(super) fn take(&mut self, key: Option<R::RouteKey>, route: Route<R::Message>) {
        match key {
            Some(key) => {
                self.only = self.routes.is_empty().then(|| key.clone());
                self.index.insert(key, self.routes.len());
            }
            None => self.default = Some(self.routes.len()),
        }
        self.routes.push(route);
    }

    /// `PLAIN`: no other line, no answer to wait for, nothing to be told for the first time; nearly always.
    #[inline(always)]
    fn deliver_as<const PLAIN: bool>(&mut self, raw: &WsMessage<'_>, arrival: &mut Arrival, outlet: &mut dyn Outlet) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.pass::<PLAIN>(raw, arrival, outlet))) {
            self.blame(panic.as_ref(), arrival);
        }
        if !self.parsed.is_empty() {
            self.pass_rest::<PLAIN>(arrival, outlet);
        }
    }

    /// Parses into `self.parsed`, where what was pushed before an error or a panic stays. One message, as it nearly always is, goes
    /// on to its route at once. May unwind.
    fn pass<const PLAIN: bool>(&mut self, raw: &WsMessage<'_>, arrival: &mut Arrival, outlet: &mut dyn Outlet) {
        self.step = Step::Parse;
        if !PLAIN && arrival.awaits_reply {
            // On a lane, the loop has asked already.
            self.is_reply = !self.is_on_loop || note_reply(self.router.as_ref(), raw, outlet);
        }
        let mut out = Parsed::new(&mut self.parsed, &mut self.scratch);
        let outcome = self.router.parse_each(raw.borrowed(), &mut out);
        if self.measures {
            arrival.trail.parsed(clock::stamp_ns());
        }
        match outcome {
            Ok(()) => {}
            Err(HyperSocketError::Skip) => self.counters.skipped.add(1),
            Err(error) => self.erred(&error),
        }
        self.counters.parsed.add(self.parsed.len() as u64);
        if self.parsed.len() == 1 {
            self.pass_next::<PLAIN>(arrival, outlet);
        }
    }

    /// Lets all messages go on to their routes, each under a guard of its own.
    #[inline(never)]
    fn pass_rest<const PLAIN: bool>(&mut self, arrival: &mut Arrival, outlet: &mut dyn Outlet) {
        // They leave from the end.
        self.parsed.reverse();
        while !self.parsed.is_empty() {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.pass_next::<PLAIN>(arrival, outlet))) {
                self.blame(panic.as_ref(), arrival);
            }
        }
    }

    /// Lets the next message go on to its route. May unwind.
    #[inline(always)]
    fn pass_next<const PLAIN: bool>(&mut self, arrival: &mut Arrival, outlet: &mut dyn Outlet) {
        let left = self.parsed.len() - 1;
        self.step = Step::Find { left };
        let Some(sequence) = self.parsed.last().and_then(|message| self.router.sequence(message)) else {
            return self.pass_unnumbered::<PLAIN>(arrival, outlet);
        };
        match self.splice.judge(arrival.line, sequence, arrival.trail.received_ns) {
            Verdict::Pass(hole) => self.pass_on(hole, arrival, outlet),
            Verdict::Repeat => self.parsed.truncate(left),
            Verdict::Hold => {
                if let Some(message) = self.parsed.pop() {
                    self.splice.hold(arrival.line, sequence, arrival.trail.received_ns, (message, *arrival));
                }
            }
        }
    }

    #[inline(always)]
    fn pass_unnumbered<const PLAIN: bool>(&mut self, arrival: &mut Arrival, outlet: &mut dyn Outlet) {
        if !PLAIN && self.drops_unnumbered(arrival) {
            return;
        }
        self.pass_on(None, arrival, outlet);
    }

    /// Whether the next message, which has no sequence, ends here: each connection has its own answers to subscriptions, but of
    /// anything else those of one line are enough.
    #[inline(never)]
    fn drops_unnumbered(&mut self, arrival: &Arrival) -> bool {
        if arrival.awaits_reply && self.is_reply {
            return false;
        }
        if !self.unnumbered_known {
            self.note_unnumbered();
        }
        let drops = !self.splice.takes_unnumbered(arrival.line);
        if drops {
            self.parsed.pop();
        }
        drops
    }

    #[cold]
    fn note_unnumbered(&mut self) {
        let Some(message) = self.parsed.last() else { return };
        let route = format!("{:?}", self.router.route_key(message));
        self.unnumbered_known = true;
        self.is_plain = !self.in_lines;
        let stats = &self.base.stats;
        if stats.note_unnumbered(route)
            && let (Some(tell), Err(why)) = (&self.base.surroundings.unnumbered, stats.check_numbered())
        {
            tell(&why);
        }
    }

    #[inline(always)]
    fn pass_on(&mut self, hole: Option<Hole>, arrival: &mut Arrival, outlet: &mut dyn Outlet) {
        match self.locate() {
            Some(found) => {
                if let Some(hole) = hole {
                    self.tell_gap(found, hole);
                }
                self.hand_over(found, arrival, outlet);
            }
            None => drop(self.parsed.pop()),
        }
    }

    #[cold]
    fn tell_gap(&mut self, found: usize, Hole { stream, first, last }: Hole) {
        self.base.stats.missing.add_shared(last - first + 1);
        let route = &mut self.routes[found];
        route.event(&ConnectionEvent::Gap { stream, first, last });
        let route = route.stats.name.clone();
        self.base.surroundings.shared.report_fault(|| ClientEvent::RouteGap { route, stream, first, last });
    }

    /// Lets go on what need not wait for another line any more, each under a guard of its own.
    #[inline(never)]
    fn release_held(&mut self) {
        if !self.splice.is_holding() {
            return;
        }
        let mut outlet = self.outlet.take().unwrap_or_else(|| (self.base.surroundings.outlet)());
        while let Some(((message, mut arrival), hole)) = self.splice.release() {
            self.parsed.push(message);
            self.step = Step::Find { left: self.parsed.len() - 1 };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.pass_on(hole, &mut arrival, outlet.as_mut()))) {
                self.blame(panic.as_ref(), &arrival);
            }
        }
        self.outlet = Some(outlet);
    }

    /// Writes down how far the watched line has come.
    fn publish_coverage(&mut self) {
        let Some(board) = &self.board else { return };
        let coverage = self.splice.coverage();
        if self.published != Some(coverage) {
            self.published = Some(coverage);
            board.publish(self.lane, coverage);
        }
    }

    /// Counts and tells what a panic has cost: the message that was at hand.
    #[cold]
    fn blame(&mut self, panic: &(dyn Any + Send), arrival: &Arrival) {
        match self.step {
            // What was pushed before it is still to go on.
            Step::Parse => self.counters.parsed.add(self.parsed.len() as u64),
            Step::Find { left } => self.parsed.truncate(left),
            Step::Handle { route, queued_ns } => {
                if let RouteEnd::Inline(handler) = &mut self.routes[route].end {
                    handler.panicked(panic);
                    return handler.end(queued_ns, arrival);
                }
            }
        }
        self.panicked(panic);
    }

    #[cold]
    fn erred(&self, error: &HyperSocketError) {
        self.counters.errors.add(1);
        self.report(|| ClientEvent::ParseFailed { error: error.to_string() });
    }

    #[cold]
    fn panicked(&self, panic: &(dyn Any + Send)) {
        self.counters.panics.add(1);
        self.report(|| ClientEvent::ParseFailed { error: panic_text(panic) });
    }

    /// The route of the next message. A panic of `route_key`, of the key's own `Hash`, `Eq` or `Debug`, or of the factory costs the
    /// message, as one of `parse` does.
    #[inline(always)]
    fn locate(&mut self) -> Option<usize> {
        let key = self.router.route_key(self.parsed.last()?);
        let found = match &self.only {
            Some(only) if *only == key => Some(0),
            _ => self.index.get(&key).copied(),
        };
        let found = if found.is_none() && self.has_factory { self.make(&key) } else { found };
        let found = found.or(self.default);
        if found.is_none() {
            self.counters.unrouted.add(1);
            self.report(|| ClientEvent::Unrouted { route: format!("{key:?}") });
        }
        found
    }

    /// The route that the factory makes, or has made for another site, for this key.
    fn make(&mut self, key: &R::RouteKey) -> Option<usize> {
        let made = Arc::clone(&self.made);
        let mut made = lock(&made);
        self.adopt(&made);
        if let Some(&found) = self.index.get(key) {
            return Some(found);
        }
        let plan = made.factory.as_mut().and_then(|factory| factory(key))?;
        let mut ends = match plan.check(&format!("{key:?}")).and_then(|()| self.base.start_route(key, plan)) {
            Ok(ends) => ends,
            Err(error) => {
                self.report(|| ClientEvent::RouteFailed { route: format!("{key:?}"), error: error.to_string() });
                return None;
            }
        };
        let mut route = ends.pop()?;
        if let Some(live) = &made.live {
            route.event(live);
        }
        // The only site needs no list to find it again.
        if let Some(again) = route.again()
            && self.base.sites > 1
        {
            made.routes.push((key.clone(), again));
            self.adopted += 1;
        }
        self.take(Some(key.clone()), route);
        Some(self.routes.len() - 1)
    }

    /// Takes in what other sites have had made.
    fn adopt(&mut self, made: &Made<R>) {
        for (key, route) in &made.routes[self.adopted..] {
            if let Some(route) = route.again() {
                self.take(Some(key.clone()), route);
            }
        }
        self.adopted = made.routes.len();
    }

    /// Hands the next message over to its route.
    #[inline(always)]
    fn hand_over(&mut self, found: usize, arrival: &mut Arrival, outlet: &mut dyn Outlet) {
        let mut queued_ns = None;
        if self.measures {
            self.note_venue_time(found, arrival.trail.received_ns);
            let now_ns = clock::stamp_ns();
            arrival.trail.queued(now_ns);
            queued_ns = Some(now_ns);
        }
        let many = self.base.sites > 1;
        let Route { end, stats } = &mut self.routes[found];
        if many && !stats.is_of_lane(self.lane) {
            if self.counters.lane_violations.get() == 0 {
                self.base
                    .surroundings
                    .shared
                    .report_fault(|| ClientEvent::RouteOnTwoLanes { route: stats.name.clone() });
            }
            self.counters.lane_violations.add(1);
        }
        let received_ns = arrival.trail.received_ns;
        stats.arriving(received_ns, many);
        let parsed = &mut self.parsed;
        let mut take = || parsed.pop().expect("a route was found for it");
        match end {
            RouteEnd::Queue(queue) => {
                let keep = queue.send(take(), *arrival);
                stats.handed_over(received_ns);
                if !keep && self.severed < arrival.epoch {
                    self.severed = arrival.epoch;
                    (self.base.surroundings.sever)(arrival.epoch, &stats.name);
                }
            }
            RouteEnd::Inline(handler) => {
                if handler.begin() {
                    self.in_batch.push(found);
                }
                // Nothing waits: one look at the clock is both ends of its queue.
                self.step = Step::Handle { route: found, queued_ns };
                handler.call(queued_ns, take, arrival, outlet);
                handler.end(queued_ns, arrival);
            }
            RouteEnd::Locked(handler) => {
                if lock(handler).handle(&mut take, arrival, outlet) {
                    self.in_batch.push(found);
                }
            }
        }
    }

    /// Compares the venue's time of the next message, where it has one, with our wall clock at the read.
    fn note_venue_time(&mut self, route: usize, received_ns: u64) {
        let venue_ns = catch_unwind(AssertUnwindSafe(|| self.router.event_time_ns(self.parsed.last()?)));
        let venue_ns = venue_ns.unwrap_or_else(|panic| {
            self.panicked(panic.as_ref());
            None
        });
        let (Some(venue_ns), Some(latency)) = (venue_ns, self.routes[route].stats.latency()) else { return };
        if self.wall.received_ns != received_ns {
            let since = clock::stamp_ns().saturating_sub(received_ns);
            self.wall = WallTime { received_ns, received_unix_ns: clock::unix_ns().saturating_sub(since) };
        }
        latency.venue_to_read.record_ns(self.wall.received_unix_ns.wrapping_sub(venue_ns).cast_signed());
    }

    fn report(&self, event: impl FnOnce() -> ClientEvent) {
        self.base.surroundings.shared.report_fault(event);
    }
}

/// Whether the message answers a subscription, which is told then. May unwind.
pub(super) fn note_reply<R: MessageRouter>(router: &R, raw: &WsMessage<'_>, outlet: &mut dyn Outlet) -> bool {
    let reply = router.subscription_reply(raw);
    let is_reply = reply.is_some();
    if let Some(reply) = reply {
        outlet.subscription_replied(reply);
    }
    is_reply
}

impl<R: MessageRouter> Pipeline for Site<R> {
    fn deliver(&mut self, raw: &WsMessage<'_>, arrival: &mut Arrival, outlet: &mut dyn Outlet) {
        debug_assert!(self.parsed.is_empty(), "messages were left over from the one before");
        if self.measures {
            arrival.trail.decoded(clock::stamp_ns());
        }
        if self.is_plain && !arrival.awaits_reply {
            self.deliver_as::<true>(raw, arrival, outlet);
        } else {
            self.deliver_as::<false>(raw, arrival, outlet);
            if self.in_lines {
                self.release_held();
                self.publish_coverage();
            }
        }
    }

    fn event(&mut self, event: &ConnectionEvent) {
        if matches!(event, ConnectionEvent::Lost { .. }) {
            self.line(&LineChange::Lost);
        }
        if self.has_factory {
            let made = Arc::clone(&self.made);
            let mut made = lock(&made);
            match event {
                ConnectionEvent::Live { .. } => made.live = Some(event.clone()),
                // For a route made later this is its beginning.
                ConnectionEvent::Rotated { epoch } => made.live = Some(ConnectionEvent::Live { epoch: *epoch }),
                ConnectionEvent::Lost { .. } => made.live = None,
                _ => {}
            }
            self.adopt(&made);
        }
        for route in &mut self.routes {
            route.event(event);
        }
    }

    fn route_event(&mut self, route: &Arc<RouteStats>, event: &ConnectionEvent) {
        if self.has_factory {
            let made = Arc::clone(&self.made);
            self.adopt(&lock(&made));
        }
        if let Some(found) = self.routes.iter_mut().find(|known| Arc::ptr_eq(&known.stats, route)) {
            found.event(event);
        }
    }

    fn read_done(&mut self) {}

    fn line(&mut self, change: &LineChange) {
        match change {
            LineChange::Joined { line, stats } => self.splice.join(*line, stats.clone()),
            LineChange::Left { line } => {
                self.splice.leave(*line);
                self.release_held();
            }
            LineChange::Lost => {
                self.splice.leave_all();
                self.release_held();
                self.splice.forget();
            }
            LineChange::Watched { line, board } => {
                self.splice.watch(*line);
                (self.board, self.published) = (Some(Arc::clone(board)), None);
                self.publish_coverage();
            }
            LineChange::Unwatched => {
                self.splice.unwatch();
                self.board = None;
            }
        }
        self.in_lines = self.board.is_some() || self.splice.has_several_lines() || self.splice.is_holding();
        self.is_plain = self.unnumbered_known && !self.in_lines;
    }

    fn next_release_ns(&self) -> Option<u64> {
        self.splice.next_expiry_ns()
    }

    fn release(&mut self, now_ns: u64) {
        self.splice.expire(now_ns);
        self.release_held();
        self.publish_coverage();
    }

    fn drained(&mut self) {
        for at in self.in_batch.drain(..) {
            match &mut self.routes[at].end {
                RouteEnd::Inline(handler) => handler.end_batch(),
                RouteEnd::Locked(handler) => lock(handler).end_batch(),
                RouteEnd::Queue(_) => {}
            }
        }
    }

    fn stop(&mut self) {
        self.line(&LineChange::Lost);
        self.in_batch.clear();
        if self.has_factory {
            let made = Arc::clone(&self.made);
            let mut made = lock(&made);
            self.adopt(&made);
            made.routes.clear();
        }
        for route in self.routes.drain(..) {
            match route.end {
                RouteEnd::Inline(mut handler) => handler.stop(),
                RouteEnd::Locked(handler) => lock(&handler).stop(),
                RouteEnd::Queue(_) => {}
            }
        }
        self.index.clear();
        self.only = None;
        self.default = None;
        self.leaving = None;
    }
}
