//! Reads the venues that send prices as JSON numbers.
//! Invariant: no price or size passes through a float; each keeps the characters it came with.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{BookUpdate, Checksum, Interpreted, Lexemes, Link};

pub(super) fn kraken_v2(text: &str) -> Result<Interpreted, String> {
    let message: KrakenMessage = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if let Some(method) = message.method {
        let updates = match message.result {
            Some(result) if method == "subscribe" => kraken_depth_limit(result)?,
            _ => Vec::new(),
        };
        return Ok(Interpreted { kind: format!("method:{method}"), updates, ..Interpreted::default() });
    }
    let channel = message.channel.ok_or("neither method nor channel")?;
    let stage = message.stage.as_deref().unwrap_or("None");
    let mut out = Interpreted { kind: format!("{channel}:{stage}"), ..Interpreted::default() };
    if channel == "book" {
        let books: Vec<KrakenBook> = inside(message.data.ok_or("a book without data")?)?;
        out.updates = books.into_iter().map(|book| book.update(stage == "snapshot")).collect();
    }
    Ok(out)
}

pub(super) fn deribit(text: &str) -> Result<Interpreted, String> {
    let message: DeribitMessage = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Some(params) = message.params else {
        // An answer to a request; a refusal carries an error in place of the result.
        let kind = if message.result.is_some() { "result" } else { "error" };
        return Ok(Interpreted { kind: kind.to_owned(), ..Interpreted::default() });
    };
    let channel = params.channel;
    let kind = channel.split('.').next().unwrap_or_default().to_owned();
    let mut out = Interpreted { kind, ..Interpreted::default() };
    if out.kind == "book" {
        let book: DeribitBook = inside(params.data)?;
        let snapshot = book.stage == "snapshot";
        out.links.push(Link { stream: channel.clone(), follows: book.prev_change_id, last: book.change_id });
        let (bids, asks) = (deribit_levels(&book.bids), deribit_levels(&book.asks));
        out.updates.push(BookUpdate { book: channel, snapshot, bids, asks, ..BookUpdate::default() });
    }
    Ok(out)
}

#[derive(Deserialize)]
struct KrakenMessage<'a> {
    channel: Option<String>,
    #[serde(rename = "type")]
    stage: Option<String>,
    method: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct KrakenSubscribed {
    symbol: Option<String>,
    depth: Option<usize>,
}

#[derive(Deserialize)]
struct KrakenBook<'a> {
    symbol: String,
    #[serde(borrow)]
    bids: Vec<KrakenLevel<'a>>,
    #[serde(borrow)]
    asks: Vec<KrakenLevel<'a>>,
    checksum: u32,
}

#[derive(Deserialize)]
struct KrakenLevel<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}

impl KrakenBook<'_> {
    fn update(self, snapshot: bool) -> BookUpdate {
        let lexemes = |levels: Vec<KrakenLevel>| -> Vec<Lexemes> {
            levels.iter().map(|level| (level.price.get().to_owned(), level.qty.get().to_owned())).collect()
        };
        BookUpdate {
            book: self.symbol,
            snapshot,
            bids: lexemes(self.bids),
            asks: lexemes(self.asks),
            depth_limit: None,
            checksum: Some(Checksum::Kraken(self.checksum)),
        }
    }
}

#[derive(Deserialize)]
struct DeribitMessage<'a> {
    #[serde(borrow)]
    params: Option<DeribitParams<'a>>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct DeribitParams<'a> {
    channel: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct DeribitBook<'a> {
    #[serde(rename = "type")]
    stage: &'a str,
    change_id: i64,
    prev_change_id: Option<i64>,
    #[serde(borrow)]
    bids: Vec<DeribitLevel<'a>>,
    #[serde(borrow)]
    asks: Vec<DeribitLevel<'a>>,
}

/// `new`, `change` or `delete`, price, size; a deleted level has size zero.
type DeribitLevel<'a> = (&'a str, &'a RawValue, &'a RawValue);

/// Kraken drops levels beyond the subscribed depth without saying so, hence the answer has to be remembered.
fn kraken_depth_limit(result: &RawValue) -> Result<Vec<BookUpdate>, String> {
    let subscribed: KrakenSubscribed = owned_inside(result)?;
    let limit = subscribed.symbol.zip(subscribed.depth);
    let update = limit.map(|(book, depth)| BookUpdate { book, depth_limit: Some(depth), ..BookUpdate::default() });
    Ok(update.into_iter().collect())
}

fn deribit_levels(levels: &[DeribitLevel]) -> Vec<Lexemes> {
    levels.iter().map(|(_, price, size)| (price.get().to_owned(), size.get().to_owned())).collect()
}

fn inside<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(raw.get()).map_err(|error| error.to_string())
}

fn owned_inside<T: DeserializeOwned>(raw: &RawValue) -> Result<T, String> {
    inside(raw)
}
