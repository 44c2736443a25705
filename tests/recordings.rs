//! Every recorded session, replayed flat out over a real socket, is handled whole: each message once, in the order of its
//! route, and the books that grow from them are those of an independent reader.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hypersockets::simulator::{Recording as Reel, Venue as SimulatedVenue};
use hypersockets::{
    Client, ClientEvent, DisconnectReason, Engine, MessageRouter, Metrics, NeverReconnect, Result, RouteOptions,
    Routing, ShutdownReport, TlsOptions, WsMessage,
};

#[path = "support/books.rs"]
mod books;
#[path = "support/generated.rs"]
mod generated;
#[path = "support/recordings.rs"]
mod recordings;

use books::{BookEnd, Interpreted, Replay, Venue};
use recordings::{Expected, Framing, HTX_MESSAGES};

#[test]
fn every_recording_over_ws_reaches_its_handler_threads_whole_and_in_order() {
    for session in recorded() {
        let playing = Playing::start(session, Wire::Ws, Places::OneThreadPerRoute, None);
        playing.assert_whole_once_the_venue_has_closed();
    }
}

#[test]
fn every_recording_over_wss_reaches_its_handler_threads_whole_and_in_order() {
    for session in recorded() {
        let playing = Playing::start(session, Wire::Wss, Places::OneThreadPerRoute, None);
        playing.assert_whole_once_the_venue_has_closed();
    }
}

#[test]
fn all_recordings_at_once_on_one_engine_reach_their_inline_handlers_in_the_order_of_the_wire() {
    let engine = Engine::builder().start().expect("a loop needs no more than a thread");
    let sessions = recorded().iter().zip([Wire::Ws, Wire::Wss].into_iter().cycle());
    let playing: Vec<_> =
        sessions.map(|(session, wire)| Playing::start(session, wire, Places::Inline, Some(&engine))).collect();
    playing.into_iter().for_each(Playing::assert_whole_and_shut_down);
}

#[test]
fn the_binary_recording_arrives_byte_for_byte() {
    let Some(recording) = recordings::sessions().into_iter().find(|it| it.framing == Framing::Base64) else {
        return println!("SKIPPED: this machine has no recordings");
    };
    let sent = recording.payloads();
    assert_eq!(sent.len(), HTX_MESSAGES);
    for wire in [Wire::Ws, Wire::Wss] {
        let reel = Reel::load(&recording.path).expect("a sound recording");
        let venue = wire.venue(reel, true);
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        let client = hypersockets::builder()
            .url(venue.url())
            .tls(wire.trust(&venue))
            .router(Binary, |routing| {
                routing.handler((), move |payload: Vec<u8>| {
                    lock(&kept).push(payload);
                    Ok(())
                })
            })
            .subscription(START)
            .reconnect_strategy(NeverReconnect)
            .build()
            .expect("the venue accepts");
        let report = await_close_and_shut_down(&client);
        assert!(*lock(&received) == sent, "{wire:?}: other bytes than were sent");
        assert_sums(&report, sent.len() as u64, &BTreeMap::from([("()".to_owned(), sent.len() as u64)]));
    }
}

#[test]
fn a_generated_session_with_a_5_mb_message_reaches_its_handler_threads_over_ws_and_wss() {
    for wire in [Wire::Ws, Wire::Wss] {
        let playing = Playing::start(&GENERATED, wire, Places::OneThreadPerRoute, None);
        playing.assert_whole_once_the_venue_has_closed();
    }
}

#[test]
fn a_generated_session_with_a_5_mb_message_reaches_its_inline_handlers_over_ws_and_wss() {
    for wire in [Wire::Ws, Wire::Wss] {
        Playing::start(&GENERATED, wire, Places::Inline, None).assert_whole_and_shut_down();
    }
}

/// The recordings of text messages, none where this machine has none.
fn recorded() -> &'static [Session] {
    static RECORDED: LazyLock<Vec<Session>> = LazyLock::new(|| {
        let mut expected = recordings::expected();
        let texts = recordings::sessions().into_iter().filter(|recording| recording.framing == Framing::Text);
        let sessions: Vec<_> = texts
            .map(|recording| {
                let venue = Venue::from_path(&recording.path).expect("each recording's folder names its venue");
                let expected = expected.remove(&recording.name).expect("it was listed by its results");
                Session::new(recording.name.clone(), venue, recording.texts(), Outcome::expected(&expected))
            })
            .collect();
        assert!(expected.is_empty(), "results without a recording: {:?}", expected.keys());
        sessions
    });
    if RECORDED.is_empty() {
        println!("SKIPPED: this machine has no recordings");
    }
    &RECORDED
}

/// In Hyperliquid's format, with the largest message that a venue was seen to send.
static GENERATED: LazyLock<Session> = LazyLock::new(|| {
    let plan = generated::Plan { seed: 20_261_122, coins: 5, messages: 10_000, jumbo_bytes: Some(5_000_000) };
    let made = generated::generate(plan);
    let ends = made.books.into_iter().map(|(coin, book)| {
        (coin, BookEnd { bid: Some(book.bid), ask: Some(book.ask), bids: book.bids, asks: book.asks })
    });
    let outcome = Outcome { kinds: made.kinds, ends: ends.collect(), gaps: 0, checks: 0, check_fail: 0 };
    Session::new(format!("{plan:?}"), Venue::Hyperliquid, made.messages, outcome)
});

/// One venue's messages, and what must come of them.
struct Session {
    name: String,
    venue: Venue,
    reel: Reel,
    /// Of each message, in the order of the wire.
    digests: Vec<(Route, u64)>,
    outcome: Outcome,
}

impl Session {
    fn new(name: String, venue: Venue, messages: Vec<String>, outcome: Outcome) -> Self {
        let digests = messages.iter().map(|text| {
            let read = Read::new(venue, text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (read.route, read.digest)
        });
        Self { venue, digests: digests.collect(), reel: Reel::from_messages(messages), outcome, name }
    }

    fn routes(&self) -> BTreeMap<&Route, Vec<u64>> {
        let mut routes: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        self.digests.iter().for_each(|(route, digest)| routes.entry(route).or_default().push(*digest));
        routes
    }
}

/// What a reader of a whole session arrives at.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    kinds: BTreeMap<String, u64>,
    ends: BTreeMap<String, BookEnd>,
    gaps: u64,
    checks: u64,
    check_fail: u64,
}

impl Outcome {
    fn expected(expected: &Expected) -> Self {
        let ends = expected.final_books.iter().map(|(name, book)| {
            let end = BookEnd { bid: book.bid.clone(), ask: book.ask.clone(), bids: book.bids, asks: book.asks };
            (name.clone(), end)
        });
        Self {
            kinds: expected.types.clone(),
            ends: ends.collect(),
            gaps: expected.gaps,
            checks: expected.checks,
            check_fail: expected.check_fail,
        }
    }

    /// The outcomes of parts that share no book, together.
    fn sum<'a>(parts: impl Iterator<Item = &'a Replay>) -> Self {
        let mut sum = Self { kinds: BTreeMap::new(), ends: BTreeMap::new(), gaps: 0, checks: 0, check_fail: 0 };
        for part in parts {
            part.kinds().iter().for_each(|(kind, count)| *sum.kinds.entry(kind.clone()).or_default() += count);
            for (name, end) in part.ends() {
                assert!(sum.ends.insert(name.clone(), end).is_none(), "two routes have the book {name}");
            }
            sum.gaps += part.gaps();
            sum.checks += part.checks();
            sum.check_fail += part.check_fail();
        }
        sum
    }
}

/// A book with all that changes it; what changes none goes by its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Route {
    Book(String),
    Kind(String),
}

/// One message, read.
#[derive(Debug)]
struct Read {
    route: Route,
    digest: u64,
    content: Interpreted,
}

impl Read {
    fn new(venue: Venue, text: &str) -> std::result::Result<Self, String> {
        let content = books::interpret(venue, text)?;
        let route = match content.updates.as_slice() {
            [] => Route::Kind(content.kind.clone()),
            [first, rest @ ..] => {
                if rest.iter().any(|update| update.book != first.book) {
                    return Err(format!("one message changes two books: {content:?}"));
                }
                Route::Book(first.book.clone())
            }
        };
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Ok(Self { route, digest: hasher.finish(), content })
    }
}

/// Reads a venue's messages on the engine's loop.
struct Interpreter(Venue);

impl MessageRouter for Interpreter {
    type Message = Read;
    type RouteKey = Route;

    fn parse(&self, message: WsMessage<'_>) -> Result<Read> {
        Ok(Read::new(self.0, message.as_text().ok_or("a binary message")?)?)
    }

    fn route_key(&self, read: &Read) -> Route {
        read.route.clone()
    }
}

/// Takes every binary message as it is.
struct Binary;

impl MessageRouter for Binary {
    type Message = Vec<u8>;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<Vec<u8>> {
        match message {
            WsMessage::Binary(payload) => Ok(payload.into_owned()),
            WsMessage::Text(text) => Err(format!("a text message: {text}").into()),
        }
    }

    fn route_key(&self, _payload: &Vec<u8>) {}
}

/// What has been handled: of one route where it has a thread, of all routes where they are inline.
struct Ledger {
    digests: Vec<u64>,
    replay: Replay,
    whole: usize,
    /// Told once, when the ledger is whole.
    on_whole: mpsc::Sender<()>,
}

impl Ledger {
    fn take(&mut self, read: Read) -> Result<()> {
        self.digests.push(read.digest);
        if self.digests.len() == self.whole {
            // Nobody waits where the venue's Close ends the session.
            let _ = self.on_whole.send(());
        }
        Ok(self.replay.take_interpreted(read.content)?)
    }
}

/// Where the handlers run, and so what order they see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    OneThreadPerRoute,
    /// On the loop: even over all routes the order is that of the wire.
    Inline,
}

/// What the session runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Ws,
    Wss,
}

impl Wire {
    fn venue(self, reel: Reel, closes: bool) -> SimulatedVenue {
        let builder = SimulatedVenue::replay(reel).flat_out();
        let builder = if closes { builder.close_after_replay() } else { builder };
        let builder = if self == Self::Wss { builder.tls() } else { builder };
        builder.start().expect("a free port")
    }

    fn trust(self, venue: &SimulatedVenue) -> TlsOptions {
        match venue.root_certificate_der() {
            Some(root) => TlsOptions::new().add_root_der(root).only_added_roots(),
            None => TlsOptions::new(),
        }
    }
}

/// A session on its way from its venue to its handlers.
struct Playing<'a> {
    session: &'a Session,
    places: Places,
    venue: SimulatedVenue,
    client: Client,
    /// One, or one for each route in the order of [`Session::routes`].
    ledgers: Vec<Arc<Mutex<Ledger>>>,
    whole: Receiver<()>,
}

impl<'a> Playing<'a> {
    fn start(session: &'a Session, wire: Wire, places: Places, engine: Option<&Engine>) -> Self {
        let venue = wire.venue(session.reel.clone(), places == Places::OneThreadPerRoute);
        let routes = session.routes();
        let (on_whole, whole) = mpsc::channel();
        let ledger = |whole| {
            let (replay, on_whole) = (Replay::new(session.venue), on_whole.clone());
            Arc::new(Mutex::new(Ledger { digests: Vec::new(), replay, whole, on_whole }))
        };
        let ledgers: Vec<_> = match places {
            Places::OneThreadPerRoute => routes.values().map(|digests| ledger(digests.len())).collect(),
            Places::Inline => vec![ledger(session.digests.len())],
        };
        let configure = |mut routing: Routing<Interpreter>| {
            for (index, &route) in routes.keys().enumerate() {
                let (ledger, options) = match places {
                    Places::OneThreadPerRoute => (Arc::clone(&ledgers[index]), RouteOptions::new()),
                    Places::Inline => (Arc::clone(&ledgers[0]), RouteOptions::new().inline()),
                };
                let handler = move |read: Read| lock(&ledger).take(read);
                routing = routing.handler_with(route.clone(), handler, options);
            }
            routing
        };
        let mut builder = hypersockets::builder()
            .url(venue.url())
            .tls(wire.trust(&venue))
            .router(Interpreter(session.venue), configure)
            .subscription(START)
            .reconnect_strategy(NeverReconnect);
        if let Some(engine) = engine {
            builder = builder.engine(engine);
        }
        let client = builder.build().expect("the venue accepts");
        Self { session, places, venue, client, ledgers, whole }
    }

    /// The venue says goodbye behind its last message, which ends the client.
    fn assert_whole_once_the_venue_has_closed(self) {
        let report = await_close_and_shut_down(&self.client);
        self.assert_whole(&report);
    }

    /// The venue stays, and we say goodbye once everything has been handled.
    fn assert_whole_and_shut_down(self) {
        let whole = self.whole.recv_timeout(PATIENCE);
        assert!(whole.is_ok(), "{}: {:?}", self.session.name, self.client.metrics());
        let report = self.client.shutdown().expect("not on the engine's thread");
        assert_eq!(report.reason, DisconnectReason::Shutdown);
        self.assert_whole(&report);
    }

    fn assert_whole(&self, report: &ShutdownReport) {
        let session = self.session;
        let name = &session.name;
        let (routes, ledgers) = (session.routes(), self.ledgers.iter().map(|ledger| lock(ledger)).collect::<Vec<_>>());
        match self.places {
            Places::OneThreadPerRoute => {
                for ((route, sent), ledger) in routes.iter().zip(&ledgers) {
                    assert!(ledger.digests == *sent, "{name}: {route:?} is not what was sent, in order");
                }
            }
            Places::Inline => {
                let sent = session.digests.iter().map(|(_, digest)| *digest);
                assert!(ledgers[0].digests.iter().copied().eq(sent), "{name}: not what was sent, in order");
            }
        }

        let mut outcome = Outcome::sum(ledgers.iter().map(|ledger| &ledger.replay));
        if self.places == Places::OneThreadPerRoute {
            // Some venues number all messages of a connection: no single route sees those without gaps.
            outcome.gaps = session.outcome.gaps;
        }
        assert_eq!(outcome, session.outcome, "{name}");

        let counts = routes.iter().map(|(route, sent)| (format!("{route:?}"), sent.len() as u64)).collect();
        assert_sums(report, session.digests.len() as u64, &counts);
        assert_eq!(self.venue.sent(), session.digests.len() as u64, "{name}");
        self.venue.assert_protocol_kept();
        let subscriber = self.venue.next_session(PATIENCE).expect("it was played to one");
        subscriber.assert_received(START);
    }
}

/// Waits for the Close behind the last message.
fn await_close_and_shut_down(client: &Client) -> ShutdownReport {
    let (events, closed) =
        (client.events(), DisconnectReason::ClosedByPeer { code: Some(1000), reason: String::new() });
    loop {
        match events.next_timeout(PATIENCE) {
            Some(ClientEvent::Closed { reason }) => break assert_eq!(reason, closed),
            Some(ClientEvent::Connection(_)) => {}
            Some(fault) => panic!("{fault:?}"),
            None => panic!("no Close came: {:?}", client.metrics()),
        }
    }
    let report = client.shutdown().expect("not on the engine's thread");
    assert_eq!(report.reason, closed);
    report
}

/// Each of `messages` was received, parsed, queued and handled once, and nothing else happened.
#[track_caller]
fn assert_sums(report: &ShutdownReport, messages: u64, by_route: &BTreeMap<String, u64>) {
    assert!(report.complete, "{report:?}");
    assert_eq!(report.unhandled, 0, "{report:?}");
    let metrics: &Metrics = &report.metrics;
    let stages = [metrics.messages_received, metrics.messages_parsed, metrics.messages_handled];
    assert_eq!(stages, [messages; 3], "{metrics:?}");
    let faults = [
        metrics.parse_errors,
        metrics.parse_panics,
        metrics.skipped,
        metrics.unrouted,
        metrics.handler_errors,
        metrics.handler_panics,
        metrics.events_dropped,
        metrics.sends_dropped,
        metrics.reconnect_count,
    ];
    assert_eq!(faults, [0; 9], "{metrics:?}");
    let sends = (metrics.dials, metrics.messages_sent, metrics.bytes_sent);
    assert_eq!(sends, (1, 1, START.len() as u64), "{metrics:?}");
    for route in &metrics.routes {
        assert_eq!((route.queued, route.handled), (by_route[&route.route], by_route[&route.route]), "{route:?}");
        assert_eq!((route.depth, route.errors, route.panics, route.abandoned), (0, 0, 0, 0), "{route:?}");
    }
    assert_eq!(metrics.routes.len(), by_route.len());
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A replay starts at the client's first message.
const START: &str = r#"{"op":"subscribe"}"#;
/// Many times what the longest recording takes in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
