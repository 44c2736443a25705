//! Your own loop: the engine's `turn` beside your own work, on one thread. The handler is inline, so a message is read, parsed and handled
//! on it, between two rounds of that work.
//!
//! ```text
//! cargo run --release --example embedded_loop                                    the embedded simulator, for 5 s
//! cargo run --release --example embedded_loop -- wss://api.hyperliquid.xyz/ws    the real venue, until Ctrl-C
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
}

use std::process::ExitCode;
use std::time::Duration;

use hypersockets::simd_json::prelude::*;
use hypersockets::simulator::Venue;
use hypersockets::{
    ClientEvent, EventLoop, HyperSocketError, MessageRouter, Parsed, Result, RouteOptions, Scratch, WsMessage,
};
use support::demo::{Run, run, summary, tell};

fn main() -> ExitCode {
    run("The engine's turn beside your own work, on one thread", example)
}

fn example(run: &Run) -> Result<()> {
    let (url, _venue) = run.url_or(|| Ok(Venue::hyperliquid(["BTC"]).rate_per_sec(1_000.0).start()?), Venue::url)?;
    let mut books = 0_u64;
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
        .subscription(r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#)
        .shutdown_flag(run.flag());
    let mut event_loop = EventLoop::new()?;
    let client = event_loop.add(builder)?;

    let mut own_work = 0_u64;
    while !run.is_over() {
        // A few microseconds of whatever else this thread has to do.
        own_work += 1;
        if event_loop.turn() == 0 {
            event_loop.wait(Duration::from_millis(1));
        }
        while let Some(event) = client.events().try_next() {
            match event {
                // `add` waits for nothing, and dials again by itself; here the first dial is the last.
                ClientEvent::DialFailed { reason, .. } if client.epoch() == 0 => {
                    return Err(HyperSocketError::ConnectFailed(reason));
                }
                event => tell("connection", &event),
            }
        }
    }

    client.request_shutdown();
    while !event_loop.is_empty() {
        event_loop.turn();
        event_loop.wait(Duration::from_millis(1));
    }
    // The loop is done: this only reports.
    let report = client.shutdown()?;
    if client.epoch() == 0 {
        return Err(HyperSocketError::Closed(report.reason));
    }
    summary(&report);
    println!("{own_work} rounds of our own work");
    Ok(())
}

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
