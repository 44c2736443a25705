//! Frames encoded and not yet taken by the stream. Positions count all bytes ever queued, so they never go back.

use std::collections::VecDeque;

use crate::ids::SendId;

/// The bytes that wait to be written, and which sends end where in them.
///
/// Data frames are bounded before they get here (see `Shared::reserve`), control frames by
/// [`accepts_control`](Self::accepts_control).
#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    bytes: Vec<u8>,
    /// Bytes at the front of `bytes` that the stream has taken.
    taken: usize,
    /// Position of `bytes[0]`.
    base: u64,
    /// The messages in `bytes`, oldest first.
    sends: VecDeque<Sent>,
}

/// A message whose frame is in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Position behind its frame.
    end: u64,
    /// The user's number for it; `None` for what the engine sends by itself.
    pub(crate) id: Option<SendId>,
    pub(crate) payload_bytes: usize,
    /// When the message was read that this one answers, where that is measured.
    pub(crate) tick_ns: Option<u64>,
}

impl WriteBuffer {
    /// What the stream has not taken yet.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }

    /// Where encoders append whole frames.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Marks the end of a message's frame.
    pub(crate) fn mark(&mut self, id: Option<SendId>, payload_bytes: usize, tick_ns: Option<u64>) {
        let end = self.base + self.bytes.len() as u64;
        self.sends.push_back(Sent { end, id, payload_bytes, tick_ns });
    }

    /// Whether a pong may be queued: pongs are answers to the peer, who must not be able to fill our memory.
    pub(crate) fn accepts_control(&self) -> bool {
        self.pending().len() < CONTROL_BOUND
    }

    /// Says that the stream took the next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) {
        debug_assert!(count <= self.pending().len(), "more taken than waits");
        self.taken += count;
        if self.taken == self.bytes.len() {
            self.base += self.bytes.len() as u64;
            self.bytes.clear();
            self.taken = 0;
            // A burst must not keep its memory for the connection's life.
            self.bytes.shrink_to(KEEP);
        } else if self.taken >= COMPACT_AT && self.taken >= self.bytes.len() / 2 {
            self.base += self.taken as u64;
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    /// Position up to which the stream has taken everything.
    pub(crate) fn position(&self) -> u64 {
        self.base + self.taken as u64
    }

    /// The next message whose frame ends at or before `position`; each only once.
    pub(crate) fn written(&mut self, position: u64) -> Option<Sent> {
        let written = self.sends.front().is_some_and(|sent| sent.end <= position);
        if written { self.sends.pop_front() } else { None }
    }

    /// Whether messages of the user wait.
    pub(crate) fn holds_sends(&self) -> bool {
        self.sends.iter().any(|sent| sent.id.is_some())
    }

    /// The session is over: drops everything, and names the messages that were never written.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = Sent> + use<> {
        std::mem::take(self).sends.into_iter()
    }
}

/// A peer that does not read gets at most this much of pongs, in bytes; then they coalesce to the newest.
const CONTROL_BOUND: usize = 64 * 1024;
/// Memory kept for the next frames, in bytes.
const KEEP: usize = 16 * 1024;
/// Moving the rest down costs a copy, so it waits until this much, in bytes, and half of the whole is dead.
const COMPACT_AT: usize = 64 * 1024;
