//! Order books from Lighter, kept whole: a snapshot, then updates that chain by nonce (or, in the older feed, count by offset). Where the
//! chain breaks the book is void; it is subscribed to anew, behind an unsubscribe, as the venue wants it, and the next snapshot makes it
//! whole. The venue's `{"type":"ping"}` is answered on the loop and never parsed. Trades and statistics come over the same connection,
//! each on a route of its own; every so often one is shown as pretty JSON.
//!
//! ```text
//! cargo run --release --example lighter_orderbook                               the embedded simulator, which loses an update now and then; 5 s
//! cargo run --release --example lighter_orderbook -- wss://mainnet.zklighter.elliot.ai/stream     the real venue, until Ctrl-C
//! cargo run --release --example lighter_orderbook -- --replay FILE.jsonl        a recording, flat out
//! ```

pub(crate) mod support {
    pub(crate) mod book_board;
    pub(crate) mod book_demo;
    pub(crate) mod book_end;
    pub(crate) mod demo;
    pub(crate) mod duration;
    pub(crate) mod happenings;
    pub(crate) mod keeping;
    pub(crate) mod lighter;
    pub(crate) mod price_levels;
    pub(crate) mod repairs;
}

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hypersockets::simulator::Venue;
use hypersockets::{
    ConnectionEvent, CtrlC, JsonPassivePing, MessageHandler, MessageRouter, Result, Sender, Subscription,
    SubscriptionReply, WsMessage,
};
use serde_json::{Value, json};
use support::book_board::BookBoard;
use support::book_demo::BookDemo;
use support::book_end::{Ended, tell};
use support::keeping::{Keeping, caught};
use support::lighter::{Applied, Book, Chain, Feed};

/// Order books from Lighter, kept whole by their nonces, over a connection whose pings are answered by themselves
#[derive(Debug, Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    demo: BookDemo,
}

fn main() -> ExitCode {
    tell(CtrlC::install().and_then(|ctrl_c| run(&Options::parse(), &ctrl_c)))
}

/// Keeps the books until Ctrl-C, or the end of the time or the recording; how that ended.
pub(crate) fn run(options: &Options, ctrl_c: &CtrlC) -> Result<Ended> {
    let demo = &options.demo;
    let recording = demo.recording()?;
    let markets = demo.books(recording.as_ref(), &["0", "1"], |line| match Feed::parse(line) {
        Ok(Feed::Book(book)) => Some(book.market.to_string()),
        _ => None,
    })?;
    let mut chain = Chain::default();
    demo.warn_of_holes(recording.as_ref(), |line| chain.gap_before(line));
    let markets: Vec<u32> = markets
        .iter()
        .map(|market| market.parse())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("books go by the venue's numbers of markets, such as 0 for ETH: {error}"))?;
    let board = BookBoard::new(&markets.iter().map(|market| format!("order_book:{market}")).collect::<Vec<_>>());
    let venue = demo.start(Venue::lighter(markets.iter().copied()), recording)?;
    let url = demo.demo.url.clone().or(venue.as_ref().map(Venue::url)).unwrap_or_default();

    let mut builder = hypersockets::builder();
    for market in &markets {
        builder = builder.subscription(subscription("order_book", market)).subscription(subscription("trade", market));
    }
    let client = builder
        .url(url)
        .router(Router { board: board.clone() }, |mut routing| {
            for (market, slot) in markets.iter().zip(board.slots()) {
                let (keeping, sender) = (Keeping::new(format!("order_book/{market}"), slot), routing.sender());
                let keeper = BookKeeper { book: Book::default(), keeping, sender };
                routing = routing.handler(Route::Book(*market), keeper);
            }
            routing
                .handler(Route::Trades, Shown { what: "trade", every: 50, seen: 0 })
                .handler(Route::Stats, Shown { what: "market_stats", every: 100, seen: 0 })
                .default_handler(Shown { what: "the venue says", every: 1, seen: 0 })
        })
        .passive_ping(JsonPassivePing::new("type", "ping", WsMessage::text(r#"{"type":"pong"}"#)))
        // The venue drops whoever has sent nothing for two minutes.
        .heartbeat(Duration::from_secs(60), WsMessage::text(r#"{"type":"ping"}"#))
        .subscription(subscription("market_stats", &"all"))
        .close_timeout(Duration::from_secs(1))
        .shutdown_flag(ctrl_c.flag())
        .build()?;
    let happenings = demo.follow(&[("feed", &client)], venue.as_ref(), &board, ctrl_c);
    Ok(Ended::new(&client.shutdown()?, &board, happenings))
}

/// By the name `order_book/0`, as requests spell it; messages say `order_book:0`.
fn subscription(kind: &str, market: &impl ToString) -> Subscription {
    let channel = format!("{kind}/{}", market.to_string());
    Subscription::new(&channel, json!({ "type": "subscribe", "channel": channel }).to_string())
        .unsubscribe(json!({ "type": "unsubscribe", "channel": channel }).to_string())
        .unsubscribe_first()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Route {
    Book(u32),
    Trades,
    Stats,
    Other,
}

struct Router {
    board: BookBoard,
}

impl MessageRouter for Router {
    type Message = Feed;
    type RouteKey = Route;

    fn parse(&self, message: WsMessage<'_>) -> Result<Feed> {
        let read = caught(|| Feed::parse(message.as_text().ok_or("a binary message")?));
        read.inspect_err(|_| self.board.doubt())
    }

    fn route_key(&self, feed: &Feed) -> Route {
        match feed {
            Feed::Book(book) => Route::Book(book.market),
            Feed::Trade(_) => Route::Trades,
            Feed::Stats(_) => Route::Stats,
            Feed::Other(_) => Route::Other,
        }
    }

    /// A subscription is in force when its first message is here; an error names no channel.
    fn subscription_reply(&self, raw: &WsMessage<'_>) -> Option<SubscriptionReply> {
        let text = raw.as_text()?;
        if !text.contains(r#""type":"subscribed/"#) && !text.starts_with(r#"{"error""#) {
            return None;
        }
        let reply: Value = serde_json::from_str(text).ok()?;
        match (reply["channel"].as_str(), &reply["error"]) {
            (Some(channel), _) => Some(SubscriptionReply::AcceptedNamed(channel.replacen(':', "/", 1))),
            (None, error) => Some(SubscriptionReply::Rejected(error.to_string())),
        }
    }
}

/// Keeps the book of one market, on that market's thread.
struct BookKeeper {
    book: Book,
    keeping: Keeping,
    sender: Sender,
}

impl MessageHandler<Feed> for BookKeeper {
    fn handle(&mut self, feed: Feed) -> Result<()> {
        if self.keeping.is_doubted() {
            self.start_anew("a message was not understood")?;
        }
        let taken = caught(|| self.take(feed));
        self.keeping.judge(taken).or_else(|error| self.start_anew(&error.to_string()).and(Err(error)))
    }

    /// The next session begins with a snapshot.
    fn on_event(&mut self, event: &ConnectionEvent) {
        if self.keeping.is_void_by(event) {
            self.book.reset();
        }
    }
}

impl BookKeeper {
    fn take(&mut self, feed: Feed) -> Result<()> {
        let Feed::Book(message) = feed else { return Err("no book, on a book's route".into()) };
        match self.book.apply(&message)? {
            Applied::Snapshot => self.keeping.is_whole(&self.book.levels, 0),
            Applied::Update => self.keeping.is_whole(&self.book.levels, 1),
            Applied::Awaiting if self.keeping.is_overdue() => self.start_anew("no snapshot has come")?,
            Applied::Awaiting => {}
            Applied::Gap(gap) => self.start_anew(&gap)?,
        }
        Ok(())
    }

    /// The book is void, for this reason; a snapshot is asked for, unless one was a moment ago.
    fn start_anew(&mut self, why: &str) -> Result<()> {
        self.book.reset();
        self.keeping.is_broken(why);
        if self.keeping.may_repair() { self.sender.resubscribe(self.keeping.name()) } else { Ok(()) }
    }
}

/// Shows one message in so many, as a person reads it.
struct Shown {
    what: &'static str,
    every: u64,
    seen: u64,
}

impl MessageHandler<Feed> for Shown {
    fn handle(&mut self, feed: Feed) -> Result<()> {
        let (Feed::Trade(value) | Feed::Stats(value) | Feed::Other(value)) = feed else { return Ok(()) };
        if !value.is_null() && self.seen.is_multiple_of(self.every) {
            println!("{}: {}", self.what, serde_json::to_string_pretty(&value)?);
        }
        self.seen += 1;
        Ok(())
    }
}
