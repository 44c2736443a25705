//! What other threads ask of a loop: a queue, and a wake that costs nothing while the loop is awake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::plan::{NewConnection, Prepared};
use crate::error::{DisconnectReason, HyperSocketError, Result};
use crate::ids::ConnectionId;
use crate::ids::SendId;
use crate::message::WsMessage;
use crate::state::Shared;

/// Something for the loop to do.
pub(crate) enum Command {
    /// Take a new client.
    Add(Box<NewConnection>),
    /// Send a message in this epoch; dropped and counted if the epoch is over.
    Send { shared: Arc<Shared>, id: SendId, epoch: u64, message: WsMessage<'static> },
    /// Close this client.
    Shutdown(ConnectionId),
    /// The offload thread's answer to a dial.
    Prepared { connection: ConnectionId, attempt: u64, outcome: Result<Prepared, DisconnectReason> },
    /// Close all clients, then leave.
    Stop,
}

/// The way into a loop's queue, for any thread.
#[derive(Clone)]
pub(crate) struct CommandSender {
    queue: Sender<Command>,
    bell: Arc<Bell>,
}

/// Wakes the loop where it sleeps.
struct Bell {
    waker: mio::Waker,
    /// The loop is, or is about to be, asleep in its poll.
    asleep: AtomicBool,
}

/// The loop's end of the queue.
pub(crate) struct CommandReceiver {
    queue: Receiver<Command>,
    bell: Arc<Bell>,
}

pub(crate) fn command_queue(waker: mio::Waker) -> (CommandSender, CommandReceiver) {
    let (sender, receiver) = unbounded();
    let bell = Arc::new(Bell { waker, asleep: AtomicBool::new(false) });
    let sender = CommandSender { queue: sender, bell: Arc::clone(&bell) };
    (sender, CommandReceiver { queue: receiver, bell })
}

impl CommandSender {
    /// Queues; errs where the loop is gone.
    pub(crate) fn send(&self, command: Command) -> Result<()> {
        self.queue.send(command).map_err(|_| HyperSocketError::NotConnected)?;
        // Pairs with the fence in `may_sleep`: of "queued" and "asleep", at least one side sees the other's.
        fence(Ordering::SeqCst);
        if self.bell.asleep.load(Ordering::Relaxed)
            && self.bell.asleep.swap(false, Ordering::AcqRel)
            && let Err(error) = self.bell.waker.wake()
        {
            log::error!("could not wake a loop: {error}");
        }
        Ok(())
    }
}

impl CommandReceiver {
    pub(crate) fn try_recv(&self) -> Option<Command> {
        self.queue.try_recv().ok()
    }

    /// Announces sleep; false where a command came first, and the loop must stay awake.
    pub(crate) fn may_sleep(&self) -> bool {
        self.bell.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.woke();
        false
    }

    /// The loop is awake again.
    pub(crate) fn woke(&self) {
        self.bell.asleep.store(false, Ordering::Release);
    }
}
