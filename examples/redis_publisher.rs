//! A handler that publishes: each coin's messages into a Redis stream, for whoever wants them on other machines. Batches share a round trip;
//! while Redis is away up to 100,000 messages a coin wait, and go out in order, once, when it is back; what does not fit is told in the
//! stream, where the hole is.
//!
//! ```text
//! cargo run --release --example redis_publisher      the embedded simulator, and a redis-server that is started for it; 5 s
//! cargo run --release --example redis_publisher -- --redis redis://10.0.0.5/ wss://api.hyperliquid.xyz/ws
//! ```
//!
//! It needs a Redis: `apt-get install redis-server`, or one that is named by `--redis`.

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
    pub(crate) mod redis_server;
    pub(crate) mod redis_sink;
}

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hypersockets::simulator::Venue;
use hypersockets::{HyperSocketError, MessageRouter, Overflow, Result, RouteOptions, WsMessage};
use serde::Deserialize;
use serde_json::json;
use support::demo::{Run, run, summary};
use support::redis_server::RedisServer;
use support::redis_sink::RedisSink;

const COINS: [&str; 3] = ["BTC", "ETH", "SOL"];
/// What a coin may be behind while Redis is away: at 1,000 messages a second of 1 KiB, 100 s and 100 MiB.
const WAITING: usize = 100_000;

// No doc comment: clap would take it for the description.
#[derive(Args)]
struct Sink {
    /// Where Redis is; one is started on a free port unless given
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

fn main() -> ExitCode {
    run("A handler that publishes each coin's messages into a Redis stream", example)
}

fn example(run: &Run<Sink>) -> Result<()> {
    if let Some(redis) = &run.demo.more.redis {
        return publish(redis, run);
    }
    let folder = std::env::temp_dir().join(format!("redis-publisher-{}", std::process::id()));
    let outcome = match RedisServer::start(&folder)? {
        Some(server) => publish(&server.url(), run),
        None => Err("this host has no redis-server: apt-get install redis-server, or name one by --redis URL".into()),
    };
    // However it went, the server has ended by now, and what it leaves is ours to clear away.
    let _ = std::fs::remove_dir_all(folder);
    outcome
}

fn publish(redis: &str, run: &Run<Sink>) -> Result<()> {
    let (url, _venue) = run.url_or(|| Ok(Venue::hyperliquid(COINS).rate_per_sec(200.0).start()?), Venue::url)?;
    let sinks =
        COINS.iter().map(|coin| RedisSink::connect(redis, format!("book:{coin}"))).collect::<Result<Vec<_>>>()?;

    let mut builder = hypersockets::builder();
    for coin in COINS {
        let book = json!({ "type": "l2Book", "coin": coin });
        builder = builder.subscription(json!({ "method": "subscribe", "subscription": book }).to_string());
    }
    let client = builder
        .url(url)
        .router(Books, |mut routing| {
            for (coin, sink) in sinks.into_iter().enumerate() {
                let bound = RouteOptions::new().bounded(WAITING, Overflow::DropOldest);
                routing = routing.handler_with(coin, sink, bound);
            }
            routing
        })
        .heartbeat(Duration::from_secs(30), WsMessage::text(r#"{"method":"ping"}"#))
        .shutdown_timeout(Duration::from_secs(10))
        .shutdown_flag(run.flag())
        .build()?;
    run.wait(&client);
    let report = client.shutdown()?;
    summary(&report);
    let mut connection =
        redis::Client::open(redis).and_then(|client| client.get_connection()).map_err(|e| e.to_string())?;
    for coin in COINS {
        let entries: u64 =
            redis::cmd("XLEN").arg(format!("book:{coin}")).query(&mut connection).map_err(|e| e.to_string())?;
        println!("book:{coin} has {entries} entries");
    }
    Ok(())
}

/// One book, as the venue wrote it.
#[derive(Debug)]
struct Book {
    /// The place in [`COINS`].
    coin: usize,
    text: String,
}

impl From<Book> for String {
    fn from(book: Book) -> String {
        book.text
    }
}

struct Books;

impl MessageRouter for Books {
    type Message = Book;
    type RouteKey = usize;

    fn parse(&self, message: WsMessage<'_>) -> Result<Book> {
        let text = message.as_text().ok_or("a binary message")?;
        let wire: Wire<'_> = serde_json::from_str(text)?;
        let coin = wire.data.coin.and_then(|coin| COINS.iter().position(|had| *had == coin));
        // Acknowledgements and pongs are of no interest to anybody else.
        let coin = coin.ok_or(HyperSocketError::Skip)?;
        Ok(Book { coin, text: text.to_owned() })
    }

    fn route_key(&self, book: &Book) -> usize {
        book.coin
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    data: Data<'a>,
}

#[derive(Deserialize, Default)]
struct Data<'a> {
    coin: Option<&'a str>,
}
