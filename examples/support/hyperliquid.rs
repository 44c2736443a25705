//! Hyperliquid's market data as types: one pass over the text, prices kept as the venue spelled them.
//! Invariant: a parsed message borrows nothing, so a parser thread can hand it on.
#![allow(dead_code)] // each example takes its own part of the support

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

/// One message of the venue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Feed {
    /// The whole book of a coin; it replaces the one before.
    Book { coin: Coin, time_ms: u64, book: BookSnapshot },
    /// Trades of one coin, oldest first. The venue replays recent ones on every subscribe.
    Trades { count: usize, last: Option<Trade> },
    /// The best level of each side, `None` where nobody quotes.
    Bbo { coin: Coin, time_ms: u64, bid: Option<Level>, ask: Option<Level> },
    /// The answer to our ping.
    Pong,
    /// The answer to a subscribe (`subscribed`) or an unsubscribe of `channel`.
    Ack { subscribed: bool, channel: String, coin: Option<Coin> },
    /// The venue refused something we sent.
    Error(String),
    /// A channel that this parser does not read.
    Other,
}

impl Feed {
    /// Reads one message; an error means that the venue's format is not the one known here.
    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        match serde_json::from_str::<Wire>(text) {
            Ok(wire) => Ok(wire.into()),
            Err(error) => match serde_json::from_str::<Channel>(text) {
                Ok(message) if !KNOWN_CHANNELS.contains(&message.channel) => Ok(Self::Other),
                _ => Err(error),
            },
        }
    }

    /// The coin whose market this is about, if any; an acknowledgement is about our request.
    pub(crate) fn coin(&self) -> Option<Coin> {
        match self {
            Self::Book { coin, .. } | Self::Bbo { coin, .. } => Some(*coin),
            Self::Trades { last, .. } => last.map(|trade| trade.coin),
            Self::Pong | Self::Ack { .. } | Self::Error(_) | Self::Other => None,
        }
    }
}

/// Both sides of one book, best level first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BookSnapshot {
    pub(crate) bids: Vec<Level>,
    pub(crate) asks: Vec<Level>,
}

/// One price level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Level {
    #[serde(rename = "px")]
    pub(crate) price: Decimal,
    #[serde(rename = "sz")]
    pub(crate) size: Decimal,
    #[serde(rename = "n")]
    pub(crate) orders: u32,
}

/// One trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Trade {
    pub(crate) coin: Coin,
    pub(crate) side: TakerSide,
    #[serde(rename = "px")]
    pub(crate) price: Decimal,
    #[serde(rename = "sz")]
    pub(crate) size: Decimal,
    #[serde(rename = "time")]
    pub(crate) time_ms: u64,
}

/// Which side the taker was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum TakerSide {
    #[serde(rename = "B")]
    Buy,
    #[serde(rename = "A")]
    Sell,
}

/// The book of one coin, and beside it the last quote, which is often newer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OrderBook {
    snapshot: BookSnapshot,
    time_ms: u64,
    quote: Quote,
}

/// The last message of the `bbo` feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) time_ms: u64,
    pub(crate) bid: Option<Level>,
    pub(crate) ask: Option<Level>,
}

impl OrderBook {
    /// Takes a snapshot unless a later one is in place; says whether it did.
    pub(crate) fn apply(&mut self, time_ms: u64, snapshot: BookSnapshot) -> bool {
        let newer = time_ms >= self.time_ms;
        if newer {
            (self.time_ms, self.snapshot) = (time_ms, snapshot);
        }
        newer
    }

    /// Takes a quote unless a later one is in place; says whether it did.
    pub(crate) fn apply_quote(&mut self, quote: Quote) -> bool {
        let newer = quote.time_ms >= self.quote.time_ms;
        if newer {
            self.quote = quote;
        }
        newer
    }

    pub(crate) fn best_bid(&self) -> Option<&Level> {
        self.snapshot.bids.first()
    }

    pub(crate) fn best_ask(&self) -> Option<&Level> {
        self.snapshot.asks.first()
    }

    /// Best first.
    pub(crate) fn bids(&self) -> &[Level] {
        &self.snapshot.bids
    }

    /// Best first.
    pub(crate) fn asks(&self) -> &[Level] {
        &self.snapshot.asks
    }

    /// Bid and ask levels.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.snapshot.bids.len(), self.snapshot.asks.len())
    }

    /// The venue's time of the snapshot, 0 before the first.
    pub(crate) fn time_ms(&self) -> u64 {
        self.time_ms
    }

    pub(crate) fn quote(&self) -> Quote {
        self.quote
    }

    /// Halfway between the best bid and ask, for display.
    pub(crate) fn mid(&self) -> Option<f64> {
        Some((self.best_bid()?.price.to_f64() + self.best_ask()?.price.to_f64()) / 2.0)
    }

    /// Best ask less best bid, for display.
    pub(crate) fn spread(&self) -> Option<f64> {
        Some(self.best_ask()?.price.to_f64() - self.best_bid()?.price.to_f64())
    }
}

/// A coin's name, small enough to be copied about as a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Coin(Short);

/// A decimal number in the venue's own spelling.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal(Short);

/// A name or number that does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LexemeError {
    /// Not 1 to 23 bytes long.
    Length(usize),
    /// Something other than digits, one point and a leading minus sign.
    NotDecimal,
}

impl Coin {
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Decimal {
    /// The number exactly as the venue spelled it.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The nearest float, for display and rough arithmetic.
    pub(crate) fn to_f64(self) -> f64 {
        self.as_str().parse().expect("checked to be a decimal when made")
    }
}

impl TryFrom<&str> for Coin {
    type Error = LexemeError;

    fn try_from(name: &str) -> Result<Self, LexemeError> {
        Short::new(name).map(Self)
    }
}

impl TryFrom<&str> for Decimal {
    type Error = LexemeError;

    fn try_from(lexeme: &str) -> Result<Self, LexemeError> {
        let digits = lexeme.strip_prefix('-').unwrap_or(lexeme);
        let mut points = 0;
        for byte in digits.bytes() {
            match byte {
                b'0'..=b'9' => {}
                b'.' => points += 1,
                _ => return Err(LexemeError::NotDecimal),
            }
        }
        if points > 1 || digits.len() == points {
            return Err(LexemeError::NotDecimal);
        }
        Short::new(lexeme).map(Self)
    }
}

impl Hash for Coin {
    /// One write for the whole name.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0.bytes);
    }
}

impl fmt::Display for Coin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl fmt::Debug for Coin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Coin({self})")
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Decimal({self})")
    }
}

impl fmt::Display for LexemeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => {
                write!(out, "{len} bytes where 1 to {} were expected", Short::ROOM)
            }
            Self::NotDecimal => write!(out, "not a plain decimal number"),
        }
    }
}

impl std::error::Error for LexemeError {}

impl<'de> Deserialize<'de> for Coin {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(LexemeVisitor(|text: &str| Self::try_from(text)))
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(LexemeVisitor(|text: &str| Self::try_from(text)))
    }
}

/// A string held in place. Invariant: the bytes after `len` are zero, so that equality and order need no slicing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Short {
    bytes: [u8; Self::ROOM],
    len: u8,
}

impl Short {
    /// Fills three words with the length; the longest coin, price or size recorded has 9 bytes.
    const ROOM: usize = 23;

    fn new(text: &str) -> Result<Self, LexemeError> {
        if text.is_empty() || text.len() > Self::ROOM {
            return Err(LexemeError::Length(text.len()));
        }
        let mut bytes = [0; Self::ROOM];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { bytes, len: text.len() as u8 })
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("made from a str")
    }
}

/// Reads a string in place, whether or not it could be borrowed.
struct LexemeVisitor<F>(F);

impl<T, F: Fn(&str) -> Result<T, LexemeError>> Visitor<'_> for LexemeVisitor<F> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a short string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

/// The channels of `Wire`.
const KNOWN_CHANNELS: [&str; 6] = ["l2Book", "trades", "bbo", "pong", "subscriptionResponse", "error"];

/// The envelope. Read in one pass as long as `channel` comes before `data`, which is how the venue sends it.
#[derive(Deserialize)]
#[serde(tag = "channel", content = "data")]
enum Wire<'a> {
    #[serde(rename = "l2Book")]
    Book(WireBook),
    #[serde(rename = "trades")]
    Trades(WireTrades),
    #[serde(rename = "bbo")]
    Bbo(WireBbo),
    #[serde(rename = "pong")]
    Pong,
    #[serde(rename = "subscriptionResponse")]
    Ack(#[serde(borrow)] WireAck<'a>),
    #[serde(rename = "error")]
    Error(#[serde(borrow)] Cow<'a, str>),
}

/// The envelope of a channel that `Wire` does not know.
#[derive(Deserialize)]
struct Channel<'a> {
    channel: &'a str,
}

#[derive(Deserialize)]
struct WireBook {
    coin: Coin,
    time: u64,
    levels: (WireSide, WireSide),
}

struct WireSide(Vec<Level>);

/// Folds the trades as they are read; only the last is kept.
struct WireTrades {
    count: usize,
    last: Option<Trade>,
}

#[derive(Deserialize)]
struct WireBbo {
    coin: Coin,
    time: u64,
    bbo: (Option<Level>, Option<Level>),
}

#[derive(Deserialize)]
struct WireAck<'a> {
    method: &'a str,
    #[serde(borrow)]
    subscription: WireSubscription<'a>,
}

#[derive(Deserialize)]
struct WireSubscription<'a> {
    #[serde(rename = "type")]
    channel: &'a str,
    coin: Option<Coin>,
}

impl From<Wire<'_>> for Feed {
    fn from(wire: Wire<'_>) -> Self {
        match wire {
            Wire::Book(WireBook { coin, time, levels: (bids, asks) }) => {
                Self::Book { coin, time_ms: time, book: BookSnapshot { bids: bids.0, asks: asks.0 } }
            }
            Wire::Trades(WireTrades { count, last }) => Self::Trades { count, last },
            Wire::Bbo(WireBbo { coin, time, bbo: (bid, ask) }) => Self::Bbo { coin, time_ms: time, bid, ask },
            Wire::Pong => Self::Pong,
            Wire::Ack(WireAck { method, subscription }) => Self::Ack {
                subscribed: method == "subscribe",
                channel: subscription.channel.to_owned(),
                coin: subscription.coin,
            },
            Wire::Error(reason) => Self::Error(reason.into_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for WireSide {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(SideVisitor)
    }
}

struct SideVisitor;

impl<'de> Visitor<'de> for SideVisitor {
    type Value = WireSide;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("levels")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<WireSide, A::Error> {
        // An ordinary book has 20 levels: one allocation instead of four.
        let mut levels = Vec::with_capacity(20);
        while let Some(level) = from.next_element()? {
            levels.push(level);
        }
        Ok(WireSide(levels))
    }
}

impl<'de> Deserialize<'de> for WireTrades {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(TradesVisitor)
    }
}

struct TradesVisitor;

impl<'de> Visitor<'de> for TradesVisitor {
    type Value = WireTrades;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("trades")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<WireTrades, A::Error> {
        let mut trades = WireTrades { count: 0, last: None };
        while let Some(trade) = from.next_element()? {
            trades.count += 1;
            trades.last = Some(trade);
        }
        Ok(trades)
    }
}
