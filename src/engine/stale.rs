//! Watches one client's routes for staleness. Time is a parameter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::Staleness;
use crate::metrics::{PipelineStats, RouteStats};

/// See the module.
pub(super) struct StaleWatch {
    stats: Arc<PipelineStats>,
    last_look: Instant,
    /// The routes that are stale now.
    stale: Vec<Arc<RouteStats>>,
}

/// What has changed for a route: it has become stale, or is so no longer.
pub(super) type Change = (Arc<RouteStats>, Option<Staleness>);

impl StaleWatch {
    pub(super) fn new(stats: Arc<PipelineStats>, now: Instant) -> Self {
        Self { stats, last_look: now, stale: Vec::new() }
    }

    /// What it watches.
    pub(super) fn stats(&self) -> &PipelineStats {
        &self.stats
    }

    /// When to look again; never, where no route has a limit.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.stats.shortest_limit().map(|limit| self.last_look + (limit / LOOKS_PER_LIMIT).max(SHORTEST_WAIT))
    }

    /// What has changed since the last look; the session has been live since then, where it is.
    /// `now_ns` is `now` as a stamp.
    pub(super) fn look(&mut self, now: Instant, now_ns: u64, live_since: Option<Instant>) -> Vec<Change> {
        self.last_look = now;
        let live_for = live_since.map(|since| now.saturating_duration_since(since));
        let mut changes = Vec::new();
        for route in self.stats.routes() {
            let why = judge(&route, now_ns, live_for);
            let known = self.stale.iter().position(|stale| Arc::ptr_eq(stale, &route));
            match (known, why) {
                (None, Some(_)) => self.stale.push(Arc::clone(&route)),
                (Some(known), None) => drop(self.stale.swap_remove(known)),
                _ => continue,
            }
            changes.push((route, why));
        }
        changes
    }

    pub(super) fn any_stale(&self) -> bool {
        !self.stale.is_empty()
    }
}

fn judge(route: &RouteStats, now_ns: u64, live_for: Option<Duration>) -> Option<Staleness> {
    let since = |then_ns: u64| Duration::from_nanos(now_ns.saturating_sub(then_ns));
    let behind = || {
        let (limit, oldest) = (route.limits.age?, route.oldest_ns()?);
        (since(oldest) >= limit).then_some(Staleness::Behind(limit))
    };
    let silent = || {
        let (limit, live_for) = (route.limits.silence?, live_for?);
        // A session starts anew: what came before it says nothing about it.
        (since(route.last_arrival_ns()).min(live_for) >= limit).then_some(Staleness::Silent(limit))
    };
    behind().or_else(silent)
}

/// A limit is found crossed at most a quarter of it late.
const LOOKS_PER_LIMIT: u32 = 4;
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::metrics::StaleLimits;

    const LIMIT: Duration = Duration::from_secs(1);
    const BEGIN_NS: u64 = 1_000;

    fn after(begin: Instant, passed: Duration) -> (Instant, u64) {
        (begin + passed, BEGIN_NS + passed.as_nanos() as u64)
    }

    fn watch(limits: StaleLimits, now: Instant) -> (StaleWatch, Arc<RouteStats>) {
        let stats = Arc::<PipelineStats>::default();
        let route = RouteStats::new("BTC".to_owned(), limits, false);
        stats.add_route(&route);
        (StaleWatch::new(stats, now), route)
    }

    #[test]
    fn a_silent_route_is_stale_until_data_comes_but_only_while_live() {
        let begin = clock::now();
        let (mut watch, route) = watch(StaleLimits { silence: Some(LIMIT), age: None }, begin);
        assert_eq!(watch.next_look(), Some(begin + LIMIT / 4));
        let (now, now_ns) = after(begin, LIMIT * 5);
        assert!(watch.look(now, now_ns, None).is_empty(), "nobody is live");
        assert!(watch.look(now, now_ns, Some(now - LIMIT / 2)).is_empty(), "live for half the limit");
        let (late, late_ns) = after(begin, LIMIT * 6);
        let changes = watch.look(late, late_ns, Some(now - LIMIT / 2));
        assert!(matches!(changes[..], [(_, Some(Staleness::Silent(LIMIT)))]));
        assert!(watch.look(late, late_ns, Some(begin)).is_empty() && watch.any_stale(), "told once");
        route.arriving(late_ns, false);
        let (now, now_ns) = after(begin, LIMIT * 13 / 2);
        let changes = watch.look(now, now_ns, Some(begin));
        assert!(matches!(changes[..], [(_, None)]) && !watch.any_stale());
    }

    #[test]
    fn a_route_whose_handler_is_behind_is_stale_until_it_has_caught_up() {
        let begin = clock::now();
        let (mut watch, route) = watch(StaleLimits { silence: None, age: Some(LIMIT) }, begin);
        route.arriving(BEGIN_NS, false);
        route.handed_over(BEGIN_NS);
        let (now, now_ns) = after(begin, LIMIT / 2);
        assert!(watch.look(now, now_ns, None).is_empty());
        let (now, now_ns) = after(begin, LIMIT);
        let changes = watch.look(now, now_ns, None);
        assert!(matches!(changes[..], [(_, Some(Staleness::Behind(LIMIT)))]));
        route.taken(BEGIN_NS);
        route.handled();
        let (now, now_ns) = after(begin, LIMIT * 2);
        assert!(matches!(watch.look(now, now_ns, None)[..], [(_, None)]));
    }

    #[test]
    fn without_limits_nobody_looks() {
        let (watch, _) = watch(StaleLimits::default(), clock::now());
        assert_eq!(watch.next_look(), None);
    }
}
