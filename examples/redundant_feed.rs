//! One feed over two connections: whichever brings a message first wins, what one loses the other brings, and handlers see one stream.
//!
//! ```text
//! cargo run --release --example redundant_feed           two simulated lines, which lose one message in twenty and die now and then; 5 s
//! cargo run --release --example redundant_feed -- wss://stream.binance.com:9443/ws/btcusdt@trade wss://data-stream.binance.vision/ws/btcusdt@trade
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
}

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use hypersockets::simulator::{Session, Venue};
use hypersockets::{
    Client, ConnectionEvent, DisconnectReason, FeedArbiter, FixedDelay, MessageHandler, MessageRouter, Result, Scratch,
    Sequence, WsMessage,
};
use serde::Deserialize;
use support::demo::{Run, run, summary};

const NAMES: [&str; 4] = ["A", "B", "C", "D"];

// No doc comment: clap would take it for the description.
#[derive(Args)]
struct Lines {
    /// Further hosts of the same feed: one to three
    #[arg(value_name = "URL", num_args = 1..NAMES.len())]
    others: Vec<String>,
}

fn main() -> ExitCode {
    run("One feed over several connections: what one loses another brings", example)
}

fn example(run: &Run<Lines>) -> Result<()> {
    let simulated = if run.demo.url.is_none() { Some(Simulated::start()?) } else { None };
    let urls = match &simulated {
        Some(simulated) => simulated.urls(),
        None => run.demo.url.iter().chain(&run.demo.more.others).cloned().collect(),
    };
    let mut feed = FeedArbiter::builder().shutdown_flag(run.flag());
    for (name, url) in NAMES.into_iter().zip(&urls) {
        // Quickly back: the other lines carry the feed meanwhile, and a venue is not asked more often than this.
        let again = FixedDelay::new(Duration::from_millis(200), None);
        feed = feed.line(name, hypersockets::builder().url(url.clone()).reconnect_strategy(again));
    }
    let feed = feed.router(Trades, |routing| routing.handler((), Checker::default())).build()?;
    let names = &NAMES[..urls.len()];
    let lines = names.iter().map(|name| feed.line(name)).collect::<Result<Vec<Client>>>()?;
    run.wait_all(&names.iter().copied().zip(&lines).collect::<Vec<_>>());

    println!("{:>4} {:>9} {:>7} {:>9} {:>12} {:>12}", "line", "first", "share", "filled", "lag p50", "lag p99");
    for line in feed.lines() {
        let lag = |quantile| Duration::from_nanos(line.lag.quantile_ns(quantile));
        let (name, share, p50, p99) = (&line.name, 100.0 * line.share, lag(0.5), lag(0.99));
        println!("{name:>4} {:>9} {share:>6.1}% {:>9} {p50:>12.1?} {p99:>12.1?}", line.wins, line.filled);
    }
    summary(&feed.shutdown()?);
    Ok(())
}

/// A trade, as Binance sends it; its ids follow on each other.
#[derive(Debug, Deserialize)]
struct Trade {
    #[serde(rename = "t")]
    id: u64,
}

struct Trades;

impl MessageRouter for Trades {
    type Message = Trade;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<Trade> {
        Scratch::default().typed(message.as_bytes())
    }

    fn route_key(&self, _: &Trade) {}

    fn sequence(&self, trade: &Trade) -> Option<Sequence> {
        Some(Sequence { stream: 0, first: trade.id, last: trade.id })
    }
}

/// Looks for what should not be.
#[derive(Default)]
struct Checker {
    trades: u64,
    last: Option<u64>,
    missing: u64,
}

impl MessageHandler<Trade> for Checker {
    fn handle(&mut self, trade: Trade) -> Result<()> {
        self.trades += 1;
        if self.last.is_some_and(|last| trade.id <= last) {
            return Err("twice, or in another order".into());
        }
        self.last = Some(trade.id);
        Ok(())
    }

    fn on_event(&mut self, event: &ConnectionEvent) {
        match event {
            ConnectionEvent::Gap { first, last, .. } => self.missing += last - first + 1,
            ConnectionEvent::Lost { reason, .. } if *reason != DisconnectReason::Shutdown => {
                println!("both lines are down: {reason}");
            }
            _ => {}
        }
    }

    fn on_stop(&mut self) {
        println!("{} trades handled; {} that neither line had", self.trades, self.missing);
    }
}

/// Two venues that number their messages alike; each loses some, and drops its session now and then.
struct Simulated {
    venues: [Arc<Venue>; 2],
    stop: Arc<AtomicBool>,
    pump: Option<JoinHandle<()>>,
}

impl Simulated {
    fn start() -> Result<Self> {
        let venues = [Arc::new(Venue::scripted().start()?), Arc::new(Venue::scripted().start()?)];
        let stop = Arc::<AtomicBool>::default();
        let (to_pump, stopping) = (venues.clone(), Arc::clone(&stop));
        let pump = std::thread::spawn(move || pump(&to_pump, &stopping));
        Ok(Self { venues, stop, pump: Some(pump) })
    }

    fn urls(&self) -> Vec<String> {
        self.venues.iter().map(|venue| venue.url()).collect()
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(pump) = self.pump.take() {
            // It ends within a beat, and has nothing to tell.
            let _ = pump.join();
        }
    }
}

/// Sends 5,000 trades a second to both venues' sessions.
fn pump(venues: &[Arc<Venue>; 2], stop: &AtomicBool) {
    let mut sessions: [Option<Session>; 2] = [None, None];
    let (mut id, mut next) = (0_u64, Instant::now());
    while !stop.load(Ordering::Acquire) {
        for (session, venue) in sessions.iter_mut().zip(venues) {
            if let Ok(new) = venue.next_session(Duration::ZERO) {
                *session = Some(new);
            }
        }
        for _ in 0..10 {
            id += 1;
            for (line, session) in (1_u64..).zip(&mut sessions) {
                if (id + 2_500 * line).is_multiple_of(5_000)
                    && let Some(session) = session.take()
                {
                    session.drop_fin();
                }
                // A multiplicative hash: which are lost looks random, and the lines do not agree.
                let lost = ((id * 2 + line).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40).is_multiple_of(20);
                if let (Some(session), false) = (session, lost) {
                    session.send_text(format!(r#"{{"e":"trade","s":"BTCUSDT","t":{id},"p":"95123.10","q":"0.01"}}"#));
                }
            }
        }
        next += Duration::from_millis(2);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
