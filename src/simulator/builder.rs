//! What a venue is started with. Invariant: what cannot be played is refused by [`VenueBuilder::start`], before a socket
//! is opened.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::binance::Binance;
use super::certificate::Certificate;
use super::dialect::Dialect;
use super::exchange::Exchange;
use super::hyperliquid::Market;
use super::kraken::Kraken;
use super::lighter::Lighter;
use super::listening::Reserved;
use super::okx::{ApiKey, Okx};
use super::program::Program;
use super::recording::Recording;
use super::replay::{Pace, Reel, offsets};
use super::shared::Shared;
use super::tally::Tally;
use super::tls_fault::TlsFault;
use super::venue::Venue;

/// A venue to be started, from [`Venue::scripted`], [`Venue::hyperliquid`] or [`Venue::replay`].
#[derive(Debug)]
#[must_use = "a venue plays nothing before `start`"]
pub struct VenueBuilder {
    script: Script,
    tls: bool,
    tls_fault: Option<TlsFault>,
    port: u16,
    rate_per_sec: f64,
    pace: Option<Pace>,
    seed: u64,
    ignores_close: bool,
    starts_on_connect: bool,
    closes_at_end: bool,
    history: Option<Recording>,
    snapshots: Vec<(String, String)>,
    lose_every: u64,
    deflates: bool,
}

#[derive(Debug)]
enum Script {
    Scripted,
    Hyperliquid(Vec<String>),
    Replay(Recording),
    Ticks(usize),
    Exchange(Speaks, Vec<String>),
    Okx(ApiKey),
}

/// Whose formats an exchange speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Binance,
    Kraken,
    Lighter,
}

impl Venue {
    /// A venue that sends nothing but what its sessions are told to, and answers pings and Closes.
    pub fn scripted() -> VenueBuilder {
        VenueBuilder::new(Script::Scripted)
    }

    /// A venue that speaks like Hyperliquid's public feed: it takes subscriptions to `l2Book`, `bbo` and `trades` of these
    /// coins, acknowledges them, and sends seeded random walks.
    pub fn hyperliquid(coins: impl IntoIterator<Item = impl Into<String>>) -> VenueBuilder {
        VenueBuilder::new(Script::Hyperliquid(coins.into_iter().map(Into::into).collect()))
    }

    /// A venue that sends numbered messages of this size from the upgrade on, at
    /// [`rate_per_sec`](VenueBuilder::rate_per_sec) to each session: `{"seq":1,"sent_unix_ns":…,"pad":"xx…"}`. They are
    /// never shorter than their numbers. A session that does not read is sent all that it missed later.
    pub fn ticks(message_bytes: usize) -> VenueBuilder {
        VenueBuilder::new(Script::Ticks(message_bytes))
    }

    /// A venue that speaks like Binance: streams by the path (`/ws/…`, `/stream?streams=…`, see [`Venue::url_at`]) or by `SUBSCRIBE`,
    /// and at `/ws-api/v3` the WebSocket API, of which it has `depth` and `ping`. Its symbols are these, in capitals; the streams
    /// `@depth@100ms`, `@bookTicker` and `@trade`. All sessions see the same market, of seeded random walks.
    pub fn binance(symbols: impl IntoIterator<Item = impl Into<String>>) -> VenueBuilder {
        VenueBuilder::exchange(Speaks::Binance, symbols.into_iter().map(Into::into).collect())
    }

    /// A venue that speaks like Kraken's public feed, version 2: `book` of the venue's depths, with its checksum, and `trade` of these
    /// pairs, such as `BTC/USD`. All sessions see the same market, of seeded random walks.
    pub fn kraken(pairs: impl IntoIterator<Item = impl Into<String>>) -> VenueBuilder {
        VenueBuilder::exchange(Speaks::Kraken, pairs.into_iter().map(Into::into).collect())
    }

    /// A venue that speaks like Lighter: `order_book`, `trade` and `market_stats` of the markets with these numbers. It sends
    /// `{"type":"ping"}` every 2 s, and closes the session of who has left two unanswered. All sessions see the same market, of seeded
    /// random walks.
    pub fn lighter(markets: impl IntoIterator<Item = u32>) -> VenueBuilder {
        VenueBuilder::exchange(Speaks::Lighter, markets.into_iter().map(|market| market.to_string()).collect())
    }

    /// A venue that speaks like OKX's private feed to who logs in with this key: it verifies the signature and the timestamp, and
    /// sends `account`, `orders` and `positions`. Who is silent for 30 s is cut off.
    pub fn okx(key: ApiKey) -> VenueBuilder {
        VenueBuilder::new(Script::Okx(key))
    }

    /// A venue that plays the whole recording once to each session.
    pub fn replay(recording: Recording) -> VenueBuilder {
        VenueBuilder::new(Script::Replay(recording))
    }
}

impl VenueBuilder {
    fn exchange(speaks: Speaks, markets: Vec<String>) -> Self {
        VenueBuilder::new(Script::Exchange(speaks, markets))
    }

    fn new(script: Script) -> Self {
        VenueBuilder {
            script,
            tls: false,
            tls_fault: None,
            port: 0,
            rate_per_sec: 10.0,
            pace: None,
            seed: 1,
            ignores_close: false,
            starts_on_connect: false,
            closes_at_end: false,
            history: None,
            snapshots: Vec::new(),
            lose_every: 0,
            deflates: false,
        }
    }

    /// Speaks wss, under a certificate authority of its own: [`Venue::root_certificate_der`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Speaks wss, wrong in this way.
    pub fn tls_fault(mut self, fault: TlsFault) -> Self {
        self.tls_fault = Some(fault);
        self.tls()
    }

    /// The port; 0, the default, is any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Hyperliquid: books per second on each subscribed coin, 10 unless told. For two books there is one best bid and
    /// offer, and for four one trades message, to those who subscribed to them. Binance, Kraken and Lighter: updates of each
    /// book per second, 10 unless told. OKX: messages per second to each session. Ticks: messages per second to each session, each
    /// sent within microseconds of its time; above 1,000 this takes a whole core.
    pub fn rate_per_sec(mut self, rate_per_sec: f64) -> Self {
        self.rate_per_sec = rate_per_sec;
        self
    }

    /// As fast as the client reads.
    pub fn flat_out(mut self) -> Self {
        self.rate_per_sec = f64::INFINITY;
        self.pace(Pace::FlatOut)
    }

    /// Replay and history: as recorded unless told, or flat out if the recording has no times.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = Some(pace);
        self
    }

    /// Hyperliquid: the prices follow from the seed, the coin and the session's number; Binance, Kraken and Lighter: from the seed and
    /// the market.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Binance, Kraken and Lighter: what happens on the market is this recording of the venue, in place of random walks. It begins with
    /// the first subscription; a session that subscribes later, or anew, gets a snapshot of the book as it is by then.
    pub fn history(mut self, recording: Recording) -> Self {
        self.history = Some(recording);
        self
    }

    /// Binance, with a history: the book of this symbol starts from this body of an answer to `depth`, as the recorder fetched it. A
    /// symbol without one starts from nothing.
    pub fn snapshot(mut self, symbol: impl Into<String>, body: impl Into<String>) -> Self {
        self.snapshots.push((symbol.into(), body.into()));
        self
    }

    /// Binance, Kraken and Lighter: every Nth update of each book happens, and nobody is told; but never the last of a history, behind which
    /// nothing could show the loss. 0, the default, is none.
    pub fn lose_every(mut self, updates: u64) -> Self {
        self.lose_every = updates;
        self
    }

    /// Accepts permessage-deflate where a client offers it (RFC 7692), and compresses every message then.
    pub fn deflate(mut self) -> Self {
        self.deflates = true;
        self
    }

    /// Never answers a client's Close frame, and goes on sending behind it.
    pub fn ignore_close(mut self) -> Self {
        self.ignores_close = true;
        self
    }

    /// Replay: starts right behind the upgrade, instead of at the client's first message.
    pub fn replay_on_connect(mut self) -> Self {
        self.starts_on_connect = true;
        self
    }

    /// Replay: sends a Close 1000 behind the last message, instead of staying open.
    pub fn close_after_replay(mut self) -> Self {
        self.closes_at_end = true;
        self
    }

    /// Listens, and returns once clients may dial.
    pub fn start(self) -> io::Result<Venue> {
        if self.rate_per_sec.is_nan() || self.rate_per_sec <= 0.0 {
            return Err(invalid("the rate must be above zero"));
        }
        let mut coins = Vec::new();
        let program = match self.script {
            Script::Scripted => Program::Scripted,
            Script::Ticks(message_bytes) => Program::Ticks { message_bytes, rate_per_sec: self.rate_per_sec },
            Script::Hyperliquid(named) => {
                coins.clone_from(&named);
                let market = Market::new(named, self.rate_per_sec, self.seed);
                Program::Hyperliquid(Arc::new(market))
            }
            Script::Okx(key) => Program::Okx(Arc::new(Okx::new(key, self.rate_per_sec))),
            Script::Exchange(speaks, markets) => {
                let dialect: Box<dyn Dialect> = match speaks {
                    Speaks::Binance => Box::new(Binance { snapshots: self.snapshots }),
                    Speaks::Kraken => Box::new(Kraken),
                    Speaks::Lighter => Box::new(Lighter),
                };
                let exchange = match self.history {
                    None if markets.is_empty() => {
                        return Err(invalid("an exchange without a market, and without a history"));
                    }
                    None => Exchange::walking(dialect, &markets, self.rate_per_sec, self.seed),
                    Some(recording) => {
                        let lines = recording.messages().map(std::str::from_utf8).collect::<Result<Vec<_>, _>>();
                        let lines = lines.map_err(|error| invalid(&format!("a history of text only: {error}")))?;
                        let history =
                            dialect.read(&lines).map_err(|error| invalid(&format!("the history: {error}")))?;
                        Exchange::recorded(dialect, history, timing(&recording, self.pace)?)
                            .map_err(|error| invalid(&format!("the history: {error}")))?
                    }
                };
                Program::Exchange(Arc::new(exchange.lose_every(self.lose_every)))
            }
            Script::Replay(recording) => {
                let mut reel = Reel::new(&recording, timing(&recording, self.pace)?);
                reel.starts_on_connect = self.starts_on_connect;
                reel.closes_at_end = self.closes_at_end;
                Program::Replay(Arc::new(reel))
            }
        };
        let certificate = match self.tls {
            true => Some(Certificate::generate(self.tls_fault)?),
            false => None,
        };
        let answer_to_hello = self.tls_fault.and_then(TlsFault::answer);
        let (sessions, upgraded) = crossbeam_channel::unbounded();
        let (replayed, replays) = crossbeam_channel::unbounded();
        let shared = Shared {
            program,
            tally: Tally::new(coins.len(), replayed),
            plans: Mutex::new(VecDeque::new()),
            sessions,
            // What answers a ClientHello by itself has no use for a session.
            tls: certificate.as_ref().filter(|_| answer_to_hello.is_none()).map(|c| Arc::clone(&c.config)),
            answer_to_hello,
            ignores_close: self.ignores_close,
            deflates: self.deflates,
        };
        let reserved = Reserved::bind(self.port)?;
        Venue::start(Arc::new(shared), reserved, certificate, coins, upgraded, replays)
    }
}

/// When each message of a recording is due; nothing where all are at once.
fn timing(recording: &Recording, pace: Option<Pace>) -> io::Result<Vec<Duration>> {
    let pace = match (pace, recording.received_ns()) {
        (Some(pace), _) => pace,
        (None, Some(_)) => Pace::Recorded,
        (None, None) => Pace::FlatOut,
    };
    if matches!(pace, Pace::Factor(factor) if factor.is_nan() || factor <= 0.0) {
        return Err(invalid("the factor of a pace must be above zero"));
    }
    offsets(recording, pace)
        .ok_or_else(|| invalid("the recording has no receive times: it can only be played flat out"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
