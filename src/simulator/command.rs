//! What crosses threads: commands towards a connection, events back from it. Invariant: a connection executes its
//! commands in the order in which they were sent, but for [`Command::Stop`], which overtakes all.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use mio::Waker;

use super::frames::Opcode;
use super::session::Received;

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

/// What a connection tells its [`super::Session`]: a channel for each kind, since a test awaits one kind at a time.
/// They have no bound: they hold what one test's client sends and nobody awaits.
pub(super) struct Reports<M, B, C> {
    pub(super) messages: M,
    pub(super) pings: B,
    pub(super) pongs: B,
    pub(super) fences: B,
    pub(super) closes: C,
}

pub(super) type ReportSenders = Reports<Sender<Received>, Sender<Vec<u8>>, Sender<Option<u16>>>;
pub(super) type ReportReceivers = Reports<Receiver<Received>, Receiver<Vec<u8>>, Receiver<Option<u16>>>;

pub(super) fn reports() -> (ReportSenders, ReportReceivers) {
    let messages = crossbeam_channel::unbounded();
    let pings = crossbeam_channel::unbounded();
    let pongs = crossbeam_channel::unbounded();
    let fences = crossbeam_channel::unbounded();
    let closes = crossbeam_channel::unbounded();
    (
        Reports { messages: messages.0, pings: pings.0, pongs: pongs.0, fences: fences.0, closes: closes.0 },
        Reports { messages: messages.1, pings: pings.1, pongs: pongs.1, fences: fences.1, closes: closes.1 },
    )
}

/// Pings whose payload starts like this are fences: their pongs go to a channel of their own.
pub(super) const FENCE: &[u8] = b"fence ";
