//! Who handles what. The router says which route each message belongs to; each route has its own place: a thread of its own, a
//! thread shared with others, the loop itself, a queue that this program pulls from. Within a route, messages come in order, one at a
//! time; between routes nobody waits for anybody.
//!
//! ```text
//! cargo run --release --example routing_example                  a simulated venue, 5 s
//! cargo run --release --example routing_example -- URL           a venue whose messages have a "channel" (Hyperliquid), until Ctrl-C
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
    pub(crate) mod script;
}

use std::process::ExitCode;
use std::time::Duration;

use hypersockets::{
    HandlerThread, MessageRouter, Overflow, Pulled, Result, RouteOptions, Scratch, ThreadOptions, WsMessage,
};
use serde::Deserialize;
use support::demo::{Run, run, summary};
use support::script::Script;

/// What routes are told apart by: small and `Copy`, since it is compared for each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Channel {
    Books,
    Quotes,
    Trades,
    Status,
    Other,
}

#[derive(Debug)]
struct Message {
    channel: Channel,
    bytes: usize,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    channel: &'a str,
}

struct Channels;

impl MessageRouter for Channels {
    type Message = Message;
    type RouteKey = Channel;

    fn parse(&self, message: WsMessage<'_>) -> Result<Message> {
        let bytes = message.as_bytes();
        let channel = Scratch::default().typed(bytes).map(|Envelope { channel }| match channel {
            "l2Book" => Channel::Books,
            "bbo" => Channel::Quotes,
            "trades" => Channel::Trades,
            "status" => Channel::Status,
            _ => Channel::Other,
        })?;
        Ok(Message { channel, bytes: bytes.len() })
    }

    fn route_key(&self, message: &Message) -> Channel {
        message.channel
    }
}

fn main() -> ExitCode {
    run("Who handles what: a place for each route", example)
}

fn example(run: &Run) -> Result<()> {
    let (url, _venue) = run.url_or(venue, Script::url)?;

    let slow_lane = HandlerThread::start(ThreadOptions::new().name("hs-slow-lane"))?;
    let shared = || RouteOptions::new().on(&slow_lane);
    let mut status = None;
    let client = hypersockets::builder()
        .url(url)
        .router(Channels, |mut routing| {
            // A queue of 16 at most, for a thread of ours to take from.
            let pulled = RouteOptions::new().bounded(16, Overflow::DropOldest);
            status = Some(routing.receiver_with(Channel::Status, pulled));
            routing
                // A thread of its own.
                .handler(Channel::Books, |_: Message| Ok(()))
                // Within the read that brought it: the fastest there is, as long as it is quick.
                .handler_with(Channel::Quotes, |_: Message| Ok(()), RouteOptions::new().inline())
                // Two routes on one thread.
                .handler_with(Channel::Trades, |_: Message| Ok(()), shared())
                .default_handler_with(
                    |other: Message| {
                        println!("of no channel that we know: {} bytes", other.bytes);
                        Ok(())
                    },
                    shared(),
                )
        })
        .subscription(r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#)
        .subscription(r#"{"method":"subscribe","subscription":{"type":"bbo","coin":"BTC"}}"#)
        .subscription(r#"{"method":"subscribe","subscription":{"type":"trades","coin":"BTC"}}"#)
        .shutdown_flag(run.flag())
        .build()?;

    run.wait(&client);
    let report = client.shutdown()?;
    // What was not pulled in time can still be had.
    let mut status = status.ok_or("the routes were made")?;
    let mut left = 0;
    while let Pulled::Message { .. } | Pulled::Event(_) = status.try_next() {
        left += 1;
    }
    summary(&report);
    for route in &report.metrics.routes {
        println!("{:>8}: {} handled, {} dropped", route.route, route.handled, route.dropped);
    }
    println!("{left} messages and events of the status route were pulled at the end");
    Ok(())
}

/// A venue with a little of everything.
fn venue() -> Result<Script> {
    const CHANNELS: [&str; 6] = ["l2Book", "bbo", "bbo", "trades", "status", "news"];
    let script = Script::start(Duration::from_millis(20), |session, beat| {
        let channel = CHANNELS[beat as usize % CHANNELS.len()];
        session.send_text(format!(r#"{{"channel":"{channel}","id":{beat}}}"#));
    });
    Ok(script?)
}
