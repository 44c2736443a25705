//! Kraken order books that prove themselves: after each message the CRC-32 of the book's top must be the venue's. Where it is not,
//! something is missing: it is told, the book is void, and it is subscribed to anew for a snapshot. The sum is over the digits as the
//! venue wrote them, so prices and sizes stay text.
//!
//! ```text
//! cargo run --release --example kraken_checksum                           the embedded simulator, which loses an update now and then; 5 s
//! cargo run --release --example kraken_checksum -- wss://ws.kraken.com/v2     the real venue, until Ctrl-C
//! cargo run --release --example kraken_checksum -- --replay FILE.jsonl    a recording, flat out
//! ```

pub(crate) mod support {
    pub(crate) mod book_board;
    pub(crate) mod book_demo;
    pub(crate) mod book_end;
    pub(crate) mod demo;
    pub(crate) mod duration;
    pub(crate) mod happenings;
    pub(crate) mod keeping;
    pub(crate) mod kraken;
    pub(crate) mod price_levels;
    pub(crate) mod repairs;
}

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hypersockets::simulator::Venue;
use hypersockets::{
    ConnectionEvent, CtrlC, MessageHandler, MessageRouter, Result, Sender, Subscription, SubscriptionReply, WsMessage,
};
use serde_json::{Value, json};
use support::book_board::BookBoard;
use support::book_demo::BookDemo;
use support::book_end::{Ended, tell};
use support::keeping::{Keeping, caught};
use support::kraken::{Applied, Book, Chain, Feed};

/// Levels a side: 10, 25, 100, 500 or 1000. The venue's answer has the last word.
const DEPTH: usize = 10;

/// Order books from Kraken that prove themselves by a checksum, and are mended where they do not
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
    let pairs = demo.books(recording.as_ref(), &["BTC/USD", "ETH/USD"], |line| match Feed::parse(line) {
        Ok(Feed::Book(book)) => Some(book.symbol),
        _ => None,
    })?;
    let mut chain = Chain::default();
    demo.warn_of_holes(recording.as_ref(), |line| chain.gap_before(line));
    let board = BookBoard::new(&pairs);
    let venue = demo.start(Venue::kraken(&pairs), recording)?;
    let url = demo.demo.url.clone().or(venue.as_ref().map(Venue::url)).unwrap_or_default();

    let mut builder = hypersockets::builder();
    for pair in &pairs {
        builder = builder.subscription(subscription(pair));
    }
    let client = builder
        .url(url)
        .router(Router { pairs: pairs.clone(), board: board.clone() }, |mut routing| {
            for (index, slot) in board.slots().iter().enumerate() {
                let (keeping, sender) = (Keeping::new(&pairs[index], slot), routing.sender());
                let keeper = BookKeeper { book: Book::new(DEPTH), keeping, sender };
                routing = routing.handler(Route::Book(index), keeper);
            }
            routing.default_handler(|feed: Feed| {
                if let Feed::Other(text) = feed {
                    println!("the venue says: {text}");
                }
                Ok(())
            })
        })
        .close_timeout(Duration::from_secs(1))
        .shutdown_flag(ctrl_c.flag())
        .build()?;
    let happenings = demo.follow(&[("feed", &client)], venue.as_ref(), &board, ctrl_c);
    Ok(Ended::new(&client.shutdown()?, &board, happenings))
}

/// By the name of the pair.
fn subscription(pair: &str) -> Subscription {
    let request = |method: &str| {
        json!({ "method": method, "params": { "channel": "book", "symbol": [pair], "depth": DEPTH } }).to_string()
    };
    Subscription::new(pair, request("subscribe")).unsubscribe(request("unsubscribe")).unsubscribe_first()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Route {
    /// By the place in the list of pairs.
    Book(usize),
    Other,
}

struct Router {
    pairs: Vec<String>,
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
        let symbol = match feed {
            Feed::Subscribed { symbol, .. } => symbol,
            Feed::Book(book) => &book.symbol,
            Feed::Heartbeat | Feed::Other(_) => return Route::Other,
        };
        self.pairs.iter().position(|pair| pair == symbol).map_or(Route::Other, Route::Book)
    }

    fn subscription_reply(&self, raw: &WsMessage<'_>) -> Option<SubscriptionReply> {
        let text = raw.as_text().filter(|text| text.contains(r#""method":"subscribe""#))?;
        let reply: Value = serde_json::from_str(text).ok()?;
        Some(match (reply["result"]["symbol"].as_str(), reply["error"].as_str()) {
            (Some(pair), _) => SubscriptionReply::AcceptedNamed(pair.to_owned()),
            (None, why) => SubscriptionReply::Rejected(why.unwrap_or_default().to_owned()),
        })
    }
}

/// Keeps the book of one pair, on that pair's thread.
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
        let message = match feed {
            Feed::Book(message) => message,
            Feed::Subscribed { depth, .. } => {
                self.book = Book::new(depth);
                self.keeping.is_void();
                return Ok(());
            }
            other => return Err(format!("{other:?} on a book's route").into()),
        };
        match self.book.apply(&message)? {
            Applied::Snapshot => self.keeping.is_whole(&self.book.levels, 0),
            Applied::Update => self.keeping.is_whole(&self.book.levels, 1),
            Applied::Awaiting if self.keeping.is_overdue() => self.start_anew("no snapshot has come")?,
            Applied::Awaiting => {}
            Applied::Mismatch { ours, theirs } => {
                self.start_anew(&format!("the checksum is {ours}, and should be {theirs}"))?;
            }
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
