//! Binance's depth streams as types, and the rule by which an order book is kept from them and a snapshot (developers.binance.com,
//! "How to manage a local order book correctly", for spot and for futures).

use std::collections::BTreeMap;

use hypersockets::Result;
use serde::Deserialize;

use super::price_levels::{Level, PriceLevels};

/// One message of a combined stream.
#[derive(Debug)]
pub(crate) enum Feed {
    Depth(Depth),
    /// Best bid and ask, from a feed of their own.
    Quote {
        symbol: String,
        bid: Level,
        ask: Level,
    },
    /// A stream that this parser does not read, or an answer.
    Other(String),
}

/// A change of a book: one or more updates of it, by the numbers of the first and the last.
#[derive(Debug, Deserialize)]
pub(crate) struct Depth {
    #[serde(rename = "s")]
    pub(crate) symbol: String,
    #[serde(rename = "U")]
    pub(crate) first: u64,
    #[serde(rename = "u")]
    pub(crate) last: u64,
    /// Futures: the last number of the event before.
    #[serde(rename = "pu")]
    before: Option<u64>,
    #[serde(rename = "b")]
    bids: Vec<Level>,
    #[serde(rename = "a")]
    asks: Vec<Level>,
}

/// A whole book, as `depth` answers it.
#[derive(Debug, Deserialize)]
pub(crate) struct Snapshot {
    #[serde(rename = "lastUpdateId")]
    pub(crate) last: u64,
    bids: Vec<Level>,
    asks: Vec<Level>,
}

impl Feed {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let Combined { stream, data } = serde_json::from_str(text)?;
        let (stream, data) = match (stream, data) {
            (Some(stream), Some(data)) => (stream, data.get()),
            // An answer, or a word about the connection.
            (None, None) => return Ok(Self::Other(text.to_owned())),
            _ => return Err("half a message of a stream".into()),
        };
        let kind = stream.split_once('@').map_or("", |(_, kind)| kind);
        Ok(match kind.split('@').next() {
            Some("depth") => Self::Depth(serde_json::from_str(data)?),
            Some("bookTicker") => {
                let Ticker { symbol, bid, bid_size, ask, ask_size } = serde_json::from_str(data)?;
                Self::Quote { symbol, bid: (bid, bid_size), ask: (ask, ask_size) }
            }
            _ => Self::Other(text.to_owned()),
        })
    }
}

/// The book of one symbol.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) levels: PriceLevels,
    state: State,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    /// A snapshot is needed.
    #[default]
    Void,
    /// A snapshot, this far, and no event yet that goes beyond it.
    Snapshot(u64),
    /// Whole, with an event of this first and this last number in it.
    Live(u64, u64),
}

/// What an event did to a book.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The book is whole, and has it.
    Update,
    /// The book is whole, and this was its last event already.
    Repeat,
    /// The snapshot is newer. Whether the events go with it is still to be seen.
    Early,
    /// There is no book, or something between the last event and this one is missing: a snapshot is needed, this new at least.
    Needs { snapshot_from: u64, gap: Option<String> },
}

impl Book {
    /// Nothing is known any more.
    pub(crate) fn reset(&mut self) {
        self.state = State::Void;
        self.levels.clear();
    }

    /// Starts anew from this.
    pub(crate) fn load(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.levels.clear();
        self.levels.apply(&snapshot.bids, &snapshot.asks)?;
        self.state = State::Snapshot(snapshot.last);
        Ok(())
    }

    pub(crate) fn apply(&mut self, event: &Depth) -> Result<Applied> {
        let gap = match self.state {
            State::Void => return Ok(event.needs(None)),
            State::Snapshot(last) if event.last < last => return Ok(Applied::Early),
            // The first one may end where the snapshot does, overlap it, or follow it.
            State::Snapshot(last) if event.follows().is_some_and(|follows| follows <= last) => None,
            State::Snapshot(last) => {
                Some(format!("the snapshot ends at {last}, and the events begin at {}", event.first))
            }
            State::Live(first, last) if (first, last) == (event.first, event.last) => return Ok(Applied::Repeat),
            State::Live(_, last) => event.gap_behind(last),
        };
        if gap.is_some() {
            self.reset();
            return Ok(event.needs(gap));
        }
        self.levels.apply(&event.bids, &event.asks)?;
        self.state = State::Live(event.first, event.last);
        Ok(Applied::Update)
    }
}

impl Depth {
    /// What is wrong with its place behind update `last`, if anything.
    fn gap_behind(&self, last: u64) -> Option<String> {
        match self.follows() {
            Some(follows) if follows == last => None,
            Some(follows) => Some(format!("an event follows update {follows}, and {last} was the last")),
            None => Some(format!("an event's numbers make no sense: {} to {}", self.first, self.last)),
        }
    }

    /// The number that it follows on.
    fn follows(&self) -> Option<u64> {
        if self.last < self.first { None } else { self.before.or_else(|| self.first.checked_sub(1)) }
    }

    fn needs(&self, gap: Option<String>) -> Applied {
        Applied::Needs { snapshot_from: self.first.saturating_sub(1), gap }
    }
}

/// Whether recorded events follow on each other, by symbol.
#[derive(Debug, Default)]
pub(crate) struct Chain(BTreeMap<String, u64>);

impl Chain {
    /// What is missing before this message, if anything.
    pub(crate) fn gap_before(&mut self, line: &str) -> Option<String> {
        let Ok(Feed::Depth(event)) = Feed::parse(line) else { return None };
        let before = self.0.insert(event.symbol.clone(), event.last)?;
        event.gap_behind(before)
    }
}

#[derive(Deserialize)]
struct Combined<'a> {
    stream: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct Ticker {
    #[serde(rename = "s")]
    symbol: String,
    #[serde(rename = "b")]
    bid: String,
    #[serde(rename = "B")]
    bid_size: String,
    #[serde(rename = "a")]
    ask: String,
    #[serde(rename = "A")]
    ask_size: String,
}
