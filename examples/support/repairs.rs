//! Says when a book may be asked for anew. What was asked for has some seconds to come; and a venue that is wrong all the time, or a rule
//! of ours that is, must not be asked a hundred times a second, which venues answer with a ban. Nothing here waits: a keeper that may not
//! ask yet leaves its book void, and looks again at the next message.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many repairs in a minute are ordinary, on a bad day.
const ORDINARY: usize = 20;
const MINUTE: Duration = Duration::from_secs(60);
/// What a snapshot may take, and the least time between repairs where there were many.
const PATIENCE: Duration = Duration::from_secs(5);

/// When the repairs of the last minute were, and what they lead to.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    lately: VecDeque<Instant>,
    not_before: Option<Instant>,
    /// Until when the book has time to become whole.
    due: Option<Instant>,
}

impl Repairs {
    /// Whether a repair may begin now; then it has begun.
    pub(crate) fn begin(&mut self, now: Instant) -> bool {
        if self.is_too_early(now) {
            return false;
        }
        self.lately.retain(|repair| now.duration_since(*repair) < MINUTE);
        self.lately.push_back(now);
        self.not_before = Some(now + PATIENCE);
        self.due = self.not_before;
        true
    }

    /// What was asked for is here. Where it does not do, it may be asked for again at once, unless there were many.
    pub(crate) fn is_answered(&mut self) {
        self.due = None;
        if self.lately.len() < ORDINARY {
            self.not_before = None;
        }
    }

    /// Whether the book has not become whole for too long, counted from the repair or from the first such question.
    pub(crate) fn is_overdue(&mut self, now: Instant) -> bool {
        now >= *self.due.get_or_insert(now + PATIENCE) && !self.is_too_early(now)
    }

    fn is_too_early(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|not_before| now < not_before)
    }
}
