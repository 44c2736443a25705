//! A venue's own book, of which snapshots are taken. Invariants: prices order by value, whatever their spelling; no level has
//! the size zero; lexemes stay as they came.

use std::collections::BTreeMap;

/// A price and a size as the venue spells them.
pub(super) type Level = (String, String);

/// Levels that were set anew, or taken out where the size is zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) bids: Vec<Level>,
    pub(super) asks: Vec<Level>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Ladder {
    bids: BTreeMap<Price, Level>,
    asks: BTreeMap<Price, Level>,
}

/// Billionths of a millionth: more decimals than any venue here uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Price(i128);

const DECIMALS: usize = 15;

impl Ladder {
    /// Whether a book was ever laid out.
    pub(super) fn is_empty(&self) -> bool {
        self.bids.is_empty() && self.asks.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
    }

    /// # Errors
    /// Which lexeme is no plain decimal; what stood before it has been applied.
    pub(super) fn apply(&mut self, changes: &Changes) -> Result<(), String> {
        for (side, levels) in [(&mut self.bids, &changes.bids), (&mut self.asks, &changes.asks)] {
            for (price, size) in levels {
                let key = Price::read(price)?;
                if Price::read(size)?.0 == 0 {
                    side.remove(&key);
                } else {
                    side.insert(key, (price.clone(), size.clone()));
                }
            }
        }
        Ok(())
    }

    /// Drops what lies beyond this many levels a side.
    pub(super) fn truncate(&mut self, depth: usize) {
        while self.bids.len() > depth {
            self.bids.pop_first();
        }
        while self.asks.len() > depth {
            self.asks.pop_last();
        }
    }

    /// The best levels of each side, best first.
    pub(super) fn top(&self, depth: usize) -> Changes {
        Changes {
            bids: self.bids.values().rev().take(depth).cloned().collect(),
            asks: self.asks.values().take(depth).cloned().collect(),
        }
    }

    /// What turns this ladder's top into that of `later`: levels that are new or changed, and those that are gone from the whole
    /// book. Who keeps no more than `depth` levels drops the rest by himself.
    pub(super) fn difference(&self, later: &Ladder, depth: usize) -> Changes {
        let side = |before: Vec<Level>, after: Vec<Level>, all: &BTreeMap<Price, Level>| {
            let is_gone = |price: &str| Price::read(price).is_ok_and(|price| !all.contains_key(&price));
            let gone = before.iter().filter(|(price, _)| is_gone(price));
            let gone: Vec<_> = gone.map(|(price, size)| (price.clone(), zero_like(size))).collect();
            gone.into_iter().chain(after.into_iter().filter(|level| !before.contains(level))).collect()
        };
        let (before, after) = (self.top(depth), later.top(depth));
        Changes { bids: side(before.bids, after.bids, &later.bids), asks: side(before.asks, after.asks, &later.asks) }
    }
}

impl Price {
    fn read(lexeme: &str) -> Result<Self, String> {
        let refuse = || format!("{lexeme:?} is no plain decimal");
        let (whole, fraction) = lexeme.split_once('.').unwrap_or((lexeme, ""));
        if whole.is_empty() || fraction.len() > DECIMALS {
            return Err(refuse());
        }
        let digits = whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', DECIMALS - fraction.len()));
        let value = digits.into_iter().try_fold(0_i128, |value, digit| {
            let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0'))?;
            value.checked_mul(10)?.checked_add(digit)
        });
        value.map(Price).ok_or_else(refuse)
    }
}

/// Zero, with as many decimals.
fn zero_like(size: &str) -> String {
    match size.split_once('.') {
        Some((_, fraction)) => format!("0.{}", "0".repeat(fraction.len())),
        None => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_keeps_the_decimals_of_the_size_it_stands_for() {
        assert_eq!(["0.45", "12", "345.6000"].map(zero_like), ["0.00", "0", "0.0000"]);
    }

    #[test]
    fn the_difference_of_two_ladders_leads_from_one_top_to_the_other() {
        let level = |price: &str, size: &str| (price.to_owned(), size.to_owned());
        let mut before = Ladder::default();
        let bids = vec![level("10.0", "1.0"), level("9.5", "1.0"), level("9.0", "3.0")];
        before.apply(&Changes { bids, asks: vec![level("10.5", "1.0")] }).expect("plain decimals");
        let mut after = before.clone();
        let bids = vec![level("10.0", "0.0"), level("9.5", "2.0")];
        after.apply(&Changes { bids, asks: vec![] }).expect("plain decimals");
        let difference = before.difference(&after, 2);
        assert_eq!(difference.bids, [level("10.0", "0.0"), level("9.5", "2.0"), level("9.0", "3.0")]);
        assert!(difference.asks.is_empty());
        let mut kept = Ladder::default();
        kept.apply(&before.top(2)).and_then(|()| kept.apply(&difference)).expect("plain decimals");
        kept.truncate(2);
        assert_eq!(kept.top(2).bids, after.top(2).bids);
    }
}
