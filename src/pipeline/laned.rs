//! The loop's end of the parser lanes: says which lane a message goes to, and where the lanes must meet.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Pipeline;
use super::lanes::{Barrier, Batch, LanePool, Lanes, Meeting, Tenant, Work};
use super::lines::LineChange;
use super::plan::Base;
use super::site::{Site, note_reply};
use crate::clock;
use crate::event::ConnectionEvent;
use crate::handler::{Arrival, Outlet};
use crate::ids::ConnectionId;
use crate::message::WsMessage;
use crate::metrics::RouteStats;
use crate::router::MessageRouter;

/// A pipeline whose parse sites are on lanes.
pub(super) struct Laned<R: MessageRouter> {
    router: Arc<R>,
    base: Arc<Base>,
    lanes: Arc<Lanes>,
    client: ConnectionId,
    /// The lane of shard key 0.
    home: usize,
    /// What was collected for each lane in this read.
    open: Vec<Option<Batch>>,
    /// Lanes that have had something of this client.
    used: Vec<bool>,
    /// The last event, until it has passed: a lane that comes in anew waits for it.
    last: Option<Arc<Barrier>>,
    /// When the lanes are to look what has waited long enough for another line; they are asked now and then while there are lines.
    look_at_ns: Option<u64>,
    stopped: bool,
}

impl<R: MessageRouter> Laned<R> {
    /// Moves one parse site onto each lane.
    pub(super) fn start(router: Arc<R>, base: &Arc<Base>, sites: Vec<Site<R>>, pool: &LanePool) -> Self {
        let client = base.surroundings.shared.id;
        for (lane, mut site) in sites.into_iter().enumerate() {
            site.is_on_loop = false;
            let tenant = Tenant {
                counters: Arc::clone(site.counters()),
                site: Box::new(site),
                outlet: (base.surroundings.outlet)(),
                abandon: base.threads.abandon_flag(),
                waits_for: None,
                behind: VecDeque::new(),
            };
            pool.lanes().send(lane, Work::Join(client, Box::new(tenant)));
        }
        Self {
            router,
            base: Arc::clone(base),
            lanes: Arc::clone(pool.lanes()),
            client,
            home: pool.next_home(),
            open: (0..pool.len()).map(|_| None).collect(),
            used: vec![false; pool.len()],
            last: None,
            look_at_ns: None,
            stopped: false,
        }
    }

    fn lane_of(&self, raw: &WsMessage<'_>) -> usize {
        let key = catch_unwind(AssertUnwindSafe(|| self.router.shard_key(raw)));
        let key = key.unwrap_or_else(|_| {
            self.base.surroundings.shared.counters.raw_panics.add(1);
            0
        });
        let lanes = self.open.len() as u64;
        usize::try_from((self.home as u64 + key % lanes) % lanes).expect("less than a number of lanes")
    }

    /// Whether the message answers a subscription, which is told then.
    fn note_reply(&self, raw: &WsMessage<'_>, outlet: &mut dyn Outlet) -> bool {
        let noted = catch_unwind(AssertUnwindSafe(|| note_reply(self.router.as_ref(), raw, outlet)));
        noted.unwrap_or_else(|_| {
            self.base.surroundings.shared.counters.raw_panics.add(1);
            false
        })
    }

    /// Makes a lane ready for this client.
    fn enter(&mut self, lane: usize) {
        if std::mem::replace(&mut self.used[lane], true) {
            return;
        }
        if let Some(last) = self.last.take_if(|last| !last.is_passed()) {
            self.lanes.send(lane, Work::Await(self.client, Arc::clone(&last)));
            self.last = Some(last);
        }
    }

    fn tell_all(&mut self, mut work: impl FnMut() -> Work) {
        self.read_done();
        for lane in 0..self.open.len() {
            self.lanes.send(lane, work());
        }
    }

    fn look_later(&self, now_ns: u64) -> Option<u64> {
        let hold_ns = u64::try_from(self.base.surroundings.hold.as_nanos()).unwrap_or(u64::MAX);
        Some(now_ns.saturating_add((hold_ns / LOOKS_PER_HOLD).max(1)))
    }

    fn flush(&mut self, lane: usize) {
        if let Some(batch) = self.open[lane].take() {
            self.lanes.send(lane, Work::Parse(batch));
        }
    }

    fn meet(&mut self, what: Meeting, lanes: &[usize]) {
        self.read_done();
        let barrier = Barrier::new(what, lanes.len());
        for &lane in lanes {
            self.lanes.send(lane, Work::Reach(self.client, Arc::clone(&barrier)));
        }
        self.last = Some(barrier);
    }
}

impl<R: MessageRouter> Pipeline for Laned<R> {
    fn deliver(&mut self, raw: &WsMessage<'_>, arrival: &mut Arrival, outlet: &mut dyn Outlet) {
        let awaits_reply = arrival.awaits_reply && self.note_reply(raw, outlet);
        let lane = self.lane_of(raw);
        self.enter(lane);
        self.base.stats.handed_to_lanes.add(1);
        let (lanes, client) = (&self.lanes, self.client);
        let batch = self.open[lane].get_or_insert_with(|| lanes.batch(client));
        batch.push(raw, Arrival { awaits_reply, ..*arrival });
        if batch.size() >= BATCH_BYTES {
            self.flush(lane);
        }
    }

    fn event(&mut self, event: &ConnectionEvent) {
        if matches!(event, ConnectionEvent::Lost { .. }) {
            self.line(&LineChange::Lost);
        }
        self.enter(self.home);
        let used: Vec<_> = (0..self.used.len()).filter(|&lane| self.used[lane]).collect();
        self.meet(Meeting::Event(event.clone()), &used);
    }

    fn route_event(&mut self, route: &Arc<RouteStats>, event: &ConnectionEvent) {
        self.enter(self.home);
        self.lanes.send(self.home, Work::RouteEvent(self.client, Arc::clone(route), event.clone()));
    }

    fn line(&mut self, change: &LineChange) {
        let client = self.client;
        self.tell_all(|| Work::Line(client, change.clone()));
        match change {
            LineChange::Joined { .. } => self.look_at_ns = self.look_later(clock::stamp_ns()),
            LineChange::Lost => self.look_at_ns = None,
            _ => {}
        }
    }

    fn next_release_ns(&self) -> Option<u64> {
        self.look_at_ns
    }

    fn release(&mut self, now_ns: u64) {
        if self.look_at_ns.is_some_and(|due_ns| now_ns >= due_ns) {
            let client = self.client;
            self.tell_all(|| Work::Release(client, now_ns));
            self.look_at_ns = self.look_later(now_ns);
        }
    }

    fn read_done(&mut self) {
        for lane in 0..self.open.len() {
            self.flush(lane);
        }
    }

    // A lane ends the batch of its inline handlers by itself.
    fn drained(&mut self) {}

    fn stop(&mut self) {
        if !std::mem::replace(&mut self.stopped, true) {
            // Each lane lets go what it holds; only the last stops the routes.
            if self.look_at_ns.is_some() {
                self.line(&LineChange::Lost);
            }
            let all: Vec<_> = (0..self.open.len()).collect();
            self.meet(Meeting::Stop, &all);
        }
    }
}

impl<R: MessageRouter> Drop for Laned<R> {
    /// A client that never came to its loop, or whose loop has panicked, still leaves its lanes.
    fn drop(&mut self) {
        self.stop();
    }
}

/// What was collected goes on at this size, so that a lane can begin before the loop has cut the whole read.
const BATCH_BYTES: usize = 16 * 1024;
/// Over the time that a message may wait for another line.
const LOOKS_PER_HOLD: u64 = 4;
