//! Promise: anyone may send, from any thread and any handler; what the engine sends by itself, fresh at every dial, comes
//! before the user's own.

mod support {
    pub(crate) mod lines;
}

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use hypersockets::simulator::{Received, Venue};
use hypersockets::{
    Client, ClientBuilder, ClientEvent, ClientState, ConnectionEvent, Delivery, DisconnectReason, EventLoop, HasRouter,
    HasUrl, HeaderProvider, Headers, HyperSocketError, IntoUrl, JsonPassivePing, MessageHandler, Result, RouteOptions,
    SendId, Sender, TextPassivePing, WsMessage,
};
use support::lines::{
    Journal, Lines, PATIENCE, Recorder, connect_failure, live_session, next_session, recorder, soon, texts_of,
};

fn scripted() -> Venue {
    Venue::scripted().start().expect("a free port")
}

fn builder(url: impl IntoUrl, recorder: Recorder) -> ClientBuilder<HasUrl, HasRouter> {
    let builder = hypersockets::builder().url(url);
    builder.router(Lines, |routing| routing.default_handler(recorder)).reconnect_strategy(soon())
}

#[test]
fn eight_threads_send_a_thousand_each_and_all_arrive_once_in_the_order_of_their_ids() {
    const THREADS: usize = 8;
    const SENDS: usize = 1_000;
    let venue = scripted();
    let client = builder(venue.url(), recorder().0).build().expect("the venue accepts");
    let session = next_session(&venue);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let sender = client.sender();
            std::thread::spawn(move || {
                let send = |n| {
                    let text = format!("{thread} {n}");
                    (text.clone(), sender.send(text).expect("live"))
                };
                (0..SENDS).map(send).collect::<Vec<(String, SendId)>>()
            })
        })
        .collect();
    let mut ids = HashMap::new();
    for thread in threads {
        ids.extend(thread.join().expect("it does not panic"));
    }
    let arrived: Vec<_> =
        (0..THREADS * SENDS).map(|_| session.await_text(PATIENCE).expect("all that was sent")).collect();
    session.assert_silent();

    let on_the_wire: Vec<_> = arrived.iter().map(|text| ids[text]).collect();
    assert!(on_the_wire.is_sorted_by(|earlier, later| earlier < later), "ids must follow the order of the wire");
    for thread in 0..THREADS {
        let prefix = format!("{thread} ");
        let numbers = arrived.iter().filter_map(|text| text.strip_prefix(&prefix));
        assert!(numbers.eq((0..SENDS).map(|n| n.to_string())), "thread {thread} overtook itself");
    }
    let report = client.shutdown().expect("not a thread of the engine");
    assert_eq!(report.metrics.messages_sent as usize, THREADS * SENDS);
    assert_eq!(report.metrics.sends_dropped, 0);
    venue.assert_protocol_kept();
}

#[test]
fn binary_and_empty_and_large_messages_arrive_as_they_are() {
    let venue = scripted();
    let client = builder(venue.url(), recorder().0).build().expect("the venue accepts");
    let session = next_session(&venue);
    for bytes in [vec![], vec![0xFF; 125], vec![0xFE; 126], vec![7; 65_535], vec![8; 65_536], vec![9; 3 << 20]] {
        client.send(bytes.clone()).expect("live");
        assert!(session.await_message(PATIENCE).expect("a message") == Received::Binary(bytes));
    }
    client.send("").expect("live");
    session.assert_received("");
}

/// Answers each message.
struct Echo;

impl MessageHandler<String> for Echo {
    fn handle(&mut self, _line: String) -> Result<()> {
        unreachable!("messages come by handle_delivery")
    }

    fn handle_delivery(&mut self, line: String, delivery: &mut Delivery<'_>) -> Result<()> {
        delivery.send(format!("re: {line}").into()).map(drop)
    }
}

#[test]
fn handlers_answer_from_their_thread_and_inline_while_others_send() {
    const ROUNDS: usize = 1_000;
    for options in [RouteOptions::new(), RouteOptions::new().inline()] {
        let venue = scripted();
        let client = hypersockets::builder()
            .url(venue.url())
            .router(Lines, |routing| routing.handler_with("ASK".to_owned(), Echo, options))
            .build()
            .expect("the venue accepts");
        let session = next_session(&venue);
        let sender = client.sender();
        let sending = std::thread::spawn(move || {
            for n in 0..5 * ROUNDS {
                sender.send(format!("own {n}")).expect("live");
            }
        });
        (0..ROUNDS).for_each(|n| session.send_text(format!("ASK {n}")));
        sending.join().expect("it does not panic");
        let texts: Vec<_> = (0..6 * ROUNDS).map(|_| session.await_text(PATIENCE).expect("all that was sent")).collect();
        session.assert_silent();
        let (answers, own): (Vec<_>, Vec<_>) = texts.into_iter().partition(|text| text.starts_with("re: "));
        assert!(answers.into_iter().eq((0..ROUNDS).map(|n| format!("re: ASK {n}"))));
        assert!(own.into_iter().eq((0..5 * ROUNDS).map(|n| format!("own {n}"))));
        let metrics = client.shutdown().expect("not a thread of the engine").metrics;
        assert_eq!((metrics.handler_errors, metrics.sends_dropped), (0, 0));
        venue.assert_protocol_kept();
    }
}

/// Sends as soon as it is told that the client is live.
struct Opener {
    sender: Sender,
    outcomes: mpsc::Sender<Result<SendId>>,
}

impl MessageHandler<String> for Opener {
    fn handle(&mut self, _line: String) -> Result<()> {
        Ok(())
    }

    fn on_event(&mut self, event: &ConnectionEvent) {
        if let ConnectionEvent::Live { epoch } = event {
            let outcome = self.sender.send_in_epoch(*epoch, "order");
            self.outcomes.send(outcome).expect("the test waits for it");
        }
    }
}

#[test]
fn a_handler_that_hears_of_a_session_can_send_in_it_behind_the_subscriptions() {
    for options in [RouteOptions::new(), RouteOptions::new().inline()] {
        let venue = scripted();
        let (outcomes, coming) = mpsc::channel();
        let client = hypersockets::builder()
            .url(venue.url())
            .router(Lines, |routing| {
                let sender = routing.sender();
                let early = sender.send("too early").expect_err("there is no client yet");
                assert!(matches!(early, HyperSocketError::NotConnected), "{early}");
                routing.handler_with("BTC".to_owned(), Opener { sender, outcomes }, options)
            })
            .subscriptions(["subscribe BTC", "subscribe ETH"].map(WsMessage::text).to_vec())
            .reconnect_strategy(soon())
            .build()
            .expect("the venue accepts");
        for number in 1..=3 {
            let session = next_session(&venue);
            coming.recv_timeout(PATIENCE).expect("told of Live").expect("and live it is");
            for text in ["subscribe BTC", "subscribe ETH", "order"] {
                session.assert_received(text);
            }
            session.assert_silent();
            assert_eq!(session.number(), number);
            session.drop_fin();
        }
        drop(client);
    }
}

#[test]
fn no_user_message_overtakes_a_subscription() {
    let venue = scripted();
    let subscriptions: Vec<_> = (0..100).map(|n| WsMessage::text(format!("subscribe {n}"))).collect();
    let builder = builder(venue.url(), recorder().0).subscriptions(subscriptions.clone());
    let client = builder.start().expect("a valid configuration");
    let sender = client.sender();
    let sending = std::thread::spawn(move || {
        let is_down = |outcome: &Result<SendId>| matches!(outcome, Err(HyperSocketError::NotConnected));
        let deadline = std::time::Instant::now() + PATIENCE;
        while is_down(&sender.send("eager")) {
            assert!(std::time::Instant::now() < deadline, "never live");
            std::thread::yield_now();
        }
    });
    let session = live_session(&client, &venue);
    for subscription in &subscriptions {
        session.assert_received(subscription.as_text().expect("a text"));
    }
    session.assert_received("eager");
    sending.join().expect("it does not panic");
}

#[test]
fn the_heartbeat_beats_in_every_session() {
    let venue = scripted();
    let every = Duration::from_millis(5);
    let builder = builder(venue.url(), recorder().0).heartbeat(every, WsMessage::text(r#"{"method":"ping"}"#));
    let _client = builder.subscription("subscribe").build().expect("the venue accepts");
    for _ in 0..2 {
        let session = next_session(&venue);
        session.assert_received("subscribe");
        (0..5).for_each(|_| session.assert_received(r#"{"method":"ping"}"#));
        session.drop_fin();
    }
}

#[test]
fn a_ping_frame_is_sent_into_silence_and_silence_after_it_is_the_end() {
    let venue = scripted();
    let (recorder, mut journal) = recorder();
    let builder = builder(venue.url(), recorder).ping(Duration::from_millis(5), Duration::from_secs(1));
    let _client = builder.build().expect("the venue accepts");
    let session = next_session(&venue);
    (0..3).for_each(|_| drop(session.await_ping(PATIENCE).expect("a ping")));
    session.stall();
    assert_eq!(journal.until_lost(), (1, DisconnectReason::PongTimeout));
    journal.until_live(2);
}

#[test]
fn a_passive_ping_is_answered_and_seen_by_nobody_else() {
    let venue = scripted();
    let (recorder, mut journal) = recorder();
    let builder = builder(venue.url(), recorder).passive_ping(TextPassivePing::new("ping", WsMessage::text("pong")));
    let client = builder.build().expect("the venue accepts");
    let session = next_session(&venue);
    for line in ["BTC 1", "ping", "ping pong", "ping", "BTC 2"] {
        session.send_text(line);
    }
    journal.until_message("BTC 2");
    (0..2).for_each(|_| session.assert_received("pong"));
    session.assert_silent();
    assert_eq!(journal.messages(), ["BTC 1", "ping pong", "BTC 2"]);
    let metrics = client.metrics();
    assert_eq!((metrics.passive_pings_answered, metrics.messages_received, metrics.messages_parsed), (2, 5, 3));
}

#[test]
fn a_json_ping_counts_at_the_top_level_only() {
    let venue = scripted();
    let (recorder, mut journal) = recorder();
    let pong = r#"{"op":"pong"}"#;
    let detector = JsonPassivePing::new("op", "ping", WsMessage::text(pong));
    let _client = builder(venue.url(), recorder).passive_ping(detector).build().expect("the venue accepts");
    let session = next_session(&venue);
    let look_alikes =
        [r#"{"data":{"op":"ping"}}"#, r#"["op","ping"]"#, r#"{"op":"pong","of":"ping"}"#, r#"{"op":"ping"#];
    session.send_text(r#"{"ts":1,"op":"ping"}"#);
    look_alikes.iter().for_each(|text| session.send_text(*text));
    session.send_text(r#"{ "op" : "ping" , "data": {"op":"no ping"} }"#);
    session.send_text("last");
    journal.until_message("last");
    (0..2).for_each(|_| session.assert_received(pong));
    session.assert_silent();
    assert_eq!(journal.messages()[..look_alikes.len()], look_alikes);
    assert_eq!(journal.messages().len(), look_alikes.len() + 1);
}

#[track_caller]
fn assert_no_byte_leaves(venue: &Venue, built: Result<Client>) {
    match connect_failure(built) {
        DisconnectReason::Provider(what) | DisconnectReason::InvalidHeader(what) => {
            assert!(!what.contains("secret"), "{what}");
        }
        other => panic!("awaited a provider's error, came {other:?}"),
    }
    assert_eq!(venue.connections_accepted(), 0);
}

/// Headers from a closure.
struct Made<F>(F);

impl<F: Fn() -> Headers + Send + Sync + 'static> HeaderProvider for Made<F> {
    fn get_headers(&self) -> Headers {
        (self.0)()
    }
}

#[test]
fn headers_are_fresh_at_every_dial() {
    let venue = scripted();
    let dials = AtomicUsize::new(0);
    let headers = Made(move || {
        let dial = dials.fetch_add(1, Ordering::Relaxed) + 1;
        Headers::from([("X-Dial".to_owned(), dial.to_string()), ("X-Key".to_owned(), "secret".to_owned())])
    });
    let _client = builder(venue.url(), recorder().0).headers(headers).build().expect("the venue accepts");
    for dial in 1..=3 {
        let session = next_session(&venue);
        let value = |name: &str| session.headers().into_iter().find(|(had, _)| had == name).map(|(_, value)| value);
        assert_eq!(value("X-Dial"), Some(dial.to_string()));
        assert_eq!(value("X-Key").as_deref(), Some("secret"));
        session.drop_fin();
    }
}

#[test]
fn a_header_that_would_break_the_request_is_an_error_before_a_byte_leaves() {
    let forbidden = [
        ("Host", "secret"),
        ("upgrade", "secret"),
        ("Connection", "secret"),
        ("Sec-WebSocket-Key", "secret"),
        ("sec-websocket-extensions", "secret"),
        ("X-Ok", "secret\r\nX-Not: ok"),
        ("X-Ok", "secret\0"),
        ("X Not", "secret"),
        ("", "secret"),
    ];
    let venue = scripted();
    for (name, value) in forbidden {
        let headers = Made(move || Headers::from([(name.to_owned(), value.to_owned())]));
        assert_no_byte_leaves(&venue, builder(venue.url(), recorder().0).headers(headers).build());
    }
}

#[test]
fn the_url_closure_is_asked_at_every_dial() {
    let venue = scripted();
    let (url, dials) = (venue.url(), AtomicUsize::new(0));
    let fresh = move || Ok(format!("{url}?token={}", dials.fetch_add(1, Ordering::Relaxed) + 1));
    let _client = builder(fresh, recorder().0).build().expect("the venue accepts");
    for dial in 1..=3 {
        let session = next_session(&venue);
        assert_eq!(session.path(), format!("/ws?token={dial}"));
        session.drop_fin();
    }
}

#[test]
fn a_url_closure_that_errs_costs_a_dial() {
    let venue = scripted();
    let (url, dials) = (venue.url(), AtomicUsize::new(0));
    let fresh = move || match dials.fetch_add(1, Ordering::Relaxed) {
        0 => Err("no listen key yet".into()),
        _ => Ok(url.clone()),
    };
    let (recorder, mut journal): (Recorder, Journal) = recorder();
    let client = builder(fresh, recorder).start().expect("a valid configuration");
    let failed = client.events().next_timeout(PATIENCE);
    assert!(
        matches!(&failed, Some(ClientEvent::DialFailed { reason: DisconnectReason::Provider(_), .. })),
        "{failed:?}"
    );
    journal.until_live(1);
}

#[test]
fn the_venues_choice_of_a_subprotocol_is_told_and_a_name_that_is_none_never_leaves() {
    let venue = scripted();
    let client = builder(venue.url(), recorder().0).subprotocol("json.v2").build().expect("the venue accepts");
    assert_eq!(client.subprotocol(), None, "a venue may choose none");
    let session = next_session(&venue);
    let offered = session.headers().into_iter().find(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Protocol"));
    assert_eq!(offered.map(|(_, value)| value).as_deref(), Some("json.v2"));
    for wrong in ["", "two words", "a,b"] {
        let built = builder(venue.url(), recorder().0).subprotocol(wrong).start();
        assert!(matches!(built, Err(HyperSocketError::InvalidConfig(_))), "{wrong:?}");
    }
}

#[test]
fn what_was_queued_for_a_session_never_leaves_in_the_next() {
    const MANY: usize = 100_000;
    let venue = scripted();
    let mut event_loop = EventLoop::new().expect("descriptors");
    let client = event_loop.add(builder(venue.url(), recorder().0)).expect("a valid configuration");
    let turn_until_live = |event_loop: &mut EventLoop, epoch: u64| {
        while client.epoch() < epoch || client.state() != ClientState::Live {
            event_loop.turn();
        }
        next_session(&venue)
    };
    let first = turn_until_live(&mut event_loop, 1);
    // More than the loop takes in the turns that a dial needs: some wait still when the next session is live.
    for n in 0..MANY {
        client.send(format!("old {n}")).expect("live, and small");
    }
    first.drop_rst();
    first.await_end(PATIENCE).expect("it is gone");
    let second = turn_until_live(&mut event_loop, 2);
    client.send("new").expect("live");
    while client.metrics().messages_sent < 1 || texts_of(&venue, second.number()).is_empty() {
        event_loop.turn();
    }
    assert_eq!(texts_of(&venue, second.number()), ["new"]);
}
