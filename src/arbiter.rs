//! A/B arbitration: the same feed over several connections, of which the first to bring a message wins.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::assemble::{BUILD_SLACK, Berth, HOLD, start_routes};
use crate::builder::{ClientBuilder, HasRouter, HasUrl, NoRouter};
use crate::client::{Client, Events, ShutdownReport};
use crate::clock;
use crate::engine::{Command, Engine};
use crate::error::{DisconnectReason, HyperSocketError, Result};
use crate::lifecycle::FirstDial;
use crate::metrics::{BesideRoutes, Latency, LatencyReport, LineStats, Metrics, PipelineStats};
use crate::own_thread;
use crate::pipeline::{HandlerThreads, MOST_LINES, Started, Surroundings, Told, Troubles, Unnumbered, feed_of_lines};
use crate::router::MessageRouter;
use crate::routing::Routing;
use crate::sender::Sender;
use crate::state::{ClientState, Shared};
use crate::sync::lock;

/// One feed over several connections (lines): to other addresses or hosts of the venue, from other source addresses, on other
/// engines. The first arrival of each message goes to its handler, what comes again is dropped before routing, and what one line
/// misses the others bring: handlers see one stream in order, and never notice that a line dies and comes back.
///
/// Messages are told apart by [`MessageRouter::sequence`], which must mean the same on all lines. A message behind a hole waits until
/// another line has filled the hole, or all live lines are past it ([`Gap`](crate::ConnectionEvent::Gap) tells of the hole then), or
/// those that are not have been silent for the time of [`hold`](FeedArbiterBuilder::hold), after which nobody waits for them until
/// they speak again. The first message of a stream waits likewise until each live line has shown the stream.
///
/// A feed with messages that have no sequence cannot be arbitrated: at the first one all lines are closed for good, and
/// [`NotSpliced`](DisconnectReason::NotSpliced) says of which route. Answers to subscriptions
/// ([`MessageRouter::subscription_reply`]) need none.
///
/// Handlers get [`Live`](crate::ConnectionEvent::Live) when the first line is live, and [`Lost`](crate::ConnectionEvent::Lost) when
/// the last is gone, and no other is in its handshake and live within the time of `hold`; [`Delivery::connection`](crate::Delivery::connection) says which line brought a message. A feed only reads:
/// to send, take the line's own [`Client`].
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
        FeedArbiterBuilder {
            routes: NoRouter,
            lines: Vec::new(),
            hold: HOLD,
            replace_every: None,
            halted_flag: None,
            shutdown_flag: None,
            shared: Shared::new(),
        }
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

/// A feed to be; see [`FeedArbiter`]. It can be built once it has a [`router`](Self::router).
#[must_use = "a feed is only there once built or started"]
pub struct FeedArbiterBuilder<R> {
    routes: R,
    lines: Vec<(String, ClientBuilder<HasUrl, NoRouter>)>,
    hold: Duration,
    replace_every: Option<Duration>,
    halted_flag: Option<Arc<AtomicBool>>,
    shutdown_flag: Option<Arc<AtomicBool>>,
    shared: Arc<Shared>,
}

impl FeedArbiterBuilder<NoRouter> {
    /// Who parses the messages of all lines, and who handles them. [`Routing::sender`] sends nowhere: a feed only reads.
    pub fn router<T: MessageRouter>(
        self,
        router: T,
        configure: impl FnOnce(Routing<T>) -> Routing<T>,
    ) -> FeedArbiterBuilder<HasRouter> {
        let routing = configure(Routing::new(router, Sender::new(Arc::clone(&self.shared))));
        let Self { lines, hold, replace_every, halted_flag, shutdown_flag, shared, .. } = self;
        let routes = HasRouter(Box::new(routing.into_plan()));
        FeedArbiterBuilder { routes, lines, hold, replace_every, halted_flag, shutdown_flag, shared }
    }
}

impl<R> FeedArbiterBuilder<R> {
    /// Adds a line under a name: a client that has all but a router, subscriptions and authentication included. Lines without an
    /// engine share one. Messages are parsed on the loop of the line that brings them, or on the lanes of the first line's engine.
    pub fn line(mut self, name: impl Into<String>, line: ClientBuilder<HasUrl, NoRouter>) -> Self {
        self.lines.push((name.into(), line));
        self
    }

    /// How long a message waits for a line to fill the hole before it that brings nothing of the stream. By default 1 s, which
    /// outlasts a lost segment or two. A line that is late, but goes on, is waited for ten times as long at most. Zero takes what
    /// comes: no hole is filled then.
    pub fn hold(mut self, longest: Duration) -> Self {
        self.hold = longest;
        self
    }

    /// So often, closes the live line that has been first least since the last look, and dials it anew: venues put each connection
    /// on another machine, and some are slower. Off by default.
    pub fn replace_slowest(mut self, every: Duration) -> Self {
        self.replace_every = Some(every);
        self
    }

    /// A flag that is true while any client or feed that holds it should be live and is not.
    pub fn halted_flag(mut self, flag: Arc<AtomicBool>) -> Self {
        self.halted_flag = Some(flag);
        self
    }

    /// A flag of the caller's: true = running. When it turns false, all lines shut down.
    pub fn shutdown_flag(mut self, flag: Arc<AtomicBool>) -> Self {
        self.shutdown_flag = Some(flag);
        self
    }
}

impl FeedArbiterBuilder<HasRouter> {
    /// Connects and returns once the feed is, or has been, live: with the first line that is. The other lines go on dialing.
    ///
    /// # Errors
    /// [`ConnectFailed`](HyperSocketError::ConnectFailed) where the first dial of every line has failed, with the last one's reason;
    /// nothing is left running then. All of [`start`](Self::start); [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread
    /// of an engine.
    pub fn build(self) -> Result<FeedArbiter> {
        own_thread::refuse("FeedArbiterBuilder::build")?;
        let patience = |(_, line): &(_, ClientBuilder<_, _>)| {
            let settings = &line.options.settings;
            settings.connect_timeout.saturating_add(settings.auth_timeout)
        };
        let longest = self.lines.iter().map(patience).max().unwrap_or_default().saturating_add(BUILD_SLACK);
        let feed = self.start()?;
        let (shared, troubles) = (&feed.feed.shared, &feed.feed.troubles);
        let lines = feed.feed.lines.len();
        let first = shared.wait_until(clock::after(longest), |state, _| match state {
            _ if shared.state().1 > 0 => Some(Ok(())),
            _ => troubles.of_all(lines).map(|reason| Err(HyperSocketError::ConnectFailed(reason))),
        });
        if let Err(error) = first {
            feed.shutdown()?;
            return Err(error);
        }
        Ok(feed)
    }

    /// Starts all lines and returns at once.
    ///
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig) where there are fewer than two lines, or two of one name, or a route with
    /// [`stale_after`](crate::RouteOptions::stale_after) or [`max_queue_age`](crate::RouteOptions::max_queue_age);
    /// [`NotSpliced`](HyperSocketError::NotSpliced) where the router numbers messages per connection; and all of
    /// [`ClientBuilder::start`].
    pub fn start(self) -> Result<FeedArbiter> {
        self.check()?;
        let Self { routes: HasRouter(routes), mut lines, hold, replace_every, halted_flag, shutdown_flag, shared } =
            self;
        let mut own_engine = None;
        for (_, line) in &mut lines {
            if line.options.engine.is_none() {
                let engine: &Engine = match &mut own_engine {
                    Some(engine) => engine,
                    none => none.insert(Engine::builder().start()?),
                };
                line.options.engine = Some(engine.clone());
            }
        }
        let senders: Vec<_> = lines.iter().map(|(_, line)| line.options.sender.clone()).collect();
        let surroundings = Surroundings {
            shared: Arc::clone(&shared),
            measure_latency: lines.iter().any(|(_, line)| line.options.measure_latency),
            outlet: {
                let nowhere = Sender::new(Arc::clone(&shared));
                Arc::new(move || Box::new(nowhere.clone()))
            },
            sever: {
                let senders = senders.clone();
                Box::new(move |_, route| {
                    for sender in &senders {
                        let (connection, route) = (sender.shared.id, route.to_owned());
                        let _ = sender.command(Command::Sever { connection, epoch: None, route });
                    }
                })
            },
            unnumbered: Some(refusal(senders)),
            hold,
        };
        let first_engine = lines.first().and_then(|(_, line)| line.options.engine.clone());
        let Started { pipeline, threads, stats, sites } = start_routes(routes, surroundings, first_engine.as_ref())?;
        if stats.shortest_limit().is_some() {
            let what =
                "stale_after and max_queue_age watch one connection, not a feed of several: leave them out".to_owned();
            return Err(HyperSocketError::InvalidConfig(what));
        }
        stats.check_numbered().map_err(HyperSocketError::NotSpliced)?;
        let line_stats: Vec<_> = lines.iter().map(|_| Arc::<LineStats>::default()).collect();
        let hold_ns = u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX);
        let told = Told { shared: Arc::clone(&shared), troubles: Arc::default(), hold_ns };
        let ends = feed_of_lines(pipeline, told.clone(), line_stats.iter().cloned());
        if let Some(flag) = &halted_flag {
            shared.join_halted_flag(flag);
        }
        shared.transition(ClientState::Connecting, 0);
        let slowest = replace_every.map(|every| (every, Arc::new(Slowest::new(line_stats.clone(), every))));
        let mut named = Vec::with_capacity(lines.len());
        for ((index, (name, mut line)), end) in (0..).zip(lines).zip(ends) {
            let options = &mut line.options;
            let engine = options.engine.take();
            let Some(commands) = engine.as_ref().map(|engine| engine.sender().clone()) else { continue };
            if options.shutdown_flag.is_none() {
                options.shutdown_flag.clone_from(&shutdown_flag);
            }
            if let Some((every, slowest)) = &slowest {
                let (slowest, shared) = (Arc::clone(slowest), Arc::clone(&options.shared));
                slowest.add_line(index, &shared);
                options.rotation.check = Some((*every, Box::new(move |now| slowest.is(index, now))));
            }
            let started = Started {
                pipeline: Box::new(end),
                threads: Arc::new(HandlerThreads::new()),
                stats: Arc::default(),
                sites,
            };
            let berth = Berth { started, line: index, in_feed: true, first_dial: FirstDial::Retry };
            let (new, client) = line.connect(berth, &commands, engine, false)?;
            commands.send(Command::Add(Box::new(new)))?;
            named.push(NamedLine { name, client, stats: Arc::clone(&line_stats[usize::from(index)]) });
        }
        let feed = Feed {
            shared,
            lines: named,
            stats,
            threads,
            troubles: told.troubles,
            built_ns: clock::stamp_ns(),
            ended: Mutex::default(),
        };
        Ok(FeedArbiter { feed: Arc::new(feed) })
    }

    fn check(&self) -> Result<()> {
        let invalid = |what: String| Err(HyperSocketError::InvalidConfig(what));
        if self.lines.len() < 2 {
            return invalid(format!("a feed of {} lines: arbitration takes two at least", self.lines.len()));
        }
        if self.lines.len() > MOST_LINES {
            return invalid(format!("a feed of {} lines: at most {MOST_LINES} are possible", self.lines.len()));
        }
        for (at, (name, line)) in self.lines.iter().enumerate() {
            if self.lines[..at].iter().any(|(other, _)| other == name) {
                return Err(HyperSocketError::DuplicateClient(name.clone()));
            }
            line.check()?;
        }
        if self.replace_every.is_some_and(|every| every.is_zero()) {
            return invalid("the slowest line replaced every 0 s".to_owned());
        }
        if self.shutdown_flag.as_ref().is_some_and(|flag| !flag.load(Ordering::Acquire)) {
            return Err(HyperSocketError::Closed(DisconnectReason::Shutdown));
        }
        Ok(())
    }
}

impl<R> fmt::Debug for FeedArbiterBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.lines.iter().map(|(name, _)| name).collect();
        f.debug_struct("FeedArbiterBuilder").field("lines", &names).finish_non_exhaustive()
    }
}

/// Closes all lines for good where a route has messages without a sequence.
fn refusal(senders: Vec<Sender>) -> Unnumbered {
    Box::new(move |route| {
        let why = format!(
            "route {route} has messages without a sequence, so nobody could tell which of them were handled already; \
             give them one in MessageRouter::sequence, or skip them"
        );
        for sender in &senders {
            let reason = DisconnectReason::NotSpliced(why.clone());
            // A loop that is gone has nothing to close.
            let _ = sender.command(Command::GiveUp(sender.shared.id, reason));
        }
    })
}

/// Finds the line that has been first least of late.
struct Slowest {
    lines: Vec<Arc<LineStats>>,
    every: Duration,
    since: Mutex<Since>,
}

struct Since {
    /// What each line had won at the last replacement.
    wins: Vec<u64>,
    replaced: Instant,
    clients: Vec<(u8, Arc<Shared>)>,
}

impl Slowest {
    fn new(lines: Vec<Arc<LineStats>>, every: Duration) -> Self {
        let since = Since { wins: vec![0; lines.len()], replaced: clock::now(), clients: Vec::new() };
        Self { lines, every, since: Mutex::new(since) }
    }

    fn add_line(&self, index: u8, shared: &Arc<Shared>) {
        lock(&self.since).clients.push((index, Arc::clone(shared)));
    }

    /// Whether this line is the one to replace now; once for each time that there is one.
    fn is(&self, index: u8, now: Instant) -> bool {
        let mut since = lock(&self.since);
        if now.saturating_duration_since(since.replaced) < self.every / 2 {
            return false;
        }
        let wins: Vec<_> = self.lines.iter().map(|line| line.wins.get()).collect();
        let live = since.clients.iter().filter(|(_, shared)| shared.state().0 == ClientState::Live);
        let of_late = live.map(|(line, _)| (wins[usize::from(*line)] - since.wins[usize::from(*line)], *line));
        let (slowest, quickest) = (of_late.clone().min(), of_late.max());
        // Where all are alike, a new connection would gain nothing.
        let is_this = slowest.zip(quickest).is_some_and(|((least, line), (most, _))| line == index && least < most);
        if is_this {
            (since.wins, since.replaced) = (wins, now);
        }
        is_this
    }
}

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
