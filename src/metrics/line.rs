//! The counters of one line of a feed, beside those of its connection.

use super::{Counter, LatencyRecorder};

/// Written where messages are put into order, which may be on several lanes.
#[derive(Debug, Default)]
pub(crate) struct LineStats {
    /// Messages that it brought first.
    pub(crate) wins: Counter,
    /// Messages that another line had brought before.
    pub(crate) repeats: Counter,
    /// Sequence numbers that it never brought, and another line did.
    pub(crate) filled: Counter,
    /// How much later than the first it brought what it repeated.
    pub(crate) lag: LatencyRecorder,
}
