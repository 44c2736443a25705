//! Several connections into one pipeline: each has an end of its own, and the handlers see one feed.
//!
//! The feed is live while any of its lines is. What a line brings goes down one pipeline, where the parse sites put it into order
//! ([`super::splice`]). The lines may be on different loops, so the pipeline stands behind a lock; nobody else ever waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Pipeline;
use super::splice::Coverage;
use crate::event::{ClientEvent, ConnectionEvent};
use crate::handler::{Arrival, Outlet};
use crate::message::WsMessage;
use crate::metrics::{LineStats, RouteStats};
use crate::state::{ClientState, Shared};
use crate::sync::{Mutex, lock};

/// What the parse sites are told of the lines of their feed.
#[derive(Debug, Clone)]
pub(crate) enum LineChange {
    /// It is live.
    Joined { line: u8, stats: Option<Arc<LineStats>> },
    /// It is gone.
    Left { line: u8 },
    /// All are gone, and the feed with them.
    Lost,
    /// How far this line comes is to be written on the board.
    Watched { line: u8, board: Arc<CoverageBoard> },
    /// No longer.
    Unwatched,
}

/// Where each parse site writes how far the watched line has come.
#[derive(Debug, Default)]
pub(crate) struct CoverageBoard(Mutex<BTreeMap<usize, Coverage>>);

impl CoverageBoard {
    pub(super) fn publish(&self, site: usize, coverage: Coverage) {
        lock(&self.0).insert(site, coverage);
    }

    /// Of all sites together; `None` until this many have written.
    pub(crate) fn total(&self, sites: usize) -> Option<Coverage> {
        let board = lock(&self.0);
        (board.len() >= sites).then(|| {
            board.values().fold(Coverage::default(), |sum, coverage| Coverage {
                covered: sum.covered + coverage.covered,
                uncovered: sum.uncovered + coverage.uncovered,
                active: sum.active + coverage.active,
            })
        })
    }
}

/// What the ends of one feed share.
struct Feed {
    /// Taken when one line goes on alone.
    pipeline: Option<Box<dyn Pipeline>>,
    /// The lines that are live.
    up: Vec<u8>,
    /// Ends that have not stopped.
    ends: usize,
    epoch: u64,
    /// Who hears of the feed's own changes, where its lines are clients of their own.
    shared: Option<Arc<Shared>>,
}

/// One line's way into the pipeline.
pub(crate) struct LineEnd {
    feed: Arc<Mutex<Feed>>,
    line: u8,
    stats: Option<Arc<LineStats>>,
}

/// The ends of a feed whose lines are clients of their own; `shared` stands for the feed.
pub(crate) fn feed_of_lines(
    pipeline: Box<dyn Pipeline>,
    shared: Arc<Shared>,
    lines: impl Iterator<Item = Arc<LineStats>>,
) -> Vec<LineEnd> {
    let feed = Arc::new(Mutex::new(Feed {
        pipeline: Some(pipeline),
        up: Vec::new(),
        ends: 0,
        epoch: 0,
        shared: Some(shared),
    }));
    let ends: Vec<_> =
        (0..).zip(lines).map(|(line, stats)| LineEnd { feed: Arc::clone(&feed), line, stats: Some(stats) }).collect();
    lock(&feed).ends = ends.len();
    ends
}

/// The ends of a feed of one line that is live, and of another that is to take over from it.
///
/// The pipeline is taken out of `pipeline`, where an end is to take its place.
pub(crate) fn feed_of_two(pipeline: &mut Box<dyn Pipeline>, epoch: u64, current: u8, relief: u8) -> [LineEnd; 2] {
    let feed = Feed { pipeline: None, up: vec![current], ends: 2, epoch, shared: None };
    let feed = Arc::new(Mutex::new(feed));
    let nowhere = LineEnd { feed: Arc::clone(&feed), line: current, stats: None };
    let mut inner = std::mem::replace(pipeline, Box::new(nowhere));
    inner.line(&LineChange::Joined { line: current, stats: None });
    lock(&feed).pipeline = Some(inner);
    [current, relief].map(|line| LineEnd { feed: Arc::clone(&feed), line, stats: None })
}

impl Feed {
    fn line_is_live(&mut self, line: u8, stats: Option<Arc<LineStats>>) {
        let first = self.up.is_empty();
        self.up.push(line);
        if first {
            self.epoch += 1;
            let event = ConnectionEvent::Live { epoch: self.epoch };
            self.tell(ClientState::Live, event);
        }
        let Some(pipeline) = &mut self.pipeline else { return };
        pipeline.line(&LineChange::Joined { line, stats });
    }

    fn line_is_lost(&mut self, line: u8, event: &ConnectionEvent) {
        self.up.retain(|&up| up != line);
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.line(&LineChange::Left { line });
        }
        if self.up.is_empty()
            && let ConnectionEvent::Lost { reason, .. } = event
        {
            let event = ConnectionEvent::Lost { epoch: self.epoch, reason: reason.clone(), written_through: None };
            self.tell(ClientState::Connecting, event);
        }
    }

    fn tell(&mut self, state: ClientState, event: ConnectionEvent) {
        if let Some(shared) = &self.shared {
            shared.transition(state, self.epoch);
        }
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.event(&event);
        }
        if let Some(shared) = &self.shared {
            shared.report(|| ClientEvent::Connection(event));
        }
    }
}

impl Pipeline for LineEnd {
    fn deliver(&mut self, raw: &WsMessage<'_>, arrival: &mut Arrival, outlet: &mut dyn Outlet) {
        let mut feed = lock(&self.feed);
        // What comes before the line is live belongs to the epoch that the feed is in, or would be.
        arrival.epoch = feed.epoch + u64::from(feed.up.is_empty());
        if let Some(pipeline) = &mut feed.pipeline {
            pipeline.deliver(raw, arrival, outlet);
        }
    }

    fn event(&mut self, event: &ConnectionEvent) {
        let mut feed = lock(&self.feed);
        match event {
            ConnectionEvent::Live { .. } => feed.line_is_live(self.line, self.stats.clone()),
            ConnectionEvent::Lost { .. } => feed.line_is_lost(self.line, event),
            other => {
                if let Some(pipeline) = &mut feed.pipeline {
                    pipeline.event(other);
                }
            }
        }
    }

    fn route_event(&mut self, route: &Arc<RouteStats>, event: &ConnectionEvent) {
        if let Some(pipeline) = &mut lock(&self.feed).pipeline {
            pipeline.route_event(route, event);
        }
    }

    fn read_done(&mut self) {
        if let Some(pipeline) = &mut lock(&self.feed).pipeline {
            pipeline.read_done();
        }
    }

    fn drained(&mut self) {
        if let Some(pipeline) = &mut lock(&self.feed).pipeline {
            pipeline.drained();
        }
    }

    fn line(&mut self, change: &LineChange) {
        if let Some(pipeline) = &mut lock(&self.feed).pipeline {
            pipeline.line(change);
        }
    }

    fn next_release_ns(&self) -> Option<u64> {
        lock(&self.feed).pipeline.as_ref()?.next_release_ns()
    }

    fn release(&mut self, now_ns: u64) {
        if let Some(pipeline) = &mut lock(&self.feed).pipeline {
            pipeline.release(now_ns);
        }
    }

    fn take_inner(&mut self) -> Option<Box<dyn Pipeline>> {
        lock(&self.feed).pipeline.take()
    }

    fn stop(&mut self) {
        let mut feed = lock(&self.feed);
        feed.ends = feed.ends.saturating_sub(1);
        if feed.ends == 0
            && let Some(pipeline) = &mut feed.pipeline
        {
            pipeline.stop();
        }
    }
}
