//! Binance's depth streams as types, and the rule by which an order book is kept from them and a snapshot (developers.binance.com,
//! "How to manage a local order book correctly", for spot and for futures).

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
        let Ok(combined) = serde_json::from_str::<Combined<'_>>(text) else { return Ok(Self::Other(text.to_owned())) };
        let kind = combined.stream.split_once('@').map_or("", |(_, kind)| kind);
        let data = combined.data.get();
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
    /// Whole, this far.
    Live(u64),
}

/// What an event did to a book.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The book is whole, and has it.
    Update,
    /// The book had it before: the snapshot was newer.
    Old,
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
        let needs = |gap| Ok(Applied::Needs { snapshot_from: event.first.saturating_sub(1), gap });
        let last = match self.state {
            State::Void => return needs(None),
            State::Snapshot(last) | State::Live(last) if event.last <= last => return Ok(Applied::Old),
            // The first one may overlap the snapshot, or follow it.
            State::Snapshot(last) if event.first <= last + 1 || event.before == Some(last) => last,
            State::Snapshot(last) => {
                self.reset();
                return needs(Some(format!("the snapshot ends at {last}, and the events begin at {}", event.first)));
            }
            State::Live(last) => last,
        };
        if let State::Live(_) = self.state {
            let follows = event.before.unwrap_or(event.first.saturating_sub(1));
            if follows != last {
                self.reset();
                return needs(Some(format!("an event follows update {follows}, and {last} was the last")));
            }
        }
        self.levels.apply(&event.bids, &event.asks)?;
        self.state = State::Live(event.last);
        Ok(Applied::Update)
    }
}

#[derive(Deserialize)]
struct Combined<'a> {
    stream: &'a str,
    #[serde(borrow)]
    data: &'a serde_json::value::RawValue,
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
