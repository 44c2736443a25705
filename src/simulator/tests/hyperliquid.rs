//! The imitation of Hyperliquid.

use serde_json::Value;
use tungstenite::Message;

use super::{PATIENCE, dial, next_text, read_to_close, subscribe, subscription};
use crate::simulator::{Ending, Venue};

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("the venue sends JSON")
}

fn price(level: &Value) -> f64 {
    level["px"].as_str().and_then(|px| px.parse().ok()).expect("a price is a decimal in a string")
}

fn assert_sound(book: &Value) {
    let sides = book["data"]["levels"].as_array().expect("two sides");
    let bids = sides[0].as_array().expect("bids");
    let asks = sides[1].as_array().expect("asks");
    assert_eq!((bids.len(), asks.len()), (20, 20));
    assert!(bids.windows(2).all(|pair| price(&pair[0]) > price(&pair[1])));
    assert!(asks.windows(2).all(|pair| price(&pair[0]) < price(&pair[1])));
    assert!(price(&bids[0]) < price(&asks[0]), "crossed: {book}");
    assert!(price(&bids[19]) > 0.0);
}

#[test]
fn a_book_has_the_wire_form_of_the_real_venue() {
    let venue = Venue::hyperliquid(["BTC"]).start().expect("a free port");
    let mut client = dial(&venue);
    subscribe(&mut client, "l2Book", "BTC");
    assert_eq!(
        next_text(&mut client),
        r#"{"channel":"subscriptionResponse","data":{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}}"#
    );
    let text = next_text(&mut client);
    let prefix = r#"{"channel":"l2Book","data":{"coin":"BTC","time":"#;
    let behind_time = text
        .strip_prefix(prefix)
        .unwrap_or_else(|| panic!("awaited {prefix}, came {text}"))
        .trim_start_matches(|c: char| c.is_ascii_digit());
    assert!(behind_time.starts_with(r#","levels":[[{"px":"10"#), "{text}");
    assert!(text.ends_with("}]]}}"), "{text}");
    assert_sound(&parse(&text));
    venue.assert_subscribed_once(1, "l2Book", "BTC");
}

#[test]
fn the_client_that_reads_to_the_close_has_every_counted_book() {
    for venue in [Venue::hyperliquid(["BTC", "XYZ"]).flat_out(), Venue::hyperliquid(["BTC", "XYZ"]).flat_out().tls()] {
        let venue = venue.start().expect("a free port");
        let mut client = dial(&venue);
        subscribe(&mut client, "l2Book", "BTC");
        subscribe(&mut client, "l2Book", "XYZ");
        subscribe(&mut client, "bbo", "XYZ");
        subscribe(&mut client, "trades", "XYZ");
        let mut texts: Vec<String> = (0..5_000).map(|_| next_text(&mut client)).collect();
        client.close(None).expect("the venue reads");
        texts.extend(read_to_close(&mut client));

        assert_eq!(venue.sent(), texts.len() as u64);
        for coin in ["BTC", "XYZ"] {
            let books: Vec<Value> = texts
                .iter()
                .map(|text| parse(text))
                .filter(|m| m["channel"] == "l2Book" && m["data"]["coin"] == coin)
                .collect();
            assert_eq!(venue.sent_on(coin), books.len() as u64);
            books.iter().for_each(assert_sound);
            let times: Vec<u64> = books.iter().map(|book| book["data"]["time"].as_u64().expect("a time")).collect();
            assert!(times.is_sorted_by(|a, b| a < b));
        }
        for channel in ["bbo", "trades"] {
            assert!(texts.iter().any(|t| parse(t)["channel"] == channel));
        }
        venue.assert_protocol_kept();
    }
}

#[test]
fn time_rises_over_a_restart() {
    let venue = Venue::hyperliquid(["BTC"]).flat_out().start().expect("a free port");
    let mut last = 0;
    for ending in [Ending::Fin, Ending::Rst] {
        let mut client = dial(&venue);
        subscribe(&mut client, "l2Book", "BTC");
        next_text(&mut client);
        for _ in 0..500 {
            let book = parse(&next_text(&mut client));
            let time = book["data"]["time"].as_u64().expect("a time");
            assert!(time > last);
            last = time;
        }
        venue.stop(ending);
        venue.restart().expect("the port was kept");
    }
}

#[test]
fn books_come_at_the_asked_rate() {
    let venue = Venue::hyperliquid(["BTC"]).rate_per_sec(500.0).start().expect("a free port");
    let mut client = dial(&venue);
    subscribe(&mut client, "l2Book", "BTC");
    next_text(&mut client);
    next_text(&mut client);
    let start = std::time::Instant::now();
    (0..250).for_each(|_| drop(next_text(&mut client)));
    let taken = start.elapsed().as_secs_f64();
    assert!((0.35..2.0).contains(&taken), "250 books took {taken} s");
}

#[test]
fn requests_are_answered_in_the_words_of_the_real_venue() {
    let venue = Venue::hyperliquid(["BTC"]).rate_per_sec(1e-9).start().expect("a free port");
    let mut client = dial(&venue);
    let mut ask = |request: &str| {
        client.send(Message::text(request)).expect("the venue reads");
        next_text(&mut client)
    };
    assert_eq!(ask(r#"{"method":"ping"}"#), r#"{"channel":"pong"}"#);
    assert_eq!(
        ask("nonsense"),
        r#"{"channel":"error","data":"Error parsing JSON into valid websocket request: nonsense"}"#
    );
    let bad = ask(&subscription("subscribe", "l2Book", "DOGE"));
    assert!(bad.contains(r#""error","data":"Invalid subscription"#), "{bad}");
    ask(&subscription("subscribe", "trades", "BTC"));
    let twice = ask(&subscription("subscribe", "trades", "BTC"));
    let past_trades = parse(&twice);
    assert_eq!(past_trades["data"].as_array().map(Vec::len), Some(30));
    let twice = next_text(&mut client);
    assert!(twice.contains(r#""error","data":"Already subscribed: "#), "{twice}");
}

#[test]
fn an_unsubscribed_coin_falls_silent() {
    let venue = Venue::hyperliquid(["BTC"]).flat_out().start().expect("a free port");
    let mut client = dial(&venue);
    subscribe(&mut client, "l2Book", "BTC");
    let request = subscription("unsubscribe", "l2Book", "BTC");
    client.send(Message::text(request)).expect("the venue reads");
    while !next_text(&mut client).contains(r#""method":"unsubscribe""#) {}
    client.send(Message::text(r#"{"method":"ping"}"#)).expect("the venue reads");
    assert_eq!(next_text(&mut client), r#"{"channel":"pong"}"#);
    let session = venue.next_session(PATIENCE).expect("a session");
    assert_eq!(session.number(), 1);
}
