//! The feeds' answer to a turn. Invariant: it knows no feed, so that feeds stand below what chooses among them.

use std::time::Instant;

/// When a feed wants to stage next.
pub(super) enum Due {
    /// Not before the client sends something.
    Never,
    /// At this instant.
    At(Instant),
    /// As soon as the outbox has room.
    WhenRoom,
    /// Never again: the connection is to be closed.
    Over,
}
