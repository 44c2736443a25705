//! Engines side by side: one loop for market data, on its own core where the process has two, and one for orders, which no burst of data
//! can delay. A plan says which thread runs where, is checked against this machine, and printed.
//!
//! ```text
//! cargo run --release --example two_engines                                    two simulated venues, a busy and a quiet one, for 5 s
//! cargo run --release --example two_engines -- wss://api.hyperliquid.xyz/ws    two clients of the real venue, until Ctrl-C
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
}

use std::process::ExitCode;

use hypersockets::simulator::Venue;
use hypersockets::{
    Client, CorePlan, Engine, HandlerThread, MessageRouter, Parsed, Result, RouteOptions, Scratch, ThreadOptions,
    WsMessage,
};
use serde::Deserialize;
use support::demo::{Run, run, summary};

fn main() -> ExitCode {
    run("Engines side by side, on the cores of a plan: no burst of market data delays an order", example)
}

fn example(run: &Run) -> Result<()> {
    let plan = CorePlan::new()
        .engine("feed", ThreadOptions::new().prefer_core(0))
        .engine("orders", ThreadOptions::new().prefer_core(1))
        .handler("books", ThreadOptions::new());
    println!("{plan}");
    for warning in plan.check()? {
        println!("warning: {warning}");
    }
    let feed_engine = plan.engine_builder("feed")?.start()?;
    let orders_engine = plan.engine_builder("orders")?.start()?;
    let books = HandlerThread::start(plan.handler_thread("books")?)?;

    let venue = |rate| move || Ok(Venue::hyperliquid(["BTC"]).rate_per_sec(rate).start()?);
    let (feed_url, _busy) = run.url_or(venue(10_000.0), Venue::url)?;
    let (orders_url, _quiet) = run.url_or(venue(10.0), Venue::url)?;
    let feed = client(feed_url, &feed_engine, &books, run)?;
    let orders = client(orders_url, &orders_engine, &books, run)?;
    let clients = [("feed", &feed), ("orders", &orders)];
    run.wait_all(&clients);

    for (name, client) in clients {
        let report = client.shutdown()?;
        let latency = client.latency().stages.total;
        let [p50, p99] = [0.5, 0.99].map(|quantile| latency.quantile_ns(quantile) as f64 / 1e3);
        summary(&report);
        println!("{name}: read to handled p50 {p50:.1} µs, p99 {p99:.1} µs");
    }
    feed_engine.shutdown()?;
    orders_engine.shutdown()?;
    books.join()
}

fn client(url: String, engine: &Engine, books: &HandlerThread, run: &Run) -> Result<Client> {
    hypersockets::builder()
        .url(url)
        .router(Times, |routing| routing.handler_with((), |_time_ms: u64| Ok(()), RouteOptions::new().on(books)))
        .subscription(r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#)
        .measure_latency()
        .engine(engine)
        .shutdown_flag(run.flag())
        .build()
}

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
