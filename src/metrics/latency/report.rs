//! Everything that is known about a client's latency at one moment.

use std::time::Duration;

use super::distribution::Latency;
use super::stages::{Stages, Trace};
use crate::clock;
use crate::metrics::PipelineStats;

/// A client's latency at one moment: everything since it was built, or [since](Self::since) an earlier report. Taking one
/// stops nobody; each histogram is consistent in itself, and between two a message may have gone by.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LatencyReport {
    /// When it was taken, as nanoseconds since 1970.
    pub taken_unix_ns: u64,
    /// How long it covers.
    pub covers: Duration,
    /// Over all routes.
    pub stages: Stages,
    /// One entry a route, in the order of registration.
    pub routes: Vec<RouteLatency>,
    /// From the read that brought a message to the kernel's taking the answer that its handler sent by
    /// [`Delivery::send`](crate::Delivery::send).
    pub tick_to_trade: Latency,
    /// From our ping frames to their pongs; empty unless the client was built with
    /// [`ping`](crate::ClientBuilder::ping).
    pub round_trips: Latency,
    /// From one turn of the loop that found nothing to do to the next turn: what the host, not the network, takes away from
    /// us. Of the whole loop, all its clients together, since the first of them was added that measures.
    pub loop_gaps: Latency,
    /// The slowest messages since the client was built, the slowest first: 16 a route.
    pub slowest: Vec<Trace>,
}

/// One route's part of a [`LatencyReport`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RouteLatency {
    /// The route key, as its `Debug` prints it; `default` for the default handler.
    pub route: String,
    /// Its stages.
    pub stages: Stages,
}

/// What of a client is measured outside its routes.
#[derive(Default)]
pub(crate) struct BesideRoutes {
    pub(crate) built_ns: u64,
    pub(crate) tick_to_trade: Latency,
    pub(crate) round_trips: Latency,
    pub(crate) loop_gaps: Latency,
}

impl LatencyReport {
    pub(crate) fn read(pipeline: &PipelineStats, beside: BesideRoutes) -> Self {
        let BesideRoutes { built_ns, tick_to_trade, round_trips, loop_gaps } = beside;
        let (mut routes, mut slowest) = (Vec::new(), Vec::new());
        for route in pipeline.routes() {
            let Some(recorder) = route.latency() else { continue };
            routes.push(RouteLatency { route: route.name.clone(), stages: recorder.snapshot() });
            slowest.append(&mut recorder.slowest(&route.name));
        }
        slowest.sort_by_key(|trace| std::cmp::Reverse(trace.total_ns));
        Self {
            taken_unix_ns: clock::unix_ns(),
            covers: Duration::from_nanos(clock::stamp_ns().saturating_sub(built_ns)),
            stages: Stages::merged(routes.iter().map(|route| &route.stages)),
            routes,
            tick_to_trade,
            round_trips,
            loop_gaps,
            slowest,
        }
    }

    /// The reports of several clients as one: routes of the same name together, the slowest of all. Clients of one engine
    /// share its loop: `loop_gaps` are those of the report that has the most.
    #[must_use]
    pub fn merged(reports: &[Self]) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for route in reports.iter().flat_map(|report| &report.routes) {
            if !names.contains(&route.route.as_str()) {
                names.push(&route.route);
            }
        }
        let named = |name: &str| {
            let same = reports.iter().flat_map(|report| &report.routes).filter(|route| route.route == name);
            RouteLatency { route: name.to_owned(), stages: Stages::merged(same.map(|route| &route.stages)) }
        };
        let routes: Vec<_> = names.into_iter().map(named).collect();
        let mut slowest: Vec<_> = reports.iter().flat_map(|report| report.slowest.iter().cloned()).collect();
        slowest.sort_by_key(|trace| std::cmp::Reverse(trace.total_ns));
        Self {
            taken_unix_ns: reports.iter().map(|report| report.taken_unix_ns).max().unwrap_or(0),
            covers: reports.iter().map(|report| report.covers).max().unwrap_or_default(),
            stages: Stages::merged(routes.iter().map(|route| &route.stages)),
            routes,
            tick_to_trade: Latency::merged(reports.iter().map(|report| &report.tick_to_trade)),
            round_trips: Latency::merged(reports.iter().map(|report| &report.round_trips)),
            loop_gaps: reports
                .iter()
                .map(|report| &report.loop_gaps)
                .max_by_key(|gaps| gaps.count())
                .cloned()
                .unwrap_or_default(),
            slowest,
        }
    }

    /// What has been added since `earlier`, an earlier report of the same client. `slowest` stays as it is, but for the
    /// messages that came before.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |name: &str| earlier.routes.iter().find(|route| route.route == name);
        let added = |route: &RouteLatency| match before(&route.route) {
            Some(before) => RouteLatency { route: route.route.clone(), stages: route.stages.since(&before.stages) },
            None => route.clone(),
        };
        let routes: Vec<_> = self.routes.iter().map(added).collect();
        Self {
            taken_unix_ns: self.taken_unix_ns,
            covers: self.covers.saturating_sub(earlier.covers),
            stages: Stages::merged(routes.iter().map(|route| &route.stages)),
            routes,
            tick_to_trade: self.tick_to_trade.since(&earlier.tick_to_trade),
            round_trips: self.round_trips.since(&earlier.round_trips),
            loop_gaps: self.loop_gaps.since(&earlier.loop_gaps),
            slowest: self
                .slowest
                .iter()
                .filter(|trace| trace.received_unix_ns > earlier.taken_unix_ns)
                .cloned()
                .collect(),
        }
    }
}
