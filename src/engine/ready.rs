//! Connections that have work: each stands in a list at most once.

use std::collections::VecDeque;

/// Slots of connections in the order in which their turn comes.
#[derive(Debug, Default)]
pub(super) struct ReadyList {
    queue: VecDeque<usize>,
    listed: Vec<bool>,
}

impl ReadyList {
    /// Appends the slot, unless it is listed already.
    pub(super) fn push(&mut self, slot: usize) {
        if slot >= self.listed.len() {
            self.listed.resize(slot + 1, false);
        }
        if !std::mem::replace(&mut self.listed[slot], true) {
            self.queue.push_back(slot);
        }
    }

    pub(super) fn pop(&mut self) -> Option<usize> {
        let slot = self.queue.pop_front()?;
        self.listed[slot] = false;
        Some(slot)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_listed_once_and_keeps_its_place() {
        let mut ready = ReadyList::default();
        for slot in [3, 1, 3, 2, 1] {
            ready.push(slot);
        }
        assert_eq!(std::iter::from_fn(|| ready.pop()).collect::<Vec<_>>(), [3, 1, 2]);
        ready.push(3);
        assert_eq!((ready.len(), ready.pop(), ready.is_empty()), (1, Some(3), true));
    }
}
