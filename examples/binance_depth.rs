//! Binance order books by the venue's own rule: a snapshot, and the events of the depth stream that follow on it. Each book has a thread.
//! While it waits for a snapshot, which comes over a second client as the reply to a request, its events wait in the route's queue; those
//! that the snapshot has in it are dropped, and the first that goes beyond it must follow on it. An event that does not follow is a gap:
//! it is told, and the book starts anew.
//!
//! ```text
//! cargo run --release --example binance_depth                          the embedded simulator, which loses an update now and then; 5 s
//! cargo run --release --example binance_depth -- wss://stream.binance.com:9443      the real venue, or wss://fstream.binance.com, until Ctrl-C
//! cargo run --release --example binance_depth -- --replay FILE.jsonl   a recording, flat out; with the snapshots of FILE.rest.jsonl
//! ```

pub(crate) mod support {
    pub(crate) mod binance;
    pub(crate) mod binance_hosts;
    pub(crate) mod book_board;
    pub(crate) mod book_demo;
    pub(crate) mod book_end;
    pub(crate) mod demo;
    pub(crate) mod duration;
    pub(crate) mod happenings;
    pub(crate) mod keeping;
    pub(crate) mod lines;
    pub(crate) mod price_levels;
    pub(crate) mod repairs;
}

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hypersockets::simulator::{Venue, VenueBuilder};
use hypersockets::{
    Client, ClientState, ConnectionEvent, CtrlC, MessageHandler, MessageRouter, RequestId, Result, WsMessage,
};
use serde::Deserialize;
use serde_json::{Value, json};
use support::binance::{Applied, Book, Chain, Depth, Feed, Snapshot};
use support::binance_hosts::{api_of, base_of};
use support::book_board::BookBoard;
use support::book_demo::BookDemo;
use support::book_end::{Ended, tell};
use support::keeping::{Keeping, caught};
use support::lines::Lines;

/// Levels a side. It costs 50 of the 6,000 that an address may ask for in a minute.
const DEPTH: u32 = 1000;

/// Order books from Binance: a snapshot by request, and the events of the depth stream that follow on it
#[derive(Debug, Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    demo: BookDemo,

    /// The WebSocket API that snapshots come from; the one that goes with the URL unless given
    #[arg(long, value_name = "URL", requires = "url")]
    api: Option<String>,
}

fn main() -> ExitCode {
    tell(CtrlC::install().and_then(|ctrl_c| run(&Options::parse(), &ctrl_c)))
}

/// Keeps the books until Ctrl-C, or the end of the time or the recording; how that ended.
pub(crate) fn run(options: &Options, ctrl_c: &CtrlC) -> Result<Ended> {
    let demo = &options.demo;
    let recording = demo.recording()?;
    let symbols = demo.books(recording.as_ref(), &["BTCUSDT", "ETHUSDT"], |line| match Feed::parse(line) {
        Ok(Feed::Depth(depth)) => Some(depth.symbol),
        _ => None,
    })?;
    let mut chain = Chain::default();
    demo.warn_of_holes(recording.as_ref(), |line| chain.gap_before(line));
    let streams = match &recording {
        Some(_) => demo.books(recording.as_ref(), &[], stream_of)?,
        None => {
            symbols.iter().flat_map(|symbol| ["depth@100ms", "bookTicker"].map(|kind| stream(symbol, kind))).collect()
        }
    };
    let path = format!("/stream?streams={}", streams.join("/"));
    let board = BookBoard::new(&symbols);
    let mut builder = Venue::binance(&symbols);
    if let Some(path) = &demo.replay {
        builder = with_snapshots(builder, &path.with_extension("rest.jsonl"), &symbols)?;
    }
    let venue = demo.start(builder, recording)?;
    let (url, api_url) = match (&demo.demo.url, &venue) {
        (_, Some(venue)) => (venue.url_at(&path), venue.url_at("/ws-api/v3")),
        (base, None) => {
            let base = base_of(base.as_deref().unwrap_or_default())?;
            (format!("{base}{path}"), options.api.clone().map_or_else(|| api_of(base), Ok)?)
        }
    };

    let api = hypersockets::builder()
        .url(api_url)
        .router(Lines, |routing| routing.default_handler(|_line: String| Ok(())))
        .reply_id(|raw| {
            let reply: Value = serde_json::from_str(raw.as_text()?).ok()?;
            Some(RequestId::from(reply["id"].as_u64()?))
        })
        .shutdown_flag(ctrl_c.flag())
        .build()?;
    let client = hypersockets::builder()
        .url(url)
        .router(Router { symbols: symbols.clone(), board: board.clone() }, |mut routing| {
            for (book, slot) in board.slots().iter().enumerate() {
                let (keeping, api) = (Keeping::new(&symbols[book], slot), api.clone());
                let keeper = BookKeeper { book: Book::default(), keeping, api, requests: book as u64 };
                routing = routing.handler(Route::Book(book), keeper);
            }
            routing.default_handler(|feed: Feed| match feed {
                Feed::Other(text) => {
                    println!("the venue says: {text}");
                    Ok(())
                }
                other => Err(format!("of no book: {other:?}").into()),
            })
        })
        .close_timeout(Duration::from_secs(1))
        .shutdown_flag(ctrl_c.flag())
        .build()?;
    let happenings = demo.follow(&[("feed", &client), ("api", &api)], venue.as_ref(), &board, ctrl_c);
    let report = client.shutdown()?;
    api.shutdown()?;
    Ok(Ended::new(&report, &board, happenings))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Route {
    /// By the place in the list of symbols.
    Book(usize),
    Other,
}

struct Router {
    symbols: Vec<String>,
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
        let (Feed::Depth(Depth { symbol, .. }) | Feed::Quote { symbol, .. }) = feed else { return Route::Other };
        self.symbols.iter().position(|had| had == symbol).map_or(Route::Other, Route::Book)
    }
}

/// Keeps the book of one symbol, on that symbol's thread.
struct BookKeeper {
    book: Book,
    keeping: Keeping,
    /// Where snapshots come from.
    api: Client,
    /// The number of the next request; keepers share the client.
    requests: u64,
}

impl MessageHandler<Feed> for BookKeeper {
    fn handle(&mut self, feed: Feed) -> Result<()> {
        if self.keeping.is_doubted() {
            self.start_anew("a message was not understood");
        }
        let taken = caught(|| match feed {
            Feed::Depth(event) => self.take(&event),
            Feed::Quote { bid, ask, .. } => {
                self.keeping.is_quoted(bid, ask);
                Ok(())
            }
            other => Err(format!("{other:?} on a book's route").into()),
        });
        self.keeping.judge(taken).inspect_err(|error| self.start_anew(&error.to_string()))
    }

    /// The first event of the next session asks for a snapshot.
    fn on_event(&mut self, event: &ConnectionEvent) {
        if self.keeping.is_void_by(event) {
            self.book.reset();
        }
    }
}

impl BookKeeper {
    fn take(&mut self, event: &Depth) -> Result<()> {
        let mut applied = self.book.apply(event)?;
        if let Applied::Needs { snapshot_from, gap } = applied {
            if let Some(gap) = gap {
                self.keeping.is_broken(&gap);
            }
            // The book stays void; a later event asks.
            if self.api.state() != ClientState::Live || !self.keeping.may_repair() {
                return Ok(());
            }
            let snapshot = match self.snapshot(&event.symbol, snapshot_from) {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    self.keeping.is_not_mended(&error);
                    return Ok(());
                }
            };
            self.book.load(&snapshot)?;
            self.keeping.has_snapshot();
            applied = self.book.apply(event)?;
        }
        match applied {
            Applied::Update => self.keeping.is_whole(&self.book.levels, 1),
            Applied::Repeat => self.keeping.is_whole(&self.book.levels, 0),
            Applied::Early if self.keeping.is_overdue() => self.start_anew("no event goes beyond the snapshot"),
            Applied::Early => {}
            Applied::Needs { .. } => return Err("the snapshot does not go with the events".into()),
        }
        Ok(())
    }

    /// The book is void, for this reason; the next event asks for a snapshot.
    fn start_anew(&mut self, why: &str) {
        self.book.reset();
        self.keeping.is_broken(why);
    }

    /// A snapshot that goes at least as far as this. Behind it the events of this symbol pile up in the queue, and nothing else.
    fn snapshot(&mut self, symbol: &str, from: u64) -> Result<Snapshot> {
        for _ in 0..ATTEMPTS {
            // Keepers count by thousands, each from its own place.
            self.requests += 1000;
            let (id, params) = (self.requests, json!({ "symbol": symbol, "limit": DEPTH }));
            let request = json!({ "id": id, "method": "depth", "params": params }).to_string();
            let reply = self.api.request(request, id, Duration::from_secs(5))?;
            let reply: Value = serde_json::from_str(reply.as_text().ok_or("a binary reply")?)?;
            let snapshot: Snapshot = match &reply["result"] {
                Value::Null => return Err(format!("no snapshot of {symbol}: {}", reply["error"]).into()),
                result => Snapshot::deserialize(result)?,
            };
            if snapshot.last >= from {
                return Ok(snapshot);
            }
            println!("{symbol}: the snapshot ends at {}, before the events begin; asking again", snapshot.last);
        }
        Err(format!("{symbol}: no snapshot that is new enough").into())
    }
}

/// A snapshot is a few hundred milliseconds old at most; each request takes a round trip.
const ATTEMPTS: usize = 10;

fn stream(symbol: &str, kind: &str) -> String {
    format!("{}@{kind}", symbol.to_lowercase())
}

/// The stream that a recorded message came from.
fn stream_of(line: &str) -> Option<String> {
    let message: Value = serde_json::from_str(line).ok()?;
    let stream =
        message["stream"].as_str().filter(|stream| stream.contains("@depth") || stream.contains("@bookTicker"))?;
    Some(stream.to_owned())
}

/// Gives the simulator the snapshots that were fetched beside the recording, where there are any.
fn with_snapshots(mut venue: VenueBuilder, path: &Path, symbols: &[String]) -> Result<VenueBuilder> {
    let lines = match std::fs::read_to_string(path) {
        Ok(lines) => lines,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(venue),
        Err(error) => return Err(format!("{}: {error}", path.display()).into()),
    };
    for (index, line) in lines.lines().enumerate() {
        let wrong = |error| format!("{}:{}: {error}", path.display(), index + 1);
        let fetched: Value = serde_json::from_str(line).map_err(wrong)?;
        let url = fetched["url"].as_str().unwrap_or_default();
        let named = symbols
            .iter()
            .find(|symbol| url.contains(&format!("symbol={symbol}&")) || url.ends_with(&format!("symbol={symbol}")));
        if let (Some(symbol), Some(body)) =
            (named.or(symbols.first().filter(|_| symbols.len() == 1)), fetched["body_text"].as_str())
        {
            venue = venue.snapshot(symbol, body);
        }
    }
    Ok(venue)
}
