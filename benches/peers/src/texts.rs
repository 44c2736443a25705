//! What venues send, imitated: the same texts in every run. Nothing here is parsed.

/// The markets of the feed.
pub(crate) const COINS: [&str; 4] = ["BTC", "ETH", "SOL", "HYPE"];

/// Binance's bookTicker, 150 B: the best bid and offer.
pub(crate) fn ticker(turn: usize, dice: &mut Dice) -> String {
    let coin = COINS[turn % COINS.len()];
    let [bid, ask] = dice.spread(turn);
    let update = 6_000_000_000_000 + turn;
    let [bid_size, ask_size] = [dice.size(), dice.size()];
    format!(
        r#"{{"e":"bookTicker","u":{update},"E":{UNSTAMPED},"T":1700000000000,"s":"{coin}USDT","b":"{bid:.4}","B":"{bid_size:.2}","a":"{ask:.4}","A":"{ask_size:.2}"}}"#
    )
}

/// Hyperliquid's trades, 314 B: one trade.
pub(crate) fn trade(turn: usize, dice: &mut Dice) -> String {
    let coin = COINS[turn % COINS.len()];
    let [px, _] = dice.spread(turn);
    let sz = dice.size();
    let [hash, buyer, seller] = [64, 40, 40].map(|digits| dice.hex(digits));
    let tid = 900_000_000_000_000 + dice.below(100_000_000_000_000);
    format!(
        r#"{{"channel":"trades","data":[{{"coin":"{coin}","side":"B","px":"{px:.4}","sz":"{sz:.5}","time":{UNSTAMPED},"hash":"0x{hash}","tid":{tid},"users":["0x{buyer}","0x{seller}"]}}]}}"#
    )
}

/// Hyperliquid's l2Book, 2 KiB: twenty levels a side.
pub(crate) fn book(turn: usize, dice: &mut Dice) -> String {
    let coin = COINS[turn % COINS.len()];
    let [bid, ask] = dice.spread(turn);
    let mut side = |best: f64, step: f64| {
        let levels = (0..LEVELS).map(|level| {
            let px = best * (1.0 + step * level as f64);
            format!(r#"{{"px":"{px:.6}","sz":"{:.7}","n":{}}}"#, dice.size(), 1 + dice.below(400))
        });
        levels.collect::<Vec<_>>().join(",")
    };
    let bids = side(bid, -1e-4);
    let asks = side(ask, 1e-4);
    format!(r#"{{"channel":"l2Book","data":{{"coin":"{coin}","time":{UNSTAMPED},"levels":[[{bids}],[{asks}]]}}}}"#)
}

/// Stands where a stamp can be put.
pub(crate) const UNSTAMPED: &str = "1000000000000000000";
/// How many texts of a kind: enough for branch predictors not to learn the numbers by heart, few enough to stay in the cache.
pub(crate) const TEXTS: usize = 64;
/// What Hyperliquid sends of each side.
const LEVELS: usize = 20;
/// About what each coin costs.
const PRICES: [f64; COINS.len()] = [97_123.0, 3_512.0, 214.0, 27.0];

/// Pseudo-random numbers (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    fn size(&mut self) -> f64 {
        self.below(1_000_000_000) as f64 / 1e5
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from(b"0123456789abcdef"[self.below(16) as usize])).collect()
    }

    fn spread(&mut self, turn: usize) -> [f64; 2] {
        let bid = PRICES[turn % COINS.len()] * (1.0 + self.below(1_000) as f64 / 1e6);
        [bid, bid * 1.0001]
    }
}
