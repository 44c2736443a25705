//! A market that all sessions of a venue see alike, and each session's part in it. Invariants: what happens has one order for
//! all; a session is told each event of its channels once, from its subscription on, and none that its snapshot has in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::clock::Stamp;
use super::dialect::{Account, Book, Desk, Dialect, Event, History, Ping};
use super::due::Due;
use super::frames::Opcode;
use super::ladder::Ladder;
use super::outbox::Outbox;
use super::pace;
use super::tally::{Counted, lock};
use super::walk::Walk;

/// Events that a slow session may lag behind; it loses older ones, as it would at a venue that keeps no more for it.
const KEPT_EVENTS: usize = 64 * 1024;

/// What the sessions of a venue have in common.
pub(super) struct Exchange {
    dialect: Box<dyn Dialect>,
    floor: Mutex<Floor>,
}

struct Floor {
    books: Vec<Book>,
    source: Source,
    events: VecDeque<Arc<Event>>,
    /// The number of `events[0]`.
    first: u64,
    /// Every Nth update of a book is told to nobody; 0 is none.
    lose_every: u64,
    /// How many updates there were, by channel: each book loses its own.
    updates: BTreeMap<String, u64>,
}

/// Where events come from.
enum Source {
    Walk {
        /// One for each book.
        walks: Vec<Walk>,
        /// From one step to the next, over all books; zero is flat out.
        interval: Duration,
        due: Option<Instant>,
        next: usize,
    },
    Recording {
        events: Vec<Option<Arc<Event>>>,
        /// Where each channel's last update is. It is told whatever is lost: nothing would follow that could show the loss.
        last_updates: Vec<usize>,
        /// Empty when it plays flat out.
        offsets: Vec<Duration>,
        began: Option<Instant>,
        next: usize,
    },
}

/// What came of looking for the next event.
enum Advance {
    /// There is one more.
    Moved,
    /// Not before this instant.
    At(Instant),
    /// There will be no more.
    Over,
}

impl Exchange {
    /// Random walks on these markets, with so many updates a second on each.
    pub(super) fn walking(dialect: Box<dyn Dialect>, markets: &[String], rate_per_sec: f64, seed: u64) -> Self {
        let mut books = dialect.open(markets);
        let mut walks: Vec<_> = markets.iter().map(|market| Walk::new(market, seed)).collect();
        for (book, walk) in books.iter_mut().zip(&mut walks) {
            book.ladder.apply(&walk.lay_out()).expect("a walk has plain decimals");
            book.sequence = 1_000_000;
        }
        let steps_per_sec = rate_per_sec * markets.len() as f64;
        let interval = pace::time_of(1.0, steps_per_sec);
        Self::new(dialect, books, Source::Walk { walks, interval, due: None, next: 0 })
    }

    /// What a recording says, as fast as `offsets` tell, from the first subscription on.
    ///
    /// # Errors
    /// Which line has a level that cannot be read.
    pub(super) fn recorded(
        dialect: Box<dyn Dialect>,
        history: History,
        offsets: Vec<Duration>,
    ) -> Result<Self, String> {
        for (index, event) in history.events.iter().enumerate() {
            if let Some(effect) = event.as_ref().and_then(|event| event.effect.as_ref()) {
                let tried = Ladder::default().apply(&effect.changes);
                tried.map_err(|error| format!("line {}: {error}", index + 1))?;
            }
        }
        let events: Vec<_> = history.events.into_iter().map(|event| event.map(Arc::new)).collect();
        let updates = events.iter().enumerate().filter_map(|(index, event)| Some((index, event.as_ref()?)));
        let last: BTreeMap<_, _> = updates
            .filter(|(_, event)| event.is_update)
            .map(|(index, event)| (event.channel.as_str(), index))
            .collect();
        let last_updates = last.into_values().collect();
        let source = Source::Recording { events, last_updates, offsets, began: None, next: 0 };
        Ok(Self::new(dialect, history.books, source))
    }

    fn new(dialect: Box<dyn Dialect>, books: Vec<Book>, source: Source) -> Self {
        let (events, updates) = (VecDeque::new(), BTreeMap::new());
        Exchange { dialect, floor: Mutex::new(Floor { books, source, events, first: 0, lose_every: 0, updates }) }
    }

    pub(super) fn lose_every(self, updates: u64) -> Self {
        lock(&self.floor).lose_every = updates;
        self
    }
}

impl Floor {
    fn next_event(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Lets the next thing happen, if it is due.
    fn advance(&mut self, dialect: &dyn Dialect, now: Stamp) -> Advance {
        match &mut self.source {
            Source::Walk { walks, interval, due, next } => {
                let due_at = due.unwrap_or(now.at).max(pace::oldest_due(now.at));
                if due_at > now.at {
                    return Advance::At(due_at);
                }
                *due = due_at.checked_add(*interval);
                let events = dialect.step(&mut self.books[*next], &mut walks[*next], now);
                *next = (*next + 1) % walks.len();
                events.into_iter().for_each(|event| self.happen(Arc::new(event), false));
            }
            Source::Recording { events, last_updates, offsets, began, next } => {
                let began = *began.get_or_insert(now.at);
                let Some(event) = events.get(*next) else { return Advance::Over };
                if let Some(due) = offsets.get(*next).map(|offset| began + *offset)
                    && due > now.at
                {
                    return Advance::At(due);
                }
                let is_last = last_updates.contains(next);
                *next += 1;
                if let Some(event) = event {
                    let event = Arc::clone(event);
                    if let Some(effect) = &event.effect {
                        self.books[effect.market].enter(effect);
                    }
                    self.happen(event, is_last);
                }
            }
        }
        Advance::Moved
    }

    /// What happens is told, unless it is an update that is to be lost.
    fn happen(&mut self, event: Arc<Event>, is_last: bool) {
        if event.is_update && self.lose_every > 0 && !is_last {
            let updates = self.updates.entry(event.channel.clone()).or_default();
            *updates += 1;
            if updates.is_multiple_of(self.lose_every) {
                return;
            }
        }
        self.events.push_back(event);
        if self.events.len() > KEPT_EVENTS {
            self.events.pop_front();
            self.first += 1;
        }
    }
}

/// One session's part in the market.
pub(super) struct ExchangeFeed {
    exchange: Arc<Exchange>,
    account: Account,
    /// The number of the event that is looked at next.
    cursor: u64,
    ping_due: Option<Instant>,
    unanswered: u32,
    has_ended: bool,
}

impl ExchangeFeed {
    pub(super) fn new(exchange: Arc<Exchange>, number: u64, path: &str) -> Self {
        let account = Account::new(number, path);
        ExchangeFeed { exchange, account, cursor: 0, ping_due: None, unanswered: 0, has_ended: false }
    }

    pub(super) fn upgraded(&mut self, now: Stamp, outbox: &mut Outbox) {
        self.cursor = lock(&self.exchange.floor).next_event();
        self.ping_due = self.exchange.dialect.ping().map(|ping| now.at + ping.every());
        self.at_desk(now, outbox, |dialect, desk| dialect.greet(desk));
    }

    pub(super) fn heard(&mut self, text: Option<&str>, now: Stamp, outbox: &mut Outbox) {
        if let (Some(Ping::Text { pong, .. }), Some(text)) = (self.exchange.dialect.ping(), text)
            && text == pong
        {
            self.unanswered = 0;
            return;
        }
        self.at_desk(now, outbox, |dialect, desk| dialect.answer(text.unwrap_or_default(), desk));
    }

    fn at_desk(&mut self, now: Stamp, outbox: &mut Outbox, deal: impl FnOnce(&dyn Dialect, &mut Desk<'_>)) {
        let exchange = Arc::clone(&self.exchange);
        let mut floor = lock(&exchange.floor);
        let next_event = floor.next_event();
        if self.account.is_empty() {
            self.cursor = next_event;
        }
        let (books, account) = (&mut floor.books, &mut self.account);
        let mut desk = Desk { books, account, next_event, now, replies: Vec::new() };
        deal(exchange.dialect.as_ref(), &mut desk);
        for reply in desk.replies {
            outbox.stage(Opcode::Text, reply.as_bytes(), Counted::Message);
        }
    }

    /// Stages what is due, as far as there is room.
    pub(super) fn emit(&mut self, now: Stamp, outbox: &mut Outbox) -> Due {
        let pinged = self.ping(now, outbox);
        if self.account.is_empty() || self.has_ended || matches!(pinged, Due::Over) {
            return pinged;
        }
        let exchange = Arc::clone(&self.exchange);
        let dialect = exchange.dialect.as_ref();
        let mut floor = lock(&exchange.floor);
        loop {
            if !outbox.has_room() {
                return Due::WhenRoom;
            }
            self.cursor = self.cursor.max(floor.first);
            if let Some(event) = floor.events.get((self.cursor - floor.first) as usize) {
                if self.account.wants(&event.channel, self.cursor) {
                    let text = dialect.phrase(event, &self.account);
                    outbox.stage(Opcode::Text, text.as_bytes(), Counted::Message);
                }
                self.cursor += 1;
                continue;
            }
            match floor.advance(dialect, now) {
                Advance::Moved => {}
                Advance::At(due) => return earlier(due, &pinged),
                Advance::Over => {
                    outbox.mark(Counted::ReplayEnd);
                    self.has_ended = true;
                    return pinged;
                }
            }
        }
    }

    fn ping(&mut self, now: Stamp, outbox: &mut Outbox) -> Due {
        let (Some(ping), Some(due)) = (self.exchange.dialect.ping(), self.ping_due) else { return Due::Never };
        if due > now.at {
            return Due::At(due);
        }
        let next = now.at + ping.every();
        self.ping_due = Some(next);
        match ping {
            Ping::Text { .. } if self.unanswered >= 2 => return Due::Over,
            Ping::Text { ping, .. } => {
                self.unanswered += 1;
                outbox.stage(Opcode::Text, ping.as_bytes(), Counted::Message);
            }
            Ping::Frame { .. } => outbox.stage_control(Opcode::Ping, now.unix_ms().to_string().as_bytes()),
        }
        Due::At(next)
    }
}

impl Ping {
    fn every(self) -> Duration {
        match self {
            Ping::Text { every, .. } | Ping::Frame { every } => every,
        }
    }
}

fn earlier(due: Instant, other: &Due) -> Due {
    match other {
        Due::At(other) => Due::At(due.min(*other)),
        _ => Due::At(due),
    }
}
