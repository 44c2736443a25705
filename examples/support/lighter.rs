//! Lighter's messages as types, and the rule by which its order books are kept (apidocs.lighter.xyz, "WebSocket").

use std::collections::BTreeMap;

use hypersockets::Result;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::price_levels::{Level, PriceLevels};

/// One message of the venue.
#[derive(Debug)]
pub(crate) enum Feed {
    /// A whole book, or a change of one.
    Book(BookMessage),
    /// A trade, the newest of the message.
    Trade(Value),
    /// Statistics of one market, or of all.
    Stats(Value),
    /// The venue refused something, or something else.
    Other(Value),
}

/// A whole book, or a change of one.
#[derive(Debug)]
pub(crate) struct BookMessage {
    pub(crate) market: u32,
    pub(crate) is_snapshot: bool,
    bids: Vec<Level>,
    asks: Vec<Level>,
    /// Grows from update to update; in the older feed, without nonces, by one.
    offset: u64,
    /// What the update follows on, and what follows it.
    nonces: Option<(u64, u64)>,
}

impl Feed {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wire: Wire<'_> = serde_json::from_str(text)?;
        let whole = || serde_json::from_str::<Value>(text);
        let (stage, kind) = wire.kind.split_once('/').unwrap_or((wire.kind, ""));
        Ok(match (kind, wire.channel, wire.order_book) {
            ("order_book", Some(channel), Some(book)) => {
                let market = channel.split_once(':').and_then(|(_, market)| market.parse().ok());
                Self::Book(BookMessage {
                    market: market.ok_or_else(|| format!("no market in {channel:?}"))?,
                    is_snapshot: stage == "subscribed",
                    bids: book.bids.into_iter().map(|level| (level.price, level.size)).collect(),
                    asks: book.asks.into_iter().map(|level| (level.price, level.size)).collect(),
                    offset: book.offset,
                    nonces: book.begin_nonce.zip(book.nonce),
                })
            }
            ("order_book", ..) => return Err("an order book without its channel or its levels".into()),
            ("trade", ..) => Self::Trade(wire.trades.map_or(Ok(Value::Null), |all| last(all.get()))?),
            ("market_stats", ..) => Self::Stats(whole()?["market_stats"].take()),
            _ => Self::Other(whole()?),
        })
    }
}

/// The book of one market.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) levels: PriceLevels,
    /// `None` until a snapshot has come, and from a gap to the next snapshot.
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    offset: u64,
    nonce: Option<u64>,
}

/// What a message did to a book.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The book is whole.
    Snapshot,
    /// The book is whole, still.
    Update,
    /// There is no book to which it could be applied: a snapshot is awaited.
    Awaiting,
    /// Something between the last message and this one is missing, in these words. The book is void.
    Gap(String),
}

impl Book {
    /// Nothing is known any more: a snapshot is awaited.
    pub(crate) fn reset(&mut self) {
        self.last = None;
        self.levels.clear();
    }

    pub(crate) fn apply(&mut self, message: &BookMessage) -> Result<Applied> {
        if message.is_snapshot {
            self.levels.clear();
        } else {
            let Some(last) = self.last else { return Ok(Applied::Awaiting) };
            if let Some(gap) = last.gap_to(message) {
                self.reset();
                return Ok(Applied::Gap(gap));
            }
        }
        self.levels.apply(&message.bids, &message.asks)?;
        self.last = Some(Last { offset: message.offset, nonce: message.nonces.map(|(_, nonce)| nonce) });
        Ok(if message.is_snapshot { Applied::Snapshot } else { Applied::Update })
    }
}

impl Last {
    /// What is wrong with the message's place, if anything: nonces chain, offsets grow; without nonces, offsets count.
    fn gap_to(self, message: &BookMessage) -> Option<String> {
        let Last { offset, nonce } = self;
        match (nonce, message.nonces) {
            (Some(nonce), Some((begin, _))) if begin != nonce => {
                Some(format!("an update follows nonce {begin}, and nonce {nonce} was the last"))
            }
            (Some(_), Some(_)) if message.offset <= offset => {
                Some(format!("offset {} behind offset {offset}", message.offset))
            }
            (Some(_), Some(_)) => None,
            _ if offset.checked_add(1) != Some(message.offset) => {
                Some(format!("offset {} behind offset {offset}", message.offset))
            }
            _ => None,
        }
    }
}

/// Whether recorded messages follow on each other, by market.
#[derive(Debug, Default)]
pub(crate) struct Chain(BTreeMap<u32, Book>);

impl Chain {
    /// What is missing before this message, if anything.
    pub(crate) fn gap_before(&mut self, line: &str) -> Option<String> {
        let Ok(Feed::Book(message)) = Feed::parse(line) else { return None };
        match self.0.entry(message.market).or_default().apply(&message) {
            Ok(Applied::Gap(gap)) => Some(gap),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        }
    }
}

fn last(trades: &str) -> serde_json::Result<Value> {
    let trades: Option<Vec<Value>> = serde_json::from_str(trades)?;
    Ok(trades.and_then(|mut trades| trades.pop()).unwrap_or_default())
}

#[derive(Deserialize)]
struct Wire<'a> {
    /// Missing where the venue reports an error.
    #[serde(rename = "type", default)]
    kind: &'a str,
    channel: Option<&'a str>,
    order_book: Option<WireBook>,
    #[serde(borrow)]
    trades: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireBook {
    asks: Vec<WireLevel>,
    bids: Vec<WireLevel>,
    offset: u64,
    begin_nonce: Option<u64>,
    nonce: Option<u64>,
}

#[derive(Deserialize)]
struct WireLevel {
    price: String,
    size: String,
}
