//! The queues by themselves, and random schedules of routes, lanes, policies and slow handlers through the real threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::bounded::{Bounded, BoundedQueue, Pushed};
use super::queue::Envelope;
use super::*;
use crate::clock;
use crate::error::Result;
use crate::event::ConnectionEvent;
use crate::handler::MessageHandler;
use crate::ids::{ConnectionId, SendId};
use crate::metrics::{Metrics, StaleLimits, Trail};
use crate::router::MessageRouter;
use crate::state::Shared;
use crate::sync::channel::TryRecvError;
use crate::sync::lock;
use crate::thread::ThreadOptions;

pub(super) fn arrival(epoch: u64) -> Arrival {
    Arrival { connection: ConnectionId(1), line: 0, awaits_reply: false, epoch, trail: Trail::new(clock::stamp_ns()) }
}

pub(super) fn live(epoch: u64) -> ConnectionEvent {
    ConnectionEvent::Live { epoch }
}

/// Everything that waits, as text.
fn drain<M: std::fmt::Debug>(queue: &dyn Bounded<M>) -> String {
    let mut found = Vec::new();
    while let Ok(envelope) = queue.pop() {
        found.push(match envelope {
            Envelope::Message { message, .. } => format!("{message:?}"),
            Envelope::Event(ConnectionEvent::Dropped { count }) => format!("-{count}"),
            Envelope::Event(_) => "event".to_owned(),
        });
    }
    found.join(" ")
}

fn bounded(overflow: Overflow) -> BoundedQueue<u32, ()> {
    BoundedQueue::new(3, overflow, None)
}

#[test]
fn drop_oldest_keeps_the_newest_and_says_what_is_missing_in_its_place() {
    let queue = bounded(Overflow::DropOldest);
    let pushed: Vec<_> = (1..=5).map(|number| queue.push(number, arrival(1))).collect();
    assert_eq!(pushed[2..], [Pushed::Queued, Pushed::Displaced, Pushed::Displaced]);
    assert_eq!(drain(&queue), "-2 3 4 5");
}

#[test]
fn drop_newest_keeps_the_oldest_and_says_what_is_missing_in_its_place() {
    let queue = bounded(Overflow::DropNewest);
    for number in 1..=5 {
        queue.push(number, arrival(1));
    }
    queue.push_event(live(2));
    queue.push(6, arrival(2));
    assert_eq!(drain(&queue), "1 2 3 -2 event -1");
}

#[test]
fn no_event_is_dropped_or_moved_by_messages() {
    let queue = bounded(Overflow::DropOldest);
    queue.push(1, arrival(1));
    queue.push_event(live(2));
    for number in 2..=9 {
        queue.push(number, arrival(2));
    }
    assert_eq!(drain(&queue), "-1 event -5 7 8 9");
}

fn conflating() -> BoundedQueue<(char, u32), char> {
    BoundedQueue::new(3, Overflow::DropOldest, Some(Arc::new(|message: &(char, u32)| message.0)))
}

#[test]
fn conflation_keeps_the_latest_of_each_key_in_the_order_of_first_arrival() {
    let queue = conflating();
    for message in [('a', 1), ('b', 1), ('a', 2), ('b', 2), ('a', 3)] {
        queue.push(message, arrival(1));
    }
    assert_eq!(drain(&queue), "-2 ('a', 3) -1 ('b', 2)");
    queue.push(('a', 4), arrival(1));
    assert_eq!(drain(&queue), "('a', 4)", "what has been taken is not replaced");
}

#[test]
fn conflation_never_crosses_an_event_and_is_bounded_all_the_same() {
    let queue = conflating();
    queue.push(('a', 1), arrival(1));
    queue.push_event(live(2));
    queue.push(('a', 2), arrival(2));
    queue.push(('b', 1), arrival(2));
    queue.push(('c', 1), arrival(2));
    queue.push(('b', 2), arrival(2));
    queue.push(('d', 1), arrival(2));
    queue.push(('d', 2), arrival(2));
    // `a 1`, then the `a 2` behind the event went; `b` and `d` were replaced once each.
    assert_eq!(drain(&queue), "-1 event -1 -1 ('b', 2) ('c', 1) -1 ('d', 2)");
}

#[test]
fn a_key_that_panics_costs_its_message_and_is_told() {
    let key = |number: &u32| if *number == 2 { panic!("no key") } else { *number };
    let queue = BoundedQueue::new(3, Overflow::DropOldest, Some(Arc::new(key)));
    assert_eq!(
        [1, 2, 3].map(|number| queue.push(number, arrival(1))),
        [Pushed::Queued, Pushed::Refused, Pushed::Queued]
    );
    assert_eq!(drain(&queue), "1 -1 3");
}

#[test]
fn a_closed_queue_gives_all_it_has_and_an_abandoned_one_takes_nothing() {
    let queue = bounded(Overflow::DropNewest);
    queue.push(1, arrival(1));
    queue.close();
    assert_eq!(drain(&queue), "1");
    assert_eq!(queue.pop().err(), Some(TryRecvError::Disconnected));
    let queue = bounded(Overflow::DropNewest);
    queue.push(1, arrival(1));
    assert_eq!(queue.abandon(), 1);
    assert_eq!(queue.push(2, arrival(1)), Pushed::Abandoned);
}

/// A message is "route number"; its shard is its route.
pub(super) struct Numbers {
    /// This route's parse waits until the gate opens.
    pub(super) gated: Option<(u64, crossbeam_channel::Receiver<()>)>,
}

impl MessageRouter for Numbers {
    type Message = (u64, u64);
    type RouteKey = u64;

    fn parse(&self, message: WsMessage<'_>) -> Result<(u64, u64)> {
        let text = message.as_text().ok_or("binary")?;
        let (route, number) = text.split_once(' ').ok_or("no space")?;
        let parsed = (route.parse().map_err(|_| "route")?, number.parse().map_err(|_| "number")?);
        if let Some((route, gate)) = &self.gated
            && *route == parsed.0
        {
            // Disconnected means open.
            let _ = gate.recv();
        }
        Ok(parsed)
    }

    fn route_key(&self, message: &(u64, u64)) -> u64 {
        message.0
    }

    fn shard_key(&self, raw: &WsMessage<'_>) -> u64 {
        raw.as_text().and_then(|text| text.split(' ').next()).and_then(|route| route.parse().ok()).unwrap_or(0)
    }
}

pub(super) struct NoOutlet;

impl Outlet for NoOutlet {
    fn send(&mut self, _: WsMessage<'_>, _: u64, _: Option<u64>) -> Result<SendId> {
        Err("no socket".into())
    }
}

/// What one handler saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) numbers: Vec<u64>,
    pub(super) dropped: u64,
    epoch: u64,
    pub(super) wrong_epochs: u64,
    pub(super) stops: u64,
    pub(super) out_of_order: u64,
}

pub(super) struct Recorder {
    pub(super) seen: Arc<Mutex<Seen>>,
    pub(super) yields: u32,
}

impl MessageHandler<(u64, u64)> for Recorder {
    fn handle(&mut self, _: (u64, u64)) -> Result<()> {
        unreachable!("handle_delivery is called")
    }

    fn handle_delivery(&mut self, message: (u64, u64), delivery: &mut crate::handler::Delivery<'_>) -> Result<()> {
        (0..self.yields).for_each(|_| std::thread::yield_now());
        let mut seen = lock(&self.seen);
        seen.out_of_order += u64::from(seen.numbers.last().is_some_and(|last| *last >= message.1));
        seen.wrong_epochs += u64::from(seen.epoch != delivery.epoch());
        seen.numbers.push(message.1);
        Ok(())
    }

    fn on_event(&mut self, event: &ConnectionEvent) {
        let mut seen = lock(&self.seen);
        match event {
            ConnectionEvent::Live { epoch } => seen.epoch = *epoch,
            ConnectionEvent::Lost { .. } => seen.epoch = 0,
            ConnectionEvent::Dropped { count } => seen.dropped += count,
            _ => {}
        }
    }

    fn on_stop(&mut self) {
        lock(&self.seen).stops += 1;
    }
}

pub(crate) fn surroundings() -> Surroundings {
    Surroundings {
        shared: Shared::new(),
        measure_latency: false,
        outlet: Arc::new(|| Box::new(NoOutlet)),
        sever: Box::new(|_, _| {}),
        unnumbered: None,
        hold: Duration::from_secs(1),
    }
}

fn lanes(count: usize) -> Option<LanePool> {
    (count > 0).then(|| LanePool::start(&vec![ThreadOptions::new(); count]).unwrap())
}

/// A small generator, so that a seed tells the whole schedule.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn plan_end(random: &mut Random, handler: Recorder, shared: &HandlerThread) -> (PlannedEnd<(u64, u64)>, bool) {
    let placement = match random.below(3) {
        0 => Placement::Thread(ThreadOptions::new()),
        1 => Placement::Shared(shared.clone()),
        _ => Placement::Inline,
    };
    let inline = matches!(placement, Placement::Inline);
    let capacity = 1 + usize::try_from(random.below(8)).unwrap();
    let policy = match random.below(6) {
        _ if inline => QueuePolicy::Unbounded,
        0 => QueuePolicy::Bounded { capacity, overflow: Overflow::DropOldest },
        1 => QueuePolicy::Bounded { capacity, overflow: Overflow::DropNewest },
        2 => QueuePolicy::conflated(capacity, |message: &(u64, u64)| message.1 % 3),
        _ => QueuePolicy::Unbounded,
    };
    // Conflation keeps the order of the keys, not of the numbers.
    let ordered = !matches!(policy, QueuePolicy::Conflated { .. });
    (PlannedEnd::Handler { handler: Box::new(handler), placement, policy }, ordered)
}

/// One schedule: everything that was delivered is handled once, in order and in its epoch, or is told as dropped.
fn schedule(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let shared_thread = HandlerThread::start(ThreadOptions::new()).unwrap();
    let pool = lanes(usize::try_from(random.below(4)).unwrap());
    let routes = 1 + random.below(5);
    let mut all = Vec::new();
    let mut plan = RoutingPlan { router: Numbers { gated: None }, routes: Vec::new(), default: None, factory: None };
    for route in 0..routes {
        let seen = Arc::<Mutex<Seen>>::default();
        let handler = Recorder { seen: Arc::clone(&seen), yields: u32::try_from(random.below(3)).unwrap() };
        let (end, ordered) = plan_end(&mut random, handler, &shared_thread);
        plan.routes.push((route, RoutePlan { end, limits: StaleLimits::default() }));
        all.push((seen, ordered));
    }
    let Started { mut pipeline, threads, stats, .. } = Box::new(plan).start(surroundings(), pool.as_ref()).unwrap();
    let (mut sent, mut epoch) = (vec![0u64; all.len()], 1);
    pipeline.event(&live(epoch));
    for _ in 0..random.below(400) {
        match random.below(40) {
            0 => {
                let reason = DisconnectReason::EndOfStream;
                pipeline.event(&ConnectionEvent::Lost { epoch, reason, written_through: None });
                epoch += 1;
                pipeline.event(&live(epoch));
            }
            1..6 => {
                pipeline.read_done();
                pipeline.drained();
            }
            _ => {
                let route = usize::try_from(random.below(routes)).unwrap();
                sent[route] += 1;
                let text = format!("{route} {}", sent[route]);
                pipeline.deliver(&WsMessage::Text(text.as_str().into()), &mut arrival(epoch), &mut NoOutlet);
            }
        }
    }
    pipeline.stop();
    drop(pipeline);
    assert!(threads.join(Instant::now() + Duration::from_secs(60)), "seed {seed}: somebody stays");
    shared_thread.join().unwrap();
    if let Some(pool) = pool {
        pool.join();
    }
    let metrics = Metrics::read(&Default::default(), &stats, clock::stamp_ns());
    assert_eq!((metrics.parse_backlog, metrics.lane_violations), (0, 0), "seed {seed}");
    for (route, (seen, ordered)) in all.iter().enumerate() {
        let seen = lock(seen);
        let handled = seen.numbers.len() as u64;
        assert_eq!(handled + seen.dropped, sent[route], "seed {seed}, route {route}: lost or told twice");
        assert_eq!(metrics.routes[route].dropped, seen.dropped, "seed {seed}, route {route}");
        assert!(!ordered || seen.out_of_order == 0, "seed {seed}, route {route}: out of order");
        assert_eq!((seen.wrong_epochs, seen.stops), (0, 1), "seed {seed}, route {route}");
        let mut numbers = seen.numbers.clone();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len() as u64, handled, "seed {seed}, route {route}: handled twice");
    }
}

#[test]
fn random_schedules_lose_nothing_double_nothing_and_keep_the_order() {
    let first = std::env::var("PIPELINE_SEED").ok().and_then(|seed| seed.parse().ok());
    match first {
        Some(seed) => schedule(seed),
        None => (1..=300).for_each(schedule),
    }
}

#[test]
#[ignore = "minutes; run it in release"]
fn many_random_schedules() {
    (1_000..11_000).for_each(schedule);
}

#[test]
fn a_slow_parse_on_one_lane_delays_no_route_of_the_other() {
    let (open, gate) = crossbeam_channel::bounded(0);
    let (told, heard) = crossbeam_channel::unbounded();
    let mut plan =
        RoutingPlan { router: Numbers { gated: Some((0, gate)) }, routes: Vec::new(), default: None, factory: None };
    for route in 0..2 {
        let told = told.clone();
        let handler = Box::new(move |message: (u64, u64)| {
            told.send(message).unwrap();
            Ok(())
        });
        let end = PlannedEnd::Handler { handler, placement: Placement::Inline, policy: QueuePolicy::Unbounded };
        plan.routes.push((route, RoutePlan { end, limits: StaleLimits::default() }));
    }
    let pool = lanes(2).unwrap();
    let Started { mut pipeline, threads, .. } = Box::new(plan).start(surroundings(), Some(&pool)).unwrap();
    for text in ["0 1", "1 1", "1 2"] {
        pipeline.deliver(&WsMessage::Text(text.into()), &mut arrival(1), &mut NoOutlet);
    }
    pipeline.read_done();
    let next = || heard.recv_timeout(Duration::from_secs(30)).expect("route 1 must not wait for route 0");
    assert_eq!((next(), next()), ((1, 1), (1, 2)));
    assert!(heard.try_recv().is_err(), "route 0 is still being parsed");
    drop(open);
    assert_eq!(next(), (0, 1));
    pipeline.stop();
    assert!(threads.join(Instant::now() + Duration::from_secs(30)));
}

#[test]
fn a_factory_makes_each_route_once_and_it_hears_of_the_live_session_first() {
    let made = Arc::new(AtomicU64::new(0));
    let (told, heard) = crossbeam_channel::unbounded::<(u64, u64)>();
    let counter = Arc::clone(&made);
    let factory = move |key: &u64| {
        counter.fetch_add(1, Ordering::AcqRel);
        (*key < 10).then(|| {
            let told = told.clone();
            let handler = Box::new(move |message: (u64, u64)| {
                told.send(message).unwrap();
                Ok(())
            });
            let end = PlannedEnd::Handler { handler, placement: Placement::Inline, policy: QueuePolicy::Unbounded };
            RoutePlan { end, limits: StaleLimits::default() }
        })
    };
    for lane_count in [0, 2] {
        let made_before = made.load(Ordering::Acquire);
        let factory = factory.clone();
        let plan = RoutingPlan {
            router: Numbers { gated: None },
            routes: Vec::new(),
            default: None,
            factory: Some(Box::new(factory)),
        };
        let pool = lanes(lane_count);
        let Started { mut pipeline, threads, stats, .. } = Box::new(plan).start(surroundings(), pool.as_ref()).unwrap();
        pipeline.event(&live(1));
        for text in ["3 1", "3 2", "4 1", "11 1"] {
            pipeline.deliver(&WsMessage::Text(text.into()), &mut arrival(1), &mut NoOutlet);
        }
        pipeline.stop();
        assert!(threads.join(Instant::now() + Duration::from_secs(30)));
        let mut handled: Vec<_> = heard.try_iter().collect();
        handled.sort_unstable();
        assert_eq!(handled, [(3, 1), (3, 2), (4, 1)]);
        assert_eq!(made.load(Ordering::Acquire) - made_before, 3, "two routes, and one refusal");
        let metrics = Metrics::read(&Default::default(), &stats, 0);
        assert_eq!((metrics.unrouted, metrics.routes.len()), (1, 2));
    }
}
