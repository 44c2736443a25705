//! What the keepers of books let others see: each posts on a slot of its own, the main thread reads when it likes.
#![allow(dead_code)] // each example takes its own part of the support

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::price_levels::{Level, PriceLevels};

/// One book's state and history.
#[derive(Debug, Clone, Default)]
pub(crate) struct BookAccount {
    pub(crate) name: String,
    pub(crate) bid: Option<Level>,
    pub(crate) ask: Option<Level>,
    /// Best bid and ask by a feed of their own, where there is one.
    pub(crate) quote: Option<(Level, Level)>,
    /// Bid and ask levels.
    pub(crate) depth: (usize, usize),
    /// Changes that were applied.
    pub(crate) updates: u64,
    /// How often something was found to be missing.
    pub(crate) gaps: u64,
    /// How often the book was whole again after that.
    pub(crate) resyncs: u64,
    /// Whether the book is whole.
    pub(crate) in_sync: bool,
}

impl BookAccount {
    /// Takes over the book's top.
    pub(crate) fn show(&mut self, levels: &PriceLevels) {
        self.bid = levels.bids().next().cloned();
        self.ask = levels.asks().next().cloned();
        self.depth = levels.depth();
    }
}

impl fmt::Display for BookAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side =
            |level: &Option<Level>| level.as_ref().map_or("-".to_owned(), |(price, size)| format!("{price} x {size}"));
        let (bids, asks) = self.depth;
        write!(f, "{:<14} bid {:<28} ask {:<28} levels {bids}/{asks}", self.name, side(&self.bid), side(&self.ask))?;
        write!(f, "  updates {}  gaps {}  resyncs {}", self.updates, self.gaps, self.resyncs)?;
        if let Some(((bid, _), (ask, _))) = &self.quote {
            write!(f, "  quoted {bid}/{ask}")?;
        }
        if self.in_sync { Ok(()) } else { f.write_str("  NOT IN SYNC") }
    }
}

/// Where one keeper posts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<BookAccount>>);

impl Slot {
    pub(crate) fn account(&self) -> MutexGuard<'_, BookAccount> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slots of all books, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(crate) struct BookBoard {
    slots: Vec<Slot>,
}

impl BookBoard {
    /// A slot for each of these books.
    pub(crate) fn new(names: &[String]) -> Self {
        let slot = |name: &String| {
            let slot = Slot::default();
            slot.account().name.clone_from(name);
            slot
        };
        Self { slots: names.iter().map(slot).collect() }
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(crate) fn accounts(&self) -> Vec<BookAccount> {
        self.slots.iter().map(|slot| slot.account().clone()).collect()
    }

    pub(crate) fn is_in_sync(&self) -> bool {
        self.slots.iter().all(|slot| slot.account().in_sync)
    }
}
