//! Sockets that only have a goodbye left to deliver. Closing one with unread input would send RST, and the peer would
//! throw our Close away with it; so input is read and discarded for a while, beside the next dial.

use std::time::{Duration, Instant};

use mio::Registry;

use super::token;
use crate::transport::{ReceiveBuffer, Stream, WriteBuffer};

/// How long, and how much, to listen to a peer that is to hear our Close.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linger {
    pub(super) longest: Duration,
    /// Whether we end our side at once. After a peer's Close it is for the peer to end the connection first.
    pub(super) half_close: bool,
}

/// After a violation: the peer may be sending at full speed.
pub(super) const AFTER_VIOLATION: Linger = Linger { longest: Duration::from_secs(1), half_close: true };
/// After the peer's Close: it has nothing more to say.
pub(super) const AFTER_PEER_CLOSE: Linger = Linger { longest: Duration::from_secs(2), half_close: false };

struct Leaving {
    stream: Stream,
    out: WriteBuffer,
    half_close: bool,
    deadline: Instant,
    /// Input still to be discarded before we lose patience, in bytes.
    patience: usize,
}

/// All lingering sockets of a loop.
#[derive(Default)]
pub(super) struct LingerList {
    slots: Vec<Option<Leaving>>,
}

impl LingerList {
    /// Takes a socket over; it is registered anew under a token of its own.
    pub(super) fn push(
        &mut self,
        registry: &Registry,
        now: Instant,
        mut stream: Stream,
        out: WriteBuffer,
        linger: Linger,
    ) {
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        stream.start_close();
        if let Err(error) = stream.reregister(registry, token::of_lingering(slot)) {
            // A socket that we cannot hear from is not worth keeping: it closes here.
            return log::debug!("could not register a lingering socket: {error}");
        }
        let deadline = now + linger.longest;
        let leaving = Leaving { stream, out, half_close: linger.half_close, deadline, patience: PATIENCE_BYTES };
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(leaving);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The loop is leaving: nobody may hold it up any longer than this.
    pub(super) fn hurry(&mut self, deadline: Instant) {
        for leaving in self.slots.iter_mut().flatten() {
            leaving.deadline = leaving.deadline.min(deadline);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.slots.iter().flatten().map(|leaving| leaving.deadline).min()
    }

    /// Writes what is left, discards what came, drops those that are done. Cheap where the list is empty, and it almost
    /// always is.
    pub(super) fn turn(
        &mut self,
        registry: &Registry,
        now: Instant,
        scratch: &mut ReceiveBuffer,
        cipher: &mut ReceiveBuffer,
    ) {
        for slot in &mut self.slots {
            if let Some(mut leaving) =
                slot.take_if(|leaving| now >= leaving.deadline || leaving.is_done(scratch, cipher))
            {
                let deregistered = leaving.stream.deregister(registry);
                debug_assert!(deregistered.is_ok(), "a lingering socket was not registered");
            }
        }
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
    }
}

impl Leaving {
    fn is_done(&mut self, scratch: &mut ReceiveBuffer, cipher: &mut ReceiveBuffer) -> bool {
        match self.stream.flush(&mut self.out) {
            Ok(true) if self.half_close => {
                self.half_close = false;
                if self.stream.shutdown_write().is_err() {
                    return true;
                }
            }
            Ok(_) => {}
            Err(_) => return true,
        }
        loop {
            scratch.clear();
            let fill = self.stream.fill(scratch, cipher);
            scratch.clear();
            self.patience = self.patience.saturating_sub(fill.bytes);
            if fill.end.is_some() || self.patience == 0 {
                return true;
            }
            if fill.bytes == 0 {
                return false;
            }
        }
    }
}

/// A peer that sends more than this after its violation will not hear our Close.
const PATIENCE_BYTES: usize = 64 << 20;
