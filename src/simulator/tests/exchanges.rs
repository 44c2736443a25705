//! The exchanges' formats: what a client sees of them, judged by what the venues document.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};
use tungstenite::Message;

use super::{Client, connect, dial, next_text, read_to_close};
use crate::simulator::{ApiKey, Recording, Venue};

fn say(client: &mut Client, request: &Value) {
    client.send(Message::text(request.to_string())).expect("the venue reads");
}

fn next(client: &mut Client) -> Value {
    serde_json::from_str(&next_text(client)).expect("JSON")
}

fn next_of(client: &mut Client, kind: &str) -> Value {
    loop {
        let message = next(client);
        if message["type"] == kind {
            return message;
        }
    }
}

#[test]
fn lighter_chains_its_updates_by_nonce_and_wants_an_unsubscribe_before_a_second_subscribe() {
    let venue = Venue::lighter([7]).rate_per_sec(200.0).start().expect("a free port");
    let mut client = dial(&venue);
    assert_eq!(next(&mut client)["type"], "connected");
    let subscribe = json!({ "type": "subscribe", "channel": "order_book/7" });
    say(&mut client, &subscribe);
    let snapshot = next(&mut client);
    assert_eq!(
        (&snapshot["type"], &snapshot["order_book"]["begin_nonce"]),
        (&json!("subscribed/order_book"), &json!(0))
    );
    assert_eq!(snapshot["last_updated_at"], snapshot["order_book"]["last_updated_at"]);
    assert!(snapshot["last_updated_at"].is_u64());
    let mut last = snapshot["order_book"].clone();
    for _ in 0..20 {
        let update = next_of(&mut client, "update/order_book")["order_book"].take();
        assert_eq!(update["begin_nonce"], last["nonce"]);
        assert!(update["offset"].as_u64() > last["offset"].as_u64());
        last = update;
    }
    say(&mut client, &subscribe);
    let refused = std::iter::repeat_with(|| next(&mut client)).find(|message| !message["error"].is_null());
    assert_eq!(refused.expect("it comes")["error"]["code"], 30003);
    say(&mut client, &json!({ "type": "unsubscribe", "channel": "order_book/7" }));
    next_of_unsubscribed(&mut client);
    say(&mut client, &subscribe);
    assert_eq!(next(&mut client)["type"], "subscribed/order_book", "nothing comes between the two");
    say(&mut client, &json!({ "type": "subscribe", "channel": "order_book/8" }));
    let refused = std::iter::repeat_with(|| next(&mut client)).find(|message| !message["error"].is_null());
    assert_eq!(refused.expect("it comes")["error"]["code"], 30005);
    say(&mut client, &json!({ "type": "subscribe", "channel": "account_all_orders/1" }));
    let refused = std::iter::repeat_with(|| next(&mut client)).find(|message| !message["error"].is_null());
    assert_eq!(refused.expect("it comes")["error"]["code"], 20001, "without a token");
}

fn next_of_unsubscribed(client: &mut Client) {
    let ended = std::iter::repeat_with(|| next(client)).find(|message| message["type"] == "unsubscribed");
    assert_eq!(ended.expect("it comes")["channel"], "order_book:7");
}

#[test]
fn lighter_leaves_a_client_that_never_answers_its_pings() {
    let venue = Venue::lighter([0]).start().expect("a free port");
    let mut client = dial(&venue);
    let pings = read_to_close(&mut client).into_iter().filter(|text| text == r#"{"type":"ping"}"#).count();
    assert_eq!(pings, 2);
}

#[test]
fn binance_numbers_its_events_without_a_hole_and_gives_snapshots_that_they_follow_on() {
    let venue = Venue::binance(["BTCUSDT"]).rate_per_sec(200.0).start().expect("a free port");
    let at = |path: &str| {
        let stream: Box<dyn super::Wire> = Box::new(connect(&venue));
        tungstenite::client(venue.url_at(path), stream).expect("the venue upgrades").0
    };
    let mut combined = at("/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker");
    let mut raw = at("/ws");
    let mut api = at("/ws-api/v3");
    say(&mut raw, &json!({ "method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms"], "id": 5 }));
    assert_eq!(next(&mut raw), json!({ "result": null, "id": 5 }));
    say(&mut api, &json!({ "id": "a", "method": "depth", "params": { "symbol": "BTCUSDT", "limit": 5 } }));
    let snapshot = next(&mut api);
    assert_eq!((&snapshot["id"], &snapshot["status"]), (&json!("a"), &json!(200)));
    let snapshot = &snapshot["result"];
    assert_eq!(snapshot["bids"].as_array().map(Vec::len), Some(5));
    let mut last = None;
    for _ in 0..40 {
        let message = next(&mut combined);
        let data = &message["data"];
        if message["stream"] == "btcusdt@depth@100ms" {
            let first = data["U"].as_u64().expect("a number");
            assert!(last.is_none_or(|last| first == last + 1));
            last = data["u"].as_u64();
        } else {
            assert_eq!((&message["stream"], &data["u"]), (&json!("btcusdt@bookTicker"), &json!(last)));
        }
    }
    let mut lister = at("/ws/btcusdt@none");
    say(&mut lister, &json!({ "method": "LIST_SUBSCRIPTIONS", "id": 6 }));
    assert_eq!(next(&mut lister), json!({ "result": ["btcusdt@none"], "id": 6 }));
    say(&mut lister, &json!({ "method": "SHOUT", "id": 7 }));
    let refused = next(&mut lister);
    assert!(refused["error"]["msg"].as_str().is_some_and(|msg| msg.contains("unknown variant `SHOUT`")), "{refused}");
    let event = next(&mut raw);
    assert_eq!(event["e"], "depthUpdate", "no envelope");
    assert!(snapshot["lastUpdateId"].as_u64() <= last);
    say(&mut api, &json!({ "id": 2, "method": "depth", "params": { "symbol": "NOPE" } }));
    assert_eq!(next(&mut api)["error"]["code"], -1121);
}

#[test]
fn each_book_loses_its_own_updates_and_a_history_never_the_last() {
    // Two books take turns: counted together, every second update would be the second book's.
    let venue = Venue::lighter([1, 2]).rate_per_sec(200.0).lose_every(2).start().expect("a free port");
    let mut client = dial(&venue);
    for market in [1, 2] {
        say(&mut client, &json!({ "type": "subscribe", "channel": format!("order_book/{market}") }));
    }
    for channel in ["order_book:1", "order_book:2", "order_book:1", "order_book:2"] {
        while next_of(&mut client, "update/order_book")["channel"] != channel {}
    }
    let message = |offset: u64, stage: &str| {
        let book = json!({ "asks": [], "bids": [{ "price": "1", "size": "1" }], "offset": offset });
        json!({ "channel": "order_book:0", "order_book": book, "type": format!("{stage}/order_book") }).to_string()
    };
    let history = vec![message(1, "subscribed"), message(2, "update"), message(3, "update")];
    let history = Recording::from_messages(history);
    let venue = Venue::lighter([0]).history(history).lose_every(1).start().expect("a free port");
    let mut client = dial(&venue);
    say(&mut client, &json!({ "type": "subscribe", "channel": "order_book/0" }));
    assert_eq!(next_of(&mut client, "update/order_book")["order_book"]["offset"], 3);
}

#[test]
fn kraken_acknowledges_sends_a_snapshot_and_refuses_what_it_does_not_have() {
    let venue = Venue::kraken(["BTC/USD"]).rate_per_sec(200.0).start().expect("a free port");
    let mut client = dial(&venue);
    assert_eq!(next(&mut client)["channel"], "status");
    let book = |depth: u32, pair: &str| json!({ "method": "subscribe", "params": { "channel": "book", "symbol": [pair], "depth": depth }, "req_id": 9 });
    say(&mut client, &book(25, "BTC/USD"));
    let answer = next(&mut client);
    assert_eq!(
        (&answer["success"], &answer["result"]["depth"], &answer["req_id"]),
        (&json!(true), &json!(25), &json!(9))
    );
    let snapshot = next(&mut client);
    assert_eq!((&snapshot["channel"], &snapshot["type"]), (&json!("book"), &json!("snapshot")));
    assert_eq!(snapshot["data"][0]["bids"].as_array().map(Vec::len), Some(25));
    assert!(snapshot["data"][0]["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert!(next_of(&mut client, "update")["data"][0]["checksum"].is_u64());
    for request in [book(11, "BTC/USD"), book(10, "X/Y")] {
        say(&mut client, &request);
        let refused = std::iter::repeat_with(|| next(&mut client)).find(|message| !message["error"].is_null());
        assert_eq!(refused.expect("it comes")["success"], false);
    }
}

#[test]
fn okx_lets_in_who_signs_with_the_right_key_now_and_nobody_else() {
    let venue = Venue::okx(ApiKey::new("key", "secret", "words")).start().expect("a free port");
    let mut client = dial(&venue);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let login = |key: &str, secret: &str, words: &str, at: u64| {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let sign = STANDARD.encode(hmac::sign(&secret, format!("{at}GET/users/self/verify").as_bytes()));
        let args = json!({ "apiKey": key, "passphrase": words, "timestamp": at.to_string(), "sign": sign });
        json!({ "op": "login", "args": [args] })
    };
    let subscribe = json!({ "op": "subscribe", "args": [{ "channel": "orders", "instType": "ANY" }] });
    let wrong = [
        (subscribe.clone(), "60011"),
        (login("other", "secret", "words", now), "60005"),
        (login("key", "guessed", "words", now), "60007"),
        (login("key", "secret", "guessed", now), "60024"),
        (login("key", "secret", "words", now - 60), "60006"),
        (json!({ "op": "login", "args": [{ "apiKey": "key" }] }), "60004"),
    ];
    for (request, code) in wrong {
        say(&mut client, &request);
        assert_eq!(next(&mut client)["code"], code, "{request}");
    }
    say(&mut client, &login("key", "secret", "words", now));
    let accepted = next(&mut client);
    assert_eq!((&accepted["event"], &accepted["code"]), (&json!("login"), &json!("0")));
    client.send(Message::text("ping")).expect("the venue reads");
    assert_eq!(next_text(&mut client), "pong");
    say(&mut client, &subscribe);
    assert_eq!(next(&mut client)["event"], "subscribe");
    assert!(next(&mut client)["data"].is_array());
}

#[test]
fn the_secret_of_a_key_is_not_shown() {
    let shown = format!("{:?}", ApiKey::new("key", "hush-secret", "hush-words"));
    assert!(shown.contains("key") && !shown.contains("hush"), "{shown}");
}

#[test]
fn a_history_that_cannot_be_read_is_refused_by_its_line() {
    let start = |lines: &[&str]| {
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        Venue::kraken(["BTC/USD"]).history(Recording::from_messages(lines)).start().map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(start(&[r#"{"channel":"heartbeat"}"#]), Ok(()));
    let error = start(&[r#"{"channel":"heartbeat"}"#, "no JSON"]).expect_err("the second line");
    assert!(error.starts_with("the history: line 2: "), "{error}");
    let book = r#"{"channel":"book","type":"update","data":[{"symbol":"A/B","bids":[],"asks":[],"checksum":1}]}"#;
    let error = start(&[book]).expect_err("it was never subscribed to");
    assert!(error.contains("not subscribed"), "{error}");
}
