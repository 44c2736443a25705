//! Counters with one writer each, readable at any time without stopping anyone.

mod latency;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use latency::Latency;
pub(crate) use latency::LatencyRecorder;

/// A count that one thread at a time writes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the one writer may call this, which saves the locked instruction.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Release);
    }

    /// Adds from any thread.
    pub(crate) fn add_shared(&self, count: u64) {
        self.0.fetch_add(count, Ordering::AcqRel);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The counters of one client, written by its loop unless said otherwise.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounters {
    pub(crate) dials: Counter,
    pub(crate) resolve_fallbacks: Counter,
    pub(crate) providers_abandoned: Counter,
    pub(crate) reconnects: Counter,
    pub(crate) messages_received: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) messages_sent: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) sends_dropped: Counter,
    pub(crate) pings_answered: Counter,
    pub(crate) passive_pings_answered: Counter,
    pub(crate) auth_messages: Counter,
    pub(crate) parsed: Counter,
    pub(crate) parse_errors: Counter,
    pub(crate) parse_panics: Counter,
    pub(crate) skipped: Counter,
    pub(crate) unrouted: Counter,
    /// Written by every thread that reports an event.
    pub(crate) events_dropped: Counter,
}

/// The counters of one route: `queued` written by the parsing thread, the rest by the handler's.
#[derive(Debug, Default)]
pub(crate) struct RouteCounters {
    pub(crate) queued: Counter,
    pub(crate) handled: Counter,
    pub(crate) errors: Counter,
    pub(crate) panics: Counter,
    pub(crate) abandoned: Counter,
}

impl RouteCounters {
    /// Messages queued and neither handled nor abandoned. `handled` is read first, so that it is never too small.
    pub(crate) fn depth(&self) -> u64 {
        let done = self.handled.get() + self.abandoned.get();
        self.queued.get().saturating_sub(done)
    }
}

/// A route's name and counters, shared by its two ends and the client.
#[derive(Debug)]
pub(crate) struct RouteStats {
    pub(crate) name: String,
    pub(crate) counters: RouteCounters,
    pub(crate) latency: Option<LatencyRecorder>,
}

impl RouteStats {
    pub(crate) fn new(name: String, measure_latency: bool) -> Arc<Self> {
        let latency = measure_latency.then(LatencyRecorder::default);
        Arc::new(Self { name, counters: RouteCounters::default(), latency })
    }
}

/// The counters of a client at one moment. All start at 0 when the client is built and only grow, `depth` apart.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Dials begun, the first included.
    pub dials: u64,
    /// Dials to addresses that were known from an earlier one, since the name could not be resolved.
    pub resolve_fallbacks: u64,
    /// Dials whose deadline passed while a provider, the resolver or the dialer had not answered.
    pub providers_abandoned: u64,
    /// Live spells after the first.
    pub reconnect_count: u64,
    /// Complete data messages that arrived; control frames are not among them.
    pub messages_received: u64,
    /// Bytes read from the socket, TLS and framing included.
    pub bytes_received: u64,
    /// Messages of the user, subscriptions and heartbeats whose bytes the kernel has taken entirely.
    pub messages_sent: u64,
    /// Payload bytes of those.
    pub bytes_sent: u64,
    /// Sends that were queued when their session ended, or were meant for an earlier one: they never left.
    pub sends_dropped: u64,
    /// Ping frames answered with a pong frame.
    pub pings_answered: u64,
    /// Data messages that the passive ping detector took for pings, and answered.
    pub passive_pings_answered: u64,
    /// Data messages that the auth provider took for itself.
    pub auth_messages: u64,
    /// Typed messages that the router made.
    pub messages_parsed: u64,
    /// Messages that the router could not parse.
    pub parse_errors: u64,
    /// Messages at which the router panicked.
    pub parse_panics: u64,
    /// Messages that the router skipped on purpose.
    pub skipped: u64,
    /// Typed messages of a route without a handler; they were dropped.
    pub unrouted: u64,
    /// Messages handled, over all routes; those that erred or panicked count too.
    pub messages_handled: u64,
    /// Handler calls that returned an error.
    pub handler_errors: u64,
    /// Handler calls that panicked.
    pub handler_panics: u64,
    /// Client events that nobody took in time.
    pub events_dropped: u64,
    /// One entry a route, in the order of registration.
    pub routes: Vec<RouteMetrics>,
}

/// The counters of one route at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteMetrics {
    /// The route key, as its `Debug` prints it; `default` for the default handler.
    pub route: String,
    /// Messages put into the route's queue.
    pub queued: u64,
    /// Messages taken out and handled.
    pub handled: u64,
    /// Messages waiting in the queue or being handled.
    pub depth: u64,
    /// Handler calls that returned an error.
    pub errors: u64,
    /// Handler calls that panicked.
    pub panics: u64,
    /// Messages thrown away because the caller's shutdown deadline passed.
    pub abandoned: u64,
}

impl Metrics {
    pub(crate) fn read(connection: &ConnectionCounters, routes: &[Arc<RouteStats>]) -> Self {
        let routes: Vec<_> = routes.iter().map(|route| RouteMetrics::read(route)).collect();
        let sum = |field: fn(&RouteMetrics) -> u64| routes.iter().map(field).sum();
        Self {
            messages_handled: sum(|route| route.handled),
            handler_errors: sum(|route| route.errors),
            handler_panics: sum(|route| route.panics),
            dials: connection.dials.get(),
            resolve_fallbacks: connection.resolve_fallbacks.get(),
            providers_abandoned: connection.providers_abandoned.get(),
            reconnect_count: connection.reconnects.get(),
            messages_received: connection.messages_received.get(),
            bytes_received: connection.bytes_received.get(),
            messages_sent: connection.messages_sent.get(),
            bytes_sent: connection.bytes_sent.get(),
            sends_dropped: connection.sends_dropped.get(),
            pings_answered: connection.pings_answered.get(),
            passive_pings_answered: connection.passive_pings_answered.get(),
            auth_messages: connection.auth_messages.get(),
            messages_parsed: connection.parsed.get(),
            parse_errors: connection.parse_errors.get(),
            parse_panics: connection.parse_panics.get(),
            skipped: connection.skipped.get(),
            unrouted: connection.unrouted.get(),
            events_dropped: connection.events_dropped.get(),
            routes,
        }
    }
}

impl RouteMetrics {
    fn read(route: &RouteStats) -> Self {
        let counters = &route.counters;
        Self {
            route: route.name.clone(),
            handled: counters.handled.get(),
            abandoned: counters.abandoned.get(),
            depth: counters.depth(),
            queued: counters.queued.get(),
            errors: counters.errors.get(),
            panics: counters.panics.get(),
        }
    }
}
