//! Kraken's public feed, version 2: books of a subscribed depth with a checksum in each message, trades, heartbeats. Source: the
//! venue's own documentation (docs.kraken.com, "Websockets v2" and "Book checksum").

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use serde_json::value::RawValue;

use super::clock::Stamp;
use super::dialect::{Book, Desk, Dialect, Effect, Event, History, place_of};
use super::ladder::{Changes, Ladder, Level};
use super::walk::Walk;

/// The depths that can be subscribed to, and the one that is meant where none is named.
const DEPTHS: [usize; 5] = [10, 25, 100, 500, 1000];
/// What a checksum is over.
const CHECKED_LEVELS: usize = 10;
/// A heartbeat beside every Nth update of a walk; the venue sends one a second where nothing else is to be sent.
const STEPS_PER_HEARTBEAT: u64 = 20;

pub(super) struct Kraken;

impl Dialect for Kraken {
    fn greet(&self, desk: &mut Desk<'_>) {
        let id = desk.account.number;
        desk.reply(format!(
            r#"{{"channel":"status","type":"update","data":[{{"version":"2.0.10","system":"online","api_version":"v2","connection_id":{id}}}]}}"#
        ));
    }

    fn answer(&self, text: &str, desk: &mut Desk<'_>) {
        let request = serde_json::from_str::<Value>(text).unwrap_or_default();
        let now = timestamp(desk.now);
        let times = format!(r#""time_in":"{now}","time_out":"{now}""#);
        let id = match &request["req_id"] {
            Value::Null => String::new(),
            id => format!(r#","req_id":{id}"#),
        };
        let method = request["method"].as_str().unwrap_or_default();
        let refuse = |why: &str| format!(r#"{{"error":"{why}","method":"{method}","success":false{id},{times}}}"#);
        if method == "ping" {
            return desk.reply(format!(r#"{{"method":"pong"{id},{times}}}"#));
        }
        let params = &request["params"];
        let symbols = params["symbol"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for symbol in symbols {
            let wanted = params["depth"].as_u64().map_or(DEPTHS[0], |depth| depth as usize);
            let reply = match (method, params["channel"].as_str(), desk.book(symbol)) {
                (_, _, None) => refuse(&format!("Currency pair not supported {symbol}")),
                ("subscribe" | "unsubscribe", Some("book"), Some(book)) => {
                    let depth = book.depth_limit.unwrap_or(wanted);
                    if !DEPTHS.contains(&depth) {
                        refuse("Subscription depth not supported")
                    } else {
                        book_request(method, symbol, depth, &id, &times, desk).unwrap_or_else(refuse)
                    }
                }
                ("subscribe", Some("trade"), Some(_)) => {
                    desk.subscribe(&format!("trade:{symbol}"));
                    format!(
                        r#"{{"method":"subscribe","result":{{"channel":"trade","snapshot":false,"symbol":"{symbol}"}},"success":true{id},{times}}}"#
                    )
                }
                _ => refuse("Channel field must be book or trade"),
            };
            desk.reply(reply);
            if method == "subscribe" && params["channel"] == "book" {
                send_snapshot(symbol, wanted, desk);
            }
        }
    }

    fn step(&self, book: &mut Book, walk: &mut Walk, now: Stamp) -> Vec<Event> {
        let before = book.ladder.clone();
        book.ladder.apply(&walk.step()).expect("a walk has plain decimals");
        book.steps += 1;
        let symbol = &book.market;
        let mut events = Vec::new();
        for depth in &book.depths {
            let changes = before.difference(&book.ladder, *depth);
            if changes.bids.is_empty() && changes.asks.is_empty() {
                continue;
            }
            let text = book_message("update", symbol, &changes, checksum(&book.ladder), now);
            events.push(Event { is_update: true, ..Event::news(format!("book:{symbol}:{depth}"), text) });
        }
        if book.steps.is_multiple_of(4) {
            let (price, qty, sold) = walk.trade();
            let (side, id, time) = (if sold { "sell" } else { "buy" }, book.steps / 4, timestamp(now));
            let trade = format!(
                r#"{{"channel":"trade","type":"update","data":[{{"symbol":"{symbol}","side":"{side}","price":{price},"qty":{qty},"ord_type":"market","trade_id":{id},"timestamp":"{time}"}}]}}"#
            );
            events.push(Event::news(format!("trade:{symbol}"), trade));
        }
        if book.steps.is_multiple_of(STEPS_PER_HEARTBEAT) {
            events.push(Event::news("heartbeat".to_owned(), r#"{"channel":"heartbeat"}"#.to_owned()));
        }
        events
    }

    fn read(&self, lines: &[&str]) -> Result<History, String> {
        History::read(lines, Vec::new(), read)
    }
}

/// Subscribes to a book, or ends that; the acknowledgement, or why not.
fn book_request(
    method: &str,
    symbol: &str,
    depth: usize,
    id: &str,
    times: &str,
    desk: &mut Desk<'_>,
) -> Result<String, &'static str> {
    let channel = format!("book:{symbol}:{depth}");
    let snapshot = match method {
        "subscribe" if desk.account.is_subscribed(&channel) => return Err("Already subscribed"),
        "subscribe" => {
            desk.subscribe(&channel);
            desk.subscribe("heartbeat");
            r#","snapshot":true"#
        }
        _ if !desk.account.unsubscribe(&channel) => return Err("Subscription Not Found"),
        _ => "",
    };
    if let Some(book) = desk.book(symbol)
        && !book.depths.contains(&depth)
    {
        book.depths.push(depth);
    }
    Ok(format!(
        r#"{{"method":"{method}","result":{{"channel":"book","depth":{depth}{snapshot},"symbol":"{symbol}"}},"success":true{id},{times}}}"#
    ))
}

/// A recording's own snapshot comes when the recording does.
fn send_snapshot(symbol: &str, wanted: usize, desk: &mut Desk<'_>) {
    let Some(book) = desk.books.iter().find(|book| book.market == symbol && !book.ladder.is_empty()) else { return };
    let depth = book.depth_limit.unwrap_or(wanted);
    if desk.account.is_subscribed(&format!("book:{symbol}:{depth}")) {
        let snapshot = book_message("snapshot", symbol, &book.ladder.top(depth), checksum(&book.ladder), desk.now);
        desk.reply(snapshot);
    }
}

fn book_message(kind: &str, symbol: &str, levels: &Changes, checksum: u32, at: Stamp) -> String {
    let side = |levels: &[Level]| {
        let level = |(price, qty): &Level| format!(r#"{{"price":{price},"qty":{qty}}}"#);
        levels.iter().map(level).collect::<Vec<_>>().join(",")
    };
    let (bids, asks) = (side(&levels.bids), side(&levels.asks));
    let timestamp = timestamp(at);
    format!(
        r#"{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],"checksum":{checksum},"timestamp":"{timestamp}"}}]}}"#
    )
}

/// CRC-32 over the digits of the ten best asks, then of the ten best bids: price and quantity without the point and without
/// leading zeros.
fn checksum(ladder: &Ladder) -> u32 {
    let top = ladder.top(CHECKED_LEVELS);
    let mut digits = String::new();
    for (price, qty) in top.asks.iter().chain(&top.bids) {
        for lexeme in [price, qty] {
            digits.push_str(lexeme.replace('.', "").trim_start_matches('0'));
        }
    }
    crc32fast::hash(digits.as_bytes())
}

/// RFC 3339, with microseconds (Hinnant's civil-from-days).
fn timestamp(now: Stamp) -> String {
    let (seconds, micros) = (now.unix_ns / 1_000_000_000, now.unix_ns / 1000 % 1_000_000);
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = write!(out, "{year}-{month:02}-{day:02}T{:02}:{:02}:", second / 3600, second / 60 % 60);
    let _ = write!(out, "{:02}.{micros:06}Z", second % 60);
    out
}

type Object<'a> = BTreeMap<&'a str, &'a RawValue>;

fn read(line: &str, books: &mut Vec<Book>) -> Result<Option<Event>, String> {
    let message: Object<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let text = |name: &str| message.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    match (text("method").as_deref(), text("channel").as_deref()) {
        (Some("subscribe"), _) => {
            let result = message.get("result").ok_or("a subscription that was refused")?;
            let result: Value = serde_json::from_str(result.get()).map_err(|error| error.to_string())?;
            if let (Some(symbol), Some(depth)) = (result["symbol"].as_str(), result["depth"].as_u64()) {
                let index = place_of(symbol, books);
                books[index].depth_limit = Some(depth as usize);
            }
            Ok(None)
        }
        (None, Some("book")) => {
            let data = message.get("data").ok_or("a book without data")?;
            let [data]: [Object<'_>; 1] = serde_json::from_str(data.get()).map_err(|error| error.to_string())?;
            let symbol = data.get("symbol").ok_or("a book without its symbol")?;
            let symbol: String = serde_json::from_str(symbol.get()).map_err(|error| error.to_string())?;
            let market = place_of(&symbol, books);
            let depth = books[market].depth_limit.ok_or("a book that was not subscribed to")?;
            let changes = Changes { bids: levels(&data, "bids")?, asks: levels(&data, "asks")? };
            let resets = text("type").as_deref() == Some("snapshot");
            let effect = Effect { market, resets, changes, sequence: 0, nonce: None };
            let channel = format!("book:{symbol}:{depth}");
            Ok(Some(Event { is_update: !resets, effect: Some(effect), ..Event::news(channel, line.to_owned()) }))
        }
        (None, Some("heartbeat")) => Ok(Some(Event::news("heartbeat".to_owned(), line.to_owned()))),
        // The status and the answers to requests were the recorder's own.
        _ => Ok(None),
    }
}

fn levels(book: &Object<'_>, side: &str) -> Result<Vec<Level>, String> {
    let side = book.get(side).ok_or("a book without one of its sides")?;
    let levels: Vec<Object<'_>> = serde_json::from_str(side.get()).map_err(|error| error.to_string())?;
    let level = |level: &Object<'_>| Some((level.get("price")?.get().to_owned(), level.get("qty")?.get().to_owned()));
    levels.iter().map(level).collect::<Option<_>>().ok_or_else(|| "a level without price or qty".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let told = |unix_ns| timestamp(Stamp { at: Instant::now(), unix_ns });
        assert_eq!(told(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(told(951_782_399_000_001_000), "2000-02-28T23:59:59.000001Z");
        assert_eq!(told(1_785_641_751_660_084_000), "2026-08-02T03:35:51.660084Z");
    }

    #[test]
    fn the_checksum_is_that_of_the_documented_example() {
        // docs.kraken.com, "Book checksum": the WebSocket v2 example's book, in the notation of its messages.
        let bids = [
            ("45283.5", "0.10000000"),
            ("45283.4", "1.54582015"),
            ("45282.1", "0.10000000"),
            ("45281.0", "0.10000000"),
            ("45280.3", "1.54592586"),
            ("45279.0", "0.07990000"),
            ("45277.6", "0.03310103"),
            ("45277.5", "0.30000000"),
            ("45277.3", "1.54602737"),
            ("45276.6", "0.15445238"),
        ];
        let asks = [
            ("45285.2", "0.00100000"),
            ("45286.4", "1.54571953"),
            ("45286.6", "1.54571109"),
            ("45289.6", "1.54560911"),
            ("45290.2", "0.15890660"),
            ("45291.8", "1.54553491"),
            ("45294.7", "0.04454749"),
            ("45296.1", "0.35380000"),
            ("45297.5", "0.09945542"),
            ("45299.5", "0.18772827"),
        ];
        let side = |levels: &[(&str, &str)]| levels.iter().map(|l| (l.0.to_owned(), l.1.to_owned())).collect();
        let mut ladder = Ladder::default();
        ladder.apply(&Changes { bids: side(&bids), asks: side(&asks) }).expect("plain decimals");
        assert_eq!(checksum(&ladder), 3_310_070_434);
    }
}
