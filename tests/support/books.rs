//! Reads a venue's message into its kind, its book updates and its sequence numbers.
//! Invariant: reading is pure, one message at a time; what has to be remembered lives in `Replay`.
#![allow(dead_code)] // each test crate takes its own part of the support

use std::path::Path;

#[path = "books/number_prices.rs"]
mod number_prices;
#[path = "books/order_book.rs"]
mod order_book;
#[path = "books/replay.rs"]
mod replay;
#[path = "books/text_prices.rs"]
mod text_prices;

#[allow(unused_imports)]
pub(crate) use order_book::{Book, Price};
#[allow(unused_imports)]
pub(crate) use replay::{BookEnd, Replay, Sequences};

/// A price and a size exactly as the venue spelled them.
pub(crate) type Lexemes = (String, String);

/// Whose message format a session speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Venue {
    BinanceSpot,
    BinanceUsdm,
    BinanceCoinm,
    Bybit,
    Coinbase,
    Deribit,
    Hyperliquid,
    /// Kinds and sequence numbers only.
    KrakenFutures,
    KrakenV2,
    /// Kinds only.
    Kucoin,
    Lighter,
    Okx,
}

/// What one message says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interpreted {
    /// The label under which the expected results count this message.
    pub(crate) kind: String,
    pub(crate) updates: Vec<BookUpdate>,
    /// Best bid and ask from a feed of their own; a book does not take them.
    pub(crate) quote: Option<Quote>,
    pub(crate) links: Vec<Link>,
}

/// One change to one book.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BookUpdate {
    /// The key under which the expected results name the book.
    pub(crate) book: String,
    /// The levels replace the book rather than change it.
    pub(crate) snapshot: bool,
    pub(crate) bids: Vec<Lexemes>,
    pub(crate) asks: Vec<Lexemes>,
    /// The book keeps this many levels per side from now on. Only a Kraken subscribe answer says so.
    pub(crate) depth_limit: Option<usize>,
    /// What the book must sum to after this update.
    pub(crate) checksum: Option<Checksum>,
}

/// A best bid and ask; a side the venue has no price for is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) book: String,
    pub(crate) bid: Option<Lexemes>,
    pub(crate) ask: Option<Lexemes>,
}

/// A message's place in a numbered stream. There is a gap when the stream's last number is not `follows`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) stream: String,
    /// The number before this message, `None` where the stream starts afresh.
    pub(crate) follows: Option<i64>,
    pub(crate) last: i64,
}

/// A CRC-32 of the top of the book; each venue lays the levels out its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checksum {
    Kraken(u32),
    Okx(u32),
}

impl Venue {
    /// The venue of a recording, from the folder that holds the file.
    pub(crate) fn from_path(path: impl AsRef<Path>) -> Option<Self> {
        let folder = path.as_ref().parent()?.file_name()?.to_str()?;
        Some(match folder {
            "binance-spot" => Self::BinanceSpot,
            "binance-usdm" => Self::BinanceUsdm,
            "binance-coinm" => Self::BinanceCoinm,
            "bybit" => Self::Bybit,
            "coinbase" => Self::Coinbase,
            "deribit" => Self::Deribit,
            "hyperliquid" => Self::Hyperliquid,
            "kraken-futures" => Self::KrakenFutures,
            "kraken-v2" => Self::KrakenV2,
            "kucoin" => Self::Kucoin,
            "lighter" => Self::Lighter,
            "okx" => Self::Okx,
            _ => return None,
        })
    }
}

/// Reads one message of `venue`.
pub(crate) fn interpret(venue: Venue, text: &str) -> Result<Interpreted, String> {
    match venue {
        Venue::BinanceSpot | Venue::BinanceUsdm | Venue::BinanceCoinm => text_prices::binance(text),
        Venue::Bybit => text_prices::bybit(text),
        Venue::Coinbase => text_prices::coinbase(text),
        Venue::Hyperliquid => text_prices::hyperliquid(text),
        Venue::KrakenFutures => text_prices::kraken_futures(text),
        Venue::Kucoin => text_prices::kucoin(text),
        Venue::Lighter => text_prices::lighter(text),
        Venue::Okx => text_prices::okx(text),
        Venue::Deribit => number_prices::deribit(text),
        Venue::KrakenV2 => number_prices::kraken_v2(text),
    }
    .map_err(|error| format!("{venue:?}: {error}: {}", text.chars().take(200).collect::<String>()))
}
