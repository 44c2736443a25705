//! What is on its way to the kernel. Invariant: a mark is counted when, and only when, the kernel has taken every byte up
//! to it; bytes leave in the order in which they were staged.

use std::collections::VecDeque;
use std::io;

use super::compression::Deflating;
use super::frames::{self, Opcode};
use super::link::Link;
use super::tally::{Counted, Tally};

/// A feed stages no more beyond this; large enough that a syscall is shared by hundreds of small messages.
const BATCH_BYTES: usize = 64 * 1024;
/// Answers may pile up to here before the connection stops reading a client that does not read.
const HIGH_WATER_BYTES: usize = 1024 * 1024;
/// The longest plaintext that rustls puts in one record.
const RECORD_BYTES: usize = 16 * 1024;

pub(super) struct Outbox {
    plain: Vec<u8>,
    wire: Vec<u8>,
    written: usize,
    /// Stream offsets of `plain[0]` and of `wire[0]`; they differ by what TLS adds.
    plain_base: u64,
    wire_base: u64,
    marks: VecDeque<Mark>,
    /// Where compression was agreed.
    deflating: Option<Deflating>,
    /// So many marks, from the front, hold offsets of the wire; the others hold offsets of the plain stream.
    sealed: usize,
}

struct Mark {
    end: u64,
    what: Counted,
}

/// Where a flush ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// The kernel has everything.
    Drained,
    /// The socket buffer is full.
    Blocked,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Outbox {
            plain: Vec::with_capacity(2 * BATCH_BYTES),
            wire: Vec::with_capacity(2 * BATCH_BYTES),
            written: 0,
            plain_base: 0,
            wire_base: 0,
            marks: VecDeque::new(),
            deflating: None,
            sealed: 0,
        }
    }

    /// From here on messages are compressed.
    pub(super) fn deflate_with(&mut self, deflating: Deflating) {
        self.deflating = Some(deflating);
    }

    /// Stages bytes that nobody counts.
    pub(super) fn stage_raw(&mut self, bytes: &[u8]) {
        self.plain.extend_from_slice(bytes);
    }

    /// Stages one control frame.
    pub(super) fn stage_control(&mut self, opcode: Opcode, payload: &[u8]) {
        frames::append(&mut self.plain, opcode, payload);
    }

    /// Stages one data frame.
    pub(super) fn stage(&mut self, opcode: Opcode, payload: &[u8], what: Counted) {
        match &mut self.deflating {
            Some(deflating) => deflating.append(&mut self.plain, opcode, payload),
            None => frames::append(&mut self.plain, opcode, payload),
        }
        self.mark(what);
    }

    /// Stages one data frame that was encoded before.
    pub(super) fn stage_frame(&mut self, frame: &[u8]) {
        match &mut self.deflating {
            Some(deflating) => deflating.append_frame(&mut self.plain, frame),
            None => self.plain.extend_from_slice(frame),
        }
        self.mark(Counted::Message);
    }

    pub(super) fn mark(&mut self, what: Counted) {
        let end = self.plain_base + self.plain.len() as u64;
        self.marks.push_back(Mark { end, what });
    }

    /// Whether a feed may stage one more.
    pub(super) fn has_room(&self) -> bool {
        self.plain.len() < BATCH_BYTES
    }

    pub(super) fn is_drained(&self) -> bool {
        self.plain.is_empty() && self.written == self.wire.len() && self.marks.is_empty()
    }

    pub(super) fn is_flooded(&self) -> bool {
        self.plain.len() + self.wire.len() - self.written > HIGH_WATER_BYTES
    }

    /// Writes until the kernel has all or takes no more. Ends, for nothing is staged while it runs.
    pub(super) fn flush(&mut self, link: &mut Link, tally: &Tally) -> io::Result<Flushed> {
        loop {
            link.pump(&mut self.wire)?;
            if self.written == self.wire.len() {
                self.wire_base += self.wire.len() as u64;
                self.wire.clear();
                self.written = 0;
                if self.plain.is_empty() {
                    self.sealed = 0;
                    self.marks.drain(..).for_each(|mark| tally.count(mark.what));
                    return Ok(Flushed::Drained);
                }
                self.seal(link)?;
            }
            match link.write(&self.wire[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.count(tally);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Turns all that is staged into wire bytes, and the offsets of its marks with it: a mark inside a record is
    /// reached only with the end of that record.
    fn seal(&mut self, link: &mut Link) -> io::Result<()> {
        let is_plain = !link.is_tls();
        let mut plain_end = self.plain_base;
        for chunk in self.plain.chunks(RECORD_BYTES) {
            let wire_start = self.wire_base + self.wire.len() as u64;
            link.seal(chunk, &mut self.wire)?;
            let wire_end = self.wire_base + self.wire.len() as u64;
            let chunk_start = plain_end;
            plain_end += chunk.len() as u64;
            while let Some(mark) = self.marks.get_mut(self.sealed) {
                if mark.end > plain_end {
                    break;
                }
                mark.end = if is_plain { wire_start + (mark.end - chunk_start) } else { wire_end };
                self.sealed += 1;
            }
        }
        self.plain_base = plain_end;
        self.plain.clear();
        Ok(())
    }

    fn count(&mut self, tally: &Tally) {
        let reached = self.wire_base + self.written as u64;
        while self.sealed > 0 && self.marks.front().is_some_and(|m| m.end <= reached) {
            if let Some(mark) = self.marks.pop_front() {
                self.sealed -= 1;
                tally.count(mark.what);
            }
        }
    }
}
