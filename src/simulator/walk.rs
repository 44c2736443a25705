//! A book whose levels change one by one, at random. Invariants: every bid is below every ask; the same seed gives the same walk.

use super::book::{Dice, seed_of};
use super::ladder::{Changes, Level};

/// Levels are set this many ticks from the middle at most.
const REACH: u64 = 30;
/// Prices and sizes are counted in units of their last decimal.
const PRICE_DECIMALS: usize = 2;
const SIZE_DECIMALS: usize = 4;

pub(super) struct Walk {
    dice: Dice,
    /// The highest bid's place, in ticks: bids are at it or below, asks above.
    mid: u64,
    floor: u64,
    ceiling: u64,
}

impl Walk {
    pub(super) fn new(market: &str, seed: u64) -> Self {
        let mut dice = Dice::new(seed_of(market, seed));
        let mid = 20_000 + dice.below(80_000);
        Walk { dice, mid, floor: mid / 2, ceiling: mid * 2 }
    }

    /// A level at each place that levels can have.
    pub(super) fn lay_out(&mut self) -> Changes {
        let mut changes = Changes::default();
        for distance in 0..REACH {
            changes.bids.push(self.level(self.mid - distance));
            changes.asks.push(self.level(self.mid + 1 + distance));
        }
        changes
    }

    /// The middle may move by a tick, and a few levels change or vanish.
    pub(super) fn step(&mut self) -> Changes {
        let mut changes = Changes::default();
        match self.dice.below(6) {
            0 if self.mid < self.ceiling => {
                self.mid += 1;
                changes.asks.push(gone(self.mid));
            }
            1 if self.mid > self.floor => {
                changes.bids.push(gone(self.mid));
                self.mid -= 1;
            }
            _ => {}
        }
        // The best of both sides is always there.
        changes.bids.push(self.level(self.mid));
        changes.asks.push(self.level(self.mid + 1));
        for _ in 0..self.dice.below(4) {
            let distance = 1 + self.dice.below(REACH - 1);
            let is_bid = self.dice.below(2) == 0;
            let price = if is_bid { self.mid - distance } else { self.mid + 1 + distance };
            let level = if self.dice.below(4) == 0 { gone(price) } else { self.level(price) };
            if is_bid { changes.bids.push(level) } else { changes.asks.push(level) }
        }
        changes
    }

    /// A trade at the top: price, size, and whether the taker sold.
    pub(super) fn trade(&mut self) -> (String, String, bool) {
        let sold = self.dice.below(2) == 0;
        let (price, size) = self.level(if sold { self.mid } else { self.mid + 1 });
        (price, size, sold)
    }

    fn level(&mut self, price: u64) -> Level {
        let largest = 10_u64.pow(3 + self.dice.below(4) as u32);
        let size = 1 + self.dice.below(largest);
        (fixed(price, PRICE_DECIMALS), fixed(size, SIZE_DECIMALS))
    }
}

/// No level any more.
fn gone(price: u64) -> Level {
    (fixed(price, PRICE_DECIMALS), fixed(0, SIZE_DECIMALS))
}

/// `value` scaled down by `decimals` digits, all of which are shown.
fn fixed(value: u64, decimals: usize) -> String {
    let scale = 10_u64.pow(decimals as u32);
    format!("{}.{:0decimals$}", value / scale, value % scale)
}
