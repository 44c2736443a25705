//! Promise: no log line at any level, and no error, event or Debug output, holds a header value, a URL's path or query, an
//! auth message or its answer, a subscription, or a message: neither as text nor as bytes in another spelling. tungstenite
//! logs control frames and fragments that were received, as the crate's documentation says.

mod support {
    pub(crate) mod lines;
}

use std::fmt::{Debug, Display};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use base64::engine::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use hypersockets::simulator::{Session, UpgradePlan, Venue};
use hypersockets::{
    AuthProvider, Client, ClientBuilder, ClientEvent, DisconnectReason, Engine, HasRouter, HasUrl, HeaderProvider,
    Headers, IntoUrl, Result, TlsOptions, WsMessage,
};
use log::Level;
use support::lines::{Journal, Lines, PATIENCE, next_session, recorder, soon, trusting};

/// Fits every place that a secret can be in.
const CANARY: &str = "cAnary-7f3a9c51d2e84b60";

/// One log record, in words.
struct Line {
    level: Level,
    target: String,
    text: String,
}

/// All that was logged, but by the venue's threads: they are the other side of the wire.
static LOGGED: Mutex<Vec<Line>> = Mutex::new(Vec::new());

fn logged() -> MutexGuard<'static, Vec<Line>> {
    LOGGED.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let is_the_venues = std::thread::current().name().is_some_and(|name| name.starts_with("venue-"));
        if !is_the_venues {
            let (level, target) = (record.level(), record.target().to_owned());
            logged().push(Line { level, target, text: record.args().to_string() });
        }
    }

    fn flush(&self) {}
}

fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Capture).expect("no other logger");
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// The ways in which bytes turn up in words.
fn spellings(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let decimal: Vec<_> = bytes.iter().map(u8::to_string).collect();
    let mut spellings = vec![secret.to_owned(), hex.to_uppercase(), hex, decimal.join(", ")];
    for skew in 0..3 {
        let skewed = [&b"..."[..skew], bytes].concat();
        // Digits that are not made of the secret alone depend on what stands beside it.
        let digits = (skew * 8).div_ceil(6)..skewed.len() * 8 / 6;
        spellings.extend([STANDARD, URL_SAFE].map(|alphabet| alphabet.encode(&skewed)[digits.clone()].to_owned()));
    }
    spellings
}

fn shows(text: &str, secret: &str) -> bool {
    spellings(secret).iter().any(|spelling| text.contains(spelling))
}

#[track_caller]
fn assert_hidden(text: &str) {
    assert!(!shows(text, CANARY), "a secret is shown: {text}");
}

#[track_caller]
fn assert_debug_hides(shown: &(impl Debug + ?Sized)) {
    assert_hidden(&format!("{shown:?} {shown:#?}"));
}

/// The error, where both its spellings show nothing.
#[track_caller]
fn hiding<E: Debug + Display>(outcome: std::result::Result<Client, E>) -> E {
    let error = outcome.expect_err("it must fail");
    assert_hidden(&error.to_string());
    assert_debug_hides(&error);
    error
}

#[test]
fn the_search_finds_every_spelling() {
    for text in ["", "a", "ab", "abc", "\u{1}\u{2}\u{3}\u{4}"].map(|before| format!("{before}{CANARY}~~ behind")) {
        let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
        let lists = [format!("{:?}", text.as_bytes()), format!("{text:?}"), format!("{:?}", WsMessage::text(&text))];
        for spelt in [STANDARD.encode(&text), URL_SAFE.encode(&text), hex.to_lowercase(), hex].iter().chain(&lists) {
            assert!(shows(spelt, CANARY), "{spelt}");
        }
    }
    assert!(!shows("canary", CANARY));
}

/// Secret headers, some of them not of a kind that may be sent.
struct Secrets {
    suffix: &'static str,
}

impl HeaderProvider for Secrets {
    fn get_headers(&self) -> Headers {
        let basic = STANDARD.encode(format!("name:{CANARY}"));
        let values = [format!("Bearer {CANARY}{}", self.suffix), format!("Basic {basic}")];
        ["Authorization", "X-Proxy"].map(str::to_owned).into_iter().zip(values).collect()
    }
}

impl AuthProvider for Secrets {
    fn get_auth_message(&self) -> Result<Option<WsMessage<'_>>> {
        Ok(Some(format!("login {CANARY}").into()))
    }

    fn validate_auth_response(&self, response: &WsMessage<'_>) -> Result<bool> {
        match response.as_text().and_then(|text| text.strip_suffix(CANARY)) {
            Some("welcome ") => Ok(true),
            Some("denied ") => Err("wrong key".into()),
            _ => Ok(false),
        }
    }
}

const SOUND: Secrets = Secrets { suffix: "" };
const BROKEN: Secrets = Secrets { suffix: "\r\nX-More: yes" };

fn secret_url(venue: &Venue) -> String {
    format!("{}/{CANARY}?key={CANARY}", venue.url())
}

/// A client with a secret wherever there can be one.
fn secretive(url: impl IntoUrl, venue: &Venue) -> (ClientBuilder<HasUrl, HasRouter>, Journal) {
    let (recorder, journal) = recorder();
    let builder = hypersockets::builder()
        .url(url)
        .router(Lines, |routing| {
            let routing = routing.handler("BTC".to_owned(), recorder);
            assert_debug_hides(&routing);
            routing
        })
        .headers(SOUND)
        .auth(SOUND)
        .subscription(format!("subscribe {CANARY}"))
        .subscription(|| Ok(WsMessage::binary(CANARY.as_bytes())))
        .heartbeat(Duration::from_millis(5), WsMessage::text(CANARY))
        .reconnect_strategy(soon())
        .tls(trusting(venue));
    assert_debug_hides(&builder);
    (builder, journal)
}

fn accept(venue: &Venue) -> Session {
    let session = next_session(venue);
    assert!(session.path().contains(CANARY), "{}", session.path());
    session.assert_received(&format!("login {CANARY}"));
    session.send_text(format!("welcome {CANARY}"));
    session.assert_received(&format!("subscribe {CANARY}"));
    session
}

/// Sessions with messages both ways that end in all manners, and dials that fail in all manners.
fn live_through(venue: &Venue, url: impl IntoUrl) {
    let (builder, mut journal) = secretive(url, venue);
    let client = builder.start().expect("a valid configuration");
    let long = [CANARY; 8].concat();
    type End<'a> = &'a dyn Fn(&Session);
    let ends: [End<'_>; 6] = [
        &Session::drop_fin,
        &Session::drop_rst,
        &|session| session.close(1012, "restart"),
        // Reserved bits; text that is not UTF-8; a frame of more than can be.
        &|session| session.send_raw([b"\xF1\x17", CANARY.as_bytes()].concat()),
        &|session| session.send_raw([b"\x81\x18", CANARY.as_bytes(), b"\xFF"].concat()),
        &|session| session.send_raw([b"\x81\x7F\0\0\xFF\xFF\xFF\xFF\xFF\xFF", CANARY.as_bytes()].concat()),
    ];
    for (epoch, end) in (1..).zip(ends) {
        let session = accept(venue);
        journal.until_live(epoch);
        client.send(format!("order {CANARY}")).expect("live");
        // Handled, not routed, not parsed.
        session.send_text(format!("BTC {epoch} {long}"));
        session.send_text(format!("nobody's {long}"));
        session.send_binary(long.as_bytes());
        session.send_text(format!("BTC {epoch}"));
        journal.until_message(&format!("BTC {epoch}"));
        assert_debug_hides(&client);
        if epoch == ends.len() as u64 {
            failing_upgrades().into_iter().for_each(|plan| venue.plan_upgrade(plan));
        }
        end(&session);
        journal.until_lost();
    }
    accept(venue).close(1001, "");
    next_session(venue).send_text(format!("denied {CANARY}"));
    let events = client.events();
    let is_denied = |event: &ClientEvent| {
        let denied = DisconnectReason::AuthRejected("wrong key".to_owned());
        matches!(event, ClientEvent::DialFailed { reason, .. } if *reason == denied)
    };
    loop {
        let event = events.next_timeout(PATIENCE).expect("the refusal is an event");
        assert_debug_hides(&event);
        if let ClientEvent::DialFailed { reason, .. } = &event {
            assert_hidden(&reason.to_string());
        }
        if is_denied(&event) {
            break;
        }
    }
    assert_debug_hides(&(&events, client.sender(), client.metrics()));
    assert_debug_hides(&client.shutdown().expect("not a thread of the engine"));
    assert_debug_hides(&client.send("too late").expect_err("closed"));
}

/// Answers to the upgrade that hold the secret where a venue may repeat it.
fn failing_upgrades() -> Vec<UpgradePlan> {
    let headers = vec![("WWW-Authenticate".to_owned(), CANARY.to_owned()), ("Retry-After".to_owned(), "0".to_owned())];
    vec![
        UpgradePlan::Reject { status: 503, headers },
        UpgradePlan::Raw(format!("{CANARY}\r\n\r\n").into()),
        UpgradePlan::Raw(format!("HTTP/1.1 101 {CANARY}\r\nX-Key: {CANARY}\r\n\r\n").into()),
        UpgradePlan::Raw(format!("HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1/{CANARY}\r\n\r\n").into()),
    ]
}

/// First dials and configurations that fail.
fn fail_to_begin(venue: &Venue) {
    let headers = vec![("WWW-Authenticate".to_owned(), CANARY.to_owned())];
    for status in [401, 403, 500] {
        venue.plan_upgrade(UpgradePlan::Reject { status, headers: headers.clone() });
        hiding(secretive(secret_url(venue), venue).0.build());
    }
    for plan in failing_upgrades() {
        venue.plan_upgrade(plan);
        hiding(secretive(secret_url(venue), venue).0.build());
    }
    let (builder, _) = secretive(secret_url(venue), venue);
    let building = std::thread::spawn(move || builder.build());
    next_session(venue).send_text(format!("denied {CANARY}"));
    hiding(building.join().expect("it does not panic"));

    hiding(secretive(secret_url(venue), venue).0.headers(BROKEN).build());
    let address = format!("127.0.0.1:{}", venue.port());
    let scheme = if venue.root_certificate_der().is_some() { "wss" } else { "ws" };
    let unlawful = [
        format!("{scheme}://name:{CANARY}@{address}/"),
        format!("{scheme}://{CANARY}@{address}/"),
        format!("{scheme}://127.0.0.1:{CANARY}/"),
        format!("{scheme}://{address}/{CANARY} {CANARY}"),
        format!("{scheme}://{address}/?key={CANARY}\u{fc}"),
        format!("http://{address}/?key={CANARY}"),
        CANARY.to_owned(),
    ];
    for url in unlawful {
        hiding(secretive(url.clone(), venue).0.build());
        hiding(secretive(url.clone(), venue).0.start());
        let (builder, mut journal) = secretive(move || Ok(url.clone()), venue);
        let client = builder.start().expect("the URL is not known yet");
        journal.until_stop();
        assert_debug_hides(&client);
        std::iter::from_fn(|| client.events().try_next()).for_each(|event| assert_debug_hides(&event));
        hiding(client.wait_live(PATIENCE).map(|()| client));
    }
    // Whoever gives a key in place of a certificate must not find it in an error.
    for pem in ["PRIVATE KEY", "CERTIFICATE"] {
        for end in [format!("-----END {pem}-----\n"), String::new()] {
            let key = STANDARD.encode(CANARY);
            let tls = TlsOptions::new().add_root_pem(format!("-----BEGIN {pem}-----\n{key}\n{end}").as_bytes());
            assert_debug_hides(&tls);
            hiding(secretive("wss://127.0.0.1:9/", venue).0.tls(tls).build());
        }
    }
}

#[test]
fn no_secret_is_in_a_log_or_an_error_or_an_event() {
    capture();
    let venues = [Venue::scripted().start(), Venue::scripted().tls().start()];
    for venue in venues.map(|venue| venue.expect("a free port")) {
        assert_debug_hides(&trusting(&venue));
        let url = secret_url(&venue);
        live_through(&venue, url.clone());
        live_through(&venue, move || Ok(url.clone()));
        fail_to_begin(&venue);
        assert!(venue.received().iter().any(|(_, text)| *text == format!("order {CANARY}")), "it was sent");
    }
    assert_debug_hides(&Engine::builder().start().expect("a thread"));

    let logged = logged();
    for line in logged.iter() {
        assert_hidden(&format!("{} {} {}", line.level, line.target, line.text));
        // Of the crates beneath that could log, rustls and mio are built without it.
        let is_known = line.target.starts_with("hypersockets") || line.target.starts_with("tungstenite");
        assert!(is_known, "{}: {}", line.target, line.text);
    }
    let has = |target: &str, level, words: &str| {
        logged.iter().any(|line| line.target.starts_with(target) && line.level == level && line.text.contains(words))
    };
    assert!(has("hypersockets", Level::Info, "live, epoch 1"), "nothing was captured");
    assert!(has("hypersockets", Level::Info, "authentication rejected"), "the refusal was not captured");
    assert!(has("tungstenite", Level::Trace, ""), "tungstenite was not captured");
}

/// The levels at which the crate logged this, as text or in another spelling.
#[track_caller]
fn assert_logged(target: &str, secret: &str, expected: &[Level]) {
    let mut levels: Vec<_> = logged()
        .iter()
        .filter(|line| line.target.starts_with(target) && shows(&line.text, secret))
        .map(|line| line.level)
        .collect();
    levels.sort_unstable();
    levels.dedup();
    assert_eq!(levels, expected);
}

#[test]
fn received_control_frames_and_fragments_are_in_tungstenites_logs_and_a_close_reason_is_in_ours() {
    const DATA: &str = "data-0b7c1ae93f";
    const PING: &str = "ping-5c2e90d471";
    const FRAGMENT: &str = "fragment-e1a60f";
    const CLOSE: &str = "close-93bd07c52";
    capture();
    let venue = Venue::scripted().start().expect("a free port");
    let (recorder, mut journal) = recorder();
    let client = hypersockets::builder().url(venue.url()).reconnect_strategy(soon());
    let client = client.router(Lines, |routing| routing.default_handler(recorder)).build().expect("the venue accepts");
    let session = next_session(&venue);
    session.send_text(format!("BTC {DATA}"));
    // Cut in two on its way, but one frame.
    let text = format!("BTC cut {DATA}");
    let cut = [&[0x81, text.len() as u8], text.as_bytes()].concat();
    cut.chunks(12).for_each(|part| session.send_raw(part));
    session.send_ping(PING);
    assert_eq!(session.await_pong(PATIENCE).expect("a pong"), PING.as_bytes());
    let first = [&[0x01, 4 + FRAGMENT.len() as u8], b"BTC ".as_slice(), FRAGMENT.as_bytes()].concat();
    session.send_raw([first.as_slice(), b"\x80\x01!"].concat());
    journal.until_message(&format!("BTC {FRAGMENT}!"));
    session.close(1012, CLOSE);
    journal.until_lost();
    assert!(client.shutdown().expect("not a thread of the engine").complete);

    assert_eq!(journal.messages().len(), 3);
    assert_logged("", DATA, &[]);
    assert_logged("tungstenite", PING, &[Level::Trace]);
    assert_logged("tungstenite", FRAGMENT, &[Level::Trace]);
    assert_logged("tungstenite", CLOSE, &[Level::Debug, Level::Trace]);
    assert_logged("hypersockets", CLOSE, &[Level::Info]);
    assert_logged("hypersockets", PING, &[]);
    assert_logged("hypersockets", FRAGMENT, &[]);
}
