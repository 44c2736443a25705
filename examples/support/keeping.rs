//! What every keeper of a book does beside its venue's rule: says what it has on a slot, tells of gaps, and spaces repairs out.
#![allow(dead_code)] // each example takes its own part of the support

use hypersockets::{ConnectionEvent, DisconnectReason};

use super::book_board::Slot;
use super::price_levels::{Level, PriceLevels};
use super::repairs::Repairs;

/// One book's standing.
pub(crate) struct Keeping {
    name: String,
    slot: Slot,
    repairs: Repairs,
    /// A gap was found, and not yet mended.
    is_lost: bool,
}

impl Keeping {
    pub(crate) fn new(name: impl Into<String>, slot: &Slot) -> Self {
        Self { name: name.into(), slot: slot.clone(), repairs: Repairs::default(), is_lost: false }
    }

    /// What the book is called, and its subscription.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The best bid and ask by a feed of their own.
    pub(crate) fn is_quoted(&mut self, bid: Level, ask: Level) {
        self.slot.account().quote = Some((bid, ask));
    }

    /// The book is whole; `updates` were applied to it.
    pub(crate) fn is_whole(&mut self, levels: &PriceLevels, updates: u64) {
        let mut account = self.slot.account();
        account.resyncs += u64::from(std::mem::take(&mut self.is_lost));
        account.updates += updates;
        account.in_sync = true;
        account.show(levels);
    }

    /// Something is missing, in these words, and the book is void.
    pub(crate) fn is_broken(&mut self, gap: &str) {
        println!("{}: {gap}; starting anew", self.name);
        self.is_lost = true;
        let mut account = self.slot.account();
        account.gaps += 1;
        account.in_sync = false;
    }

    /// To be called before a snapshot is asked for: waits where that was done often lately.
    pub(crate) fn begin_repair(&mut self) {
        self.repairs.begin();
    }

    /// Whether the book is void by this: what was said meanwhile is gone. A book that was whole when we left stays as it is.
    pub(crate) fn is_void_by(&mut self, event: &ConnectionEvent) -> bool {
        let is_void = matches!(event, ConnectionEvent::Lost { reason, .. } if *reason != DisconnectReason::Shutdown);
        if is_void {
            self.slot.account().in_sync = false;
        }
        is_void
    }
}
