//! A feed to be: its lines, its routes, and what holds for all lines together.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::slowest::Slowest;
use super::{Feed, FeedArbiter, NamedLine};
use crate::assemble::{BUILD_SLACK, Berth, HOLD, start_routes};
use crate::builder::{ClientBuilder, HasRouter, HasUrl, NoRouter};
use crate::clock;
use crate::engine::{Command, Engine};
use crate::error::{DisconnectReason, HyperSocketError, Result};
use crate::lifecycle::FirstDial;
use crate::metrics::LineStats;
use crate::own_thread;
use crate::pipeline::{HandlerThreads, MOST_LINES, Started, Surroundings, Told, Unnumbered, feed_of_lines};
use crate::router::MessageRouter;
use crate::routing::Routing;
use crate::sender::Sender;
use crate::state::{ClientState, Shared};

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
    pub(super) fn new() -> Self {
        Self {
            routes: NoRouter,
            lines: Vec::new(),
            hold: HOLD,
            replace_every: None,
            halted_flag: None,
            shutdown_flag: None,
            shared: Shared::new(),
        }
    }

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
    Box::new(move |why| {
        for sender in &senders {
            let reason = DisconnectReason::NotSpliced(why.to_owned());
            // A loop that is gone has nothing to close.
            let _ = sender.command(Command::GiveUp(sender.shared.id, reason));
        }
    })
}
