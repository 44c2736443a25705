//! What the exchanges have in common, and what each of them says in its own way. Invariant: a dialect keeps nothing between two
//! calls; what has to be remembered lies in the books and in the session.

use std::borrow::Cow;
use std::time::Duration;

use super::clock::Stamp;
use super::ladder::{Changes, Ladder};
use super::walk::Walk;

/// How one venue says what happens.
pub(super) trait Dialect: Send + Sync {
    /// The client has connected: what it is told, and what its path subscribes to.
    fn greet(&self, desk: &mut Desk<'_>);

    /// The client has sent a text.
    fn answer(&self, text: &str, desk: &mut Desk<'_>);

    /// A step of a random walk: enters it into the book, and says what is told about it.
    fn step(&self, book: &mut Book, walk: &mut Walk, now: Stamp) -> Vec<Event>;

    /// The books of these markets, before anything happens.
    fn open(&self, markets: &[String]) -> Vec<Book> {
        markets.iter().map(|market| Book::new(market)).collect()
    }

    /// Reads a recording: for each line what happened, if it concerned more than the client of that time; and the books that
    /// there are.
    ///
    /// # Errors
    /// Which line is not this venue's.
    fn read(&self, lines: &[&str]) -> Result<History, String>;

    /// The event as this session is told it.
    fn phrase<'e>(&self, event: &'e Event, _session: &Account) -> Cow<'e, str> {
        Cow::Borrowed(&event.text)
    }

    /// How the venue asks whether the client is still there.
    fn ping(&self) -> Option<Ping> {
        None
    }
}

/// A question that the client has to answer.
#[derive(Clone, Copy)]
pub(super) enum Ping {
    /// A message: two that were not answered by this text are the end of the session.
    Text { every: Duration, ping: &'static str, pong: &'static str },
    /// A control frame with the venue's time in it.
    Frame { every: Duration },
}

/// Something that happened on the market.
pub(super) struct Event {
    /// Who subscribed to this channel is told.
    pub(super) channel: String,
    pub(super) text: String,
    /// What it does to a book of a recording; a step of a walk has been entered before.
    pub(super) effect: Option<Effect>,
    /// A change of a book, and no whole one: what can go missing unnoticed.
    pub(super) is_update: bool,
}

impl Event {
    /// Something that changes no book.
    pub(super) fn news(channel: String, text: String) -> Self {
        Event { channel, text, effect: None, is_update: false }
    }
}

/// What a recorded line does to a book.
pub(super) struct Effect {
    pub(super) market: usize,
    /// The book as it was is void.
    pub(super) resets: bool,
    pub(super) changes: Changes,
    pub(super) sequence: u64,
    pub(super) nonce: Option<u64>,
}

/// A recording, read.
pub(super) struct History {
    pub(super) books: Vec<Book>,
    /// One for each line.
    pub(super) events: Vec<Option<Event>>,
}

impl History {
    /// Reads line by line; a book that is named is there.
    ///
    /// # Errors
    /// Which line, and what `read` says of it.
    pub(super) fn read(
        lines: &[&str],
        mut books: Vec<Book>,
        read: impl Fn(&str, &mut Vec<Book>) -> Result<Option<Event>, String>,
    ) -> Result<Self, String> {
        let mut events = Vec::with_capacity(lines.len());
        for (index, line) in lines.iter().enumerate() {
            events.push(read(line, &mut books).map_err(|error| format!("line {}: {error}", index + 1))?);
        }
        Ok(History { books, events })
    }
}

/// Where a market's book stands, which is made where there is none.
pub(super) fn place_of(market: &str, books: &mut Vec<Book>) -> usize {
    books.iter().position(|book| book.market == market).unwrap_or_else(|| {
        books.push(Book::new(market));
        books.len() - 1
    })
}

/// A market's book, and how far its numbers have come.
pub(super) struct Book {
    pub(super) market: String,
    pub(super) ladder: Ladder,
    pub(super) sequence: u64,
    pub(super) nonce: Option<u64>,
    /// Steps of the walk so far.
    pub(super) steps: u64,
    /// The depths that clients have asked for.
    pub(super) depths: Vec<usize>,
    /// The book goes no deeper; a recording's depth is given.
    pub(super) depth_limit: Option<usize>,
}

impl Book {
    pub(super) fn new(market: &str) -> Self {
        Book {
            market: market.to_owned(),
            ladder: Ladder::default(),
            sequence: 0,
            nonce: None,
            steps: 0,
            depths: Vec::new(),
            depth_limit: None,
        }
    }

    /// Enters what a recorded line says. One that is older than the book is in it already.
    pub(super) fn enter(&mut self, effect: &Effect) {
        if effect.resets {
            self.ladder.clear();
        } else if effect.sequence != 0 && effect.sequence <= self.sequence {
            return;
        }
        self.ladder.apply(&effect.changes).expect("each was read when the recording was");
        (self.sequence, self.nonce) = (effect.sequence, effect.nonce);
        if let Some(limit) = self.depth_limit {
            self.ladder.truncate(limit);
        }
    }
}

/// What a session has asked for.
pub(super) struct Account {
    pub(super) number: u64,
    pub(super) path: String,
    /// Channels, each with the number of the first event that it gets: those before are in the snapshot.
    subscriptions: Vec<(String, u64)>,
}

impl Account {
    pub(super) fn new(number: u64, path: &str) -> Self {
        Account { number, path: path.to_owned(), subscriptions: Vec::new() }
    }

    pub(super) fn is_subscribed(&self, channel: &str) -> bool {
        self.subscriptions.iter().any(|(had, _)| had == channel)
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = &str> {
        self.subscriptions.iter().map(|(channel, _)| channel.as_str())
    }

    pub(super) fn wants(&self, channel: &str, event_number: u64) -> bool {
        self.subscriptions.iter().any(|(had, first)| had == channel && *first <= event_number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    pub(super) fn unsubscribe(&mut self, channel: &str) -> bool {
        let count = self.subscriptions.len();
        self.subscriptions.retain(|(had, _)| had != channel);
        self.subscriptions.len() < count
    }
}

/// Where a client's wish is dealt with.
pub(super) struct Desk<'a> {
    pub(super) books: &'a mut Vec<Book>,
    pub(super) account: &'a mut Account,
    /// The number of the event that comes next.
    pub(super) next_event: u64,
    pub(super) now: Stamp,
    /// What the client is told, in this order.
    pub(super) replies: Vec<String>,
}

impl Desk<'_> {
    pub(super) fn reply(&mut self, text: impl Into<String>) {
        self.replies.push(text.into());
    }

    /// From here on the client gets this channel.
    pub(super) fn subscribe(&mut self, channel: &str) {
        if !self.account.is_subscribed(channel) {
            self.account.subscriptions.push((channel.to_owned(), self.next_event));
        }
    }

    pub(super) fn book(&mut self, market: &str) -> Option<&mut Book> {
        self.books.iter_mut().find(|book| book.market == market)
    }
}
