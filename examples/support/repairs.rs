//! Keeps repairs from becoming a storm: a venue that is wrong all the time, or a rule of ours that is, must not be asked for a snapshot
//! a hundred times a second, which venues answer with a ban.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many repairs in a minute are ordinary, on a bad day.
const ORDINARY: usize = 20;
const MINUTE: Duration = Duration::from_secs(60);
/// Between those beyond.
const PAUSE: Duration = Duration::from_secs(5);

/// When the repairs of the last minute were.
#[derive(Debug, Default)]
pub(crate) struct Repairs(VecDeque<Instant>);

impl Repairs {
    /// To be called before each repair. It returns at once, unless there were many lately; the book's own thread is all that waits.
    pub(crate) fn begin(&mut self) {
        let now = Instant::now();
        self.0.retain(|repair| now.duration_since(*repair) < MINUTE);
        if self.0.len() >= ORDINARY {
            std::thread::sleep(PAUSE);
        }
        self.0.push_back(Instant::now());
    }
}
