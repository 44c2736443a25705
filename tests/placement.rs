//! Promise: wherever a route is handled (a thread of its own, a shared one, inline, on lanes, or pulled by the caller), and
//! whatever its queue's policy, it gets the same messages and events in the same order; what a policy drops is told.

mod support {
    pub(crate) mod lines;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hypersockets::simulator::Venue;
use hypersockets::{
    ClientEvent, ConnectionEvent, DisconnectReason, Engine, HandlerThread, HyperSocketError, MessageRouter, NewRoute,
    Overflow, Pulled, Result, RouteOptions, RouteReceiver, Staleness, ThreadOptions, WsMessage,
};
use support::lines::{Lines, PATIENCE, Seen, gate, gated_recorder, live_session, next_session, recorder, soon};

/// Lines whose routes are spread over the lanes by their first letter.
struct Sharded;

impl MessageRouter for Sharded {
    type Message = String;
    type RouteKey = String;

    fn parse(&self, message: WsMessage<'_>) -> Result<String> {
        Lines.parse(message)
    }

    fn route_key(&self, line: &String) -> String {
        Lines.route_key(line)
    }

    fn shard_key(&self, raw: &WsMessage<'_>) -> u64 {
        raw.as_bytes().first().copied().unwrap_or(0).into()
    }
}

/// All that a pull route has, to its end, in the words of a journal.
fn pull_all(receiver: &mut RouteReceiver<String>) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        match receiver.next_timeout(PATIENCE) {
            Pulled::Message(text, arrival) => seen.push(Seen::Message { epoch: arrival.epoch(), text }),
            Pulled::Event(event) => seen.push(Seen::Event(event)),
            Pulled::Stopped => return seen,
            other => panic!("waited for a message, and got {other:?} after {:?}", seen.last()),
        }
    }
}

#[test]
fn own_shared_inline_and_pulled_routes_see_the_same_with_and_without_lanes() {
    for lanes in [0, 1, 3] {
        let venue = Venue::scripted().start().unwrap();
        let engine = Engine::builder().lanes(vec![ThreadOptions::new(); lanes]).start().unwrap();
        let thread = HandlerThread::start(ThreadOptions::new().name("shared")).unwrap();
        let (own, mut own_journal) = recorder();
        let (shared, mut shared_journal) = recorder();
        let (inline, mut inline_journal) = recorder();
        let mut pulled = None;
        let client = hypersockets::builder()
            .url(venue.url())
            .router(Sharded, |mut routing| {
                pulled = Some(routing.receiver("dpull".to_owned()));
                routing
                    .handler("aown".to_owned(), own)
                    .handler_with("bshared".to_owned(), shared, RouteOptions::new().on(&thread))
                    .handler_with("cinline".to_owned(), inline, RouteOptions::new().inline())
            })
            .engine(&engine)
            .reconnect_strategy(soon())
            .build()
            .unwrap();
        let routes = ["aown", "bshared", "cinline", "dpull"];
        for _ in 0..2 {
            let session = live_session(&client, &venue);
            for number in 0..250 {
                routes.iter().for_each(|route| session.send_text(format!("{route} {number}")));
            }
            session.close(1000, "");
        }
        let session = live_session(&client, &venue);
        session.send_text("cinline last");
        inline_journal.until_message("cinline last");
        let report = client.shutdown().unwrap();
        assert!(report.complete && report.unhandled == 0, "{report:?}");
        assert_eq!(report.metrics.lane_violations, 0);
        let pulled = pull_all(&mut pulled.unwrap());
        engine.shutdown().unwrap();
        thread.join().unwrap();
        let plain = |seen: &[Seen], route: &str| -> Vec<Seen> {
            let seen = seen.iter().filter(|seen| !matches!(seen, Seen::Message { text, .. } if text.ends_with("last")));
            let seen = seen.filter(|seen| !matches!(seen, Seen::Stop));
            seen.map(|seen| match seen {
                Seen::Message { epoch, text } => {
                    Seen::Message { epoch: *epoch, text: text.strip_prefix(route).expect("its own").to_owned() }
                }
                other => other.clone(),
            })
            .collect()
        };
        let own = plain(own_journal.all(), "aown");
        assert_eq!(own.iter().filter(|seen| matches!(seen, Seen::Message { .. })).count(), 500, "lanes: {lanes}");
        assert_eq!(plain(shared_journal.all(), "bshared"), own, "lanes: {lanes}");
        assert_eq!(plain(inline_journal.all(), "cinline"), own, "lanes: {lanes}");
        assert_eq!(plain(&pulled, "dpull"), own, "lanes: {lanes}");
    }
}

#[test]
fn what_a_full_queue_drops_is_counted_and_told_in_its_place() {
    let venue = Venue::scripted().start().unwrap();
    let (keeper, at_the_gate) = gate();
    let (slow, mut journal) = gated_recorder(at_the_gate);
    let (other, mut other_journal) = recorder();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| {
            let options = RouteOptions::new().bounded(4, Overflow::DropOldest);
            routing.handler_with("slow".to_owned(), slow, options).handler("other".to_owned(), other)
        })
        .build()
        .unwrap();
    let session = next_session(&venue);
    session.send_text("slow first");
    session.send_text("other go");
    other_journal.until_message("other go");
    // The handler may or may not have taken the first yet.
    for number in 0..1_000 {
        session.send_text(format!("slow {number}"));
    }
    session.send_text("other done");
    other_journal.until_message("other done");
    let metrics = client.metrics();
    let route = &metrics.routes[0];
    assert!(route.depth <= 5 && route.high_water <= 6, "four wait, one is being handled: {route:?}");
    assert!(route.oldest_age.is_some());
    keeper.open();
    journal.until_message("slow 999");
    let report = client.shutdown().unwrap();
    assert!(report.complete && report.unhandled == 0, "{report:?}");
    let dropped = report.metrics.messages_dropped;
    let told: u64 = journal
        .all()
        .iter()
        .map(|seen| if let Seen::Event(ConnectionEvent::Dropped { count }) = seen { *count } else { 0 })
        .sum();
    assert_eq!((told, journal.messages().len() as u64 + dropped), (dropped, 1_001));
    assert!(dropped >= 995, "{dropped}");
}

#[test]
fn a_full_queue_may_end_the_session() {
    let venue = Venue::scripted().start().unwrap();
    let (keeper, at_the_gate) = gate();
    let (slow, mut journal) = gated_recorder(at_the_gate);
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| {
            let options = RouteOptions::new().bounded(2, Overflow::Disconnect);
            routing.handler_with("slow".to_owned(), slow, options)
        })
        .reconnect_strategy(soon())
        .build()
        .unwrap();
    let session = next_session(&venue);
    for number in 0..10 {
        session.send_text(format!("slow {number}"));
    }
    let second = next_session(&venue);
    keeper.open();
    let (epoch, reason) = journal.until_lost();
    assert_eq!((epoch, reason), (1, DisconnectReason::QueueFull { route: "\"slow\"".to_owned() }));
    second.send_text("slow again");
    journal.until_message("slow again");
    assert!(client.shutdown().unwrap().complete);
}

#[test]
fn a_silent_route_is_told_and_halts_until_data_comes() {
    let venue = Venue::scripted().start().unwrap();
    let halted = Arc::new(AtomicBool::new(false));
    let (quiet, mut journal) = recorder();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| {
            let options = RouteOptions::new().stale_after(Duration::from_millis(50));
            routing.handler_with("quiet".to_owned(), quiet, options)
        })
        .halted_flag(Arc::clone(&halted))
        .build()
        .unwrap();
    let session = next_session(&venue);
    let why = Staleness::Silent(Duration::from_millis(50));
    journal.until("Stale", |seen| *seen == Seen::Event(ConnectionEvent::Stale { why }));
    assert!(halted.load(Ordering::Acquire), "a stale route halts");
    let events = client.events();
    let stale = ClientEvent::RouteStale { route: "\"quiet\"".to_owned(), why };
    while events.next_timeout(PATIENCE).expect("it is reported") != stale {}
    // A message is enough; it may become stale again soon after.
    session.send_text("quiet no more");
    journal.until("Fresh", |seen| *seen == Seen::Event(ConnectionEvent::Fresh));
    assert!(client.shutdown().unwrap().complete);
    assert!(!halted.load(Ordering::Acquire));
}

#[test]
fn a_factory_makes_a_route_for_a_market_that_appears_later() {
    let venue = Venue::scripted().start().unwrap();
    let thread = HandlerThread::start(ThreadOptions::new()).unwrap();
    let (late, mut journal) = recorder();
    let (mut late, on) = (Some(late), thread.clone());
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| {
            routing.route_factory(move |key| {
                let recorder = if key == "NEW" { late.take() } else { None };
                recorder.map(|recorder| NewRoute::with(recorder, RouteOptions::new().on(&on)))
            })
        })
        .build()
        .unwrap();
    let session = next_session(&venue);
    session.send_text("NEW 1");
    session.send_text("OLD 1");
    session.send_text("NEW 2");
    journal.until_message("NEW 2");
    let metrics = client.shutdown().unwrap().metrics;
    assert_eq!(journal.messages(), ["NEW 1", "NEW 2"]);
    assert_eq!(journal.all().first(), Some(&Seen::Event(ConnectionEvent::Live { epoch: 1 })));
    assert_eq!((metrics.unrouted, metrics.routes.len()), (1, 1));
}

#[test]
fn a_bound_for_a_queue_that_is_not_there_is_refused() {
    let build = |options: RouteOptions<String>| {
        let (recorder, _journal) = recorder();
        let built = hypersockets::builder()
            .url("ws://127.0.0.1:9/")
            .router(Lines, |routing| routing.handler_with("BTC".to_owned(), recorder, options))
            .start();
        match built.map(drop) {
            Err(HyperSocketError::InvalidConfig(what)) => what,
            other => panic!("{other:?}"),
        }
    };
    assert!(build(RouteOptions::new().inline().bounded(4, Overflow::DropNewest)).contains("inline"));
    assert!(build(RouteOptions::new().bounded(0, Overflow::DropNewest)).contains("0 messages"));
}
