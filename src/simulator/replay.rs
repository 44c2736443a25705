//! Plays a recording to one session. Invariant: every frame once, in order, none before it is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::Stamp;
use super::due::Due;
use super::frames;
use super::outbox::Outbox;
use super::recording::Recording;
use super::tally::Counted;

/// How fast a recording is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// With the pauses with which it was received.
    Recorded,
    /// So many times as fast.
    Factor(f64),
    /// As fast as the client reads.
    FlatOut,
}

/// A recording made ready to be played: its frames encoded, its times set against its first.
pub(super) struct Reel {
    frames: Vec<u8>,
    ends: Vec<usize>,
    /// Empty when it plays flat out.
    offsets: Vec<Duration>,
    pub(super) starts_on_connect: bool,
    pub(super) closes_at_end: bool,
}

/// From the first message to each; nothing where all are at once. `None` if the pace wants receive times that the recording lacks.
pub(super) fn offsets(recording: &Recording, pace: Pace) -> Option<Vec<Duration>> {
    let factor = match pace {
        Pace::FlatOut => return Some(Vec::new()),
        Pace::Recorded => 1.0,
        Pace::Factor(factor) => factor,
    };
    let times = recording.received_ns()?;
    let first = times.first().copied().unwrap_or(0);
    let offset = |time: &u64| Duration::from_nanos((time.saturating_sub(first) as f64 / factor) as u64);
    Some(times.iter().map(offset).collect())
}

impl Reel {
    pub(super) fn new(recording: &Recording, offsets: Vec<Duration>) -> Self {
        let mut frames = Vec::new();
        let mut ends = Vec::with_capacity(recording.len());
        for (opcode, payload) in recording.frames() {
            frames::append(&mut frames, opcode, payload);
            ends.push(frames.len());
        }
        Reel { frames, ends, offsets, starts_on_connect: false, closes_at_end: false }
    }
}

pub(super) struct ReplayFeed {
    reel: Arc<Reel>,
    progress: Progress,
}

enum Progress {
    /// The session has not given the start signal.
    Waiting,
    /// So many frames have been staged.
    Playing { since: Instant, next: usize },
    /// All have.
    Over,
}

impl ReplayFeed {
    pub(super) fn new(reel: Arc<Reel>) -> Self {
        ReplayFeed { reel, progress: Progress::Waiting }
    }

    pub(super) fn upgraded(&mut self, now: Stamp) {
        if self.reel.starts_on_connect {
            self.start(now);
        }
    }

    pub(super) fn heard(&mut self, now: Stamp) {
        if matches!(self.progress, Progress::Waiting) {
            self.start(now);
        }
    }

    fn start(&mut self, now: Stamp) {
        self.progress = Progress::Playing { since: now.at, next: 0 };
    }

    pub(super) fn emit(&mut self, now: Stamp, outbox: &mut Outbox) -> Due {
        let Progress::Playing { since, next } = &mut self.progress else {
            return Due::Never;
        };
        let reel = &self.reel;
        while *next < reel.ends.len() {
            if !outbox.has_room() {
                return Due::WhenRoom;
            }
            if let Some(offset) = reel.offsets.get(*next) {
                let due = *since + *offset;
                if due > now.at {
                    return Due::At(due);
                }
            }
            let start = next.checked_sub(1).map_or(0, |before| reel.ends[before]);
            outbox.stage_frame(&reel.frames[start..reel.ends[*next]]);
            *next += 1;
        }
        outbox.mark(Counted::ReplayEnd);
        self.progress = Progress::Over;
        if reel.closes_at_end { Due::Over } else { Due::Never }
    }
}
