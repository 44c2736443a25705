//! Binance: the market streams, raw and combined, and the WebSocket API's `depth`, from which a book's snapshot comes. Source: the
//! venue's own documentation (developers.binance.com, "WebSocket Streams" and "WebSocket API").

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::clock::Stamp;
use super::dialect::{Account, Book, Desk, Dialect, Effect, Event, History, Ping, place_of};
use super::ladder::{Changes, Level};
use super::walk::Walk;

/// As the venue pings a spot connection.
const PING: Ping = Ping::Frame { every: Duration::from_secs(20) };
/// What the venue says that it knows; the properties are not imitated.
const METHODS: &str = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`";
/// The most levels a side that `depth` gives, and what it gives unless told.
const DEPTH_LIMITS: (u64, u64) = (5000, 100);

pub(super) struct Binance {
    /// By symbol, the bodies of `depth` from which a recording's books start.
    pub(super) snapshots: Vec<(String, String)>,
}

impl Dialect for Binance {
    fn greet(&self, desk: &mut Desk<'_>) {
        let path = desk.account.path.clone();
        let streams = match path.split_once("?streams=") {
            Some((_, streams)) => streams,
            None => path.strip_prefix("/ws/").unwrap_or_default(),
        };
        for stream in streams.split('/').filter(|stream| !stream.is_empty()) {
            desk.subscribe(stream);
        }
    }

    fn answer(&self, text: &str, desk: &mut Desk<'_>) {
        let request = serde_json::from_str::<Value>(text);
        if desk.account.path.starts_with("/ws-api/") || desk.account.path.starts_with("/ws-fapi/") {
            return answer_api(&request.unwrap_or_default(), desk);
        }
        let Ok(request) = request else {
            return desk.reply(r#"{"error":{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}}"#);
        };
        let id = &request["id"];
        let streams = request["params"].as_array().into_iter().flatten().filter_map(Value::as_str);
        match request["method"].as_str() {
            Some("SUBSCRIBE") => streams.for_each(|stream| desk.subscribe(stream)),
            Some("UNSUBSCRIBE") => {
                for stream in streams {
                    desk.account.unsubscribe(stream);
                }
            }
            Some("LIST_SUBSCRIPTIONS") => {
                let list = Value::from(desk.account.channels().collect::<Vec<_>>());
                return desk.reply(format!(r#"{{"result":{list},"id":{id}}}"#));
            }
            other => {
                let message = match other {
                    Some(other) => format!("Invalid request: unknown variant `{other}`, expected one of {METHODS}"),
                    None => "Invalid request: missing field `method`".to_owned(),
                };
                let message = Value::from(message);
                return desk.reply(format!(r#"{{"error":{{"code":2,"msg":{message}}},"id":{id}}}"#));
            }
        }
        desk.reply(format!(r#"{{"result":null,"id":{id}}}"#));
    }

    fn step(&self, book: &mut Book, walk: &mut Walk, now: Stamp) -> Vec<Event> {
        let changes = walk.step();
        book.ladder.apply(&changes).expect("a walk has plain decimals");
        book.steps += 1;
        // An event stands for one or more updates of the book, and is numbered by the first and the last of them.
        let first = book.sequence + 1;
        book.sequence = first + book.steps % 5;
        let (symbol, stream, last, time) = (&book.market, book.market.to_lowercase(), book.sequence, now.unix_ms());
        let (bids, asks) = (pairs(&changes.bids), pairs(&changes.asks));
        let depth = format!(
            r#"{{"e":"depthUpdate","E":{time},"s":"{symbol}","U":{first},"u":{last},"b":[{bids}],"a":[{asks}]}}"#
        );
        let top = book.ladder.top(1);
        let mut events = vec![Event { is_update: true, ..Event::news(format!("{stream}@depth@100ms"), depth) }];
        if let (Some((bid, bid_size)), Some((ask, ask_size))) = (top.bids.first(), top.asks.first()) {
            let ticker =
                format!(r#"{{"u":{last},"s":"{symbol}","b":"{bid}","B":"{bid_size}","a":"{ask}","A":"{ask_size}"}}"#);
            events.push(Event::news(format!("{stream}@bookTicker"), ticker));
        }
        if book.steps.is_multiple_of(4) {
            let (price, size, sold) = walk.trade();
            let id = book.steps / 4;
            let trade = format!(
                r#"{{"e":"trade","E":{time},"s":"{symbol}","t":{id},"p":"{price}","q":"{size}","T":{time},"m":{sold},"M":true}}"#
            );
            events.push(Event::news(format!("{stream}@trade"), trade));
        }
        events
    }

    fn read(&self, lines: &[&str]) -> Result<History, String> {
        let mut books = Vec::new();
        for (symbol, body) in &self.snapshots {
            let mut book = Book::new(symbol);
            let snapshot: Value =
                serde_json::from_str(body).map_err(|error| format!("{symbol}'s snapshot: {error}"))?;
            let changes = Changes { bids: levels(&snapshot["bids"])?, asks: levels(&snapshot["asks"])? };
            book.ladder.apply(&changes).map_err(|error| format!("{symbol}'s snapshot: {error}"))?;
            book.sequence = snapshot["lastUpdateId"].as_u64().ok_or(format!("{symbol}'s snapshot: no lastUpdateId"))?;
            books.push(book);
        }
        History::read(lines, books, read)
    }

    fn phrase<'e>(&self, event: &'e Event, session: &Account) -> Cow<'e, str> {
        match session.path.starts_with("/stream") {
            true => Cow::Owned(format!(r#"{{"stream":"{}","data":{}}}"#, event.channel, event.text)),
            false => Cow::Borrowed(&event.text),
        }
    }

    fn ping(&self) -> Option<Ping> {
        Some(PING)
    }
}

/// The WebSocket API; of it, `depth` and `ping`.
fn answer_api(request: &Value, desk: &mut Desk<'_>) {
    let (id, params) = (&request["id"], &request["params"]);
    let refuse = |status: u32, code: i32, what: &str| {
        format!(r#"{{"id":{id},"status":{status},"error":{{"code":{code},"msg":"{what}"}},"rateLimits":[]}}"#)
    };
    let limits = |weight: u32| {
        format!(
            r#"[{{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000,"count":{weight}}}]"#
        )
    };
    let reply = match request["method"].as_str() {
        Some("ping") => format!(r#"{{"id":{id},"status":200,"result":{{}},"rateLimits":{}}}"#, limits(1)),
        Some("depth") => match params["symbol"].as_str().and_then(|symbol| desk.book(symbol)) {
            Some(book) => {
                let (most, usual) = DEPTH_LIMITS;
                let limit = params["limit"].as_u64().unwrap_or(usual).min(most);
                let top = book.ladder.top(usize::try_from(limit).unwrap_or(usize::MAX));
                let (last, bids, asks) = (book.sequence, pairs(&top.bids), pairs(&top.asks));
                let result = format!(r#"{{"lastUpdateId":{last},"bids":[{bids}],"asks":[{asks}]}}"#);
                let weight =
                    [(100, 5), (500, 25), (1000, 50)].iter().find(|(most, _)| limit <= *most).map_or(250, |w| w.1);
                format!(r#"{{"id":{id},"status":200,"result":{result},"rateLimits":{}}}"#, limits(weight))
            }
            None => refuse(400, -1121, "Invalid symbol."),
        },
        _ => refuse(400, -1103, "Unknown method."),
    };
    desk.reply(reply);
}

fn pairs(levels: &[Level]) -> String {
    let pair = |(price, size): &Level| format!(r#"["{price}","{size}"]"#);
    levels.iter().map(pair).collect::<Vec<_>>().join(",")
}

fn read(line: &str, books: &mut Vec<Book>) -> Result<Option<Event>, String> {
    let message: BTreeMap<&str, &RawValue> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let (Some(stream), Some(data)) = (message.get("stream"), message.get("data")) else {
        // Answers to requests were the recorder's own.
        return Ok(None);
    };
    let stream: String = serde_json::from_str(stream.get()).map_err(|error| error.to_string())?;
    let text = data.get().to_owned();
    if !stream.contains("@depth") {
        return Ok(Some(Event::news(stream, text)));
    }
    let update: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let symbol = update["s"].as_str().ok_or("a depth update without its symbol")?;
    let market = place_of(symbol, books);
    let changes = Changes { bids: levels(&update["b"])?, asks: levels(&update["a"])? };
    let sequence = update["u"].as_u64().ok_or("a depth update without u")?;
    let effect = Effect { market, resets: false, changes, sequence, nonce: None };
    Ok(Some(Event { is_update: true, effect: Some(effect), ..Event::news(stream, text) }))
}

fn levels(side: &Value) -> Result<Vec<Level>, String> {
    let level = |level: &Value| Some((level[0].as_str()?.to_owned(), level[1].as_str()?.to_owned()));
    let levels = side.as_array().into_iter().flatten().map(level).collect::<Option<_>>();
    levels.ok_or_else(|| "a level that is no pair of strings".to_owned())
}
