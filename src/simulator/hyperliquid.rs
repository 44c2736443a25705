//! An imitation of Hyperliquid's public feed. Invariant: `time` rises strictly from one book (or best bid and offer) of a
//! coin to the next, over all sessions and restarts of the venue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::book::{Book, Dice, seed_of};
use super::clock::Stamp;
use super::due::Due;
use super::frames::Opcode;
use super::outbox::Outbox;
use super::pace;
use super::tally::Counted;

/// How many past trades the venue sends first on a trades channel.
const PAST_TRADES: u64 = 30;

/// What the sessions of a venue have in common.
pub(super) struct Market {
    coins: Vec<Coin>,
    /// Books per second and coin; infinite is flat out.
    rate_per_sec: f64,
    seed: u64,
}

struct Coin {
    name: String,
    json: String,
    last_time: AtomicU64,
}

impl Market {
    pub(super) fn new(coins: Vec<String>, rate_per_sec: f64, seed: u64) -> Self {
        let coins = coins.into_iter().map(|name| Coin {
            json: Value::from(name.as_str()).to_string(),
            name,
            last_time: AtomicU64::new(0),
        });
        Market { coins: coins.collect(), rate_per_sec, seed }
    }

    pub(super) fn coin(&self, name: &str) -> Option<usize> {
        self.coins.iter().position(|coin| coin.name == name)
    }
}

impl Coin {
    fn next_time(&self, now: Stamp) -> u64 {
        let next = |last: u64| now.unix_ms().max(last + 1);
        let (Ok(last) | Err(last)) =
            self.last_time.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last)));
        next(last)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Channel {
    L2Book,
    Trades,
    Bbo,
}

impl Channel {
    fn named(name: &str) -> Option<Channel> {
        match name {
            "l2Book" => Some(Channel::L2Book),
            "trades" => Some(Channel::Trades),
            "bbo" => Some(Channel::Bbo),
            _ => None,
        }
    }

    /// One message of this channel per so many books.
    fn books_per_message(self) -> u32 {
        match self {
            Channel::L2Book => 1,
            Channel::Bbo => 2,
            Channel::Trades => 4,
        }
    }
}

struct Subscription {
    channel: Channel,
    coin: usize,
    due: Instant,
    /// Rounds of the flat-out feed until its next message.
    rounds_left: u32,
    sent: u64,
}

/// One session's subscriptions and books.
pub(super) struct HyperliquidFeed {
    market: Arc<Market>,
    session: u64,
    subscriptions: Vec<Subscription>,
    /// By coin; made when first needed.
    books: Vec<Option<Book>>,
    /// Where the next pass over the subscriptions starts, so that a full outbox favours none.
    cursor: usize,
    dice: Dice,
    message: Vec<u8>,
}

impl HyperliquidFeed {
    pub(super) fn new(market: Arc<Market>, session: u64) -> Self {
        HyperliquidFeed {
            books: market.coins.iter().map(|_| None).collect(),
            dice: Dice::new(market.seed ^ session),
            market,
            session,
            subscriptions: Vec::new(),
            cursor: 0,
            message: Vec::new(),
        }
    }

    pub(super) fn heard(&mut self, text: Option<&str>, now: Stamp, outbox: &mut Outbox) {
        let request = text.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let answer = match request.as_ref().map(|r| (r["method"].as_str(), r)) {
            Some((Some("ping"), _)) => r#"{"channel":"pong"}"#.to_owned(),
            Some((Some(method @ ("subscribe" | "unsubscribe")), request)) => {
                let subscription = &request["subscription"];
                self.change(method, subscription, now).unwrap_or_else(|e| error(&e))
            }
            _ => error(&format!("Error parsing JSON into valid websocket request: {}", text.unwrap_or("binary"))),
        };
        outbox.stage(Opcode::Text, answer.as_bytes(), Counted::Message);
    }

    /// Subscribes or unsubscribes; the acknowledgement, or what is wrong.
    fn change(&mut self, method: &str, wanted: &Value, now: Stamp) -> Result<String, String> {
        let channel = wanted["type"].as_str().and_then(Channel::named);
        let coin = wanted["coin"].as_str().and_then(|c| self.market.coin(c));
        let (Some(channel), Some(coin)) = (channel, coin) else {
            return Err(format!("Invalid subscription {wanted}"));
        };
        let json = format!(r#"{{"type":{},"coin":{}}}"#, wanted["type"], self.market.coins[coin].json);
        let held = self.subscriptions.iter().position(|s| s.channel == channel && s.coin == coin);
        match (method, held) {
            ("subscribe", Some(_)) => return Err(format!("Already subscribed: {json}")),
            ("subscribe", None) => {
                self.subscriptions.push(Subscription { channel, coin, due: now.at, rounds_left: 0, sent: 0 });
            }
            (_, Some(index)) => drop(self.subscriptions.remove(index)),
            (_, None) => return Err(format!("Already unsubscribed: {json}")),
        }
        Ok(format!(r#"{{"channel":"subscriptionResponse","data":{{"method":"{method}","subscription":{json}}}}}"#))
    }

    /// Stages what is due, or flat out as much as there is room for.
    pub(super) fn emit(&mut self, now: Stamp, outbox: &mut Outbox) -> Due {
        if self.subscriptions.is_empty() {
            return Due::Never;
        }
        if self.market.rate_per_sec.is_infinite() {
            return self.emit_flat_out(now, outbox);
        }
        let count = self.subscriptions.len();
        let first = self.cursor;
        let oldest = pace::oldest_due(now.at);
        let mut earliest: Option<Instant> = None;
        for index in (first..first + count).map(|index| index % count) {
            let due = self.subscriptions[index].due.max(oldest);
            self.subscriptions[index].due = due;
            while self.subscriptions[index].due <= now.at {
                if !outbox.has_room() {
                    self.cursor = index;
                    return Due::WhenRoom;
                }
                self.send(index, now, outbox);
                let wait = self.wait_of(index);
                self.subscriptions[index].due += wait;
            }
            let due = self.subscriptions[index].due;
            earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
        }
        earliest.map_or(Due::Never, Due::At)
    }

    fn emit_flat_out(&mut self, now: Stamp, outbox: &mut Outbox) -> Due {
        let count = self.subscriptions.len();
        self.cursor %= count;
        while outbox.has_room() {
            let index = self.cursor;
            let subscription = &mut self.subscriptions[index];
            if subscription.rounds_left == 0 {
                subscription.rounds_left = subscription.channel.books_per_message() - 1;
                self.send(index, now, outbox);
            } else {
                subscription.rounds_left -= 1;
            }
            self.cursor = (index + 1) % count;
        }
        Due::WhenRoom
    }

    /// From the message just sent to the next. Behind the first it is a random part of the usual, lest all coins beat
    /// together.
    fn wait_of(&mut self, index: usize) -> Duration {
        let subscription = &self.subscriptions[index];
        let part = match subscription.sent {
            1 => self.dice.below(1000) as f64 / 1000.0,
            _ => 1.0,
        };
        let books = f64::from(subscription.channel.books_per_message());
        pace::time_of(part * books, self.market.rate_per_sec)
    }

    fn send(&mut self, index: usize, now: Stamp, outbox: &mut Outbox) {
        let market = &self.market;
        let subscription = &mut self.subscriptions[index];
        subscription.sent += 1;
        let coin = &market.coins[subscription.coin];
        let book = self.books[subscription.coin].get_or_insert_with(|| {
            let seed = seed_of(&coin.name, market.seed ^ self.session.rotate_left(32));
            Book::new(&coin.name, &coin.json, seed)
        });
        book.step();
        self.message.clear();
        let counted = match subscription.channel {
            Channel::L2Book => {
                book.write_l2_book(coin.next_time(now), &mut self.message);
                Counted::Book(subscription.coin)
            }
            Channel::Bbo => {
                book.write_bbo(coin.next_time(now), &mut self.message);
                Counted::Message
            }
            Channel::Trades => {
                let trades = match subscription.sent {
                    1 => PAST_TRADES,
                    _ => 1 + self.dice.below(3),
                };
                book.write_trades(trades, now.unix_ms(), &mut self.message);
                Counted::Message
            }
        };
        outbox.stage(Opcode::Text, &self.message, counted);
    }
}

fn error(what: &str) -> String {
    format!(r#"{{"channel":"error","data":{}}}"#, Value::from(what))
}
