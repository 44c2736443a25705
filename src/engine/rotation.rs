//! Make before break: a client moves to a new connection while the old one still brings messages.
//!
//! The new connection is dialed, authenticated and subscribed beside the old one. Both feed the same pipeline, which puts their
//! messages into one order by sequence. Once the new one brings every stream without a hole behind what was handled, it becomes the
//! client's, and the old one says goodbye. Should the old one die before that, the new one takes over as it is, and what is
//! missing is told as gaps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::desk::Desk;
use super::session::Role;
use super::stale::StaleWatch;
use crate::error::DisconnectReason;
use crate::ids::ConnectionId;
use crate::lifecycle::{Input, Phase};
use crate::pipeline::{CoverageBoard, LineChange, feed_of_two};
use crate::transport::DialTokens;

/// One client on its way from one connection to another.
pub(super) struct Rotation {
    /// The slot of the old connection.
    pub(super) current: usize,
    /// The slot of the new one.
    pub(super) relief: usize,
    /// Where the parse sites write how far the new one has come, once it is live.
    board: Option<Arc<CoverageBoard>>,
    /// When quiet streams have been waited for long enough.
    deadline: Option<Instant>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    /// The new connection takes over.
    Move,
    /// The new connection is given up.
    GiveUp(DisconnectReason),
}

impl Rotation {
    pub(super) fn new(current: usize, relief: usize) -> Self {
        Self { current, relief, board: None, deadline: None }
    }

    pub(super) fn is_of(&self, slot: usize) -> bool {
        self.current == slot || self.relief == slot
    }

    /// One of the two has done something, or time has passed.
    pub(super) fn step(&mut self, current: &mut Connection, relief: &mut Connection, now: Instant) -> Step {
        if let Some(reason) = relief.ended() {
            return Step::GiveUp(reason.clone());
        }
        if !relief.is_live() {
            return if current.is_live() {
                Step::Wait
            } else {
                Step::GiveUp(DisconnectReason::NotSpliced(LOST_MEANWHILE.to_owned()))
            };
        }
        let board = self.board.get_or_insert_with(|| {
            let board = Arc::<CoverageBoard>::default();
            let line = relief.session().line;
            relief.session_mut().pipeline.line(&LineChange::Watched { line, board: Arc::clone(&board) });
            current.session_mut().relieved = true;
            relief.look_at(now + LONGEST_OVERLAP);
            self.deadline = Some(now + LONGEST_OVERLAP);
            board
        });
        if !current.is_live() {
            return Step::Move;
        }
        let coverage = board.total(relief.sites()).unwrap_or_default();
        if let Err(why) = current.check_numbered() {
            return Step::GiveUp(DisconnectReason::NotSpliced(why));
        }
        let late = self.deadline.is_some_and(|deadline| now >= deadline);
        let covered = coverage.covered > 0 && coverage.uncovered == 0;
        let acknowledged = relief.session().progress.has_caught_up_with(&current.session().progress);
        if covered && acknowledged && !current.holds_sends() {
            return Step::Move;
        }
        match (late, coverage.active) {
            (false, _) => Step::Wait,
            // What is still uncovered has been quiet on both.
            (true, 0) => Step::Move,
            (true, streams) => Step::GiveUp(DisconnectReason::NotSpliced(format!(
                "the new connection has not caught up in {streams} streams within {LONGEST_OVERLAP:?}"
            ))),
        }
    }
}

impl Connection {
    /// Begins to dial for a connection that is to take over from this one.
    pub(super) fn relief(&mut self, tokens: DialTokens, desk: &mut Desk) -> Self {
        let (current, line) = (self.session.line, 1 - self.session.line.min(1));
        let epoch = self.session.lifecycle.epoch();
        let [own, other] = feed_of_two(&mut self.session.pipeline, epoch, current, line);
        self.session.pipeline = Box::new(own);
        let session = self.session.relief(desk.now, Box::new(other), line);
        let stale = StaleWatch::new(Arc::default(), desk.now);
        let mut relief = Self::unlinked(session, self.limits, tokens, ConnectionId::next(), stale, self.sites);
        relief.perform(desk);
        relief.flush();
        relief
    }

    /// Takes over from `before`, of whose client it is the connection from now on.
    pub(super) fn take_over(&mut self, before: &mut Self, desk: &mut Desk) {
        if before.out.holds_sends() {
            // The peer has not read them for as long as a rotation may take.
            before.session.drop_unwritten(&mut before.out);
        }
        if let Some(mut pipeline) = self.session.pipeline.take_inner() {
            pipeline.line(&LineChange::Left { line: before.session.line });
            pipeline.line(&LineChange::Unwatched);
            self.session.take_over(&mut before.session, pipeline);
        }
        std::mem::swap(&mut self.stale, &mut before.stale);
        self.shutdown_flag = before.shutdown_flag.take();
        self.look_at = None;
        // It may still have to bring replies.
        before.look_at = Some(desk.now + LONGEST_OVERLAP);
        before.leave_if_idle(desk);
    }

    /// Says goodbye on a connection that was taken over from, once nobody waits for a reply on it, or has for long enough.
    pub(super) fn leave_if_idle(&mut self, desk: &mut Desk) {
        if self.session.role != Role::Retired
            || matches!(self.session.lifecycle.phase(), Phase::Closing { .. } | Phase::Closed)
        {
            return;
        }
        let waited_for = self.session.shared.requests.waits_in(self.session.lifecycle.epoch());
        if !(self.is_live() && waited_for && self.look_at.is_some()) {
            self.session.lifecycle.handle_input(desk.now, Input::Shutdown);
            self.perform(desk);
            self.flush();
        }
    }

    /// The connection that was to take over does not: this one goes on alone.
    pub(super) fn dismiss(&mut self, relief: &mut Self, desk: &mut Desk) {
        self.session.relieved = false;
        if let Some(mut pipeline) = self.session.pipeline.take_inner() {
            pipeline.line(&LineChange::Left { line: relief.session.line });
            pipeline.line(&LineChange::Unwatched);
            self.session.pipeline = pipeline;
        }
        relief.session.role = Role::Retired;
        relief.session.lifecycle.handle_input(desk.now, Input::Shutdown);
        relief.perform(desk);
        relief.flush();
    }

    /// Time has passed: looks whether the connection is to be replaced.
    pub(super) fn note_age(&mut self, now: Instant) {
        self.look_at.take_if(|due| now >= *due);
        if self.check_at.is_some_and(|due| now >= due)
            && let Some((_, check)) = &self.session.plan.rotation.check
        {
            self.session.wants_rotation |= check(now);
            self.check_again(now);
        }
        if self.old_at().is_some_and(|due| now >= due) {
            self.session.wants_rotation = true;
            self.rotate_again_at = Some(now + ROTATE_AGAIN);
        }
    }

    /// When the connection has reached the age at which it is to be replaced.
    pub(super) fn old_at(&self) -> Option<Instant> {
        let age = self.session.plan.rotation.max_age.filter(|_| self.session.role == Role::Current)?;
        let old_at = self.session.live_since?.checked_add(age)?;
        Some(self.rotate_again_at.map_or(old_at, |again| old_at.max(again)))
    }

    /// Has somebody look at its rotation at this time, once.
    pub(super) fn look_at(&mut self, at: Instant) {
        self.look_at = Some(at);
    }

    pub(super) fn check_again(&mut self, now: Instant) {
        let check = self.session.plan.rotation.check.as_ref();
        self.check_at = check.and_then(|(every, _)| now.checked_add(*every));
    }

    /// Whether its feed can go on over another connection; the error says why not.
    pub(super) fn check_numbered(&self) -> Result<(), String> {
        self.stale.stats().check_numbered()
    }

    /// The client's own wish for a new connection; once.
    pub(super) fn take_rotation_wish(&mut self) -> bool {
        std::mem::take(&mut self.session.wants_rotation)
    }

    /// Another line of the feed brings the same, so this one can be closed and dialed anew.
    pub(super) fn replace(&mut self, desk: &mut Desk) {
        if self.session.pipeline.is_relieved() {
            self.break_off(desk, DisconnectReason::Replaced);
        }
    }

    /// Whether it is one line of several, which need not be moved but only replaced.
    pub(super) fn is_in_feed(&self) -> bool {
        self.in_feed
    }
}

const LOST_MEANWHILE: &str = "the old connection was lost before the new one was live";
/// How long both connections are kept for the sake of streams that are quiet, and the old one for replies.
const LONGEST_OVERLAP: Duration = Duration::from_secs(5);
/// A rotation that was given up is tried again so much later, where it is owed to age.
const ROTATE_AGAIN: Duration = Duration::from_secs(60);
