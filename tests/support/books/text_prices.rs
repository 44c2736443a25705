//! Reads the venues that send prices as JSON strings, and those read for their kinds alone.

use serde_json::Value;

use super::{BookUpdate, Checksum, Interpreted, Lexemes, Link, Quote};

pub(super) fn hyperliquid(text: &str) -> Result<Interpreted, String> {
    let message = parse(text)?;
    let kind = string(&message, "channel")?.to_owned();
    let mut out = Interpreted { kind, ..Interpreted::default() };
    let data = &message["data"];
    match out.kind.as_str() {
        "l2Book" => out.updates.push(BookUpdate {
            book: string(data, "coin")?.to_owned(),
            snapshot: true,
            bids: named_levels(&data["levels"][0], "px", "sz")?,
            asks: named_levels(&data["levels"][1], "px", "sz")?,
            ..BookUpdate::default()
        }),
        "bbo" => {
            let side = |level: &Value| match level {
                Value::Null => Ok(None),
                level => named_level(level, "px", "sz").map(Some),
            };
            out.quote = Some(Quote {
                book: string(data, "coin")?.to_owned(),
                bid: side(&data["bbo"][0])?,
                ask: side(&data["bbo"][1])?,
            });
        }
        _ => {}
    }
    Ok(out)
}

pub(super) fn binance(text: &str) -> Result<Interpreted, String> {
    let message = parse(text)?;
    let (_, kind) = string(&message, "stream")?.split_once('@').ok_or("a stream without @")?;
    let mut out = Interpreted { kind: kind.to_owned(), ..Interpreted::default() };
    let data = &message["data"];
    if kind.starts_with("depth") {
        let book = string(data, "s")?.to_owned();
        // Futures name the previous event's last id; spot numbers its events without a hole.
        let follows = match data.get("pu") {
            Some(_) => integer(data, "pu")?,
            None => integer(data, "U")? - 1,
        };
        out.links.push(Link { stream: book.clone(), follows: Some(follows), last: integer(data, "u")? });
        let (bids, asks) = (paired_levels(&data["b"])?, paired_levels(&data["a"])?);
        out.updates.push(BookUpdate { book, bids, asks, ..BookUpdate::default() });
    } else if kind == "bookTicker" {
        out.quote = Some(Quote {
            book: string(data, "s")?.to_owned(),
            bid: Some(named_level(data, "b", "B")?),
            ask: Some(named_level(data, "a", "A")?),
        });
    }
    Ok(out)
}

pub(super) fn bybit(text: &str) -> Result<Interpreted, String> {
    let message = parse(text)?;
    let Some(topic) = message["topic"].as_str() else {
        return Ok(Interpreted { kind: format!("op:{}", string(&message, "op")?), ..Interpreted::default() });
    };
    let class = topic.split('.').next().unwrap_or(topic);
    let stage = string(&message, "type")?;
    let mut out = Interpreted { kind: format!("{class}:{stage}"), ..Interpreted::default() };
    if class == "orderbook" {
        let (data, snapshot) = (&message["data"], stage == "snapshot");
        let last = integer(data, "u")?;
        out.links.push(Link { stream: topic.to_owned(), follows: (!snapshot).then_some(last - 1), last });
        let (bids, asks) = (paired_levels(&data["b"])?, paired_levels(&data["a"])?);
        out.updates.push(BookUpdate { book: topic.to_owned(), snapshot, bids, asks, ..BookUpdate::default() });
    }
    Ok(out)
}

pub(super) fn coinbase(text: &str) -> Result<Interpreted, String> {
    let message = parse(text)?;
    let channel = string(&message, "channel")?;
    let events = array(&message["events"])?;
    let stage = events.first().and_then(|event| event["type"].as_str()).unwrap_or("-");
    let mut out = Interpreted { kind: format!("{channel}:{stage}"), ..Interpreted::default() };
    // One numbering runs over all channels of a connection.
    let last = integer(&message, "sequence_num")?;
    out.links.push(Link { stream: "connection".to_owned(), follows: Some(last - 1), last });
    if channel == "l2_data" {
        for event in events {
            let mut update = BookUpdate {
                book: string(event, "product_id")?.to_owned(),
                snapshot: string(event, "type")? == "snapshot",
                ..BookUpdate::default()
            };
            for level in array(&event["updates"])? {
                let lexemes = named_level(level, "price_level", "new_quantity")?;
                match string(level, "side")? {
                    "bid" => update.bids.push(lexemes),
                    "offer" => update.asks.push(lexemes),
                    side => return Err(format!("an unknown side {side}")),
                }
            }
            out.updates.push(update);
        }
    }
    Ok(out)
}

pub(super) fn lighter(text: &str) -> Result<Interpreted, String> {
    let message = parse(text)?;
    let kind = string(&message, "type")?.to_owned();
    let mut out = Interpreted { kind, ..Interpreted::default() };
    if let Some((stage, "order_book")) = out.kind.split_once('/') {
        let (data, snapshot) = (&message["order_book"], stage == "subscribed");
        let book = string(&message, "channel")?.to_owned();
        let (bids, asks) =
            (named_levels(&data["bids"], "price", "size")?, named_levels(&data["asks"], "price", "size")?);
        out.links.push(lighter_link(data, &book, snapshot)?);
        out.updates.push(BookUpdate { book, snapshot, bids, asks, ..BookUpdate::default() });
    }
    Ok(out)
}

/// Newer messages chain nonces and have holes in their offsets; older ones have only offsets, without a hole.
fn lighter_link(data: &Value, book: &str, snapshot: bool) -> Result<Link, String> {
    let (follows, last) = match data.get("begin_nonce") {
        Some(_) => (integer(data, "begin_nonce")?, integer(data, "nonce")?),
        None => (integer(data, "offset")? - 1, integer(data, "offset")?),
    };
    Ok(Link { stream: book.to_owned(), follows: (!snapshot).then_some(follows), last })
}

pub(super) fn okx(text: &str) -> Result<Interpreted, String> {
    let message = parse(text)?;
    if let Some(event) = message["event"].as_str() {
        return Ok(Interpreted { kind: format!("event:{event}"), ..Interpreted::default() });
    }
    let channel = string(&message["arg"], "channel")?;
    let Some(action) = message["action"].as_str() else {
        return Ok(Interpreted { kind: channel.to_owned(), ..Interpreted::default() });
    };
    let mut out = Interpreted { kind: format!("{channel}:{action}"), ..Interpreted::default() };
    let book = string(&message["arg"], "instId")?;
    for data in array(&message["data"])? {
        // prevSeqId came later than the checksum, which has since been retired as a constant 0.
        if data.get("prevSeqId").is_some() {
            let follows = Some(integer(data, "prevSeqId")?).filter(|&before| before >= 0);
            out.links.push(Link { stream: book.to_owned(), follows, last: integer(data, "seqId")? });
        }
        let checksum = data["checksum"].as_i64().filter(|&sum| sum != 0);
        out.updates.push(BookUpdate {
            book: book.to_owned(),
            snapshot: action == "snapshot",
            bids: paired_levels(&data["bids"])?,
            asks: paired_levels(&data["asks"])?,
            // Sent as a signed number, of which the low 32 bits are the sum.
            checksum: checksum.map(|sum| Checksum::Okx(sum as u32)),
            ..BookUpdate::default()
        });
    }
    Ok(out)
}

pub(super) fn kraken_futures(text: &str) -> Result<Interpreted, String> {
    let message = parse(text)?;
    let kind = message["feed"].as_str().or(message["event"].as_str()).ok_or("neither feed nor event")?.to_owned();
    let mut links = Vec::new();
    if matches!(kind.as_str(), "book" | "book_snapshot") && message.get("seq").is_some() {
        let last = integer(&message, "seq")?;
        let follows = (kind == "book").then_some(last - 1);
        links.push(Link { stream: string(&message, "product_id")?.to_owned(), follows, last });
    }
    Ok(Interpreted { kind, links, ..Interpreted::default() })
}

pub(super) fn kucoin(text: &str) -> Result<Interpreted, String> {
    let message = parse(text)?;
    Ok(Interpreted { kind: string(&message, "type")?.to_owned(), ..Interpreted::default() })
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn string<'v>(value: &'v Value, key: &str) -> Result<&'v str, String> {
    value[key].as_str().ok_or_else(|| format!("no string {key}"))
}

fn integer(value: &Value, key: &str) -> Result<i64, String> {
    value[key].as_i64().ok_or_else(|| format!("no integer {key}"))
}

fn array(value: &Value) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| "an array is missing".to_owned())
}

fn named_level(level: &Value, price: &str, size: &str) -> Result<Lexemes, String> {
    Ok((string(level, price)?.to_owned(), string(level, size)?.to_owned()))
}

fn named_levels(levels: &Value, price: &str, size: &str) -> Result<Vec<Lexemes>, String> {
    array(levels)?.iter().map(|level| named_level(level, price, size)).collect()
}

/// Levels as arrays that open with price and size.
fn paired_levels(levels: &Value) -> Result<Vec<Lexemes>, String> {
    let lexeme = |value: &Value| value.as_str().map(str::to_owned).ok_or("a level without two strings");
    array(levels)?.iter().map(|level| Ok((lexeme(&level[0])?, lexeme(&level[1])?))).collect()
}
