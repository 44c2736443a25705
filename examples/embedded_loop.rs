//! Your own loop: the engine's `turn` beside your own work, on one thread. Handlers are inline, so no other thread is
//! started but the simulated venue's.
//!
//! `cargo run --release --example embedded_loop`, five seconds; with a URL, that venue.

use std::cell::Cell;
use std::time::{Duration, Instant};

use hypersockets::simulator::Venue;
use hypersockets::{EventLoop, MessageRouter, Result, RouteOptions, WsMessage};

struct Lengths;

impl MessageRouter for Lengths {
    type Message = usize;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<usize> {
        Ok(message.as_bytes().len())
    }

    fn route_key(&self, _length: &usize) {}
}

fn main() -> Result<()> {
    let venue = Venue::hyperliquid(["BTC"]).rate_per_sec(1_000.0).start()?;
    let url = std::env::args().nth(1).unwrap_or_else(|| venue.url());

    let mut event_loop = EventLoop::new()?;
    let (mut messages, mut bytes) = (0u64, 0usize);
    let handler = move |length: usize| {
        messages += 1;
        bytes += length;
        if messages % 1_000 == 0 {
            println!("{messages} messages, {bytes} bytes");
        }
        Ok(())
    };
    let builder = hypersockets::builder()
        .url(url)
        .router(Lengths, |routing| routing.handler_with((), handler, RouteOptions::new().inline()))
        .subscription(r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#);
    let client = event_loop.add(builder)?;

    let own_work = Cell::new(0u64);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        // A few microseconds of whatever else this thread has to do.
        own_work.set(own_work.get() + 1);
        if event_loop.turn() == 0 {
            event_loop.wait(Duration::from_millis(1));
        }
    }

    client.request_shutdown();
    while !event_loop.is_empty() {
        event_loop.turn();
        event_loop.wait(Duration::from_millis(1));
    }
    let metrics = client.metrics();
    println!("received {}, handled {}", metrics.messages_received, metrics.messages_handled);
    println!("rounds of our own work: {}", own_work.get());
    Ok(())
}
