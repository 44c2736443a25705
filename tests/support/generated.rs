//! Makes a recording in Hyperliquid's format from a seed, for machines without the real ones.
//! Invariant: the same plan gives the same messages, and the results come from the making, not from reading them back.
#![allow(dead_code)] // each test crate takes its own part of the support

use std::collections::BTreeMap;
use std::fmt::Write;

/// What to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Coins are named `C0`, `C1` and so on; each opens with a book.
    pub(crate) coins: usize,
    /// Messages in all, the opening books and the jumbo among them.
    pub(crate) messages: usize,
    /// Places one book of at least this many bytes in the middle; Coinbase has sent 5 MB in one message.
    pub(crate) jumbo_bytes: Option<usize>,
}

/// The messages, and what a reader of them must arrive at.
#[derive(Debug, Clone)]
pub(crate) struct Generated {
    pub(crate) messages: Vec<String>,
    /// Messages by channel: `l2Book`, `bbo`, `trades`.
    pub(crate) kinds: BTreeMap<String, u64>,
    /// By coin; from the books alone, quotes apart.
    pub(crate) books: BTreeMap<String, GeneratedBook>,
}

/// One coin's last book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GeneratedBook {
    pub(crate) bid: (String, String),
    pub(crate) ask: (String, String),
    pub(crate) bids: usize,
    pub(crate) asks: usize,
}

/// Walks each coin's price and rolls the kind of every message: half books, the rest quotes and trades.
pub(crate) fn generate(plan: Plan) -> Generated {
    let coins = plan.coins.max(1);
    let mut out = Generated { messages: Vec::new(), kinds: BTreeMap::new(), books: BTreeMap::new() };
    let mut dice = Dice(plan.seed);
    let mut mids: Vec<u64> = (0..coins).map(|_| 10_000 + dice.below(1_000_000)).collect();
    for turn in 0..plan.messages {
        let coin = if turn < coins { turn } else { dice.below(coins as u64) as usize };
        mids[coin] = (mids[coin] + dice.below(21)).saturating_sub(10).max(10_000);
        let market = Market { coin: format!("C{coin}"), mid: mids[coin], time_ms: FIRST_MS + turn as u64 * 50 };
        let jumbo = plan.jumbo_bytes.filter(|_| turn == plan.messages / 2);
        let (kind, message) = match (jumbo, dice.below(10)) {
            (Some(bytes), _) => ("l2Book", market.book(&mut dice, bytes, &mut out.books)),
            (None, 0..=4) => ("l2Book", market.book(&mut dice, 0, &mut out.books)),
            (None, _) if turn < coins => ("l2Book", market.book(&mut dice, 0, &mut out.books)),
            (None, 5..=7) => ("bbo", market.quote(&mut dice)),
            (None, _) => ("trades", market.trades(&mut dice)),
        };
        *out.kinds.entry(kind.to_owned()).or_default() += 1;
        out.messages.push(message);
    }
    out
}

/// Milliseconds since the Unix epoch of the first message.
const FIRST_MS: u64 = 1_700_000_000_000;
/// Levels per side of an ordinary Hyperliquid book.
const LEVELS: usize = 20;

/// One coin at one moment; prices count tenths.
struct Market {
    coin: String,
    mid: u64,
    time_ms: u64,
}

impl Market {
    /// At least `bytes` long: a jumbo goes on adding levels, with asks as far up as it takes and bids while there is
    /// a price left.
    fn book(&self, dice: &mut Dice, bytes: usize, books: &mut BTreeMap<String, GeneratedBook>) -> String {
        let (mut bids, mut asks) = (Ladder::default(), Ladder::default());
        let spread = 1 + dice.below(3);
        let mut step = 0u64;
        while bids.levels < LEVELS || bids.text.len() + asks.text.len() < bytes {
            if step < self.mid {
                bids.push(self.mid - step, dice);
            }
            asks.push(self.mid + spread + step, dice);
            step += 1;
        }
        let message = format!(
            r#"{{"channel":"l2Book","data":{{"coin":"{}","time":{},"levels":[[{}],[{}]]}}}}"#,
            self.coin, self.time_ms, bids.text, asks.text
        );
        let (bids, bid) = (bids.levels, bids.best);
        let (asks, ask) = (asks.levels, asks.best);
        books.insert(self.coin.clone(), GeneratedBook { bid, ask, bids, asks });
        message
    }

    /// One side in sixteen is `null`, as in a market where nobody bids.
    fn quote(&self, dice: &mut Dice) -> String {
        let mut side = |price: u64| match dice.below(16) {
            0 => "null".to_owned(),
            _ => level(&price_lexeme(price), &size_lexeme(dice), 1 + dice.below(9)),
        };
        let (bid, ask) = (side(self.mid - 1), side(self.mid + 2));
        format!(r#"{{"channel":"bbo","data":{{"coin":"{}","time":{},"bbo":[{bid},{ask}]}}}}"#, self.coin, self.time_ms)
    }

    fn trades(&self, dice: &mut Dice) -> String {
        let mut trades = String::new();
        for index in 0..1 + dice.below(5) {
            let separator = if index == 0 { "" } else { "," };
            let side = if dice.below(2) == 0 { "A" } else { "B" };
            let (price, size) = (price_lexeme(self.mid + index), size_lexeme(dice));
            let (hash, trade_id) = (dice.next(), dice.next() >> 14);
            write!(
                trades,
                r#"{separator}{{"coin":"{}","side":"{side}","px":"{price}","sz":"{size}","time":{},"hash":"0x{hash:064x}","tid":{trade_id},"users":["0x{:040x}","0x{:040x}"]}}"#,
                self.coin, self.time_ms, dice.next(), dice.next()
            )
            .expect("a String takes any text");
        }
        format!(r#"{{"channel":"trades","data":[{trades}]}}"#)
    }
}

/// One side of a book under construction, from the best level on.
#[derive(Default)]
struct Ladder {
    text: String,
    levels: usize,
    best: (String, String),
}

impl Ladder {
    fn push(&mut self, price: u64, dice: &mut Dice) {
        let (price, size) = (price_lexeme(price), size_lexeme(dice));
        if self.levels > 0 {
            self.text.push(',');
        }
        self.text.push_str(&level(&price, &size, 1 + dice.below(9)));
        self.levels += 1;
        if self.levels == 1 {
            self.best = (price, size);
        }
    }
}

fn level(price: &str, size: &str, orders: u64) -> String {
    format!(r#"{{"px":"{price}","sz":"{size}","n":{orders}}}"#)
}

fn price_lexeme(tenths: u64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Never zero; five decimals without trailing zeros but for the first, as the venue spells sizes.
fn size_lexeme(dice: &mut Dice) -> String {
    let units = 1 + dice.below(10_000_000);
    let digits = format!("{}.{:05}", units / 100_000, units % 100_000);
    let trimmed = digits.trim_end_matches('0');
    if trimmed.ends_with('.') { format!("{trimmed}0") } else { trimmed.to_owned() }
}

/// SplitMix64: a few lines, no dependency, the same on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
