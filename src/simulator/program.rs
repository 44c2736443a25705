//! What a connection sends of its own accord: the venue's program, and each session's feed from it. Invariant: a feed only stages; it neither reads the clock nor the socket.

use std::sync::Arc;

use super::clock::Stamp;
use super::due::Due;
use super::hyperliquid::{HyperliquidFeed, Market};
use super::outbox::Outbox;
use super::replay::{Reel, ReplayFeed};

/// What a venue plays, shared by its sessions.
pub(super) enum Program {
    /// Nothing but what the script says.
    Scripted,
    /// An imitation of Hyperliquid.
    Hyperliquid(Arc<Market>),
    /// A recording, whole, for each session.
    Replay(Arc<Reel>),
}

/// One session's part of the program.
pub(super) enum Feed {
    Scripted,
    Hyperliquid(HyperliquidFeed),
    Replay(ReplayFeed),
}

impl Program {
    pub(super) fn feed(&self, session: u64) -> Feed {
        match self {
            Program::Scripted => Feed::Scripted,
            Program::Hyperliquid(market) => Feed::Hyperliquid(HyperliquidFeed::new(Arc::clone(market), session)),
            Program::Replay(reel) => Feed::Replay(ReplayFeed::new(Arc::clone(reel))),
        }
    }
}

impl Feed {
    pub(super) fn upgraded(&mut self, now: Stamp) {
        if let Feed::Replay(replay) = self {
            replay.upgraded(now);
        }
    }

    /// The client sent a data message; `text` unless it was binary.
    pub(super) fn heard(&mut self, text: Option<&str>, now: Stamp, outbox: &mut Outbox) {
        match self {
            Feed::Scripted => {}
            Feed::Hyperliquid(feed) => feed.heard(text, now, outbox),
            Feed::Replay(replay) => replay.heard(now),
        }
    }

    /// Stages what is due, as far as there is room.
    pub(super) fn emit(&mut self, now: Stamp, outbox: &mut Outbox) -> Due {
        match self {
            Feed::Scripted => Due::Never,
            Feed::Hyperliquid(feed) => feed.emit(now, outbox),
            Feed::Replay(replay) => replay.emit(now, outbox),
        }
    }
}
