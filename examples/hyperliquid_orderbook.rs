//! Live L2 order books of ten coins from Hyperliquid, with the top of each on the terminal.
//!
//! One thread reads the socket and parses ([`Router`]); each coin's book belongs to a thread of its own
//! ([`BookKeeper`]), so no book needs a lock; pongs, acknowledgements and errors are kept out of their way. At the end
//! every message is accounted for, and the process fails where one is missing.
//!
//! ```text
//! cargo run --release --example hyperliquid_orderbook                        the real venue, until Ctrl-C
//! cargo run --release --example hyperliquid_orderbook -- --simulate          the embedded simulator, for 10 s
//! cargo run --release --example hyperliquid_orderbook -- --replay FILE.jsonl a recording, flat out
//! ```

pub(crate) mod support {
    pub(crate) mod board;
    pub(crate) mod duration;
    pub(crate) mod hyperliquid;
    pub(crate) mod options;
    pub(crate) mod source;
    pub(crate) mod summary;
}

use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use hypersockets::{
    Client, ClientEvent, ConnectionEvent, CtrlC, DisconnectReason, HyperSocketError, MessageHandler, MessageRouter,
    Result, Routing, WsMessage,
};
use serde_json::json;

use support::board::{Board, Slot, View};
use support::hyperliquid::{Coin, Feed, OrderBook, Quote};
use support::options::Options;
use support::source::Source;
use support::summary::{Replies, Summary};

fn main() -> ExitCode {
    // Before anything else, so that there is no moment at which Ctrl-C would not be answered with a summary.
    let ended = CtrlC::install().and_then(|ctrl_c| run(&Options::parse(), &ctrl_c)).and_then(|summary| {
        write!(std::io::stdout(), "{summary}")?;
        Ok(summary.exit_code())
    });
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// Keeps the books until Ctrl-C, or the end of the time or the recording.
pub(crate) fn run(options: &Options, ctrl_c: &CtrlC) -> Result<Summary> {
    let (source, coins) = Source::open(options)?;
    let mut board = Board::new(&coins, Instant::now());
    let replies = Arc::new(Mutex::new(Replies::default()));

    let client = hypersockets::builder()
        .url(source.url())
        .tls(source.tls())
        .router(Router, |routing| routes(routing, &source, &board, &replies))
        .subscriptions(subscriptions(&coins))
        .heartbeat(source.heartbeat_every(), WsMessage::text(r#"{"method":"ping"}"#))
        .close_timeout(source.close_timeout())
        .shutdown_flag(ctrl_c.flag())
        .measure_latency()
        .start();
    let client = match client {
        Ok(client) => client,
        // There was nothing to stop yet.
        Err(_) if ctrl_c.wait_timeout(Duration::ZERO) => return Ok(Summary::default()),
        Err(error) => return Err(error),
    };

    watch(&client, &source, ctrl_c, options.run_for(), &mut board)?;
    let report = client.shutdown()?;
    board.say()?;
    let replies = *replies.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Summary::new(&report, &client.latency().stages.total, &board, replies, &source))
}

/// Reads the venue's JSON, and tells messages apart by coin.
struct Router;

impl MessageRouter for Router {
    type Message = Feed;
    type RouteKey = Route;

    fn parse(&self, message: WsMessage<'_>) -> Result<Feed> {
        Ok(Feed::parse(message.as_text().ok_or("a binary message")?)?)
    }

    fn route_key(&self, feed: &Feed) -> Route {
        match feed {
            Feed::Pong => Route::Pong,
            feed => feed.coin().map_or(Route::Reply, Route::Coin),
        }
    }
}

/// Copied and compared in place: no allocation on the way of a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Route {
    /// Books, quotes and trades of one coin.
    Coin(Coin),
    /// Answers to our heartbeat.
    Pong,
    /// Everything else that the venue says; it goes to the default handler.
    Reply,
}

/// What metrics and thread names call the route.
impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coin(coin) => write!(f, "{coin}"),
            Self::Pong => f.write_str("pong"),
            Self::Reply => f.write_str("reply"),
        }
    }
}

/// A thread for each coin, one for the pongs, and one for all the rest.
fn routes(
    mut routing: Routing<Router>,
    source: &Source,
    board: &Board,
    replies: &Arc<Mutex<Replies>>,
) -> Routing<Router> {
    for (coin, slot) in board.slots() {
        let keeper = BookKeeper {
            book: OrderBook::default(),
            view: View::default(),
            slot: slot.clone(),
            is_strictly_ordered: source.is_strictly_ordered(),
        };
        routing = routing.handler(Route::Coin(*coin), keeper);
    }
    routing
        .handler(Route::Pong, |_pong: Feed| Ok(()))
        .default_handler(ReplyReader { replies: Arc::clone(replies), notices: board.notices() })
}

fn subscriptions(coins: &[Coin]) -> Vec<WsMessage<'static>> {
    let request = |coin: &Coin, feed| {
        let subscription = json!({ "type": feed, "coin": coin.as_str() });
        WsMessage::text(json!({ "method": "subscribe", "subscription": subscription }).to_string())
    };
    coins.iter().flat_map(|coin| ["l2Book", "trades", "bbo"].map(|feed| request(coin, feed))).collect()
}

/// Keeps the book of one coin, on that coin's thread.
struct BookKeeper {
    book: OrderBook,
    view: View,
    slot: Slot,
    is_strictly_ordered: bool,
}

impl MessageHandler<Feed> for BookKeeper {
    fn handle(&mut self, feed: Feed) -> Result<()> {
        match feed {
            Feed::Book { time_ms, book, .. } => {
                let earliest = self.book.time_ms() + u64::from(self.is_strictly_ordered);
                self.view.out_of_order += u64::from(time_ms < earliest);
                self.view.books += 1;
                self.book.apply(time_ms, book);
            }
            Feed::Bbo { time_ms, bid, ask, .. } => {
                self.view.quotes += 1;
                self.book.apply_quote(Quote { time_ms, bid, ask });
            }
            Feed::Trades { last, .. } => {
                self.view.trades += 1;
                self.view.last_trade = last;
            }
            other => return Err(format!("{other:?} on a coin's route").into()),
        }
        Ok(())
    }

    /// A book with a hole in it is no book: the venue sends a whole one after each subscribe.
    fn on_event(&mut self, event: &ConnectionEvent) {
        if let ConnectionEvent::Lost { reason, .. } = event
            && *reason != DisconnectReason::Shutdown
        {
            self.book = OrderBook::default();
            self.publish();
        }
    }

    /// After a burst only the last state is worth showing.
    fn on_batch_end(&mut self) {
        self.publish();
    }
}

impl BookKeeper {
    fn publish(&mut self) {
        self.view.bid = self.book.best_bid().copied();
        self.view.ask = self.book.best_ask().copied();
        self.view.depth = self.book.depth();
        self.slot.post(self.view);
    }
}

/// Counts acknowledgements, and has errors shown.
struct ReplyReader {
    replies: Arc<Mutex<Replies>>,
    notices: Sender<String>,
}

impl MessageHandler<Feed> for ReplyReader {
    fn handle(&mut self, feed: Feed) -> Result<()> {
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        match feed {
            Feed::Ack { .. } => replies.acknowledged += 1,
            Feed::Error(reason) => {
                replies.refused += 1;
                // The board outlives every handler; were it gone, nobody could read this.
                let _ = self.notices.send(format!("the venue says: {reason}"));
            }
            _ => replies.other += 1,
        }
        Ok(())
    }
}

/// Shows the books until Ctrl-C, the end of the time, or the end of the recording.
///
/// # Errors
/// The reason why there is no connection and will be none.
fn watch(client: &Client, source: &Source, ctrl_c: &CtrlC, run_for: Option<Duration>, board: &mut Board) -> Result<()> {
    let (events, notices) = (client.events(), board.notices());
    let stop_at = run_for.and_then(|run_for| Instant::now().checked_add(run_for));
    while !ctrl_c.wait_timeout(TICK) {
        while let Some(event) = events.try_next() {
            match event {
                ClientEvent::DialFailed { attempt: DIALS.., reason, .. } if client.epoch() == 0 => {
                    return Err(HyperSocketError::ConnectFailed(reason));
                }
                ClientEvent::Closed { reason: DisconnectReason::Shutdown } => return Ok(()),
                ClientEvent::Closed { reason } => return Err(HyperSocketError::Closed(reason)),
                event => notices.send(told(event)).expect("the board holds the other end"),
            }
        }
        let now = Instant::now();
        board.draw_when_due(now)?;
        if source.has_ended() {
            return Ok(());
        }
        if stop_at.is_some_and(|stop_at| now >= stop_at) {
            return if client.epoch() > 0 {
                Ok(())
            } else {
                Err("the time was up before the venue was reached".into())
            };
        }
    }
    Ok(())
}

/// What happened, for a reader of the screen.
fn told(event: ClientEvent) -> String {
    match event {
        ClientEvent::Connection(ConnectionEvent::Live { epoch }) => format!("live, epoch {epoch}"),
        ClientEvent::Connection(ConnectionEvent::Lost { reason, .. }) => format!("connection lost: {reason}"),
        ClientEvent::DialFailed { attempt, reason, retry_in } => {
            format!("dial {attempt} failed: {reason}; the next in {:.1} s", retry_in.as_secs_f64())
        }
        ClientEvent::ParseFailed { error } => format!("not understood: {error}"),
        ClientEvent::HandlerFailed { route, error } => format!("handler of {route}: {error}"),
        other => format!("{other:?}"),
    }
}

/// How soon a recording's end, or an event, is seen. Ctrl-C is seen at once.
const TICK: Duration = Duration::from_millis(20);
/// A venue that was never reached is given up after so many dials, some three seconds: long enough for a hiccup.
const DIALS: usize = 3;
