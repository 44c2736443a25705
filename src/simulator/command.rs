//! What a connection is told by other threads. Invariant: a connection executes its commands in the order in which they
//! were sent, but for [`Command::Stop`], which overtakes all.

use std::sync::Arc;

use crossbeam_channel::Sender;
use mio::Waker;

use super::frames::Opcode;

/// How a venue that stops leaves its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// FIN, without a Close frame.
    Fin,
    /// RST: what the client has not read yet is lost.
    Rst,
}

pub(super) enum Command {
    /// A whole data frame.
    Data(Opcode, Vec<u8>),
    /// A ping with this payload.
    Ping(Vec<u8>),
    /// These bytes, in a write of their own.
    Raw(Vec<u8>),
    /// Our Close, behind everything staged before.
    Close(u16, String),
    /// Answers once everything before is in the kernel.
    Flush(Sender<()>),
    /// FIN behind everything staged before.
    DropFin,
    /// RST at once.
    DropRst,
    /// No reads and no writes from here on.
    Stall,
    /// The end of a stall.
    Resume,
    /// The venue stops.
    Stop(Ending),
}

impl Command {
    /// Whether the outbox must be empty before it is executed.
    pub(super) fn awaits_drain(&self) -> bool {
        matches!(self, Command::Raw(_) | Command::Close(..) | Command::Flush(_) | Command::DropFin)
    }

    /// Whether it is executed during a stall, overtaking what waits for the stall's end.
    pub(super) fn breaks_stall(&self) -> bool {
        matches!(self, Command::Resume | Command::DropFin | Command::DropRst)
    }
}

/// The sending side of a connection's commands.
#[derive(Clone)]
pub(super) struct Commander {
    pub(super) queue: Sender<Command>,
    pub(super) waker: Arc<Waker>,
}

impl Commander {
    /// To a connection that has ended, nothing happens.
    pub(super) fn send(&self, command: Command) {
        if self.queue.send(command).is_ok() {
            // A waker fails only when its poll is gone, and with it the connection.
            let _ = self.waker.wake();
        }
    }
}
