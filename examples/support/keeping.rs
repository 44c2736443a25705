//! What every keeper of a book does beside its venue's rule: says what it has on a slot, tells of gaps, and spaces repairs out.
#![allow(dead_code)] // each example takes its own part of the support

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use hypersockets::{ConnectionEvent, DisconnectReason, HyperSocketError, Result};

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

    /// The book is whole; `updates` were applied to it. One whose bids reach its asks is none, whatever the venue's rule says.
    pub(crate) fn is_whole(&mut self, levels: &PriceLevels, updates: u64) {
        self.repairs.is_answered();
        let mut account = self.slot.account();
        account.updates += updates;
        account.touched = Some(Instant::now());
        account.in_sync = !account.is_doubted && !levels.is_crossed();
        if account.in_sync {
            account.resyncs += u64::from(std::mem::take(&mut self.is_lost));
        }
        account.show(levels);
    }

    /// Something is missing, in these words, and the book is void. One that was whole when the run ended is told as it was: there is
    /// nobody any more who would mend it.
    pub(crate) fn is_broken(&mut self, gap: &str) {
        if self.slot.is_closing() {
            return;
        }
        println!("{}: {gap}; starting anew", self.name);
        let was_lost = std::mem::replace(&mut self.is_lost, true);
        let mut account = self.slot.account();
        account.gaps += u64::from(!was_lost);
        account.in_sync = false;
    }

    /// There is no book at the moment, without anything being missing.
    pub(crate) fn is_void(&mut self) {
        let is_closing = self.slot.is_closing();
        self.slot.account().in_sync &= is_closing;
    }

    /// Whether a message could not be read that may have been this book's; true once for each.
    pub(crate) fn is_doubted(&mut self) -> bool {
        std::mem::take(&mut self.slot.account().is_doubted)
    }

    /// Whether a snapshot may be asked for now: not where one was a moment ago, nor where the run ends.
    pub(crate) fn may_repair(&mut self) -> bool {
        !self.slot.is_closing() && self.repairs.begin(Instant::now())
    }

    /// There is no snapshot, for this reason. That is no fault of a message's; the book says that it is not in sync.
    pub(crate) fn is_not_mended(&self, why: &HyperSocketError) {
        if !self.slot.is_closing() {
            eprintln!("{}: {why}; to be asked for again", self.name);
        }
    }

    /// The snapshot is here.
    pub(crate) fn has_snapshot(&mut self) {
        self.repairs.is_answered();
    }

    /// Whether there is no book yet, and has not been for so long that it is to be asked for again.
    pub(crate) fn is_overdue(&mut self) -> bool {
        self.is_void();
        !self.slot.is_closing() && self.repairs.is_overdue(Instant::now())
    }

    /// What became of a message. What fails because the run ends is no failure.
    pub(crate) fn judge(&mut self, taken: Result<()>) -> Result<()> {
        if taken.is_err() && self.slot.is_closing() {
            return Ok(());
        }
        self.slot.account().errors += u64::from(taken.is_err());
        taken
    }

    /// Whether the book is void by this: what was said meanwhile is gone. A book that was whole when we left stays as it is.
    pub(crate) fn is_void_by(&mut self, event: &ConnectionEvent) -> bool {
        let is_void = matches!(event, ConnectionEvent::Lost { reason, .. } if *reason != DisconnectReason::Shutdown);
        if is_void {
            // What was asked for does not come any more.
            self.repairs.is_answered();
            let mut account = self.slot.account();
            account.in_sync = false;
            account.is_doubted = false;
        }
        is_void
    }
}

/// A panic as an error: the book that it left half done is void, as it is after any other error.
pub(crate) fn caught<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err("a panic".into()))
}
