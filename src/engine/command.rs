//! What other threads ask of a loop: a queue, and a wake that costs nothing while the loop is awake.

use std::sync::Arc;

use mio::Waker;

use super::plan::{NewConnection, Prepared};
use crate::bell::Wake;
use crate::error::{DisconnectReason, HyperSocketError, Result};
use crate::ids::ConnectionId;
use crate::ids::SendId;
use crate::mailbox;
use crate::message::WsMessage;
use crate::metrics::LatencyRecorder;
use crate::state::Shared;

/// Something for the loop to do.
pub(crate) enum Command {
    /// Take a new client.
    Add(Box<NewConnection>),
    /// Send a message.
    Send(Send),
    /// Other subscriptions are desired than before.
    Subscriptions(ConnectionId),
    /// Move to a new connection, without a hole.
    Rotate(ConnectionId),
    /// End the session of this epoch, or whichever there is: a route's queue is full.
    Sever { connection: ConnectionId, epoch: Option<u64>, route: String },
    /// Close this client for good.
    GiveUp(ConnectionId, DisconnectReason),
    /// Close this client.
    Shutdown(ConnectionId),
    /// The offload thread's answer to a dial.
    Prepared { connection: ConnectionId, attempt: u64, outcome: Result<Prepared, DisconnectReason> },
    /// Close all clients, then leave.
    Stop,
}

/// A message to be sent in one epoch; dropped and counted if that is over.
pub(crate) struct Send {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: SendId,
    pub(crate) epoch: u64,
    /// Not in an epoch either that has followed without a hole.
    pub(crate) strictly: bool,
    pub(crate) message: WsMessage<'static>,
    /// When the message was read that it answers, where that is measured.
    pub(crate) tick_ns: Option<u64>,
}

/// The way into a loop's queue, for any thread.
#[derive(Clone)]
pub(crate) struct CommandSender {
    mail: mailbox::Sender<Command, Waker>,
    gaps: Arc<LatencyRecorder>,
}

/// The loop's end of the queue.
pub(crate) type CommandReceiver = mailbox::Receiver<Command, Waker>;

pub(crate) fn command_queue(waker: Waker) -> (CommandSender, CommandReceiver) {
    let (mail, receiver) = mailbox::mailbox(waker);
    (CommandSender { mail, gaps: Arc::default() }, receiver)
}

impl Wake for Waker {
    fn wake(&self) {
        if let Err(error) = Self::wake(self) {
            log::error!("could not wake a loop: {error}");
        }
    }
}

impl CommandSender {
    /// Queues; errs where the loop is gone.
    pub(crate) fn send(&self, command: Command) -> Result<()> {
        self.mail.send(command).map_err(|_| HyperSocketError::NotConnected)
    }

    /// How long the loop's turns were apart; the loop writes it.
    pub(crate) fn gaps(&self) -> &LatencyRecorder {
        &self.gaps
    }
}
