//! Promise: two hundred lost connections in a row are two hundred sessions like the first. Headers, URL, login and
//! subscriptions are made anew for each and go out once, in their order; each message is handled once, in order, in its
//! epoch; and every route's queue tells where each session begins and ends.

mod support {
    pub(crate) mod lines;
}

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hypersockets::simulator::{Session, Venue};
use hypersockets::{
    AuthProvider, Client, ConnectionEvent, Delivery, DisconnectReason, FixedDelay, HeaderProvider, Headers,
    MessageHandler, Result, RouteOptions, TlsOptions, WsMessage,
};
use support::lines::{Journal, Lines, PATIENCE, Recorder, Seen, next_session, recorder};

const DISCONNECTS: u64 = 200;
const LINES_A_SESSION: usize = 200;
const ROUTES: [&str; 2] = ["INLINE", "THREAD"];

/// How a session ends, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Fin,
    Rst,
    Restart,
    GoingAway,
    Violation,
}

const MANNERS: [Manner; 5] = [Manner::Fin, Manner::Rst, Manner::Restart, Manner::GoingAway, Manner::Violation];

impl Manner {
    fn of(session: u64) -> Self {
        MANNERS[session as usize % MANNERS.len()]
    }

    /// Ends the session behind everything that was sent in it.
    fn end(self, session: &Session) {
        match self {
            Manner::Fin => session.drop_fin(),
            Manner::Rst => session.drop_rst(),
            Manner::Restart => session.close(1012, "restart"),
            Manner::GoingAway => session.close(1001, ""),
            Manner::Violation => {
                // A frame with reserved bits, and one behind it that would be in order.
                session.send_raw(*b"\xF1\x01x\x81\x0DTHREAD poison");
                assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1002));
            }
        }
    }

    fn is_reason(self, reason: &DisconnectReason) -> bool {
        let closed = |with, why: &str| *reason == DisconnectReason::ClosedByPeer { code: with, reason: why.to_owned() };
        match self {
            Manner::Fin => *reason == DisconnectReason::EndOfStream,
            Manner::Rst => matches!(reason, DisconnectReason::Broken(_)),
            Manner::Restart => closed(Some(1012), "restart"),
            Manner::GoingAway => closed(Some(1001), ""),
            Manner::Violation => matches!(reason, DisconnectReason::ProtocolViolation(_)),
        }
    }
}

/// Counts the dials by what it is asked for.
struct Fresh(AtomicU64);

impl Fresh {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn number(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl HeaderProvider for Fresh {
    fn get_headers(&self) -> Headers {
        Headers::from([("X-Dial".to_owned(), self.number().to_string())])
    }
}

/// Takes no acceptance but that of its latest login.
struct Login(Fresh);

impl AuthProvider for Login {
    fn get_auth_message(&self) -> Result<Option<WsMessage<'_>>> {
        Ok(Some(format!("login {}", self.0.number()).into()))
    }

    fn validate_auth_response(&self, response: &WsMessage<'_>) -> Result<bool> {
        match response.as_text().and_then(|text| text.strip_prefix("welcome ")) {
            Some(number) if number == self.0.0.load(Ordering::Relaxed).to_string() => Ok(true),
            Some(_) => Err("an acceptance of another login".into()),
            None => Ok(false),
        }
    }
}

/// Writes everything down and answers each line but the first of a session.
struct Trader {
    recorder: Recorder,
}

impl MessageHandler<String> for Trader {
    fn handle(&mut self, _line: String) -> Result<()> {
        unreachable!("messages come by handle_delivery")
    }

    fn handle_delivery(&mut self, line: String, delivery: &mut Delivery<'_>) -> Result<()> {
        // Line 0 of a session may be handled before it is accepted, or after.
        if !line.ends_with(" 0") {
            // Refused where the session is over by now.
            let _ = delivery.send(format!("order for {line}").into());
        }
        self.recorder.handle_delivery(line, delivery)
    }

    fn on_event(&mut self, event: &ConnectionEvent) {
        self.recorder.on_event(event);
    }

    fn on_stop(&mut self) {
        self.recorder.on_stop();
    }
}

/// A client that has everything made anew at each dial, with an inline route and one with a thread.
fn client_of(venue: &Venue, tls: TlsOptions) -> (Client, [Journal; 2]) {
    let [(inline, inline_journal), (thread, thread_journal)] = [recorder(), recorder()];
    let (url, urls, subscriptions) = (venue.url(), Fresh::new(), Arc::new(Fresh::new()));
    let client = hypersockets::builder()
        .url(move || Ok(format!("{url}?dial={}", urls.number())))
        .router(Lines, |routing| {
            let inline = Trader { recorder: inline };
            let thread = Trader { recorder: thread };
            let routing = routing.handler_with(ROUTES[0].to_owned(), inline, RouteOptions::new().inline());
            routing.handler(ROUTES[1].to_owned(), thread)
        })
        .headers(Fresh::new())
        .auth(Login(Fresh::new()))
        .subscription("subscribe fixed")
        .subscription(move || Ok(format!("subscribe {}", subscriptions.number()).into()))
        .reconnect_strategy(FixedDelay::new(Duration::from_millis(1), None))
        .tls(tls)
        .start()
        .expect("a valid configuration");
    (client, [inline_journal, thread_journal])
}

/// What the engine sends by itself in a session, in its order.
fn own_texts(session: u64) -> [String; 3] {
    [format!("login {session}"), "subscribe fixed".to_owned(), format!("subscribe {session}")]
}

/// Line 0 comes before the acceptance.
fn line(route: &str, session: u64, number: usize) -> String {
    format!("{route} {session} {number}")
}

/// The venue's part in a session, up to its last line.
fn play(session: &Session, number: u64) {
    assert_eq!((session.number(), session.path()), (number, format!("/ws?dial={number}").as_str()));
    let headers = session.headers();
    let dials: Vec<_> = headers.iter().filter(|(name, _)| name == "X-Dial").map(|(_, value)| value).collect();
    assert_eq!(dials, [&number.to_string()]);
    let [login, fixed, fresh] = own_texts(number);
    session.assert_received(&login);
    ROUTES.iter().for_each(|route| session.send_text(line(route, number, 0)));
    session.assert_silent();
    session.send_text(format!("welcome {number}"));
    session.assert_received(&fixed);
    session.assert_received(&fresh);
    for n in 1..LINES_A_SESSION {
        ROUTES.iter().for_each(|route| session.send_text(line(route, number, n)));
    }
}

/// One session as a route's queue tells of it; returns how many of its lines were handled.
fn judge<'a>(entries: &mut impl Iterator<Item = &'a Seen>, route: &str, session: u64) -> (usize, DisconnectReason) {
    let epoch = session;
    let message = |number| Seen::Message { epoch, text: line(route, session, number) };
    assert_eq!(entries.next(), Some(&message(0)), "before the acceptance, in the epoch that it begins");
    assert_eq!(entries.next(), Some(&Seen::Event(ConnectionEvent::Live { epoch })));
    let mut handled = 1;
    loop {
        match entries.next() {
            Some(Seen::Event(ConnectionEvent::Lost { epoch: ended, reason, .. })) if *ended == epoch => {
                return (handled, reason.clone());
            }
            seen => assert_eq!(seen, Some(&message(handled)), "session {session}"),
        }
        handled += 1;
    }
}

/// Asserts that a session's texts are the engine's own, once each, and then the orders of each route, in their order
/// up to some line.
fn assert_heard(texts: &[String], session: u64) {
    assert_eq!(texts[..3], own_texts(session), "session {session}");
    let mut next = HashMap::from(ROUTES.map(|route| (route, 1)));
    for text in &texts[3..] {
        let order = text.strip_prefix("order for ").unwrap_or_else(|| panic!("session {session}: {text}"));
        let route = order.split(' ').next().unwrap_or_default();
        let number = next.get_mut(route).unwrap_or_else(|| panic!("session {session}: {text}"));
        assert_eq!(order, line(route, session, *number));
        *number += 1;
    }
}

fn survives_two_hundred_disconnects(venue: &Venue, tls: TlsOptions) {
    let (client, mut journals) = client_of(venue, tls);
    for number in 1..=DISCONNECTS {
        let session = next_session(venue);
        play(&session, number);
        let manner = Manner::of(number);
        if manner == Manner::Rst {
            // What an RST overtakes is lost, so it waits until the load flows.
            journals[1].until_message(&line(ROUTES[1], number, LINES_A_SESSION / 4));
        }
        manner.end(&session);
    }
    let last = DISCONNECTS + 1;
    let session = next_session(venue);
    play(&session, last);
    for (journal, route) in journals.iter_mut().zip(ROUTES) {
        journal.until_message(&line(route, last, LINES_A_SESSION - 1));
    }
    let report = client.shutdown().expect("not a thread of the engine");
    assert!(report.complete && report.unhandled == 0, "{report:?}");
    session.await_end(PATIENCE).expect("both sides are done");

    for (journal, route) in journals.iter_mut().zip(ROUTES) {
        journal.assert_stopped_once();
        let mut entries = journal.all().iter();
        for number in 1..=DISCONNECTS {
            let (handled, reason) = judge(&mut entries, route, number);
            let manner = Manner::of(number);
            assert!(manner.is_reason(&reason), "session {number}: {manner:?} was told as {reason:?}");
            let least = if manner == Manner::Rst { 2 } else { LINES_A_SESSION };
            assert!((least..=LINES_A_SESSION).contains(&handled), "session {number}: {handled} after {manner:?}");
        }
        assert_eq!(judge(&mut entries, route, last), (LINES_A_SESSION, DisconnectReason::Shutdown));
        assert_eq!(entries.next(), Some(&Seen::Stop));
    }
    let mut heard: HashMap<u64, Vec<String>> = HashMap::new();
    for (number, text) in venue.received() {
        heard.entry(number).or_default().push(text);
    }
    (1..=last).for_each(|number| assert_heard(&heard[&number], number));
    let metrics = report.metrics;
    assert_eq!((metrics.dials, metrics.reconnect_count, metrics.auth_messages), (last, DISCONNECTS, last));
    assert_eq!((metrics.handler_errors, metrics.parse_errors, metrics.unrouted), (0, 0, 0));
    venue.assert_protocol_kept();
}

#[test]
fn two_hundred_disconnects_over_ws() {
    let venue = Venue::scripted().start().expect("a free port");
    survives_two_hundred_disconnects(&venue, TlsOptions::new());
}

#[test]
fn two_hundred_disconnects_over_wss() {
    let venue = Venue::scripted().tls().start().expect("a free port");
    let root = venue.root_certificate_der().expect("it speaks TLS");
    survives_two_hundred_disconnects(&venue, TlsOptions::new().add_root_der(root).only_added_roots());
}
