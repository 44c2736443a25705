//! What a connection tells its session. Invariant: the connection never waits for the session to listen.

use crossbeam_channel::{Receiver, Sender};

/// A data message from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

/// One end of the reports: a channel for each kind, since a test awaits one kind at a time.
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
