//! The books on the screen. Handlers leave their latest view on the board, and the main thread draws it when it likes:
//! neither waits for the other longer than a copy takes.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::hyperliquid::{Coin, Decimal, Level, Trade};

/// What one coin's handler lets others see.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct View {
    pub(crate) bid: Option<Level>,
    pub(crate) ask: Option<Level>,
    /// Bid and ask levels of the book.
    pub(crate) depth: (usize, usize),
    pub(crate) last_trade: Option<Trade>,
    /// Messages of each feed.
    pub(crate) books: u64,
    pub(crate) quotes: u64,
    pub(crate) trades: u64,
    /// Books that were older than the one before.
    pub(crate) out_of_order: u64,
}

/// Where one handler posts its view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<View>>);

impl Slot {
    pub(crate) fn post(&self, view: View) {
        *self.lock() = view;
    }

    pub(crate) fn view(&self) -> View {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table, and the lines that are to be said beside it.
pub(crate) struct Board {
    slots: Vec<(Coin, Slot)>,
    notices: (Sender<String>, Receiver<String>),
    began: Instant,
    due: Instant,
    /// Redrawn in place on a terminal, printed line by line into a file.
    is_terminal: bool,
    /// Lines of the table on the screen.
    drawn: usize,
}

impl Board {
    pub(crate) fn new(coins: &[Coin], now: Instant) -> Self {
        Self {
            slots: coins.iter().map(|coin| (*coin, Slot::default())).collect(),
            notices: channel(),
            began: now,
            due: now + PATIENCE,
            is_terminal: io::stdout().is_terminal(),
            drawn: 0,
        }
    }

    pub(crate) fn slots(&self) -> &[(Coin, Slot)] {
        &self.slots
    }

    /// For whoever has something to say that is no book.
    pub(crate) fn notices(&self) -> Sender<String> {
        self.notices.0.clone()
    }

    /// Draws if it is time: the first time as soon as every coin has a book, or when patience ends and some have one.
    pub(crate) fn draw_when_due(&mut self, now: Instant) -> io::Result<()> {
        self.say()?;
        let with_book = self.slots.iter().filter(|(_, slot)| slot.view().books > 0).count();
        let first = self.drawn == 0 && with_book == self.slots.len();
        if with_book == 0 || (!first && now < self.due) {
            return Ok(());
        }
        self.due = now + if self.is_terminal { REDRAW } else { REPRINT };
        let table = self.table(now);
        let in_place = self.is_terminal && self.drawn > 0;
        let back = if in_place { format!("\x1b[{}F\x1b[J", self.drawn) } else { String::new() };
        self.drawn = table.lines().count();
        let mut out = io::stdout().lock();
        out.write_all((back + &table).as_bytes())?;
        out.flush()
    }

    /// Prints the notices; on a terminal the table makes room for them and is drawn anew beneath.
    pub(crate) fn say(&mut self) -> io::Result<()> {
        for notice in self.notices.1.try_iter() {
            let mut out = io::stdout().lock();
            if self.is_terminal && self.drawn > 0 {
                write!(out, "\x1b[{}F\x1b[J", self.drawn)?;
                self.drawn = 0;
            }
            writeln!(out, "{notice}")?;
        }
        Ok(())
    }

    fn table(&self, now: Instant) -> String {
        let mut table = format!(
            "{:<9}{:>11} {:>11}  {:<11} {:<11}{:>11} {:>9}\n",
            format!("{:.1} s", now.duration_since(self.began).as_secs_f64()),
            "bid size",
            "bid",
            "ask",
            "ask size",
            "traded at",
            "messages"
        );
        for (coin, slot) in &self.slots {
            let view = slot.view();
            let [bid, bid_size] = lexemes(view.bid);
            let [ask, ask_size] = lexemes(view.ask);
            let traded_at = view.last_trade.as_ref().map_or("-", |trade| trade.price.as_str());
            let messages = view.books + view.quotes + view.trades;
            writeln!(table, "{coin:<9}{bid_size:>11} {bid:>11}  {ask:<11} {ask_size:<11}{traded_at:>11} {messages:>9}")
                .expect("a String takes any text");
        }
        table
    }
}

/// Price and size as the venue spelled them.
pub(crate) fn lexemes(level: Option<Level>) -> [String; 2] {
    let text = |decimal: Decimal| decimal.as_str().to_owned();
    level.map_or_else(|| ["-".to_owned(), "-".to_owned()], |level| [text(level.price), text(level.size)])
}

/// Four times a second is as fast as one can read.
const REDRAW: Duration = Duration::from_millis(250);
/// A log is read later, if ever.
const REPRINT: Duration = Duration::from_secs(1);
/// A coin without a book must not hide the others for longer than this.
const PATIENCE: Duration = Duration::from_secs(1);
