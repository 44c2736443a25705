//! Kraken's messages, version 2, as types, and the checksum by which a book is judged (docs.kraken.com, "Book checksum"). Prices and
//! quantities are JSON numbers whose digits count, so they are never read as floats.

use std::collections::BTreeMap;

use hypersockets::Result;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::price_levels::{Level, PriceLevels};

/// One message of the venue.
#[derive(Debug)]
pub(crate) enum Feed {
    /// A book of this depth begins.
    Subscribed { symbol: String, depth: usize },
    /// A whole book, or a change of one.
    Book(BookMessage),
    /// Nothing happened, which the venue says once a second.
    Heartbeat,
    /// Anything else that the venue says.
    Other(String),
}

/// A whole book, or a change of one.
#[derive(Debug)]
pub(crate) struct BookMessage {
    pub(crate) symbol: String,
    pub(crate) is_snapshot: bool,
    bids: Vec<Level>,
    asks: Vec<Level>,
    checksum: u32,
}

impl Feed {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wire: Wire<'_> = serde_json::from_str(text)?;
        Ok(match wire {
            Wire { channel: Some("book"), data: Some(data), kind, .. } => {
                let [book]: [WireBook<'_>; 1] = serde_json::from_str(data.get())?;
                Self::Book(BookMessage {
                    symbol: book.symbol.to_owned(),
                    is_snapshot: kind == Some("snapshot"),
                    bids: levels(&book.bids),
                    asks: levels(&book.asks),
                    checksum: book.checksum,
                })
            }
            Wire { channel: Some("book"), .. } => return Err("a book without data".into()),
            Wire { channel: Some("heartbeat"), .. } => Self::Heartbeat,
            Wire { method: Some("subscribe"), result: Some(WireResult { symbol, depth: Some(depth) }), .. } => {
                Self::Subscribed { symbol: symbol.to_owned(), depth }
            }
            _ => Self::Other(text.to_owned()),
        })
    }
}

/// The book of one pair.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) levels: PriceLevels,
    /// How many levels a side were subscribed to: the venue does not say when one falls out behind them.
    depth: usize,
    /// A snapshot is needed.
    is_void: bool,
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
    /// The book is not the venue's: something is missing. It is void.
    Mismatch { ours: u32, theirs: u32 },
}

impl Book {
    /// Nothing is known: a snapshot of this depth is awaited.
    pub(crate) fn new(depth: usize) -> Self {
        Self { levels: PriceLevels::default(), depth, is_void: true }
    }

    /// Nothing is known any more.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.depth);
    }

    pub(crate) fn apply(&mut self, message: &BookMessage) -> Result<Applied> {
        if message.is_snapshot {
            self.levels.clear();
        } else if self.is_void {
            return Ok(Applied::Awaiting);
        }
        self.levels.apply(&message.bids, &message.asks)?;
        self.levels.truncate(self.depth);
        let (ours, theirs) = (checksum(&self.levels), message.checksum);
        self.is_void = ours != theirs;
        Ok(match message.is_snapshot {
            _ if ours != theirs => Applied::Mismatch { ours, theirs },
            true => Applied::Snapshot,
            false => Applied::Update,
        })
    }
}

/// Whether recorded messages follow on each other, by pair.
#[derive(Debug, Default)]
pub(crate) struct Chain(BTreeMap<String, Book>);

impl Chain {
    /// What is wrong with the book from this message on, if anything, up to the next snapshot.
    pub(crate) fn gap_before(&mut self, line: &str) -> Option<String> {
        let message = match Feed::parse(line).ok()? {
            Feed::Subscribed { symbol, depth } => {
                self.0.insert(symbol, Book::new(depth));
                return None;
            }
            Feed::Book(message) => message,
            Feed::Heartbeat | Feed::Other(_) => return None,
        };
        match self.0.get_mut(&message.symbol)?.apply(&message) {
            Ok(Applied::Mismatch { ours, theirs }) => Some(format!("the checksum is {ours}, and should be {theirs}")),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        }
    }
}

/// CRC-32 of ten asks, then ten bids, best first: price and quantity without the point and without leading zeros.
fn checksum(levels: &PriceLevels) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for (price, size) in levels.asks().take(10).chain(levels.bids().take(10)) {
        for lexeme in [price, size] {
            let digits: Vec<u8> =
                lexeme.bytes().filter(|byte| *byte != b'.').skip_while(|byte| *byte == b'0').collect();
            crc.update(&digits);
        }
    }
    crc.finalize()
}

fn levels(side: &[WireLevel<'_>]) -> Vec<Level> {
    side.iter().map(|level| (level.price.get().to_owned(), level.qty.get().to_owned())).collect()
}

#[derive(Deserialize)]
struct Wire<'a> {
    channel: Option<&'a str>,
    method: Option<&'a str>,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<WireResult<'a>>,
}

#[derive(Deserialize)]
struct WireResult<'a> {
    #[serde(default)]
    symbol: &'a str,
    depth: Option<usize>,
}

#[derive(Deserialize)]
struct WireBook<'a> {
    symbol: &'a str,
    #[serde(borrow)]
    bids: Vec<WireLevel<'a>>,
    #[serde(borrow)]
    asks: Vec<WireLevel<'a>>,
    checksum: u32,
}

#[derive(Deserialize)]
struct WireLevel<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}
