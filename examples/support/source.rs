//! What the example dials: the real venue, or one of its own on loopback.

use std::time::Duration;

use hypersockets::simulator::{Recording, Venue};
use hypersockets::{Result, TlsOptions};

use super::hyperliquid::{Coin, Feed};
use super::options::Options;

/// Where the books come from.
pub(crate) enum Source {
    /// The venue at this URL.
    Live(String),
    /// The embedded imitation of it.
    Simulated(Venue),
    /// The embedded simulator, playing a recording.
    Replayed(Venue),
}

impl Source {
    /// Opens what the options ask for; says which coins it has.
    pub(crate) fn open(options: &Options) -> Result<(Self, Vec<Coin>)> {
        if let Some(path) = &options.replay {
            let recording = Recording::load(path)?;
            let coins = coins_of(&recording);
            if coins.is_empty() {
                return Err(format!("{}: no message of Hyperliquid's about any coin", path.display()).into());
            }
            let venue = Venue::replay(recording).pace(options.pace());
            let venue = if options.tls { venue.tls() } else { venue };
            return Ok((Self::Replayed(venue.start()?), coins));
        }
        let coins = options.coins();
        if options.simulate {
            let venue = Venue::hyperliquid(coins.iter().map(Coin::as_str)).rate_per_sec(options.rate);
            let venue = if options.tls { venue.tls() } else { venue };
            return Ok((Self::Simulated(venue.start()?), coins));
        }
        Ok((Self::Live(options.url.clone()), coins))
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Live(url) => url.clone(),
            Self::Simulated(venue) | Self::Replayed(venue) => venue.url(),
        }
    }

    /// Trusts the simulator's own authority and nobody else on loopback, and the usual ones on the internet.
    pub(crate) fn tls(&self) -> TlsOptions {
        match self.venue().and_then(Venue::root_certificate_der) {
            Some(root) => TlsOptions::new().add_root_der(root).only_added_roots(),
            None => TlsOptions::new(),
        }
    }

    /// The venue drops a client that is silent for a minute; the simulator never does, but its pongs are to be seen.
    pub(crate) fn heartbeat_every(&self) -> Duration {
        match self {
            Self::Live(_) => Duration::from_secs(30),
            Self::Simulated(_) | Self::Replayed(_) => Duration::from_secs(1),
        }
    }

    /// Behind the simulator's Close nothing is missing, so on a busy machine it is worth waiting for.
    pub(crate) fn close_timeout(&self) -> Duration {
        match self {
            Self::Live(_) => Duration::from_millis(100),
            Self::Simulated(_) | Self::Replayed(_) => Duration::from_secs(5),
        }
    }

    /// Whether each book of a coin must be later than the one before, not merely no earlier.
    pub(crate) fn is_strictly_ordered(&self) -> bool {
        matches!(self, Self::Simulated(_))
    }

    /// Whether the recording has been sent to its end; true only once.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Replayed(venue) if venue.await_replayed(Duration::ZERO).is_ok())
    }

    /// Data messages that the venue has written, where it is ours to ask.
    pub(crate) fn sent(&self) -> Option<u64> {
        self.venue().map(Venue::sent)
    }

    /// Books of one coin that the venue has written, where it counts them.
    pub(crate) fn books_sent(&self, coin: Coin) -> Option<u64> {
        match self {
            Self::Simulated(venue) => Some(venue.sent_on(coin.as_str())),
            Self::Live(_) | Self::Replayed(_) => None,
        }
    }

    fn venue(&self) -> Option<&Venue> {
        match self {
            Self::Live(_) => None,
            Self::Simulated(venue) | Self::Replayed(venue) => Some(venue),
        }
    }
}

/// In the order of their first messages. What cannot be parsed has no coin; the client will count it.
fn coins_of(recording: &Recording) -> Vec<Coin> {
    let mut coins = Vec::new();
    for payload in recording.messages() {
        let feed = std::str::from_utf8(payload).ok().and_then(|text| Feed::parse(text).ok());
        if let Some(coin) = feed.as_ref().and_then(Feed::coin)
            && !coins.contains(&coin)
        {
            coins.push(coin);
        }
    }
    coins
}
