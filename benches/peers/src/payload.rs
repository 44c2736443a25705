//! What the venue sends and how every peer reads it. Invariant: a frame's stamp is patched in place, so all that is sent was
//! encoded before the first message went out.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::Result;
use crate::stamp;
use crate::texts::{COINS, Dice, TEXTS, UNSTAMPED, book, ticker, trade};

/// Whose messages the feed imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub(crate) enum Shape {
    /// Binance's bookTicker, 150 B: the best bid and offer.
    Ticker,
    /// Hyperliquid's trades, 314 B: one trade.
    Trade,
    /// Hyperliquid's l2Book, 2 KiB: twenty levels a side.
    Book,
}

impl Shape {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Ticker => "bookTicker, 150 B",
            Self::Trade => "trade, 314 B",
            Self::Book => "l2Book, 2 KiB",
        }
    }
}

/// Into what a text is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub(crate) enum Parse {
    /// Into structs, by serde.
    Typed,
    /// Into a `serde_json::Value`, read by the handler.
    Value,
}

impl Parse {
    /// Reads a text's bytes, since not every peer hands out a `str`.
    pub(crate) fn read(self, text: &[u8], shape: Shape) -> Result<Update> {
        Ok(match (self, shape) {
            (Self::Typed, Shape::Ticker) => Update::Ticker(serde_json::from_slice(text)?),
            (Self::Typed, Shape::Trade) => {
                let [trade] = serde_json::from_slice::<TradesMessage>(text)?.data;
                Update::Trade(trade)
            }
            (Self::Typed, Shape::Book) => Update::Book(serde_json::from_slice::<BookMessage>(text)?.data),
            (Self::Value, _) => Update::Value(serde_json::from_slice(text)?),
        })
    }
}

/// What stands in for parsing where the WebSocket client alone is measured: the digest of a text's length and of its first, middle
/// and last eight bytes.
pub(crate) fn glance(text: &[u8]) -> u64 {
    let mut digest = Digest(text.len() as u64);
    let middle = text.get(text.len() / 2..).unwrap_or_default();
    for word in [text.first_chunk(), middle.first_chunk(), text.last_chunk()] {
        digest.add(word.copied().map_or(0, u64::from_le_bytes));
    }
    digest.0
}

/// A parsed message, as handlers get it.
#[derive(Debug)]
pub(crate) enum Update {
    Ticker(Ticker),
    Trade(Trade),
    Book(Book),
    Value(Value),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Ticker {
    #[serde(rename = "s", deserialize_with = "route")]
    route: u8,
    #[serde(rename = "E")]
    stamp_ns: u64,
    #[serde(rename = "b", deserialize_with = "number")]
    bid: f64,
    #[serde(rename = "B", deserialize_with = "number")]
    bid_size: f64,
    #[serde(rename = "a", deserialize_with = "number")]
    ask: f64,
    #[serde(rename = "A", deserialize_with = "number")]
    ask_size: f64,
}

#[derive(Deserialize)]
struct TradesMessage {
    data: [Trade; 1],
}

#[derive(Debug, Deserialize)]
pub(crate) struct Trade {
    #[serde(rename = "coin", deserialize_with = "route")]
    route: u8,
    #[serde(rename = "time")]
    stamp_ns: u64,
    #[serde(deserialize_with = "number")]
    px: f64,
    #[serde(deserialize_with = "number")]
    sz: f64,
    tid: u64,
}

#[derive(Deserialize)]
struct BookMessage {
    data: Book,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Book {
    #[serde(rename = "coin", deserialize_with = "route")]
    route: u8,
    #[serde(rename = "time")]
    stamp_ns: u64,
    levels: [Vec<Level>; 2],
}

#[derive(Debug, Deserialize)]
struct Level {
    #[serde(deserialize_with = "number")]
    px: f64,
    #[serde(deserialize_with = "number")]
    sz: f64,
    n: u32,
}

impl Update {
    /// Which of [`COINS`] it is about.
    pub(crate) fn route(&self) -> u8 {
        match self {
            Self::Ticker(ticker) => ticker.route,
            Self::Trade(trade) => trade.route,
            Self::Book(book) => book.route,
            Self::Value(value) => {
                let symbol = value["data"]["coin"].as_str().or(value["s"].as_str());
                symbol.and_then(route_of).expect("the venue sends no other coin")
            }
        }
    }

    /// When the venue sent it.
    pub(crate) fn stamp_ns(&self) -> u64 {
        match self {
            Self::Ticker(ticker) => ticker.stamp_ns,
            Self::Trade(trade) => trade.stamp_ns,
            Self::Book(book) => book.stamp_ns,
            Self::Value(value) => {
                let stamp = value["data"]["time"].as_u64().or(value["E"].as_u64());
                stamp.expect("the venue stamps every message")
            }
        }
    }

    /// Of all that was parsed but the stamp; the same for either [`Parse`].
    pub(crate) fn content_digest(&self) -> u64 {
        let mut digest = Digest::of(self.route());
        match self {
            Self::Ticker(ticker) => {
                for number in [ticker.bid, ticker.bid_size, ticker.ask, ticker.ask_size] {
                    digest.add(number.to_bits());
                }
            }
            Self::Trade(trade) => digest.level(trade.px, trade.sz, trade.tid),
            Self::Book(book) => {
                for level in book.levels.iter().flatten() {
                    digest.level(level.px, level.sz, u64::from(level.n));
                }
            }
            Self::Value(value) => digest.value(value),
        }
        digest.0
    }
}

/// A hash in which the order of what is added counts.
struct Digest(u64);

impl Digest {
    fn of(route: u8) -> Self {
        Self(u64::from(route))
    }

    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn level(&mut self, px: f64, sz: f64, n: u64) {
        self.add(px.to_bits());
        self.add(sz.to_bits());
        self.add(n);
    }

    fn value(&mut self, value: &Value) {
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
        match value["data"]["levels"].as_array() {
            Some(sides) => {
                for level in sides.iter().filter_map(Value::as_array).flatten() {
                    self.level(number(&level["px"]), number(&level["sz"]), level["n"].as_u64().unwrap_or_default());
                }
            }
            None => {
                for key in ["b", "B", "a", "A"] {
                    self.add(number(&value[key]).to_bits());
                }
            }
        }
    }
}

/// What one message adds to the sum over all: the same in whatever order they come.
pub(crate) fn message_digest(content_digest: u64, stamp_ns: u64) -> u64 {
    (content_digest ^ stamp_ns).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn route_of(symbol: &str) -> Option<u8> {
    let coin = symbol.strip_suffix("USDT").unwrap_or(symbol);
    COINS.iter().position(|&known| known == coin).map(|route| route as u8)
}

fn route<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    route_of(<&str>::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("an unknown coin"))
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    <&str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// A text frame as it goes over the wire.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    stamp_at: usize,
    content_digest: u64,
}

/// A four-byte header: all texts here are longer than 125 bytes and shorter than 64 KiB.
const HEADER_BYTES: usize = 4;

impl Frame {
    fn new(text: &str, shape: Shape) -> Result<Self> {
        let content_digest = Parse::Typed.read(text.as_bytes(), shape)?.content_digest();
        let len = u16::try_from(text.len())?;
        // FIN and text; from 126 bytes the length takes two bytes more.
        let mut bytes = vec![0x81, 126];
        bytes.extend_from_slice(&len.to_be_bytes());
        let stamp_at = bytes.len() + text.find(UNSTAMPED).ok_or("a message without a stamp")?;
        bytes.extend_from_slice(text.as_bytes());
        Ok(Self { bytes, stamp_at, content_digest })
    }

    /// The digest of the frame as it is, for who does not read it.
    pub(crate) fn glance(&self) -> u64 {
        glance(&self.bytes[HEADER_BYTES..])
    }

    /// Stamps the frame; returns its [`message_digest`].
    pub(crate) fn stamp(&mut self, stamp_ns: u64) -> u64 {
        stamp::write(stamp_ns, &mut self.bytes[self.stamp_at..self.stamp_at + stamp::DIGITS]);
        message_digest(self.content_digest, stamp_ns)
    }
}

/// The frames that the venue sends in turn, the coins taking turns among them; the same in every run.
pub(crate) fn frames(shape: Shape) -> Result<Vec<Frame>> {
    let mut dice = Dice(1);
    let texts = (0..TEXTS).map(|turn| match shape {
        Shape::Ticker => ticker(turn, &mut dice),
        Shape::Trade => trade(turn, &mut dice),
        Shape::Book => book(turn, &mut dice),
    });
    texts.map(|text| Frame::new(&text, shape)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shape_has_its_size() {
        for (shape, sizes) in [(Shape::Ticker, 140..=160), (Shape::Trade, 300..=330), (Shape::Book, 1900..=2112)] {
            for frame in frames(shape).unwrap() {
                let payload = frame.bytes.len() - HEADER_BYTES;
                assert!(sizes.contains(&payload), "{payload} B of a {shape:?}");
            }
        }
    }

    #[test]
    fn a_stamped_frame_reads_the_same_with_either_parse() {
        for shape in [Shape::Ticker, Shape::Book] {
            for mut frame in frames(shape).unwrap() {
                let stamp_ns = stamp::now_ns();
                let digest = frame.stamp(stamp_ns);
                let text = &frame.bytes[HEADER_BYTES..];
                for parse in [Parse::Typed, Parse::Value] {
                    let update = parse.read(text, shape).unwrap();
                    assert_eq!(update.stamp_ns(), stamp_ns);
                    assert_eq!(message_digest(update.content_digest(), stamp_ns), digest);
                }
            }
        }
    }
}
