//! Promise: every message once, in order per route, whatever runs where. 64 routes over four connections of one engine with
//! two parser lanes; a third of the routes each inline, on threads of their own, and on one shared thread.
//!
//! `ORDER_MESSAGES=10000000 cargo test --release --test order` is the long run.

mod support {
    pub(crate) mod lines;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hypersockets::simulator::Venue;
use hypersockets::{Engine, HandlerThread, MessageRouter, Result, RouteOptions, ThreadOptions, WsMessage};
use support::lines::{PATIENCE, next_session};

const CONNECTIONS: u64 = 4;
const ROUTES: u64 = 16;

/// "route number", each a number; a route's shard is the route.
struct Numbers;

impl MessageRouter for Numbers {
    type Message = (u64, u64);
    type RouteKey = u64;

    fn parse(&self, message: WsMessage<'_>) -> Result<(u64, u64)> {
        let (route, number) = message.as_text().and_then(|text| text.split_once(' ')).ok_or("not two words")?;
        Ok((route.parse().map_err(|_| "no route")?, number.parse().map_err(|_| "no number")?))
    }

    fn route_key(&self, message: &(u64, u64)) -> u64 {
        message.0
    }

    fn shard_key(&self, raw: &WsMessage<'_>) -> u64 {
        raw.as_bytes().iter().take_while(|byte| **byte != b' ').map(|byte| u64::from(*byte)).sum()
    }
}

/// Wants the numbers of its route from 0, without a gap; counts those that came so, and those that did not.
fn in_order(good: Arc<AtomicU64>, bad: Arc<AtomicU64>) -> impl FnMut((u64, u64)) -> Result<()> {
    let mut next = 0;
    move |(_, number)| {
        let count = if number == next { &good } else { &bad };
        count.fetch_add(1, Ordering::AcqRel);
        next = number + 1;
        Ok(())
    }
}

fn frame(text: &str, out: &mut Vec<u8>) {
    // A final text frame, unmasked (RFC 6455, section 5.2).
    out.extend([0x81, u8::try_from(text.len()).expect("short")]);
    out.extend(text.as_bytes());
}

#[test]
fn every_message_once_and_in_order_with_lanes_and_mixed_handlers() {
    let wanted = std::env::var("ORDER_MESSAGES").ok().and_then(|count| count.parse().ok()).unwrap_or(256_000u64);
    let per_route = wanted / (CONNECTIONS * ROUTES);
    let engine = Engine::builder().lanes(vec![ThreadOptions::new(); 2]).start().unwrap();
    let thread = HandlerThread::start(ThreadOptions::new()).unwrap();
    let (good, bad) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let venue = Venue::scripted().start().unwrap();
    let mut sessions = Vec::new();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let client = hypersockets::builder()
                .url(venue.url())
                .router(Numbers, |routing| {
                    (0..ROUTES).fold(routing, |routing, route| {
                        let options = match route % 3 {
                            0 => RouteOptions::new().inline(),
                            1 => RouteOptions::new(),
                            _ => RouteOptions::new().on(&thread),
                        };
                        routing.handler_with(route, in_order(Arc::clone(&good), Arc::clone(&bad)), options)
                    })
                })
                .engine(&engine)
                .build()
                .unwrap();
            sessions.push(next_session(&venue));
            client
        })
        .collect();
    let mut bytes = Vec::new();
    for number in 0..per_route {
        bytes.clear();
        (0..ROUTES).for_each(|route| frame(&format!("{route} {number}"), &mut bytes));
        sessions.iter().for_each(|session| session.send_raw(bytes.clone()));
    }
    for session in &sessions {
        session.flush(PATIENCE * 10).unwrap();
        session.close(1000, "");
    }
    for client in &clients {
        let report = client.shutdown_within(PATIENCE * 10).unwrap();
        assert!(report.complete && report.unhandled == 0, "{report:?}");
        assert_eq!(report.metrics.lane_violations, 0);
    }
    assert_eq!(bad.load(Ordering::Acquire), 0, "out of order, lost or twice");
    assert_eq!(good.load(Ordering::Acquire), per_route * CONNECTIONS * ROUTES);
    engine.shutdown().unwrap();
    thread.join().unwrap();
}
