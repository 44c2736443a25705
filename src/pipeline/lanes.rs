//! Parser lanes: threads that parse for the loop.
//!
//! A lane takes whole messages, in the order that the loop gave them. An event passes the lanes behind a barrier: each lane
//! that reaches it holds back what comes later for that connection, the last one tells the routes, and then all go on.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::Pipeline;
use super::lines::LineChange;
use crate::error::Result;
use crate::event::ConnectionEvent;
use crate::handler::{Arrival, Outlet};
use crate::ids::ConnectionId;
use crate::message::WsMessage;
use crate::metrics::{ParseCounters, RouteStats};
use crate::sync::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use crate::sync::{AtomicBool, AtomicUsize, JoinHandle, Mutex, Ordering, lock};
use crate::thread::{self, Agent, ThreadBell, ThreadOptions, Turn};

/// The lanes of one engine.
pub(crate) struct LanePool {
    lanes: Arc<Lanes>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Gives each connection the lane after that of the one before.
    next_home: AtomicUsize,
}

/// The ways into the lanes, for the loop.
pub(super) struct Lanes {
    ways: Vec<(Sender<Work>, Arc<ThreadBell>)>,
    /// Batches whose memory can be used again.
    spare: Receiver<Batch>,
}

impl LanePool {
    /// Starts a thread for each lane.
    ///
    /// # Errors
    /// `CoreUnavailable`, and `Io` where the system gives no thread. What was started ends.
    pub(crate) fn start(options: &[ThreadOptions]) -> Result<Self> {
        options.iter().try_for_each(ThreadOptions::check)?;
        let (giving_back, spare) = bounded(SPARE_BATCHES);
        let parts: Vec<_> = options.iter().map(|_| (unbounded(), thread::bell())).collect();
        let ways = parts.iter().map(|((sender, _), (bell, _))| (sender.clone(), Arc::clone(bell))).collect();
        let lanes = Arc::new(Lanes { ways, spare });
        let pool = Self { lanes, threads: Mutex::default(), next_home: AtomicUsize::new(0) };
        let bells: Arc<[_]> = pool.lanes.ways.iter().map(|(_, bell)| Arc::clone(bell)).collect();
        for (number, (options, ((_, work), (bell, parker)))) in options.iter().zip(parts).enumerate() {
            let mut lane = Lane {
                work,
                bells: Arc::clone(&bells),
                giving_back: giving_back.clone(),
                tenants: HashMap::default(),
                held: Vec::new(),
                leaving: false,
            };
            let run = move |waiter| thread::run(&mut lane, &bell, &parker, waiter);
            lock(&pool.threads).push(options.start(&format!("hs-lane-{number}"), run)?);
        }
        Ok(pool)
    }

    pub(super) fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    /// How many lanes there are.
    pub(super) fn len(&self) -> usize {
        self.lanes.ways.len()
    }

    /// The lane for the unsplit messages of the next connection.
    pub(super) fn next_home(&self) -> usize {
        self.next_home.fetch_add(1, Ordering::Relaxed) % self.len()
    }

    /// Waits until the lanes have left, which they do once no client is on them.
    pub(crate) fn join(&self) {
        self.lanes.leave();
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                log::error!("a parser lane ended by a panic outside the router");
            }
        }
    }
}

impl Drop for LanePool {
    fn drop(&mut self) {
        self.lanes.leave();
    }
}

impl fmt::Debug for LanePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanePool").field("lanes", &self.len()).finish_non_exhaustive()
    }
}

impl Lanes {
    pub(super) fn send(&self, lane: usize, work: Work) {
        let (sender, bell) = &self.ways[lane];
        // A lane stays as long as a client is on it; one that is gone has panicked, and has said so.
        if sender.send(work).is_err() {
            log::error!("parser lane {lane} is gone");
        }
        bell.ring();
    }

    /// An empty batch.
    pub(super) fn batch(&self, client: ConnectionId) -> Batch {
        let mut batch = self.spare.try_recv().unwrap_or_default();
        batch.client = Some(client);
        batch
    }

    fn leave(&self) {
        for lane in 0..self.ways.len() {
            // After a join they are gone.
            let (sender, bell) = &self.ways[lane];
            let _ = sender.send(Work::Leave);
            bell.ring();
        }
    }
}

/// What the loop asks of a lane.
pub(super) enum Work {
    /// Parse for this client from now on.
    Join(ConnectionId, Box<Tenant>),
    /// Parse these.
    Parse(Batch),
    /// An event, or the end.
    Reach(ConnectionId, Arc<Barrier>),
    /// Do nothing for this client until others have passed that barrier.
    Await(ConnectionId, Arc<Barrier>),
    /// An event of one route, which needs no barrier: its place is wherever it gets to.
    RouteEvent(ConnectionId, Arc<RouteStats>, ConnectionEvent),
    /// The lines of the feed have changed.
    Line(ConnectionId, LineChange),
    /// Let go on what has waited until this stamp.
    Release(ConnectionId, u64),
    /// Leave, once no client is left.
    Leave,
}

/// The raw messages of one read, copied together: one hand-over for many, and no allocation for any.
#[derive(Default)]
pub(super) struct Batch {
    client: Option<ConnectionId>,
    text: String,
    bytes: Vec<u8>,
    raws: Vec<(Raw, Arrival)>,
}

#[derive(Clone)]
enum Raw {
    Text(Range<usize>),
    Binary(Range<usize>),
}

impl Batch {
    pub(super) fn push(&mut self, raw: &WsMessage<'_>, arrival: Arrival) {
        let raw = match raw {
            WsMessage::Text(text) => {
                let begin = self.text.len();
                self.text.push_str(text);
                Raw::Text(begin..self.text.len())
            }
            WsMessage::Binary(bytes) => {
                let begin = self.bytes.len();
                self.bytes.extend_from_slice(bytes);
                Raw::Binary(begin..self.bytes.len())
            }
        };
        self.raws.push((raw, arrival));
    }

    /// How many bytes it holds.
    pub(super) fn size(&self) -> usize {
        self.text.len() + self.bytes.len()
    }

    fn messages(&self) -> impl Iterator<Item = (WsMessage<'_>, Arrival)> {
        self.raws.iter().map(|(raw, arrival)| {
            let message = match raw.clone() {
                Raw::Text(range) => WsMessage::Text(self.text[range].into()),
                Raw::Binary(range) => WsMessage::Binary(self.bytes[range].into()),
            };
            (message, *arrival)
        })
    }

    fn clear(&mut self) {
        self.client = None;
        self.text.clear();
        self.bytes.clear();
        self.raws.clear();
    }
}

/// Where the lanes meet for one connection.
pub(super) struct Barrier {
    what: Meeting,
    /// Lanes that have yet to come.
    missing: AtomicUsize,
    /// The last one has come and done what there was to do.
    passed: AtomicBool,
}

/// What is done when all lanes have met.
pub(super) enum Meeting {
    Event(ConnectionEvent),
    Stop,
}

impl Barrier {
    pub(super) fn new(what: Meeting, lanes: usize) -> Arc<Self> {
        Arc::new(Self { what, missing: AtomicUsize::new(lanes), passed: AtomicBool::new(false) })
    }

    pub(super) fn is_passed(&self) -> bool {
        self.passed.load(Ordering::Acquire)
    }
}

/// One client on one lane.
pub(super) struct Tenant {
    pub(super) site: Box<dyn Pipeline>,
    pub(super) counters: Arc<ParseCounters>,
    pub(super) outlet: Box<dyn Outlet + Send>,
    pub(super) abandon: Arc<AtomicBool>,
    /// The barrier that it stands at, and what waits behind that.
    pub(super) waits_for: Option<Arc<Barrier>>,
    pub(super) behind: VecDeque<Work>,
}

/// One parser thread.
struct Lane {
    work: Receiver<Work>,
    /// Of all lanes: who passes a barrier last wakes the others.
    bells: Arc<[Arc<ThreadBell>]>,
    giving_back: Sender<Batch>,
    tenants: HashMap<ConnectionId, Box<Tenant>, FxBuildHasher>,
    /// Those that stand at a barrier.
    held: Vec<ConnectionId>,
    leaving: bool,
}

impl Agent for Lane {
    fn turn(&mut self) -> Turn {
        let mut worked = self.go_on();
        for _ in 0..WORK_PER_TURN {
            match self.work.try_recv() {
                Ok(work) => self.take(work),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) if self.held.is_empty() => return Turn::Done,
                Err(TryRecvError::Disconnected) => break,
            }
            worked = true;
        }
        match (worked, self.leaving && self.tenants.is_empty()) {
            (_, true) => Turn::Done,
            (true, false) => Turn::Worked,
            (false, false) => Turn::Idle,
        }
    }
}

impl Lane {
    /// Goes on with those whose barrier has been passed.
    fn go_on(&mut self) -> bool {
        let mut worked = false;
        for client in std::mem::take(&mut self.held) {
            let Some(tenant) = self.tenants.get_mut(&client) else { continue };
            if tenant.waits_for.as_ref().is_some_and(|barrier| !barrier.is_passed()) {
                self.held.push(client);
                continue;
            }
            worked = true;
            tenant.waits_for = None;
            for work in std::mem::take(&mut tenant.behind) {
                self.take(work);
            }
        }
        worked
    }

    fn take(&mut self, work: Work) {
        let client = match &work {
            Work::Leave => return self.leaving = true,
            Work::Join(client, _) | Work::Reach(client, _) | Work::Await(client, _) => *client,
            Work::RouteEvent(client, ..) | Work::Line(client, _) | Work::Release(client, _) => *client,
            Work::Parse(batch) => batch.client.expect("a batch is somebody's"),
        };
        if let Work::Join(_, tenant) = work {
            self.tenants.insert(client, tenant);
            return;
        }
        let Some(tenant) = self.tenants.get_mut(&client) else { return };
        if tenant.waits_for.is_some() {
            return tenant.behind.push_back(work);
        }
        match work {
            Work::Parse(batch) => {
                tenant.parse(&batch);
                give_back(&self.giving_back, batch);
            }
            Work::Reach(_, barrier) => self.reach(client, barrier),
            Work::Await(_, barrier) => self.hold(client, barrier),
            Work::RouteEvent(_, route, event) => tenant.site.route_event(&route, &event),
            Work::Line(_, change) => tenant.site.line(&change),
            Work::Release(_, now_ns) => tenant.site.release(now_ns),
            Work::Join(..) | Work::Leave => {}
        }
    }

    fn reach(&mut self, client: ConnectionId, barrier: Arc<Barrier>) {
        let last = barrier.missing.fetch_sub(1, Ordering::AcqRel) == 1;
        let stops = matches!(barrier.what, Meeting::Stop);
        if let (true, Some(tenant)) = (last, self.tenants.get_mut(&client)) {
            match &barrier.what {
                Meeting::Event(event) => tenant.site.event(event),
                Meeting::Stop => tenant.site.stop(),
            }
            barrier.passed.store(true, Ordering::Release);
            self.bells.iter().for_each(|bell| bell.ring());
        }
        if stops {
            self.tenants.remove(&client);
        } else if !last {
            self.hold(client, barrier);
        }
    }

    fn hold(&mut self, client: ConnectionId, barrier: Arc<Barrier>) {
        if let Some(tenant) = self.tenants.get_mut(&client) {
            tenant.waits_for = Some(barrier);
            self.held.push(client);
        }
    }
}

impl Tenant {
    fn parse(&mut self, batch: &Batch) {
        // Where nobody waits any more, what is left is counted, by not being taken.
        if self.abandon.load(Ordering::Relaxed) {
            return;
        }
        for (raw, mut arrival) in batch.messages() {
            self.site.deliver(&raw, &mut arrival, self.outlet.as_mut());
            self.counters.taken.add(1);
        }
        self.site.drained();
    }
}

fn give_back(spare: &Sender<Batch>, mut batch: Batch) {
    if batch.text.capacity() + batch.bytes.capacity() <= LARGEST_SPARE_BYTES {
        batch.clear();
        // There are enough of them already, then.
        let _ = spare.try_send(batch);
    }
}

/// Lets one turn of a lane go on for at most this many reads of the socket.
const WORK_PER_TURN: usize = 64;
/// More batches than this are not kept for use again: 64 of 64 KiB are 4 MiB.
const SPARE_BATCHES: usize = 64;
/// A batch that a large message has blown up is not kept.
const LARGEST_SPARE_BYTES: usize = 256 * 1024;
