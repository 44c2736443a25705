//! Engines side by side: one loop for market data, on its own core where the process has two, and one for orders, which no
//! burst of data can delay. A plan says which thread runs where, is checked against this machine, and printed.
//!
//! `cargo run --release --example two_engines`, five seconds against two simulated venues.

use std::time::Duration;

use hypersockets::simulator::Venue;
use hypersockets::{
    CorePlan, HandlerThread, MessageRouter, Parsed, Result, RouteOptions, Scratch, ThreadOptions, WsMessage,
};
use serde::Deserialize;

/// What is read of a message: serde passes over the rest.
#[derive(Debug, Deserialize)]
struct Message {
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(rename = "time", default)]
    time_ms: u64,
}

/// A message is the venue's time of it.
struct Times;

impl MessageRouter for Times {
    type Message = u64;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<u64> {
        Ok(Scratch::default().typed::<Message>(message.as_bytes())?.data.time_ms)
    }

    /// With the parsing thread's own memory, so that no message costs an allocation.
    fn parse_each(&self, raw: WsMessage<'_>, out: &mut Parsed<'_, u64>) -> Result<()> {
        let time_ms = out.scratch().typed::<Message>(raw.as_bytes())?.data.time_ms;
        out.push(time_ms);
        Ok(())
    }

    fn route_key(&self, _: &u64) {}
}

fn main() -> Result<()> {
    let plan = CorePlan::new()
        .engine("feed", ThreadOptions::new().prefer_core(0))
        .engine("orders", ThreadOptions::new().prefer_core(1))
        .handler("books", ThreadOptions::new());
    println!("{plan}");
    for warning in plan.check()? {
        println!("warning: {warning}");
    }
    let feed = plan.engine_builder("feed")?.start()?;
    let orders = plan.engine_builder("orders")?.start()?;
    let books = HandlerThread::start(plan.handler_thread("books")?)?;

    let venues = [
        Venue::hyperliquid(["BTC"]).rate_per_sec(10_000.0).start()?,
        Venue::hyperliquid(["BTC"]).rate_per_sec(10.0).start()?,
    ];
    let mut clients = Vec::new();
    for (venue, engine) in venues.iter().zip([&feed, &orders]) {
        let handler = |_time_ms: u64| Ok(());
        let client = hypersockets::builder()
            .url(venue.url())
            .router(Times, |routing| routing.handler_with((), handler, RouteOptions::new().on(&books)))
            .subscription(r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#)
            .measure_latency()
            .engine(engine)
            .build()?;
        clients.push(client);
    }
    std::thread::sleep(Duration::from_secs(5));

    for (name, client) in ["feed", "orders"].into_iter().zip(&clients) {
        let latency = client.latency().stages.total;
        let report = client.shutdown()?;
        println!(
            "{name}: handled {}, unhandled {}, read to handled p50 {:.1} µs, p99 {:.1} µs",
            report.metrics.messages_handled,
            report.unhandled,
            latency.quantile_ns(0.5) as f64 / 1e3,
            latency.quantile_ns(0.99) as f64 / 1e3,
        );
    }
    feed.shutdown()?;
    orders.shutdown()?;
    books.join()
}
