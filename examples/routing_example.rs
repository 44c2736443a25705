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
use std::{mem, thread};

use hypersockets::{
    HandlerThread, MessageRouter, Overflow, Pulled, Result, RouteOptions, RouteReceiver, Scratch, ThreadOptions,
    WsMessage,
};
use serde::Deserialize;
use support::demo::{Run, run, summary};
use support::script::Script;

fn main() -> ExitCode {
    run("Who handles what: a thread of its own, a shared one, the loop, or a queue to pull from", example)
}

fn example(run: &Run) -> Result<()> {
    let (url, _venue) = run.url_or(venue, Script::url)?;
    let shared_thread = HandlerThread::start(ThreadOptions::new().name("hs-shared"))?;
    let shared = || RouteOptions::new().on(&shared_thread);
    let mut status = None;
    let client = hypersockets::builder()
        .url(url)
        .router(Channels, |mut routing| {
            // A queue of 16 at most, for a thread of ours to take from.
            let pulled = RouteOptions::new().bounded(16, Overflow::DropOldest);
            status = Some(routing.receiver_with(Channel::Status, pulled));
            routing
                .handler(Channel::Books, first("a thread of its own"))
                // The fastest there is, as long as it is quick.
                .handler_with(Channel::Quotes, first("within the read that brought it"), RouteOptions::new().inline())
                .handler_with(Channel::Trades, first("a thread shared with the default route"), shared())
                .default_handler_with(first("no route of its own: the default"), shared())
        })
        .subscription(r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#)
        .subscription(r#"{"method":"subscribe","subscription":{"type":"bbo","coin":"BTC"}}"#)
        .subscription(r#"{"method":"subscribe","subscription":{"type":"trades","coin":"BTC"}}"#)
        .shutdown_flag(run.flag())
        .build()?;
    let status = status.ok_or("the route was made")?;
    let puller = thread::Builder::new().name("puller".to_owned()).spawn(move || pull(status))?;

    run.wait(&client);
    let report = client.shutdown()?;
    puller.join().map_err(|_| "the puller panicked")?;
    summary(&report);
    // Not the report's: what is pulled may be pulled behind it.
    for route in &client.metrics().routes {
        println!("{:>8}: {} handled, {} dropped", route.route, route.handled, route.dropped);
    }
    Ok(())
}

/// A handler that shows its first message, and the thread that handles it.
fn first(place: &'static str) -> impl FnMut(Message) -> Result<()> + Send + 'static {
    let mut shown = false;
    move |message| {
        if !mem::replace(&mut shown, true) {
            let thread = thread::current();
            println!("{:?} on {:?}, {place}: {}", message.channel, thread.name().unwrap_or_default(), message.text);
        }
        Ok(())
    }
}

/// Takes messages when it likes, to the last one.
fn pull(mut status: RouteReceiver<Message>) {
    let mut show = first("pulled by a thread of ours");
    loop {
        match status.next_timeout(Duration::from_millis(100)) {
            Pulled::Message(message, _) => drop(show(message)),
            Pulled::Stopped => return,
            _ => {}
        }
    }
}

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
    text: String,
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
        let text: String = message.as_text().ok_or("a binary message")?.chars().take(60).collect();
        let channel = Scratch::default().typed(message.as_bytes()).map(|Envelope { channel }| match channel {
            "l2Book" => Channel::Books,
            "bbo" => Channel::Quotes,
            "trades" => Channel::Trades,
            "status" => Channel::Status,
            _ => Channel::Other,
        })?;
        Ok(Message { channel, text })
    }

    fn route_key(&self, message: &Message) -> Channel {
        message.channel
    }
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
