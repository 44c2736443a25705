//! Finds the line of a feed that is to be replaced.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::clock;
use crate::metrics::LineStats;
use crate::state::{ClientState, Shared};
use crate::sync::lock;

/// Finds the line that has been first least of late.
pub(super) struct Slowest {
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
    pub(super) fn new(lines: Vec<Arc<LineStats>>, every: Duration) -> Self {
        let since = Since { wins: vec![0; lines.len()], replaced: clock::now(), clients: Vec::new() };
        Self { lines, every, since: Mutex::new(since) }
    }

    /// A line whose client this is takes part.
    pub(super) fn add_line(&self, index: u8, shared: &Arc<Shared>) {
        lock(&self.since).clients.push((index, Arc::clone(shared)));
    }

    /// Whether this line is the one to replace now; once for each time that there is one.
    pub(super) fn is(&self, index: u8, now: Instant) -> bool {
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
