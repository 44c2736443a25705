//! Which sends of a client have been written, or never will be.

use std::collections::BTreeMap;

use crate::ids::SendId;

/// Which sends are settled: written, or known never to be. Inline sends overtake queued ones, so ids settle out of order.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// All ids up to this one are settled.
    through: u64,
    /// Settled ids behind a hole, and whether they were written.
    beyond: BTreeMap<u64, bool>,
    /// The last id up to `through` that was written in this session.
    written: Option<SendId>,
}

impl Settled {
    pub(super) fn settle(&mut self, id: SendId, written: bool) {
        if id.0 != self.through + 1 {
            self.beyond.insert(id.0, written);
            return;
        }
        self.advance(id, written);
        while let Some(written) = self.beyond.remove(&(self.through + 1)) {
            self.advance(SendId(self.through + 1), written);
        }
    }

    fn advance(&mut self, id: SendId, written: bool) {
        self.through = id.0;
        if written {
            self.written = Some(id);
        }
    }

    /// The last send of this session that was written with all before it.
    pub(super) fn written_through(&self) -> Option<SendId> {
        self.written
    }

    /// A new session: what an earlier one wrote is not its own.
    pub(super) fn begin_session(&mut self) {
        self.written = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_as_written_only_without_a_hole_before_them() {
        let mut settled = Settled::default();
        assert_eq!(settled.written_through(), None);
        for (id, through) in [(1, 1), (4, 1), (3, 1), (2, 4), (5, 5)] {
            settled.settle(SendId(id), true);
            assert_eq!(settled.written_through(), Some(SendId(through)), "after {id}");
        }
    }

    #[test]
    fn what_was_dropped_was_not_written_and_a_session_counts_its_own() {
        let mut settled = Settled::default();
        settled.settle(SendId(1), true);
        settled.settle(SendId(2), false);
        assert_eq!(settled.written_through(), Some(SendId(1)));
        settled.begin_session();
        settled.settle(SendId(3), false);
        assert_eq!(settled.written_through(), None);
        settled.settle(SendId(4), true);
        assert_eq!(settled.written_through(), Some(SendId(4)));
    }
}
