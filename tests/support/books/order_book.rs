//! One order book that orders prices exactly and keeps every lexeme.
//! Invariant: no level has size zero, and no side is longer than the depth limit.

use std::collections::BTreeMap;

use super::{BookUpdate, Checksum, Lexemes};

/// A price as a whole number of 10^-18, so that `30230` and `30230.0` are one level and no rounding can part them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Price(i128);

/// Both sides of one market.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    bids: Side,
    asks: Side,
    depth_limit: Option<usize>,
}

type Side = BTreeMap<Price, Lexemes>;

impl Book {
    /// Applies an update; on an error the book is no longer to be trusted.
    pub(crate) fn apply(&mut self, update: &BookUpdate) -> Result<(), String> {
        if update.snapshot {
            self.bids.clear();
            self.asks.clear();
        }
        apply_levels(&mut self.bids, &update.bids)?;
        apply_levels(&mut self.asks, &update.asks)?;
        self.depth_limit = update.depth_limit.or(self.depth_limit);
        if let Some(limit) = self.depth_limit {
            while self.bids.len() > limit {
                self.bids.pop_first();
            }
            while self.asks.len() > limit {
                self.asks.pop_last();
            }
        }
        Ok(())
    }

    /// Whether the book sums to what the venue says it must.
    pub(crate) fn sums_to(&self, checksum: Checksum) -> bool {
        match checksum {
            Checksum::Kraken(sum) => crc32fast::hash(self.kraken_image().as_bytes()) == sum,
            Checksum::Okx(sum) => crc32fast::hash(self.okx_image().as_bytes()) == sum,
        }
    }

    pub(crate) fn best_bid(&self) -> Option<&Lexemes> {
        self.bids.last_key_value().map(|(_, lexemes)| lexemes)
    }

    pub(crate) fn best_ask(&self) -> Option<&Lexemes> {
        self.asks.first_key_value().map(|(_, lexemes)| lexemes)
    }

    /// From the best, downwards.
    pub(crate) fn bids(&self) -> impl Iterator<Item = &Lexemes> {
        self.bids.values().rev()
    }

    /// From the best, upwards.
    pub(crate) fn asks(&self) -> impl Iterator<Item = &Lexemes> {
        self.asks.values()
    }

    pub(crate) fn bid_levels(&self) -> usize {
        self.bids.len()
    }

    pub(crate) fn ask_levels(&self) -> usize {
        self.asks.len()
    }

    /// Ten asks, then ten bids; each lexeme without its point and its leading zeros.
    fn kraken_image(&self) -> String {
        let mut image = String::new();
        for (price, size) in self.asks().take(10).chain(self.bids().take(10)) {
            for lexeme in [price, size] {
                image.push_str(lexeme.replace('.', "").trim_start_matches('0'));
            }
        }
        image
    }

    /// Twenty-five bids and asks in turn; the longer side goes on alone.
    fn okx_image(&self) -> String {
        let (mut bids, mut asks) = (self.bids().take(25), self.asks().take(25));
        let mut parts: Vec<&str> = Vec::with_capacity(100);
        loop {
            let (bid, ask) = (bids.next(), asks.next());
            if bid.is_none() && ask.is_none() {
                return parts.join(":");
            }
            for (price, size) in [bid, ask].into_iter().flatten() {
                parts.extend([price.as_str(), size.as_str()]);
            }
        }
    }
}

impl Price {
    const DECIMALS: i32 = 18;

    /// Reads a JSON number; `Err` where 10^-18 or 128 bits cannot hold it exactly.
    pub(crate) fn parse(lexeme: &str) -> Result<Self, String> {
        let refuse = || format!("not a decimal this book can hold exactly: {lexeme}");
        let (mantissa, exponent) = match lexeme.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().map_err(|_| refuse())?),
            None => (lexeme, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, mantissa),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let fraction = fraction.trim_end_matches('0');
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|digit| digit.is_ascii_digit()) {
            return Err(refuse());
        }
        let mut value = 0i128;
        for digit in whole.bytes().chain(fraction.bytes()) {
            let digit = i128::from(digit - b'0');
            value = value.checked_mul(10).and_then(|value| value.checked_add(digit)).ok_or_else(refuse)?;
        }
        if value == 0 {
            return Ok(Self(0));
        }
        let fraction_len = i32::try_from(fraction.len()).map_err(|_| refuse())?;
        let shift = Self::DECIMALS - fraction_len + i32::from(exponent);
        let shift = u32::try_from(shift).map_err(|_| refuse())?;
        let scaled = 10i128.checked_pow(shift).and_then(|scale| value.checked_mul(scale)).ok_or_else(refuse)?;
        Ok(Self(if negative { -scaled } else { scaled }))
    }

    pub(crate) fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// A changed level takes the newest lexemes.
fn apply_levels(side: &mut Side, levels: &[Lexemes]) -> Result<(), String> {
    for (price, size) in levels {
        let key = Price::parse(price)?;
        if is_zero(size)? {
            side.remove(&key);
        } else {
            side.insert(key, (price.clone(), size.clone()));
        }
    }
    Ok(())
}

fn is_zero(size: &str) -> Result<bool, String> {
    Price::parse(size).map(Price::is_zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_order_by_value_whatever_their_spelling() {
        let price = |lexeme| Price::parse(lexeme).expect("a plain decimal");
        assert_eq!(price("30230"), price("30230.0"));
        assert_eq!(price("5e-4"), price("0.0005"));
        assert_eq!(price("1.20E+3"), Price::parse("1200").expect("a plain decimal"), "a plus sign is legal");
        assert!(price("9.9") < price("10"));
        assert!(price("-0.1") < price("0.000000000000000001"));
        assert!(price("0.00000000").is_zero());
        assert!(price("0.1") < price("0.10000000000000001"), "these two are one float");
    }

    #[test]
    fn what_cannot_be_held_exactly_is_refused() {
        for lexeme in ["", ".", "-", "1e", "NaN", "1e-19", "1e30", "1_0", "0x1", "+1"] {
            let outcome = Price::parse(lexeme);
            assert!(outcome.is_err() || lexeme == "{lexeme}: {outcome:?}");
        }
    }

    #[test]
    fn size_zero_removes_and_the_depth_limit_truncates_from_the_far_end() {
        let levels = |prices: &[&str]| prices.iter().map(|price| (price.to_string(), "1".to_owned())).collect();
        let mut book = Book::default();
        let limit = BookUpdate { depth_limit: Some(2), ..BookUpdate::default() };
        let fill =
            BookUpdate { bids: levels(&["8", "9", "10"]), asks: levels(&["13", "12", "11"]), ..BookUpdate::default() };
        book.apply(&limit).and_then(|()| book.apply(&fill)).expect("plain decimals");
        assert_eq!((book.bid_levels(), book.ask_levels()), (2, 2));
        assert_eq!(book.bids().map(|(price, _)| price.as_str()).collect::<Vec<_>>(), ["10", "9"]);
        let gone = BookUpdate { asks: vec![("11.0".to_owned(), "0.00".to_owned())], ..BookUpdate::default() };
        book.apply(&gone).expect("plain decimals");
        assert_eq!(book.best_ask().map(|(price, _)| price.as_str()), Some("12"));
    }
}
