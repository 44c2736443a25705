//! Both sides of an order book, with prices and sizes as the venue spelled them: a checksum is over those, and no float can
//! round them. Invariant: prices order by value, whatever their spelling; no level has the size zero.
#![allow(dead_code)] // each example takes its own part of the support

use std::collections::BTreeMap;

use hypersockets::Result;
use rust_decimal::Decimal;

/// A price and a size, in the venue's own spelling.
pub(crate) type Level = (String, String);

#[derive(Debug, Default)]
pub(crate) struct PriceLevels {
    bids: BTreeMap<Decimal, Level>,
    asks: BTreeMap<Decimal, Level>,
}

impl PriceLevels {
    /// Sets each level, or takes it out where its size is zero.
    ///
    /// # Errors
    /// A number that cannot be held exactly; the book is not to be used any more.
    pub(crate) fn apply(&mut self, bids: &[Level], asks: &[Level]) -> Result<()> {
        for (side, levels) in [(&mut self.bids, bids), (&mut self.asks, asks)] {
            for (price, size) in levels {
                let key = number(price)?;
                if number(size)?.is_zero() {
                    side.remove(&key);
                } else {
                    side.insert(key, (price.clone(), size.clone()));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
    }

    /// Drops what lies beyond this many levels a side.
    pub(crate) fn truncate(&mut self, depth: usize) {
        while self.bids.len() > depth {
            self.bids.pop_first();
        }
        while self.asks.len() > depth {
            self.asks.pop_last();
        }
    }

    /// Best first.
    pub(crate) fn bids(&self) -> impl Iterator<Item = &Level> {
        self.bids.values().rev()
    }

    /// Best first.
    pub(crate) fn asks(&self) -> impl Iterator<Item = &Level> {
        self.asks.values()
    }

    /// Whether a bid is as high as an ask, or higher: on no market for longer than a moment.
    pub(crate) fn is_crossed(&self) -> bool {
        let best = self.bids.last_key_value().zip(self.asks.first_key_value());
        best.is_some_and(|((bid, _), (ask, _))| bid >= ask)
    }

    /// Bid and ask levels.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.bids.len(), self.asks.len())
    }
}

fn number(lexeme: &str) -> Result<Decimal> {
    Decimal::from_str_exact(lexeme).map_err(|error| format!("{lexeme:?} in a book: {error}").into())
}
