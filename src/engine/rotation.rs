//! Make before break: a client moves to a new connection while the old one still brings messages.
//!
//! The new connection is dialed, authenticated and subscribed beside the old one. Both feed the same pipeline, which puts their
//! messages into one order by sequence. Once the new one brings every stream without a hole behind what was handled, it becomes the
//! client's, and the old one says goodbye. Should the old one die before that, the new one takes over as it is, and what is
//! missing is told as gaps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::error::DisconnectReason;
use crate::pipeline::{CoverageBoard, LineChange};

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

const LOST_MEANWHILE: &str = "the old connection was lost before the new one was live";
/// How long both connections are kept for the sake of streams that are quiet, and the old one for replies.
pub(super) const LONGEST_OVERLAP: Duration = Duration::from_secs(5);
