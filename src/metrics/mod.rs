//! Counters with one writer each, readable at any time without stopping anyone.

mod latency;
mod line;
mod route;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

pub(crate) use latency::{BesideRoutes, KernelStamp, LatencyRecorder, StageRecorder, Trail};
pub use latency::{ClockOffset, Latency, LatencyReport, RouteLatency, Stages, Stamps, Trace};
pub(crate) use line::LineStats;
pub use route::RouteMetrics;
pub(crate) use route::{RouteStats, StaleLimits};

use crate::sync::lock;

/// A count that one thread at a time writes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the one writer may call this, which saves the locked instruction.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Release);
    }

    /// Only the one writer may call this.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
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
    pub(crate) rotations: Counter,
    pub(crate) replies: Counter,
    pub(crate) replies_unmatched: Counter,
    pub(crate) messages_received: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) messages_sent: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) sends_dropped: Counter,
    pub(crate) pings_answered: Counter,
    pub(crate) passive_pings_answered: Counter,
    pub(crate) auth_messages: Counter,
    /// Panics of what looks at raw messages: a passive ping detector, a router's `shard_key`.
    pub(crate) raw_panics: Counter,
    /// Written by every thread that reports an event.
    pub(crate) events_dropped: Counter,
}

/// The counters of one parse site: the loop's, or one lane's.
#[derive(Debug, Default)]
pub(crate) struct ParseCounters {
    /// Raw messages taken, whatever came of them.
    pub(crate) taken: Counter,
    pub(crate) parsed: Counter,
    pub(crate) errors: Counter,
    pub(crate) panics: Counter,
    pub(crate) skipped: Counter,
    pub(crate) unrouted: Counter,
    pub(crate) lane_violations: Counter,
}

/// Everything that is counted between the socket and the handlers of one client.
#[derive(Debug, Default)]
pub(crate) struct PipelineStats {
    /// Raw messages that the loop gave to the lanes.
    pub(crate) handed_to_lanes: Counter,
    sites: Mutex<Vec<Arc<ParseCounters>>>,
    /// Grows where a factory makes routes.
    routes: Mutex<Vec<Arc<RouteStats>>>,
    /// The shortest staleness limit of any route, in nanoseconds; 0: there is none.
    shortest_limit_ns: AtomicU64,
    /// Numbers that the venue skipped. Written by every parse site.
    pub(crate) missing: Counter,
    /// The first route that had a message without a sequence.
    unnumbered: OnceLock<String>,
    numbered_per_connection: AtomicBool,
}

impl PipelineStats {
    pub(crate) fn add_site(&self) -> Arc<ParseCounters> {
        let site = Arc::<ParseCounters>::default();
        lock(&self.sites).push(Arc::clone(&site));
        site
    }

    pub(crate) fn add_route(&self, route: &Arc<RouteStats>) {
        if let Some(limit) = route.limits.shortest() {
            let ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
            let shorter = |known| (known == 0 || ns < known).then_some(ns.max(1));
            // An error only says that a shorter one is known already.
            let _ = self.shortest_limit_ns.fetch_update(Ordering::AcqRel, Ordering::Acquire, shorter);
        }
        lock(&self.routes).push(Arc::clone(route));
    }

    /// The shortest time after which any route could be stale.
    pub(crate) fn shortest_limit(&self) -> Option<Duration> {
        let ns = self.shortest_limit_ns.load(Ordering::Acquire);
        (ns > 0).then(|| Duration::from_nanos(ns))
    }

    /// A route has had a message without a sequence; true where it is the first.
    pub(crate) fn note_unnumbered(&self, route: String) -> bool {
        self.unnumbered.set(route).is_ok()
    }

    /// The sequences mean something on their own connection only.
    pub(crate) fn note_numbered_per_connection(&self) {
        self.numbered_per_connection.store(true, Ordering::Release);
    }

    /// Whether the same feed over another connection can be put together with this one.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_numbered(&self) -> Result<(), String> {
        if self.numbered_per_connection.load(Ordering::Acquire) {
            return Err(
                "its router numbers messages per connection, so their numbers mean nothing on another one".into()
            );
        }
        let Some(route) = self.unnumbered.get() else { return Ok(()) };
        Err(format!(
            "route {route} has messages without a sequence, so nobody could tell which of them were handled already; \
             give them one in MessageRouter::sequence, or skip them"
        ))
    }

    pub(crate) fn routes(&self) -> Vec<Arc<RouteStats>> {
        lock(&self.routes).clone()
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
    /// Moves to a new connection without a hole.
    pub rotations: u64,
    /// Replies that came to requests.
    pub replies: u64,
    /// Replies that nobody waited for (any more); they went nowhere.
    pub replies_unmatched: u64,
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
    /// Messages at which the router, or the passive ping detector, panicked.
    pub parse_panics: u64,
    /// Messages that the router skipped on purpose.
    pub skipped: u64,
    /// Typed messages of a route without a handler; they were dropped.
    pub unrouted: u64,
    /// Raw messages that wait for a parser lane; 0 without lanes.
    pub parse_backlog: u64,
    /// Messages whose route was seen on two lanes: the router's `shard_key` splits a route, and its order is not kept.
    pub lane_violations: u64,
    /// Messages handled, over all routes; those that erred or panicked count too.
    pub messages_handled: u64,
    /// Numbers that the venue's sequences skipped: see [`ConnectionEvent::Gap`](crate::ConnectionEvent::Gap).
    pub sequence_gaps: u64,
    /// Messages that a queue's policy threw away or replaced by newer ones, over all routes.
    pub messages_dropped: u64,
    /// Handler calls that returned an error.
    pub handler_errors: u64,
    /// Handler calls that panicked.
    pub handler_panics: u64,
    /// Client events that nobody took in time.
    pub events_dropped: u64,
    /// One entry a route, in the order of registration.
    pub routes: Vec<RouteMetrics>,
}

impl Metrics {
    pub(crate) fn read(connection: &ConnectionCounters, pipeline: &PipelineStats, now_ns: u64) -> Self {
        let routes: Vec<_> = pipeline.routes().iter().map(|route| route.read(now_ns)).collect();
        let sum = |field: fn(&RouteMetrics) -> u64| routes.iter().map(field).sum();
        let sites = lock(&pipeline.sites).clone();
        let parse = |field: fn(&ParseCounters) -> &Counter| -> u64 { sites.iter().map(|site| field(site).get()).sum() };
        // Read in this order, so that a message on its way counts once.
        let taken = parse(|site| &site.taken);
        let parse_backlog = pipeline.handed_to_lanes.get().saturating_sub(taken);
        Self {
            messages_handled: sum(|route| route.handled),
            sequence_gaps: pipeline.missing.get(),
            messages_dropped: sum(|route| route.dropped),
            handler_errors: sum(|route| route.errors),
            handler_panics: sum(|route| route.panics),
            parse_backlog,
            dials: connection.dials.get(),
            resolve_fallbacks: connection.resolve_fallbacks.get(),
            providers_abandoned: connection.providers_abandoned.get(),
            reconnect_count: connection.reconnects.get(),
            rotations: connection.rotations.get(),
            replies: connection.replies.get(),
            replies_unmatched: connection.replies_unmatched.get(),
            messages_received: connection.messages_received.get(),
            bytes_received: connection.bytes_received.get(),
            messages_sent: connection.messages_sent.get(),
            bytes_sent: connection.bytes_sent.get(),
            sends_dropped: connection.sends_dropped.get(),
            pings_answered: connection.pings_answered.get(),
            passive_pings_answered: connection.passive_pings_answered.get(),
            auth_messages: connection.auth_messages.get(),
            messages_parsed: parse(|site| &site.parsed),
            parse_errors: parse(|site| &site.errors),
            parse_panics: parse(|site| &site.panics) + connection.raw_panics.get(),
            skipped: parse(|site| &site.skipped),
            unrouted: parse(|site| &site.unrouted),
            lane_violations: parse(|site| &site.lane_violations),
            events_dropped: connection.events_dropped.get(),
            routes,
        }
    }

    /// Adds what another connection of the same feed counts.
    pub(crate) fn add_connection(&mut self, line: &Self) {
        let sums: [fn(&mut Self) -> &mut u64; 16] = [
            |m| &mut m.dials,
            |m| &mut m.resolve_fallbacks,
            |m| &mut m.providers_abandoned,
            |m| &mut m.reconnect_count,
            |m| &mut m.rotations,
            |m| &mut m.replies,
            |m| &mut m.replies_unmatched,
            |m| &mut m.messages_received,
            |m| &mut m.bytes_received,
            |m| &mut m.messages_sent,
            |m| &mut m.bytes_sent,
            |m| &mut m.sends_dropped,
            |m| &mut m.pings_answered,
            |m| &mut m.passive_pings_answered,
            |m| &mut m.auth_messages,
            |m| &mut m.events_dropped,
        ];
        let mut line = line.clone();
        for field in sums {
            *field(self) += *field(&mut line);
        }
    }
}
