//! A/B arbitration: the same feed over several connections, of which the first to bring a message wins.

mod builder;
mod slowest;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::builder::NoRouter;
use crate::client::{Client, Events, ShutdownReport};
use crate::clock;
use crate::error::{DisconnectReason, HyperSocketError, Result};
use crate::metrics::{BesideRoutes, Latency, LatencyReport, LineStats, Metrics, PipelineStats};
use crate::own_thread;
use crate::pipeline::{HandlerThreads, Troubles};
use crate::state::{ClientState, Shared};
use crate::sync::lock;

pub use builder::FeedArbiterBuilder;

/// One feed over several connections (lines): to other addresses or hosts of the venue, from other source addresses, on other
/// engines. The first arrival of each message goes to its handler, what comes again is dropped before routing, and what one line
/// misses the others bring: handlers see one stream in order, and never notice that a line dies and comes back.
///
/// Messages are told apart by [`MessageRouter::sequence`](crate::MessageRouter::sequence), which must mean the same on all lines.
/// A message behind a hole waits until another line has filled the hole, or all live lines are past it ([`Gap`](crate::ConnectionEvent::Gap) tells of the hole then), or
/// those that are not have been silent for the time of [`hold`](FeedArbiterBuilder::hold), after which nobody waits for them until
/// they speak again. The first message of a stream waits likewise until each live line has shown the stream.
///
/// A feed with messages that have no sequence cannot be arbitrated: at the first one all lines are closed for good, and
/// [`NotSpliced`](DisconnectReason::NotSpliced) says of which route. Answers to subscriptions
/// ([`MessageRouter::subscription_reply`](crate::MessageRouter::subscription_reply)) need none.
///
/// Handlers get [`Live`](crate::ConnectionEvent::Live) when the first line is live, and [`Lost`](crate::ConnectionEvent::Lost) when
/// the last is gone, and no other is in its handshake and live within the time of `hold`;
/// [`Delivery::connection`](crate::Delivery::connection) says which line brought a message. A feed only reads: to send, take the line's own [`Client`].
///
/// ```no_run
/// # use hypersockets::{MessageRouter, Result, Sequence, WsMessage};
/// # struct Trades;
/// # impl MessageRouter for Trades {
/// #     type Message = u64;
/// #     type RouteKey = ();
/// #     fn parse(&self, message: WsMessage<'_>) -> Result<u64> { Ok(message.as_bytes().len() as u64) }
/// #     fn route_key(&self, _: &u64) {}
/// #     fn sequence(&self, id: &u64) -> Option<Sequence> { Some(Sequence { stream: 0, first: *id, last: *id }) }
/// # }
/// # fn main() -> Result<()> {
/// let feed = hypersockets::FeedArbiter::builder()
///     .line("tokyo", hypersockets::builder().url("wss://stream-a.example.com/ws/btcusdt@trade"))
///     .line("proxy", hypersockets::builder().url("wss://stream-b.example.com/ws/btcusdt@trade"))
///     .router(Trades, |routing| routing.handler((), |id: u64| Ok(println!("trade {id}"))))
///     .build()?;
/// for line in feed.lines() {
///     println!("{}: first with {:.0} % of all, {:?} behind", line.name, 100.0 * line.share, line.lag);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FeedArbiter {
    feed: Arc<Feed>,
}

struct Feed {
    shared: Arc<Shared>,
    lines: Vec<NamedLine>,
    stats: Arc<PipelineStats>,
    threads: Arc<HandlerThreads>,
    troubles: Arc<Troubles>,
    built_ns: u64,
    /// The report of the first shutdown.
    ended: Mutex<Option<ShutdownReport>>,
}

struct NamedLine {
    name: String,
    client: Client,
    stats: Arc<LineStats>,
}

impl FeedArbiter {
    /// Begins a feed.
    pub fn builder() -> FeedArbiterBuilder<NoRouter> {
        FeedArbiterBuilder::new()
    }

    /// Where the feed stands: [`Live`](ClientState::Live) while any of its lines is.
    pub fn state(&self) -> ClientState {
        self.feed.shared.state().0
    }

    /// The epoch of the latest time that the feed was live, from 1; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.feed.shared.state().1
    }

    /// Waits until the feed is live.
    ///
    /// # Errors
    /// [`TimedOut`](HyperSocketError::TimedOut), [`Closed`](HyperSocketError::Closed) where it will never be live again,
    /// [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread of an engine.
    pub fn wait_live(&self, timeout: Duration) -> Result<()> {
        own_thread::refuse("FeedArbiter::wait_live")?;
        self.feed.shared.wait_live(clock::after(timeout))
    }

    /// How each line does, in the order in which they were given.
    pub fn lines(&self) -> Vec<LineReport> {
        let wins: u64 = self.feed.lines.iter().map(|line| line.stats.wins.get()).sum();
        self.feed.lines.iter().map(|line| line.report(wins)).collect()
    }

    /// The client behind a line: its state, events and metrics, and the way to send on it. Its
    /// [`rotate`](Client::rotate) closes it and dials anew, which nobody notices while another line is live.
    ///
    /// # Errors
    /// [`UnknownClient`](HyperSocketError::UnknownClient).
    pub fn line(&self, name: &str) -> Result<Client> {
        let found = self.feed.lines.iter().find(|line| line.name == name);
        found.map(|line| line.client.clone()).ok_or_else(|| HyperSocketError::UnknownClient(name.to_owned()))
    }

    /// All counters, over all lines.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::read(&self.feed.shared.counters, &self.feed.stats, clock::stamp_ns());
        self.feed.lines.iter().for_each(|line| metrics.add_connection(&line.client.metrics()));
        metrics
    }

    /// How long messages took, stage by stage, where a line was built with
    /// [`measure_latency`](crate::ClientBuilder::measure_latency).
    pub fn latency(&self) -> LatencyReport {
        let beside = BesideRoutes { built_ns: self.feed.built_ns, ..BesideRoutes::default() };
        LatencyReport::read(&self.feed.stats, beside)
    }

    /// The feed's own events; those of a line are its client's.
    pub fn events(&self) -> Events {
        Events::of(&self.feed.shared)
    }

    /// Begins the shutdown of all lines and returns at once.
    pub fn request_shutdown(&self) {
        self.feed.lines.iter().for_each(|line| line.client.request_shutdown());
    }

    /// Shuts all lines down, side by side, and waits until the handlers have handled what had arrived, at most 30 s. Further calls
    /// return the first one's report.
    ///
    /// # Errors
    /// [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread of an engine.
    pub fn shutdown(&self) -> Result<ShutdownReport> {
        self.shutdown_within(SHUTDOWN_TIMEOUT)
    }

    /// Like [`shutdown`](Self::shutdown), with a deadline of the caller's.
    ///
    /// # Errors
    /// As for [`shutdown`](Self::shutdown).
    pub fn shutdown_within(&self, timeout: Duration) -> Result<ShutdownReport> {
        own_thread::refuse("FeedArbiter::shutdown")?;
        let mut ended = lock(&self.feed.ended);
        if let Some(report) = &*ended {
            return Ok(report.clone());
        }
        let (began, deadline) = (clock::now(), clock::after(timeout));
        self.request_shutdown();
        let mut lines_done = true;
        for line in &self.feed.lines {
            let report = line.client.shutdown_within(deadline.saturating_duration_since(clock::now()))?;
            lines_done &= report.complete;
        }
        let handlers_done = self.feed.threads.join(deadline);
        self.feed.shared.leave_halted_flags();
        let reason = self.feed.shared.ending().unwrap_or(DisconnectReason::Deadline("shutting down"));
        let complete = lines_done && handlers_done;
        let report =
            ShutdownReport::new(reason, clock::now().duration_since(began), complete, self.metrics(), &self.feed.stats);
        *ended = Some(report.clone());
        Ok(report)
    }
}

impl fmt::Debug for FeedArbiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedArbiter")
            .field("state", &self.state())
            .field("lines", &self.lines())
            .finish_non_exhaustive()
    }
}

/// How one line of a feed does; see [`FeedArbiter::lines`]. All counts start at 0 when the feed is built and only grow.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LineReport {
    /// As it was given.
    pub name: String,
    /// Where it stands.
    pub state: ClientState,
    /// Messages that it brought first.
    pub wins: u64,
    /// Its part of all that were brought first, from 0.0 to 1.0; 0 before the first.
    pub share: f64,
    /// Messages that it brought and another line had brought before; they were dropped.
    pub repeats: u64,
    /// Sequence numbers that it left out, and another line brought.
    pub filled: u64,
    /// How much later than the first line it brought what it repeated.
    pub lag: Latency,
}

impl NamedLine {
    fn report(&self, all_wins: u64) -> LineReport {
        let wins = self.stats.wins.get();
        LineReport {
            name: self.name.clone(),
            state: self.client.state(),
            wins,
            share: wins as f64 / all_wins.max(1) as f64,
            repeats: self.stats.repeats.get(),
            filled: self.stats.filled.get(),
            lag: self.stats.lag.snapshot(),
        }
    }
}

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
