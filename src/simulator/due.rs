//! The feeds' answer to a turn. Invariant: it knows no feed, so that feeds stand below what chooses among them.

use std::time::Instant;

/// When a feed wants to stage next.
pub(super) enum Due {
    /// Not before the client sends something.
    Never,
    /// At this instant, or a millisecond later.
    At(Instant),
    /// At this instant, as sharply as the processor can: the thread does not sleep through the last millisecond.
    Sharp(Instant),
    /// As soon as the outbox has room.
    WhenRoom,
    /// Never again: the connection is to be closed.
    Over,
}
