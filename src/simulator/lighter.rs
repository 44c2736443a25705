//! Lighter's public feed: order books whose updates chain by nonce, trades, market statistics. Source: the venue's own documentation
//! (apidocs.lighter.xyz, "WebSocket") and messages recorded from it.
//!
//! The older feed, which recordings of 2025 hold, has no nonces: there the offset counts updates. A book that was read from such a
//! recording is told in the same way.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

use super::clock::Stamp;
use super::dialect::{Book, Desk, Dialect, Effect, Event, History, Ping, place_of};
use super::ladder::{Changes, Level};
use super::walk::Walk;

pub(super) struct Lighter;

/// The venue asks far less often; but a test, or whoever looks at an example, does not wait for minutes.
const PING: Ping = Ping::Text { every: Duration::from_secs(2), ping: r#"{"type":"ping"}"#, pong: r#"{"type":"pong"}"# };

impl Dialect for Lighter {
    fn greet(&self, desk: &mut Desk<'_>) {
        let number = desk.account.number;
        desk.reply(format!(r#"{{"session_id":"00000000-0000-4000-8000-{number:012x}","type":"connected"}}"#));
    }

    fn answer(&self, text: &str, desk: &mut Desk<'_>) {
        let Ok(request) = serde_json::from_str::<Value>(text) else {
            return desk.reply(error(30001, "Invalid JSON"));
        };
        let channel = request["channel"].as_str().unwrap_or_default();
        match request["type"].as_str() {
            Some("ping") => desk.reply(r#"{"type":"pong"}"#),
            Some("subscribe") if is_private(channel) && request["auth"].is_null() => {
                desk.reply(error(20001, "invalid param"));
            }
            Some("subscribe") => subscribe(channel, desk),
            Some("unsubscribe") => {
                let told = channel.replacen('/', ":", 1);
                match desk.account.unsubscribe(&told) {
                    true => desk.reply(format!(r#"{{"type":"unsubscribed","channel":"{told}"}}"#)),
                    false => desk.reply(error(30004, &format!("Not Subscribed to : {told}"))),
                }
            }
            _ => desk.reply(error(30002, "Invalid Message Type")),
        }
    }

    fn open(&self, markets: &[String]) -> Vec<Book> {
        let with_nonce = |market: &String| Book { nonce: Some(17_000_000_000), ..Book::new(market) };
        markets.iter().map(with_nonce).collect()
    }

    fn step(&self, book: &mut Book, walk: &mut Walk, now: Stamp) -> Vec<Event> {
        let changes = walk.step();
        book.ladder.apply(&changes).expect("a walk has plain decimals");
        book.steps += 1;
        // Offsets skip, and nonces more so: only `begin_nonce` says what an update follows on.
        book.sequence += 1 + book.steps % 3;
        let begin = book.nonce;
        book.nonce = begin.map(|nonce| nonce + 40 + 7 * (book.steps % 11));
        let market = &book.market;
        let update = order_book("update", book, &changes, begin, now);
        let mut events = vec![Event { is_update: true, ..Event::news(format!("order_book:{market}"), update) }];
        if book.steps.is_multiple_of(4) {
            events.push(Event::news(format!("trade:{market}"), trade(book, walk, now)));
        }
        if book.steps.is_multiple_of(10) {
            for channel in [market.as_str(), "all"] {
                events.push(Event::news(format!("market_stats:{channel}"), market_stats("update", channel, book)));
            }
        }
        events
    }

    fn read(&self, lines: &[&str]) -> Result<History, String> {
        History::read(lines, Vec::new(), read)
    }

    fn ping(&self) -> Option<Ping> {
        Some(PING)
    }
}

/// What concerns one account wants a token.
fn is_private(channel: &str) -> bool {
    let kind = channel.split('/').next().unwrap_or_default();
    ["account_all_orders", "account_market", "account_orders", "account_tx", "notification", "pool_data"]
        .contains(&kind)
}

fn subscribe(channel: &str, desk: &mut Desk<'_>) {
    let Some((kind @ ("order_book" | "trade" | "market_stats"), market)) = channel.split_once('/') else {
        return desk.reply(error(30005, &format!("Invalid Channel: {channel}")));
    };
    let told = format!("{kind}:{market}");
    if desk.account.is_subscribed(&told) {
        return desk.reply(error(30003, &format!("Already Subscribed to : {told}")));
    }
    let is_known = desk.book(market).is_some() || (kind == "market_stats" && market == "all");
    if !is_known {
        return desk.reply(error(30005, &format!("Invalid Channel:  ({market})")));
    }
    desk.subscribe(&told);
    let now = desk.now;
    let first = desk.books.first().map(|book| book.market.clone()).unwrap_or_default();
    let Some(book) = desk.book(if market == "all" { &first } else { market }) else { return };
    // A recording's own snapshot comes when the recording does.
    if book.ladder.is_empty() {
        return;
    }
    let snapshot = match kind {
        "order_book" => order_book("subscribed", book, &book.ladder.top(usize::MAX), book.nonce.map(|_| 0), now),
        "trade" => format!(r#"{{"channel":"{told}","trades":[],"type":"subscribed/trade"}}"#),
        _ => market_stats("subscribed", market, book),
    };
    desk.reply(snapshot);
}

/// `begin` is the nonce that this follows on, 0 in a snapshot; the older feed has none.
fn order_book(kind: &str, book: &Book, levels: &Changes, begin: Option<u64>, now: Stamp) -> String {
    let (market, offset) = (&book.market, book.sequence);
    let (asks, bids) = (sides(&levels.asks), sides(&levels.bids));
    let (updated, chain) = match (book.nonce, begin) {
        (Some(nonce), Some(begin)) => {
            let updated = format!(r#","last_updated_at":{}"#, now.unix_ns / 1000);
            let chain = format!(r#","nonce":{nonce}{updated},"begin_nonce":{begin}"#);
            (updated, chain)
        }
        _ => (String::new(), String::new()),
    };
    let book = format!(r#"{{"code":0,"asks":[{asks}],"bids":[{bids}],"offset":{offset}{chain}}}"#);
    let (time, kind) = (now.unix_ms(), format!("{kind}/order_book"));
    format!(
        r#"{{"channel":"order_book:{market}"{updated},"offset":{offset},"order_book":{book},"timestamp":{time},"type":"{kind}"}}"#
    )
}

fn sides(levels: &[Level]) -> String {
    let mut out = String::new();
    for (index, (price, size)) in levels.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing into a String cannot fail.
        let _ = write!(out, r#"{comma}{{"price":"{price}","size":"{size}"}}"#);
    }
    out
}

fn trade(book: &Book, walk: &mut Walk, now: Stamp) -> String {
    let (market, id, time) = (&book.market, book.sequence, now.unix_ms());
    let (price, size, sold) = walk.trade();
    let amount = price.parse::<f64>().unwrap_or_default() * size.parse::<f64>().unwrap_or_default();
    let nonce = book.nonce.unwrap_or_default();
    let trade = format!(
        r#"{{"trade_id":{id},"tx_hash":"{id:080x}","type":"trade","market_id":{market},"size":"{size}","price":"{price}","usd_amount":"{amount:.6}","ask_id":{id},"bid_id":{id},"ask_account_id":1,"bid_account_id":2,"is_maker_ask":{},"block_height":{id},"timestamp":{time}}}"#,
        !sold
    );
    format!(
        r#"{{"channel":"trade:{market}","liquidation_trades":[],"nonce":{nonce},"trades":[{trade}],"type":"update/trade"}}"#
    )
}

fn market_stats(kind: &str, channel: &str, book: &Book) -> String {
    let market = &book.market;
    let top = book.ladder.top(1);
    let mark = top.bids.first().map_or("0", |(price, _)| price.as_str());
    let stats = format!(
        r#"{{"market_id":{market},"index_price":"{mark}","mark_price":"{mark}","open_interest":"1000.000000","last_trade_price":"{mark}","current_funding_rate":"0.0012","funding_rate":"0.0012","funding_timestamp":1760040000002,"daily_base_token_volume":{},"daily_price_change":0.5}}"#,
        book.steps
    );
    let stats = if channel == "all" { format!(r#"{{"{market}":{stats}}}"#) } else { stats };
    format!(r#"{{"channel":"market_stats:{channel}","market_stats":{stats},"type":"{kind}/market_stats"}}"#)
}

fn error(code: u32, message: &str) -> String {
    let message = Value::from(message);
    format!(r#"{{"error":{{"code":{code},"message":{message}}}}}"#)
}

fn read(line: &str, books: &mut Vec<Book>) -> Result<Option<Event>, String> {
    let message: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let Some(channel) = message["channel"].as_str() else {
        // Greetings, pongs and errors were the recorder's own.
        return Ok(None);
    };
    let (kind, market) = channel.split_once(':').unwrap_or((channel, ""));
    let stage = message["type"].as_str().unwrap_or_default();
    if kind != "order_book" || stage == "unsubscribed" {
        return Ok(Some(Event::news(channel.to_owned(), line.to_owned())));
    }
    let market = place_of(market, books);
    let told = &message["order_book"];
    let changes = Changes { bids: levels(&told["bids"])?, asks: levels(&told["asks"])? };
    let sequence = told["offset"].as_u64().ok_or("no offset")?;
    let resets = stage == "subscribed/order_book";
    let effect = Effect { market, resets, changes, sequence, nonce: told["nonce"].as_u64() };
    Ok(Some(Event { is_update: !resets, effect: Some(effect), ..Event::news(channel.to_owned(), line.to_owned()) }))
}

fn levels(side: &Value) -> Result<Vec<Level>, String> {
    let level = |level: &Value| Some((level["price"].as_str()?.to_owned(), level["size"].as_str()?.to_owned()));
    let levels = side.as_array().into_iter().flatten().map(level).collect::<Option<_>>();
    levels.ok_or_else(|| "a level without a price or a size".to_owned())
}
