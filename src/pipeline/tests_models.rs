//! Every way, up to a bound of preemptions, in which the threads of a pipeline can interleave: the real routes, queues, lanes
//! and shutdown, over stand-ins that loom schedules. A wake that is lost is a deadlock, a thread that stays is one too.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::tests::{NoOutlet, Numbers, Recorder, Seen, arrival, live, surroundings};
use super::*;
use crate::idle::IdleStrategy;
use crate::metrics::{Metrics, PipelineStats, StaleLimits};
use crate::sync::{lock, model};
use crate::thread::ThreadOptions;

/// A thread that sleeps at once: no look at the time decides what it does.
fn parking() -> ThreadOptions {
    ThreadOptions::new().idle(IdleStrategy::Park)
}

/// One client under a model.
struct Client {
    pipeline: Box<dyn Pipeline>,
    threads: Arc<HandlerThreads>,
    stats: Arc<PipelineStats>,
    seen: Vec<Arc<Mutex<Seen>>>,
}

impl Client {
    fn start(ends: Vec<(Placement, QueuePolicy<(u64, u64)>)>, lanes: Option<&LanePool>) -> Self {
        let mut plan =
            RoutingPlan { router: Numbers { gated: None }, routes: Vec::new(), default: None, factory: None };
        let mut all = Vec::new();
        for (route, (placement, policy)) in (0..).zip(ends) {
            let seen = Arc::<Mutex<Seen>>::default();
            let handler = Box::new(Recorder { seen: Arc::clone(&seen), yields: 0 });
            let end = PlannedEnd::Handler { handler, placement, policy };
            plan.routes.push((route, RoutePlan { end, limits: StaleLimits::default() }));
            all.push(seen);
        }
        let Started { pipeline, threads, stats, .. } = Box::new(plan).start(surroundings(), lanes).unwrap();
        Self { pipeline, threads, stats, seen: all }
    }

    fn deliver(&mut self, route: u64, number: u64, epoch: u64) {
        self.pipeline.deliver(&WsMessage::text(format!("{route} {number}")), &mut arrival(epoch), &mut NoOutlet);
        self.pipeline.read_done();
    }

    /// Shuts down, and tells what the handlers have seen.
    fn stop(mut self) -> Vec<Seen> {
        self.pipeline.stop();
        drop(self.pipeline);
        assert!(self.threads.join(Instant::now() + Duration::from_secs(3600)), "somebody stays");
        self.seen.iter().map(|seen| std::mem::take(&mut *lock(&**seen))).collect()
    }
}

/// Each number once, in order, each in its epoch, and one stop.
#[track_caller]
fn assert_seen(seen: &Seen, numbers: impl IntoIterator<Item = u64>) {
    assert_eq!(seen.numbers, numbers.into_iter().collect::<Vec<_>>());
    assert_eq!((seen.dropped, seen.wrong_epochs, seen.stops), (0, 0, 1));
}

/// What was dropped was told, what was handled is in order, and there is nothing else.
#[track_caller]
fn assert_told(seen: &Seen, sent: u64) {
    assert_eq!(seen.numbers.len() as u64 + seen.dropped, sent);
    assert_eq!((seen.out_of_order, seen.wrong_epochs, seen.stops), (0, 0, 1));
}

#[test]
fn model_a_route_on_its_own_thread() {
    model(2, || {
        let mut client = Client::start(vec![(Placement::Thread(parking()), QueuePolicy::Unbounded)], None);
        client.pipeline.event(&live(1));
        (1..=3).for_each(|number| client.deliver(0, number, 1));
        assert_seen(&client.stop()[0], 1..=3);
    });
}

#[test]
fn model_two_routes_on_a_shared_thread() {
    model(1, || {
        let shared = HandlerThread::start(parking()).unwrap();
        let route = || (Placement::Shared(shared.clone()), QueuePolicy::Unbounded);
        let mut client = Client::start(vec![route(), route()], None);
        drop(shared);
        client.pipeline.event(&live(1));
        client.deliver(0, 1, 1);
        client.deliver(1, 1, 1);
        let seen = client.stop();
        assert_seen(&seen[0], 1..=1);
        assert_seen(&seen[1], 1..=1);
    });
}

#[test]
fn model_a_bounded_queue_of_each_overflow() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::Disconnect] {
        model(2, move || {
            let policy = QueuePolicy::Bounded { capacity: 1, overflow };
            let mut client = Client::start(vec![(Placement::Thread(parking()), policy)], None);
            client.pipeline.event(&live(1));
            (1..=3).for_each(|number| client.deliver(0, number, 1));
            let seen = client.stop();
            assert_told(&seen[0], 3);
            assert!(overflow != Overflow::DropOldest || seen[0].numbers.last() == Some(&3), "the newest stays");
            assert!(overflow == Overflow::DropOldest || seen[0].numbers.first() == Some(&1), "the oldest stays");
        });
    }
}

#[test]
fn model_a_conflating_queue() {
    model(2, || {
        let policy = QueuePolicy::conflated(4, |message: &(u64, u64)| message.1 % 2);
        let mut client = Client::start(vec![(Placement::Thread(parking()), policy)], None);
        client.pipeline.event(&live(1));
        // Of one key: the last always arrives, and what it replaced is told.
        [1, 3, 5].into_iter().for_each(|number| client.deliver(0, number, 1));
        let seen = client.stop();
        assert_told(&seen[0], 3);
        assert_eq!(seen[0].numbers.last(), Some(&5));
    });
}

#[test]
fn model_a_lane_and_a_route_behind_it() {
    model(1, || {
        let pool = LanePool::start(&[parking()]).unwrap();
        let mut client = Client::start(vec![(Placement::Thread(parking()), QueuePolicy::Unbounded)], Some(&pool));
        client.pipeline.event(&live(1));
        client.deliver(0, 1, 1);
        assert_seen(&client.stop()[0], 1..=1);
        pool.join();
    });
}

#[test]
fn model_events_pass_two_lanes_behind_a_barrier() {
    model(1, || {
        let pool = LanePool::start(&[parking(), parking()]).unwrap();
        let inline = || (Placement::Inline, QueuePolicy::Unbounded);
        let mut client = Client::start(vec![inline(), inline()], Some(&pool));
        client.deliver(0, 1, 0);
        client.pipeline.event(&live(1));
        let seen = client.stop();
        // A message that passed an event, or was passed by one, would be in the wrong epoch.
        assert_seen(&seen[0], 1..=1);
        assert_seen(&seen[1], 1..=0);
        pool.join();
    });
}

#[test]
fn model_a_receiver_sleeps_until_there_is_something() {
    model(3, || {
        let stats = RouteStats::new("pulled".to_owned(), StaleLimits::default(), true);
        let (queue, mut receiver) = receiver(QueuePolicy::Unbounded, &stats, IdleStrategy::Park);
        let plan = RoutePlan { end: PlannedEnd::Receiver { queue, stats }, limits: StaleLimits::default() };
        let plan =
            RoutingPlan { router: Numbers { gated: None }, routes: vec![(0, plan)], default: None, factory: None };
        let Started { mut pipeline, threads, .. } = Box::new(plan).start(surroundings(), None).unwrap();
        let puller = loom::thread::spawn(move || {
            let mut numbers = Vec::new();
            loop {
                match receiver.next_timeout(Duration::from_secs(3600)) {
                    Pulled::Message(message, _) => numbers.push(message.1),
                    Pulled::Stopped => return numbers,
                    Pulled::Event(_) | Pulled::Empty => {}
                }
            }
        });
        for text in ["0 1", "0 2"] {
            pipeline.deliver(&WsMessage::text(text), &mut arrival(1), &mut NoOutlet);
        }
        pipeline.stop();
        drop(pipeline);
        assert!(threads.join(Instant::now() + Duration::from_secs(3600)));
        assert_eq!(puller.join().unwrap(), [1, 2]);
    });
}

#[test]
fn model_a_shutdown_that_waits_no_longer_loses_count_of_nothing() {
    model(2, || {
        let mut client = Client::start(vec![(Placement::Thread(parking()), QueuePolicy::Unbounded)], None);
        client.pipeline.event(&live(1));
        (1..=2).for_each(|number| client.deliver(0, number, 1));
        client.pipeline.stop();
        drop(client.pipeline);
        client.threads.join(Instant::now());
        // Whoever was not waited for leaves by itself.
        assert!(client.threads.join(Instant::now() + Duration::from_secs(3600)));
        let handled = lock(&*client.seen[0]).numbers.len() as u64;
        let metrics = Metrics::read(&Default::default(), &client.stats, 0);
        assert_eq!(handled + metrics.routes[0].abandoned, 2);
    });
}
