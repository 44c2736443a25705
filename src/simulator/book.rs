//! An order book that walks at random. Invariants: prices are whole ticks, bids descend, asks ascend, the best bid is below
//! the best ask; the same seed gives the same walk.

/// Levels a side, as Hyperliquid sends them.
const LEVELS: usize = 20;
/// The widest step between neighbouring levels, in ticks. Twenty of them stay far from zero: see `Book::new`.
const WIDEST_GAP: u64 = 4;

/// SplitMix64: four lines, good enough for prices.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `limit`; the bias of the remainder does not matter here.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }
}

/// Mixes a coin's name into the venue's seed, so that coins walk apart (FNV-1a).
pub(super) fn seed_of(coin: &str, seed: u64) -> u64 {
    coin.bytes()
        .fold(seed ^ 0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

pub(super) struct Book {
    /// The coin as a JSON string.
    coin: String,
    dice: Dice,
    price_decimals: usize,
    size_decimals: usize,
    start: u64,
    best_bid: u64,
    spread: u64,
    bids: [Level; LEVELS],
    asks: [Level; LEVELS],
}

#[derive(Clone, Copy, Default)]
struct Level {
    /// Ticks from the level before it; the first level's is not used.
    gap: u64,
    size: u64,
    orders: u64,
}

impl Book {
    /// A book at a price that suits the coin: the start has five significant figures, as prices have on Hyperliquid.
    pub(super) fn new(coin: &str, coin_json: &str, seed: u64) -> Self {
        let mut name_dice = Dice::new(seed_of(coin, 0));
        let (start, price_decimals, size_decimals) = match coin {
            "BTC" => (105_000, 0, 5),
            "ETH" => (33_000, 1, 4),
            "SOL" => (18_000, 2, 2),
            "HYPE" => (38_000, 3, 2),
            "DOGE" => (20_000, 5, 0),
            "XRP" => (25_000, 4, 0),
            "AVAX" => (25_000, 3, 2),
            "LINK" => (17_000, 3, 1),
            "ARB" => (40_000, 5, 1),
            "SUI" => (35_000, 4, 1),
            _ => (10_000 + name_dice.below(80_000), 1 + name_dice.below(5) as usize, 1),
        };
        let mut book = Book {
            coin: coin_json.to_owned(),
            dice: Dice::new(seed),
            price_decimals,
            size_decimals,
            start,
            best_bid: start,
            spread: 1,
            bids: [Level::default(); LEVELS],
            asks: [Level::default(); LEVELS],
        };
        for index in 0..LEVELS {
            book.bids[index] = book.roll_level();
            book.asks[index] = book.roll_level();
        }
        book
    }

    /// One step of the walk: a few levels change, and every other time the top moves.
    pub(super) fn step(&mut self) {
        for _ in 0..2 {
            let index = self.dice.below(LEVELS as u64) as usize;
            self.bids[index] = self.roll_level();
            let index = self.dice.below(LEVELS as u64) as usize;
            self.asks[index] = self.roll_level();
        }
        let move_roll = self.dice.below(8);
        let floor = self.start / 2;
        let ceiling = self.start * 2;
        match move_roll {
            0 | 1 if self.best_bid > floor => self.best_bid -= 1 + self.dice.below(3),
            2 | 3 if self.best_bid < ceiling => self.best_bid += 1 + self.dice.below(3),
            4 => self.spread = 1 + self.dice.below(3),
            _ => {}
        }
    }

    pub(super) fn write_l2_book(&self, time: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"channel\":\"l2Book\",\"data\":{\"coin\":");
        out.extend_from_slice(self.coin.as_bytes());
        out.extend_from_slice(b",\"time\":");
        push_integer(out, time);
        out.extend_from_slice(b",\"levels\":[[");
        let mut price = self.best_bid;
        for (index, level) in self.bids.iter().enumerate() {
            if index > 0 {
                out.push(b',');
                price -= level.gap;
            }
            self.write_level(price, level, out);
        }
        out.extend_from_slice(b"],[");
        let mut price = self.best_bid + self.spread;
        for (index, level) in self.asks.iter().enumerate() {
            if index > 0 {
                out.push(b',');
                price += level.gap;
            }
            self.write_level(price, level, out);
        }
        out.extend_from_slice(b"]]}}");
    }

    pub(super) fn write_bbo(&self, time: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"channel\":\"bbo\",\"data\":{\"coin\":");
        out.extend_from_slice(self.coin.as_bytes());
        out.extend_from_slice(b",\"time\":");
        push_integer(out, time);
        out.extend_from_slice(b",\"bbo\":[");
        self.write_level(self.best_bid, &self.bids[0], out);
        out.push(b',');
        self.write_level(self.best_bid + self.spread, &self.asks[0], out);
        out.extend_from_slice(b"]}}");
    }

    /// A trades message; the trades' times end at `time`, one millisecond apart.
    pub(super) fn write_trades(&mut self, count: u64, time: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"channel\":\"trades\",\"data\":[");
        for index in 0..count {
            if index > 0 {
                out.push(b',');
            }
            let is_buy = self.dice.below(2) == 1;
            let (side, price) = if is_buy { (b'B', self.best_bid + self.spread) } else { (b'A', self.best_bid) };
            out.extend_from_slice(b"{\"coin\":");
            out.extend_from_slice(self.coin.as_bytes());
            out.extend_from_slice(b",\"side\":\"");
            out.push(side);
            out.extend_from_slice(b"\",\"px\":\"");
            push_decimal(out, price, self.price_decimals);
            out.extend_from_slice(b"\",\"sz\":\"");
            let size = self.roll_size();
            push_decimal(out, size, self.size_decimals);
            out.extend_from_slice(b"\",\"time\":");
            push_integer(out, time.saturating_sub(count - 1 - index));
            out.extend_from_slice(b",\"hash\":\"");
            self.push_hex(out, 64);
            out.extend_from_slice(b"\",\"tid\":");
            // Hyperliquid's trade ids have 50 bits.
            let id = self.dice.roll() >> 14;
            push_integer(out, id);
            out.extend_from_slice(b",\"users\":[\"");
            self.push_hex(out, 40);
            out.extend_from_slice(b"\",\"");
            self.push_hex(out, 40);
            out.extend_from_slice(b"\"]}");
        }
        out.extend_from_slice(b"]}");
    }

    fn write_level(&self, price: u64, level: &Level, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"px\":\"");
        push_decimal(out, price, self.price_decimals);
        out.extend_from_slice(b"\",\"sz\":\"");
        push_decimal(out, level.size, self.size_decimals);
        out.extend_from_slice(b"\",\"n\":");
        push_integer(out, level.orders);
        out.push(b'}');
    }

    fn roll_level(&mut self) -> Level {
        Level { gap: 1 + self.dice.below(WIDEST_GAP), size: self.roll_size(), orders: 1 + self.dice.below(12) }
    }

    /// Small sizes are more frequent than large ones.
    fn roll_size(&mut self) -> u64 {
        let largest = 10_u64.pow(2 + self.dice.below(4) as u32);
        1 + self.dice.below(largest)
    }

    fn push_hex(&mut self, out: &mut Vec<u8>, digits: usize) {
        out.extend_from_slice(b"0x");
        let mut bits = 0;
        for index in 0..digits {
            if index % 16 == 0 {
                bits = self.dice.roll();
            }
            out.push(b"0123456789abcdef"[(bits & 15) as usize]);
            bits >>= 4;
        }
    }
}

/// Decimal digits; `format!` takes several times as long, and a book has 80 numbers.
fn push_integer(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// `value` scaled down by `decimals` digits, as Hyperliquid prints decimals: no trailing zeros, but at least one digit
/// behind the point.
fn push_decimal(out: &mut Vec<u8>, value: u64, decimals: usize) {
    let scale = 10_u64.pow(decimals as u32);
    push_integer(out, value / scale);
    out.push(b'.');
    let mut fraction = value % scale;
    if fraction == 0 {
        out.push(b'0');
        return;
    }
    let first = out.len();
    out.resize(first + decimals, b'0');
    for digit in out[first..].iter_mut().rev() {
        *digit = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
    while out.last() == Some(&b'0') {
        out.pop();
    }
}
