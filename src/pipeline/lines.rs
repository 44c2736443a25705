//! Several connections into one pipeline: each has an end of its own, and the handlers see one feed.
//!
//! The feed is live while any of its lines is. What a line brings goes down one pipeline, where the parse sites put it into order
//! ([`super::splice`]). The lines may be on different loops, so the pipeline stands behind a lock; nobody else ever waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Pipeline;
use super::splice::Coverage;
use crate::clock;
use crate::error::DisconnectReason;
use crate::event::{ClientEvent, ConnectionEvent};
use crate::handler::{Arrival, Outlet};
use crate::ids::SendId;
use crate::message::WsMessage;
use crate::metrics::{LineStats, RouteStats};
use crate::state::{ClientState, Shared};
use crate::sync::{Mutex, Ordering, lock};

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

/// What whoever waits for a feed wants to know of its lines. Apart from the feed itself, so that nobody who asks waits for a message
/// that is being handled.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// The lines whose last dial failed, or that are over, as bits.
    lines: AtomicU64,
    last: Mutex<Option<DisconnectReason>>,
}

impl Troubles {
    fn note(&self, line: u8, reason: &DisconnectReason) {
        *lock(&self.last) = Some(reason.clone());
        self.lines.fetch_or(1 << line, Ordering::AcqRel);
    }

    /// The last reason, where no line of so many can be hoped for.
    pub(crate) fn of_all(&self, lines: usize) -> Option<DisconnectReason> {
        let all = self.lines.load(Ordering::Acquire).count_ones() as usize == lines;
        if all { lock(&self.last).clone() } else { None }
    }
}

/// What the ends of one feed share.
struct Feed {
    /// Taken when one line goes on alone.
    pipeline: Option<Box<dyn Pipeline>>,
    /// The lines that are live.
    up: Vec<u8>,
    /// The lines that are about to be.
    coming: Vec<u8>,
    /// No line is live, which the handlers are to be told at this stamp, unless one of those that are coming is live by then.
    loss: Option<(DisconnectReason, u64)>,
    /// Of each line, where they are clients of their own.
    stats: Vec<Arc<LineStats>>,
    /// Ends that have not stopped.
    ends: usize,
    epoch: u64,
    /// Who hears of the feed's own changes, where its lines are clients of their own.
    told: Option<Told>,
}

/// Whoever holds a feed of lines that are clients of their own.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) shared: Arc<Shared>,
    pub(crate) troubles: Arc<Troubles>,
    /// How long handlers are not told of a loss while another line is about to be live.
    pub(crate) hold_ns: u64,
}

/// One line's way into the pipeline.
pub(crate) struct LineEnd {
    feed: Arc<Mutex<Feed>>,
    line: u8,
}

/// The ends of a feed whose lines are clients of their own, at most [`MOST_LINES`].
pub(crate) fn feed_of_lines(
    pipeline: Box<dyn Pipeline>,
    told: Told,
    lines: impl Iterator<Item = Arc<LineStats>>,
) -> Vec<LineEnd> {
    let stats: Vec<_> = lines.collect();
    let ends = stats.len();
    let feed = Feed { stats, ends, told: Some(told), ..Feed::of(Some(pipeline)) };
    let feed = Arc::new(Mutex::new(feed));
    (0..).take(ends).map(|line| LineEnd { feed: Arc::clone(&feed), line }).collect()
}

/// So many lines have a bit each.
pub(crate) const MOST_LINES: usize = 32;

/// The ends of a feed of one line that is live, and of another that is to take over from it.
///
/// The pipeline is taken out of `pipeline`, where an end is to take its place.
pub(crate) fn feed_of_two(pipeline: &mut Box<dyn Pipeline>, epoch: u64, current: u8, relief: u8) -> [LineEnd; 2] {
    let feed = Feed { up: vec![current], ends: 2, epoch, ..Feed::of(None) };
    let feed = Arc::new(Mutex::new(feed));
    let nowhere = LineEnd { feed: Arc::clone(&feed), line: current };
    let mut inner = std::mem::replace(pipeline, Box::new(nowhere));
    inner.line(&LineChange::Joined { line: current, stats: None });
    lock(&feed).pipeline = Some(inner);
    [current, relief].map(|line| LineEnd { feed: Arc::clone(&feed), line })
}

impl Feed {
    fn of(pipeline: Option<Box<dyn Pipeline>>) -> Self {
        let (up, coming, stats) = (Vec::new(), Vec::new(), Vec::new());
        Self { pipeline, up, coming, loss: None, stats, ends: 0, epoch: 0, told: None }
    }

    fn join(&mut self, line: u8) {
        let stats = self.stats.get(usize::from(line)).cloned();
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.line(&LineChange::Joined { line, stats });
        }
    }

    /// The venue has been asked, and what it says next may be what the other lines lack.
    fn line_is_coming(&mut self, line: u8) {
        self.coming.push(line);
        self.join(line);
    }

    fn line_is_live(&mut self, line: u8) {
        self.coming.retain(|&coming| coming != line);
        self.up.push(line);
        let goes_on = self.loss.take().is_some();
        if self.up.len() == 1 && !goes_on {
            self.epoch += 1;
            self.tell(ClientState::Live, ConnectionEvent::Live { epoch: self.epoch });
        }
        self.join(line);
    }

    fn line_is_gone(&mut self, line: u8, reason: &DisconnectReason, written_through: Option<SendId>) {
        let was_up = self.up.contains(&line);
        self.up.retain(|&up| up != line);
        self.coming.retain(|&coming| coming != line);
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.line(&LineChange::Left { line });
        }
        if !self.up.is_empty() || !(was_up || self.loss.is_some()) {
            return;
        }
        // Of several clients, what each had sent is told to its own listeners.
        let written_through = written_through.filter(|_| self.told.is_none());
        match self.told.as_ref().map(|told| told.hold_ns) {
            // One that is about to be live goes on where this one has ended.
            Some(hold_ns) if !self.coming.is_empty() && *reason != DisconnectReason::Shutdown => {
                self.loss.get_or_insert((reason.clone(), clock::stamp_ns().saturating_add(hold_ns)));
            }
            _ => self.lose(reason, written_through),
        }
    }

    /// The feed is lost.
    fn lose(&mut self, reason: &DisconnectReason, written_through: Option<SendId>) {
        let reason = self.loss.take().map_or_else(|| reason.clone(), |(reason, _)| reason);
        // Whether the others will come back is theirs to say.
        let closing = reason == DisconnectReason::Shutdown;
        let event = ConnectionEvent::Lost { epoch: self.epoch, reason, written_through };
        self.tell(if closing { ClientState::Closing } else { ClientState::Connecting }, event);
        // The parse sites have forgotten all lines.
        for line in self.coming.clone() {
            self.join(line);
        }
    }

    fn tell(&mut self, state: ClientState, event: ConnectionEvent) {
        if let Some(Told { shared, .. }) = &self.told {
            shared.transition(state, self.epoch);
        }
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.event(&event);
        }
        if let Some(Told { shared, .. }) = &self.told {
            shared.report(|| ClientEvent::Connection(event));
        }
    }
}

impl LineEnd {
    /// Does something with the pipeline, as long as this end leads there.
    fn with(&self, act: impl FnOnce(&mut dyn Pipeline)) {
        if let Some(pipeline) = &mut lock(&self.feed).pipeline {
            act(pipeline.as_mut());
        }
    }
}

impl Pipeline for LineEnd {
    fn deliver(&mut self, raw: &WsMessage<'_>, arrival: &mut Arrival, outlet: &mut dyn Outlet) {
        let mut feed = lock(&self.feed);
        // What comes before the line is live belongs to the epoch that the feed is in, or would be.
        arrival.epoch = feed.epoch + u64::from(feed.up.is_empty() && feed.loss.is_none());
        if let Some(pipeline) = &mut feed.pipeline {
            pipeline.deliver(raw, arrival, outlet);
        }
    }

    fn event(&mut self, event: &ConnectionEvent) {
        let mut feed = lock(&self.feed);
        match event {
            ConnectionEvent::Live { .. } => feed.line_is_live(self.line),
            ConnectionEvent::Lost { reason, written_through, .. } => {
                feed.line_is_gone(self.line, reason, *written_through);
            }
            other => {
                if let Some(pipeline) = &mut feed.pipeline {
                    pipeline.event(other);
                }
            }
        }
    }

    fn route_event(&mut self, route: &Arc<RouteStats>, event: &ConnectionEvent) {
        self.with(|pipeline| pipeline.route_event(route, event));
    }

    fn read_done(&mut self) {
        self.with(|pipeline| pipeline.read_done());
    }

    fn drained(&mut self) {
        self.with(|pipeline| pipeline.drained());
    }

    fn line(&mut self, change: &LineChange) {
        self.with(|pipeline| pipeline.line(change));
    }

    fn next_release_ns(&self) -> Option<u64> {
        let feed = lock(&self.feed);
        let loss_ns = feed.loss.as_ref().map(|(_, told_at_ns)| *told_at_ns);
        let release_ns = feed.pipeline.as_ref().and_then(|pipeline| pipeline.next_release_ns());
        [loss_ns, release_ns].into_iter().flatten().min()
    }

    fn release(&mut self, now_ns: u64) {
        let mut feed = lock(&self.feed);
        if let Some((reason, told_at_ns)) = &feed.loss
            && now_ns >= *told_at_ns
        {
            let reason = reason.clone();
            feed.lose(&reason, None);
        }
        if let Some(pipeline) = &mut feed.pipeline {
            pipeline.release(now_ns);
        }
    }

    fn take_inner(&mut self) -> Option<Box<dyn Pipeline>> {
        lock(&self.feed).pipeline.take()
    }

    fn troubled(&mut self, reason: &DisconnectReason) {
        let mut feed = lock(&self.feed);
        feed.line_is_gone(self.line, reason, None);
        let told = feed.told.clone();
        drop(feed);
        if let Some(Told { shared, troubles, .. }) = told {
            troubles.note(self.line, reason);
            shared.wake_waiting();
        }
    }

    fn coming(&mut self) {
        lock(&self.feed).line_is_coming(self.line);
    }

    fn is_relieved(&self) -> bool {
        lock(&self.feed).up.iter().any(|&up| up != self.line)
    }

    fn stop(&mut self) {
        let mut feed = lock(&self.feed);
        feed.ends = feed.ends.saturating_sub(1);
        if feed.ends > 0 {
            return;
        }
        if let Some(pipeline) = &mut feed.pipeline {
            pipeline.stop();
        }
        if let Some(Told { shared, troubles, .. }) = &feed.told {
            let reason = lock(&troubles.last).clone().unwrap_or(DisconnectReason::Shutdown);
            shared.close(&reason, feed.epoch);
            shared.report(|| ClientEvent::Closed { reason });
        }
    }
}
