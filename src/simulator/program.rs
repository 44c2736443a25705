//! What a connection sends of its own accord: the venue's program, and each session's feed from it. Invariant: a feed only stages; it neither reads the clock nor the socket.

use std::sync::Arc;

use super::clock::Stamp;
use super::due::Due;
use super::exchange::{Exchange, ExchangeFeed};
use super::hyperliquid::{HyperliquidFeed, Market};
use super::okx::{Okx, OkxFeed};
use super::outbox::Outbox;
use super::replay::{Reel, ReplayFeed};
use super::ticks::TicksFeed;

/// What a venue plays, shared by its sessions.
pub(super) enum Program {
    /// Nothing but what the script says.
    Scripted,
    /// An imitation of Hyperliquid.
    Hyperliquid(Arc<Market>),
    /// A market that all sessions see alike.
    Exchange(Arc<Exchange>),
    /// An imitation of OKX's private feed.
    Okx(Arc<Okx>),
    /// A recording, whole, for each session.
    Replay(Arc<Reel>),
    /// Numbered messages of a size at a rate.
    Ticks { message_bytes: usize, rate_per_sec: f64 },
}

/// One session's part of the program.
pub(super) enum Feed {
    Scripted,
    Hyperliquid(HyperliquidFeed),
    Exchange(ExchangeFeed),
    Okx(OkxFeed),
    Replay(ReplayFeed),
    Ticks(TicksFeed),
}

impl Program {
    pub(super) fn feed(&self, session: u64, path: &str) -> Feed {
        match self {
            Program::Scripted => Feed::Scripted,
            Program::Hyperliquid(market) => Feed::Hyperliquid(HyperliquidFeed::new(Arc::clone(market), session)),
            Program::Exchange(exchange) => Feed::Exchange(ExchangeFeed::new(Arc::clone(exchange), session, path)),
            Program::Okx(venue) => Feed::Okx(OkxFeed::new(Arc::clone(venue), session)),
            Program::Replay(reel) => Feed::Replay(ReplayFeed::new(Arc::clone(reel))),
            Program::Ticks { message_bytes, rate_per_sec } => {
                Feed::Ticks(TicksFeed::new(*message_bytes, *rate_per_sec))
            }
        }
    }
}

impl Feed {
    pub(super) fn upgraded(&mut self, now: Stamp, outbox: &mut Outbox) {
        match self {
            Feed::Exchange(feed) => feed.upgraded(now, outbox),
            Feed::Okx(feed) => feed.upgraded(now),
            Feed::Replay(replay) => replay.upgraded(now),
            Feed::Ticks(ticks) => ticks.upgraded(now),
            Feed::Scripted | Feed::Hyperliquid(_) => {}
        }
    }

    /// The client sent a data message; `text` unless it was binary.
    pub(super) fn heard(&mut self, text: Option<&str>, now: Stamp, outbox: &mut Outbox) {
        match self {
            Feed::Scripted | Feed::Ticks(_) => {}
            Feed::Hyperliquid(feed) => feed.heard(text, now, outbox),
            Feed::Exchange(feed) => feed.heard(text, now, outbox),
            Feed::Okx(feed) => feed.heard(text, now, outbox),
            Feed::Replay(replay) => replay.heard(now),
        }
    }

    /// Stages what is due, as far as there is room.
    pub(super) fn emit(&mut self, now: Stamp, outbox: &mut Outbox) -> Due {
        match self {
            Feed::Scripted => Due::Never,
            Feed::Hyperliquid(feed) => feed.emit(now, outbox),
            Feed::Exchange(feed) => feed.emit(now, outbox),
            Feed::Okx(feed) => feed.emit(now, outbox),
            Feed::Replay(replay) => replay.emit(now, outbox),
            Feed::Ticks(ticks) => ticks.emit(now, outbox),
        }
    }
}
