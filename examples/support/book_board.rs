//! What the keepers of books let others see: each posts on a slot of its own, the main thread reads when it likes.
#![allow(dead_code)] // each example takes its own part of the support

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    /// Messages that were this book's, or may have been, and could not be used.
    pub(crate) errors: u64,
    /// Whether the book is whole.
    pub(crate) in_sync: bool,
    /// A message could not be read; its keeper has not seen that yet.
    pub(crate) is_doubted: bool,
    /// When the venue last said something of it.
    pub(crate) touched: Option<Instant>,
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
        if self.errors > 0 {
            write!(f, "  errors {}", self.errors)?;
        }
        match self.touched.map(|touched| touched.elapsed()) {
            _ if !self.in_sync => f.write_str("  NOT IN SYNC"),
            Some(silence) if silence >= STALE_AFTER => write!(f, "  STALE: nothing for {} s", silence.as_secs()),
            _ => Ok(()),
        }
    }
}

/// A quiet market is no fault, but who looks at its book is to know.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// Where one keeper posts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot {
    account: Arc<Mutex<BookAccount>>,
    is_closing: Arc<AtomicBool>,
}

impl Slot {
    pub(crate) fn account(&self) -> MutexGuard<'_, BookAccount> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the run ends, so that nothing is to be mended any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }
}

/// The slots of all books, in the order in which they were asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct BookBoard {
    slots: Vec<Slot>,
    is_closing: Arc<AtomicBool>,
}

impl BookBoard {
    /// A slot for each of these books.
    pub(crate) fn new(names: &[String]) -> Self {
        let is_closing = Arc::<AtomicBool>::default();
        let slot = |name: &String| {
            let slot = Slot { is_closing: Arc::clone(&is_closing), ..Slot::default() };
            slot.account().name.clone_from(name);
            slot
        };
        Self { slots: names.iter().map(slot).collect(), is_closing }
    }

    /// From here on nothing is mended any more.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }

    /// A message could not be read. It may have been any book's: none is known to be whole until it was asked for anew.
    pub(crate) fn doubt(&self) {
        for slot in &self.slots {
            let mut account = slot.account();
            account.errors += 1;
            (account.in_sync, account.is_doubted) = (false, true);
        }
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
