//! Promise: a handler or a parser that errs, panics or hangs costs the one message, or its own route's time. It is counted
//! and reported, the route goes on, and the others feel nothing.

mod support {
    pub(crate) mod lines;
}

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Once;

use hypersockets::simulator::Venue;
use hypersockets::{
    Client, ClientEvent, ConnectionEvent, HyperSocketError, MessageHandler, MessageRouter, Metrics, Parsed,
    PassivePingDetector, Result, RouteOptions, WsMessage,
};
use support::lines::{Lines, PATIENCE, Recorder, gate, gated_recorder, next_session, recorder, soon};

/// Panics on purpose print nothing; all others do.
fn hush() {
    static HUSHED: Once = Once::new();
    HUSHED.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let on_purpose = panic.payload().downcast_ref::<&str>().is_some_and(|text| text.contains(ON_PURPOSE));
            if !on_purpose {
                loud(panic);
            }
        }));
    });
}

const ON_PURPOSE: &str = "on purpose";

#[track_caller]
fn shut_down(client: &Client) -> Metrics {
    let report = client.shutdown().expect("not a thread of the engine");
    assert!(report.complete && report.unhandled == 0, "{report:?}");
    report.metrics
}

fn all_events(client: &Client) -> Vec<ClientEvent> {
    let events = client.events();
    std::iter::from_fn(|| events.try_next()).collect()
}

fn number_of(line: &str) -> usize {
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("the venue numbers its lines")
}

/// Errs at every even message and panics at every odd one; counts what it was given.
struct Faulty {
    given: crossbeam_channel::Sender<usize>,
}

impl MessageHandler<String> for Faulty {
    fn handle(&mut self, line: String) -> Result<()> {
        let number = number_of(&line);
        self.given.send(number).map_err(|_| "the test is over")?;
        match number % 2 {
            0 => Err("erred on purpose".into()),
            _ => panic!("on purpose"),
        }
    }

    fn on_event(&mut self, _event: &ConnectionEvent) {
        panic!("on purpose");
    }

    fn on_batch_end(&mut self) {
        panic!("on purpose");
    }

    fn on_stop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn a_handler_that_fails_two_thousand_times_is_given_every_message() {
    const MESSAGES: usize = 2_000;
    hush();
    for options in [RouteOptions::new(), RouteOptions::new().inline()] {
        let venue = Venue::scripted().start().expect("a free port");
        let (given, coming) = crossbeam_channel::unbounded();
        let (good, mut good_journal) = recorder();
        let client = hypersockets::builder()
            .url(venue.url())
            .router(Lines, |routing| {
                routing.handler_with("BAD".to_owned(), Faulty { given }, options).handler("GOOD".to_owned(), good)
            })
            .build()
            .expect("the venue accepts");
        let session = next_session(&venue);
        for n in 0..MESSAGES {
            session.send_text(format!("BAD {n}"));
            session.send_text(format!("GOOD {n}"));
        }
        good_journal.until_message(&format!("GOOD {}", MESSAGES - 1));
        let metrics = shut_down(&client);

        assert!(coming.try_iter().eq(0..MESSAGES), "given each, in order");
        let good_messages = good_journal.messages();
        assert!((0..MESSAGES).all(|n| good_messages[n] == format!("GOOD {n}")));
        let [bad, good] = &metrics.routes[..] else { panic!("two routes: {metrics:?}") };
        assert_eq!((bad.route.as_str(), bad.handled, bad.errors), ("\"BAD\"", MESSAGES as u64, MESSAGES as u64 / 2));
        // And Live, Lost, on_stop, and every end of a batch.
        assert!(bad.panics >= MESSAGES as u64 / 2 + 3, "{bad:?}");
        assert_eq!((good.handled, good.errors, good.panics), (MESSAGES as u64, 0, 0));
        assert_eq!((metrics.handler_errors, metrics.handler_panics), (bad.errors, bad.panics));

        // Told of as far as the queue goes, counted beyond: Live, Lost and Closed are events too.
        let told = all_events(&client);
        let failures = bad.errors + bad.panics;
        assert_eq!(told.len() as u64 + client.metrics().events_dropped, failures + 3);
        assert!(client.metrics().events_dropped > 0, "a queue without a bound");
        let of_bad = |error: &str| {
            let event = ClientEvent::HandlerFailed { route: "\"BAD\"".to_owned(), error: error.to_owned() };
            told.iter().filter(|told| **told == event).count()
        };
        assert!(of_bad("erred on purpose") > 0 && of_bad("panicked: on purpose") > 0, "{:?}", told.first());
    }
}

/// Parses lines; some of them badly. The route is the first word, and some routes are bad too.
struct BadRouter;

/// A route that may panic when it is hashed or printed.
#[derive(Clone, PartialEq, Eq)]
struct BadKey(String);

impl Hash for BadKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(self.0 != "HASH", "on purpose");
        self.0.hash(state);
    }
}

impl fmt::Debug for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(self.0 != "DEBUG", "on purpose");
        self.0.fmt(f)
    }
}

impl MessageRouter for BadRouter {
    type Message = String;
    type RouteKey = BadKey;

    fn parse(&self, message: WsMessage<'_>) -> Result<String> {
        let text = message.as_text().ok_or("a binary message")?;
        match text.split(' ').next() {
            Some("ERR") => Err(HyperSocketError::Parse("on purpose".to_owned())),
            Some("PANIC") => panic!("on purpose"),
            Some("SKIP") => Err(HyperSocketError::Skip),
            _ => Ok(text.to_owned()),
        }
    }

    /// One message a part; what stands before a bad part is good.
    fn parse_each(&self, raw: WsMessage<'_>, out: &mut Parsed<'_, String>) -> Result<()> {
        let text = raw.as_text().ok_or("a binary message")?;
        for part in text.split(';') {
            out.push(self.parse(WsMessage::text(part))?);
        }
        Ok(())
    }

    fn route_key(&self, line: &String) -> BadKey {
        let key = line.split(' ').next().unwrap_or_default();
        assert!(key != "KEY", "on purpose");
        BadKey(key.to_owned())
    }
}

/// Whose one handler is told of the good messages.
fn client_with_bad_router(venue: &Venue, recorder: Recorder) -> Client {
    hypersockets::builder()
        .url(venue.url())
        .router(BadRouter, |routing| routing.handler(BadKey("GOOD".to_owned()), recorder))
        .build()
        .expect("the venue accepts")
}

#[test]
fn a_parser_that_fails_a_thousand_times_costs_the_bad_messages_only() {
    const ROUNDS: u64 = 1_000;
    hush();
    let venue = Venue::scripted().start().expect("a free port");
    let (recorder, mut journal) = recorder();
    let client = client_with_bad_router(&venue, recorder);
    let session = next_session(&venue);
    for n in 0..ROUNDS {
        for bad in ["ERR", "PANIC", "SKIP", "KEY"] {
            session.send_text(format!("{bad} {n}"));
        }
        session.send_text(format!("GOOD {n};ERR {n};GOOD never"));
    }
    session.send_binary([1, 2, 3]);
    session.send_text("GOOD last");
    journal.until_message("GOOD last");
    let metrics = shut_down(&client);

    let messages = journal.messages();
    assert_eq!(messages.len() as u64, ROUNDS + 1);
    assert!((0..ROUNDS).all(|n| messages[n as usize] == format!("GOOD {n}")));
    assert_eq!(metrics.messages_received, 5 * ROUNDS + 2);
    assert_eq!(metrics.parse_errors, 2 * ROUNDS + 1);
    assert_eq!(metrics.parse_panics, 2 * ROUNDS, "parse and route_key");
    assert_eq!(metrics.skipped, ROUNDS);
    assert_eq!(metrics.messages_parsed, 2 * ROUNDS + 1, "those whose key panics were parsed");
    assert_eq!((metrics.unrouted, metrics.reconnect_count, metrics.handler_errors), (0, 0, 0));
    let told = all_events(&client);
    assert!(told.contains(&ClientEvent::ParseFailed { error: "panicked: on purpose".to_owned() }));
    assert!(told.contains(&ClientEvent::ParseFailed { error: "message could not be parsed: on purpose".to_owned() }));
    // Skipping is no fault. Each fault was told or counted, and so were Live, Lost and Closed.
    assert_eq!(told.len() as u64 + client.metrics().events_dropped, metrics.parse_errors + metrics.parse_panics + 3);
}

#[test]
fn a_route_key_that_panics_when_hashed_or_printed_costs_its_message_only() {
    hush();
    let venue = Venue::scripted().start().expect("a free port");
    let (recorder, mut journal) = recorder();
    let client = client_with_bad_router(&venue, recorder);
    let session = next_session(&venue);
    for line in ["HASH 1", "GOOD 1", "DEBUG 1", "GOOD 2", "HASH 2", "GOOD 3"] {
        session.send_text(line);
    }
    journal.until_message("GOOD 3");
    let metrics = shut_down(&client);
    assert_eq!(journal.messages(), ["GOOD 1", "GOOD 2", "GOOD 3"]);
    assert_eq!((metrics.parse_panics, metrics.unrouted, metrics.reconnect_count), (3, 1, 0));
}

#[test]
fn messages_of_no_route_are_counted_and_reported_or_go_to_the_default_handler() {
    for has_default in [false, true] {
        let venue = Venue::scripted().start().expect("a free port");
        let (btc, mut btc_journal) = recorder();
        let (rest, mut rest_journal) = recorder();
        let client = hypersockets::builder()
            .url(venue.url())
            .router(Lines, |routing| {
                let routing = routing.handler("BTC".to_owned(), btc);
                if has_default { routing.default_handler(rest) } else { routing }
            })
            .build()
            .expect("the venue accepts");
        let session = next_session(&venue);
        for line in ["NEW 1", "BTC 1", "NEW 2", "NEWER 1", "BTC 2"] {
            session.send_text(line);
        }
        btc_journal.until_message("BTC 2");
        let metrics = shut_down(&client);
        assert_eq!(btc_journal.messages(), ["BTC 1", "BTC 2"]);
        let told = all_events(&client);
        let unrouted = |route: &str| ClientEvent::Unrouted { route: format!("{route:?}") };
        if has_default {
            assert_eq!(rest_journal.messages(), ["NEW 1", "NEW 2", "NEWER 1"]);
            assert_eq!(metrics.unrouted, 0);
            assert!(!told.iter().any(|event| matches!(event, ClientEvent::Unrouted { .. })), "{told:?}");
        } else {
            assert_eq!(metrics.unrouted, 3);
            assert!(told.contains(&unrouted("NEW")) && told.contains(&unrouted("NEWER")), "{told:?}");
        }
    }
}

#[test]
fn a_handler_that_hangs_delays_no_other_route_and_no_pong() {
    let venue = Venue::scripted().start().expect("a free port");
    let (keeper, gate) = gate();
    let (slow, mut slow_journal) = gated_recorder(gate);
    let (fast, mut fast_journal) = recorder();
    let (inline, mut inline_journal) = recorder();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| {
            routing.handler("SLOW".to_owned(), slow).handler("FAST".to_owned(), fast).handler_with(
                "INLINE".to_owned(),
                inline,
                RouteOptions::new().inline(),
            )
        })
        .build()
        .expect("the venue accepts");
    let session = next_session(&venue);
    for n in 0..1_000 {
        session.send_text(format!("SLOW {n}"));
    }
    for n in 0..100 {
        session.send_text(format!("FAST {n}"));
        session.send_text(format!("INLINE {n}"));
        session.send_ping(format!("{n}"));
        fast_journal.until_message(&format!("FAST {n}"));
        inline_journal.until_message(&format!("INLINE {n}"));
        assert_eq!(session.await_pong(PATIENCE).expect("a pong"), n.to_string().as_bytes());
    }
    let slow_route = &client.metrics().routes[0];
    assert_eq!((slow_route.queued, slow_route.handled, slow_route.depth), (1_000, 0, 1_000));
    assert_eq!(client.metrics().pings_answered, 100);
    keeper.open();
    shut_down(&client);
    assert_eq!(slow_journal.messages().len(), 1_000);
}

/// Panics at what it does not like.
struct BadDetector;

impl PassivePingDetector for BadDetector {
    fn is_ping(&self, message: &WsMessage<'_>) -> bool {
        assert!(message.as_text() != Some("BTC bad"), "on purpose");
        message.as_text() == Some("ping")
    }

    fn get_pong_response(&self) -> WsMessage<'_> {
        panic!("on purpose")
    }
}

#[test]
fn a_ping_detector_that_panics_has_seen_no_ping() {
    hush();
    let venue = Venue::scripted().start().expect("a free port");
    let (recorder, mut journal) = recorder();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler(recorder))
        .passive_ping(BadDetector)
        .build()
        .expect("the venue accepts");
    let session = next_session(&venue);
    for line in ["BTC bad", "ping", "BTC 1"] {
        session.send_text(line);
    }
    journal.until_message("BTC 1");
    let metrics = shut_down(&client);
    assert_eq!(journal.messages(), ["BTC bad", "ping", "BTC 1"]);
    assert_eq!((metrics.passive_pings_answered, metrics.reconnect_count), (0, 0));
}

#[test]
fn a_provider_that_panics_costs_its_dial_only() {
    hush();
    let venue = Venue::scripted().start().expect("a free port");
    let (url, asked) = (venue.url(), std::sync::atomic::AtomicUsize::new(0));
    let client = hypersockets::builder()
        .url(move || {
            let first = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            assert!(!first, "on purpose");
            Ok(url.clone())
        })
        .router(Lines, |routing| routing.default_handler(recorder().0))
        .reconnect_strategy(soon())
        .start()
        .expect("a valid configuration");
    client.wait_live(PATIENCE).expect("the second dial is good");
    assert_eq!(client.metrics().dials, 2);
}
