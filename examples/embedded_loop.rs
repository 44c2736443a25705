//! Your own loop: the engine's `turn` beside your own work, on one thread. Handlers are inline, so no other thread is
//! started but the simulated venue's.
//!
//! `cargo run --release --example embedded_loop`, five seconds; with a URL, that venue.

use std::cell::Cell;
use std::time::{Duration, Instant};

use hypersockets::simd_json::prelude::*;
use hypersockets::simulator::Venue;
use hypersockets::{EventLoop, HyperSocketError, MessageRouter, Parsed, Result, RouteOptions, Scratch, WsMessage};

/// The best of a book, picked out of the text without reading the rest into anything.
#[derive(Debug, Clone, Copy)]
struct Top {
    bid: f64,
    ask: f64,
}

impl Top {
    fn read(raw: &[u8], scratch: &mut Scratch) -> Result<Self> {
        scratch.tape(raw, |message| {
            let object = message.as_object().ok_or("not an object")?;
            if object.get("channel").and_then(|channel| channel.into_string()) != Some("l2Book") {
                return Err(HyperSocketError::Skip);
            }
            let data = object.get("data").and_then(|data| data.as_object());
            let sides = data.and_then(|data| data.get("levels")).and_then(|levels| levels.as_array());
            let best = |side: usize| {
                let level = sides.as_ref()?.get(side)?.as_array()?.get(0)?.as_object()?;
                level.get("px")?.into_string()?.parse().ok()
            };
            Ok(Self { bid: best(0).ok_or("no bid")?, ask: best(1).ok_or("no ask")? })
        })
    }
}

struct Tops;

impl MessageRouter for Tops {
    type Message = Top;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<Top> {
        Top::read(message.as_bytes(), &mut Scratch::default())
    }

    /// With the parsing thread's own memory, so that no message costs an allocation.
    fn parse_each(&self, raw: WsMessage<'_>, out: &mut Parsed<'_, Top>) -> Result<()> {
        let top = Top::read(raw.as_bytes(), out.scratch())?;
        out.push(top);
        Ok(())
    }

    fn route_key(&self, _: &Top) {}
}

fn main() -> Result<()> {
    let venue = Venue::hyperliquid(["BTC"]).rate_per_sec(1_000.0).start()?;
    let url = std::env::args().nth(1).unwrap_or_else(|| venue.url());

    let mut event_loop = EventLoop::new()?;
    let mut books = 0u64;
    let handler = move |top: Top| {
        books += 1;
        if books.is_multiple_of(1_000) {
            println!("{books} books, now {} / {}", top.bid, top.ask);
        }
        Ok(())
    };
    let builder = hypersockets::builder()
        .url(url)
        .router(Tops, |routing| routing.handler_with((), handler, RouteOptions::new().inline()))
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
