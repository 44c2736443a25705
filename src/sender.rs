//! Sends on a client's connection, from any thread.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::engine::{Command, CommandSender};
use crate::error::{HyperSocketError, Result};
use crate::handler::Outlet;
use crate::ids::SendId;
use crate::message::WsMessage;
use crate::metrics::Latency;
use crate::state::{ClientState, Shared};
use crate::sync::lock;

/// Sends on one client's connection, from any thread. Cheap to clone.
///
/// It can be had before the client is built, from [`Routing::sender`](crate::Routing::sender), for handlers that send.
#[derive(Clone)]
pub struct Sender {
    pub(crate) shared: Arc<Shared>,
    /// The way to the loop, once there is one.
    commands: Arc<OnceLock<CommandSender>>,
}

impl Sender {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, commands: Arc::default() }
    }

    /// The client was given to a loop.
    pub(crate) fn connect(&self, commands: CommandSender) {
        let first = self.commands.set(commands).is_ok();
        debug_assert!(first, "a client was given to two loops");
    }

    /// The loop's gaps; none before the client is given to one.
    pub(crate) fn loop_gaps(&self) -> Latency {
        self.commands.get().map_or_else(Latency::default, |commands| commands.gaps().snapshot())
    }

    pub(crate) fn command(&self, command: Command) -> Result<()> {
        self.commands.get().ok_or(HyperSocketError::NotConnected)?.send(command)
    }

    /// Queues a message for sending in the current session. `Ok` means queued: if the session ends first, the message is
    /// gone, and [`Lost`](crate::ConnectionEvent::Lost) says what had left; nothing is ever sent again by itself.
    ///
    /// # Errors
    /// [`NotConnected`](HyperSocketError::NotConnected) while there is no live session,
    /// [`WriteBufferFull`](HyperSocketError::WriteBufferFull) where the peer reads too slowly. Nothing was queued.
    pub fn send<'a>(&self, message: impl Into<WsMessage<'a>>) -> Result<SendId> {
        match self.shared.state() {
            (ClientState::Live, epoch) => self.queue(message.into(), epoch, None),
            _ => Err(HyperSocketError::NotConnected),
        }
    }

    /// Like [`send`](Self::send), but only in the session of this epoch.
    ///
    /// # Errors
    /// As for [`send`](Self::send), and [`EpochChanged`](HyperSocketError::EpochChanged).
    pub fn send_in_epoch<'a>(&self, epoch: u64, message: impl Into<WsMessage<'a>>) -> Result<SendId> {
        self.queue_in_epoch(message.into(), epoch, None)
    }

    fn queue_in_epoch(&self, message: WsMessage<'_>, epoch: u64, tick_ns: Option<u64>) -> Result<SendId> {
        match self.shared.state() {
            (_, current) if current != epoch => Err(HyperSocketError::EpochChanged { current }),
            (ClientState::Live, _) => self.queue(message, epoch, tick_ns),
            _ => Err(HyperSocketError::NotConnected),
        }
    }

    fn queue(&self, message: WsMessage<'_>, epoch: u64, tick_ns: Option<u64>) -> Result<SendId> {
        let bytes = message.as_bytes().len();
        self.shared.reserve(bytes)?;
        let message = message.into_owned();
        let mut last_send = lock(&self.shared.last_send);
        let id = SendId(*last_send + 1);
        let shared = Arc::clone(&self.shared);
        if let Err(error) = self.command(Command::Send { shared, id, epoch, message, tick_ns }) {
            self.shared.release(bytes);
            return Err(error);
        }
        *last_send = id.0;
        Ok(id)
    }
}

impl Outlet for Sender {
    fn send(&mut self, message: WsMessage<'_>, epoch: u64, tick_ns: Option<u64>) -> Result<SendId> {
        self.queue_in_epoch(message, epoch, tick_ns)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("connection", &self.shared.id).finish_non_exhaustive()
    }
}
