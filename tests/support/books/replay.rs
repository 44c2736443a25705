//! Runs a session's messages through its books and tallies what a reference can be held against.

use std::collections::BTreeMap;

use super::{Book, Interpreted, Lexemes, Link, Quote, Venue, interpret};

/// Everything a session has amounted to so far.
#[derive(Debug)]
pub(crate) struct Replay {
    venue: Venue,
    kinds: BTreeMap<String, u64>,
    books: BTreeMap<String, Book>,
    quotes: BTreeMap<String, Quote>,
    sequences: Sequences,
    checks: u64,
    check_fail: u64,
}

/// One book's end: best lexemes and levels per side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BookEnd {
    pub(crate) bid: Option<Lexemes>,
    pub(crate) ask: Option<Lexemes>,
    pub(crate) bids: usize,
    pub(crate) asks: usize,
}

impl Replay {
    pub(crate) fn new(venue: Venue) -> Self {
        Self {
            venue,
            kinds: BTreeMap::new(),
            books: BTreeMap::new(),
            quotes: BTreeMap::new(),
            sequences: Sequences::default(),
            checks: 0,
            check_fail: 0,
        }
    }

    /// Takes the session's next message.
    pub(crate) fn take(&mut self, text: &str) -> Result<(), String> {
        let message = interpret(self.venue, text)?;
        self.take_interpreted(message)
    }

    /// Takes the session's next message, already read, perhaps on another thread.
    pub(crate) fn take_interpreted(&mut self, message: Interpreted) -> Result<(), String> {
        *self.kinds.entry(message.kind).or_default() += 1;
        message.links.iter().for_each(|link| self.sequences.follow(link));
        for update in &message.updates {
            let book = self.books.entry(update.book.clone()).or_default();
            book.apply(update)?;
            if let Some(checksum) = update.checksum {
                self.checks += 1;
                self.check_fail += u64::from(!book.sums_to(checksum));
            }
        }
        if let Some(quote) = message.quote {
            self.quotes.insert(quote.book.clone(), quote);
        }
        Ok(())
    }

    /// Messages by kind.
    pub(crate) fn kinds(&self) -> &BTreeMap<String, u64> {
        &self.kinds
    }

    pub(crate) fn books(&self) -> &BTreeMap<String, Book> {
        &self.books
    }

    /// The last quote of each market whose quotes have a feed of their own.
    pub(crate) fn quotes(&self) -> &BTreeMap<String, Quote> {
        &self.quotes
    }

    pub(crate) fn ends(&self) -> BTreeMap<String, BookEnd> {
        let end = |book: &Book| BookEnd {
            bid: book.best_bid().cloned(),
            ask: book.best_ask().cloned(),
            bids: book.bid_levels(),
            asks: book.ask_levels(),
        };
        self.books.iter().map(|(name, book)| (name.clone(), end(book))).collect()
    }

    pub(crate) fn gaps(&self) -> u64 {
        self.sequences.gaps()
    }

    pub(crate) fn checks(&self) -> u64 {
        self.checks
    }

    pub(crate) fn check_fail(&self) -> u64 {
        self.check_fail
    }
}

/// Counts the sequence gaps of any number of streams.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    last: BTreeMap<String, i64>,
    gaps: u64,
}

impl Sequences {
    pub(crate) fn follow(&mut self, link: &Link) {
        let before = self.last.insert(link.stream.clone(), link.last);
        if let (Some(before), Some(follows)) = (before, link.follows)
            && before != follows
        {
            self.gaps += 1;
        }
    }

    pub(crate) fn gaps(&self) -> u64 {
        self.gaps
    }
}
