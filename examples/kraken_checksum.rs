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
    pub(crate) mod demo;
    pub(crate) mod duration;
    pub(crate) mod keeping;
    pub(crate) mod kraken;
    pub(crate) mod price_levels;
    pub(crate) mod repairs;
}

use std::time::Duration;

use clap::Parser;
use hypersockets::simulator::Venue;
use hypersockets::{
    ConnectionEvent, CtrlC, MessageHandler, MessageRouter, Result, Sender, Subscription, SubscriptionReply, WsMessage,
};
use serde_json::{Value, json};
use support::book_board::{BookAccount, BookBoard};
use support::book_demo::BookDemo;
use support::demo::summary;
use support::keeping::Keeping;
use support::kraken::{Applied, Book, Feed};

/// Levels a side: 10, 25, 100, 500 or 1000. The venue's answer has the last word.
const DEPTH: usize = 10;

fn main() -> Result<()> {
    let ctrl_c = CtrlC::install()?;
    for book in run(&BookDemo::parse(), &ctrl_c)? {
        println!("{book}");
    }
    Ok(())
}

/// Keeps the books until Ctrl-C, or the end of the time or the recording; what they were at the end.
pub(crate) fn run(demo: &BookDemo, ctrl_c: &CtrlC) -> Result<Vec<BookAccount>> {
    let recording = demo.recording()?;
    let pairs = demo.books(recording.as_ref(), &["BTC/USD", "ETH/USD"], |line| match Feed::parse(line) {
        Ok(Feed::Book(book)) => Some(book.symbol),
        _ => None,
    });
    let board = BookBoard::new(&pairs);
    let venue = demo.start(Venue::kraken(&pairs), recording)?;
    let url = demo.demo.url.clone().or(venue.as_ref().map(Venue::url)).unwrap_or_default();

    let mut builder = hypersockets::builder();
    for pair in &pairs {
        builder = builder.subscription(subscription(pair));
    }
    let client = builder
        .url(url)
        .router(Router { pairs: pairs.clone() }, |mut routing| {
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
    demo.follow(&[&client], venue.as_ref(), &board, ctrl_c);
    summary(&client.shutdown()?);
    Ok(board.accounts())
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
}

impl MessageRouter for Router {
    type Message = Feed;
    type RouteKey = Route;

    fn parse(&self, message: WsMessage<'_>) -> Result<Feed> {
        Feed::parse(message.as_text().ok_or("a binary message")?)
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
        let message = match feed {
            Feed::Book(message) => message,
            Feed::Subscribed { depth, .. } => {
                self.book = Book::new(depth);
                return Ok(());
            }
            other => return Err(format!("{other:?} on a book's route").into()),
        };
        match self.book.apply(&message)? {
            Applied::Snapshot => self.keeping.is_whole(&self.book.levels, 0),
            Applied::Update => self.keeping.is_whole(&self.book.levels, 1),
            Applied::Awaiting => {}
            Applied::Mismatch { ours, theirs } => {
                self.keeping.is_broken(&format!("the checksum is {ours}, and should be {theirs}"));
                self.keeping.begin_repair();
                self.sender.resubscribe(self.keeping.name())?;
            }
        }
        Ok(())
    }

    /// The next session begins with a snapshot.
    fn on_event(&mut self, event: &ConnectionEvent) {
        if self.keeping.is_void_by(event) {
            self.book.reset();
        }
    }
}
