//! Sends on a client's connection, from any thread.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::engine::{Command, CommandSender, Send};
use crate::error::{HyperSocketError, Result};
use crate::handler::Outlet;
use crate::ids::SendId;
use crate::message::WsMessage;
use crate::metrics::Latency;
use crate::state::{ClientState, Shared};
use crate::subscriptions::{Subscription, SubscriptionSource, SubscriptionState};
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
    /// [`WriteBufferFull`](HyperSocketError::WriteBufferFull) where the peer reads too slowly,
    /// [`RateLimited`](HyperSocketError::RateLimited) where the client has a message limit. Nothing was queued.
    pub fn send<'a>(&self, message: impl Into<WsMessage<'a>>) -> Result<SendId> {
        match self.shared.state() {
            (ClientState::Live, epoch) => self.queue(message.into(), epoch, false, None),
            _ => Err(HyperSocketError::NotConnected),
        }
    }

    /// Like [`send`](Self::send), but only in the session of this epoch.
    ///
    /// # Errors
    /// As for [`send`](Self::send), and [`EpochChanged`](HyperSocketError::EpochChanged).
    pub fn send_in_epoch<'a>(&self, epoch: u64, message: impl Into<WsMessage<'a>>) -> Result<SendId> {
        match self.shared.state() {
            (_, current) if current != epoch => Err(HyperSocketError::EpochChanged { current }),
            (ClientState::Live, _) => self.queue(message.into(), epoch, true, None),
            _ => Err(HyperSocketError::NotConnected),
        }
    }

    /// Moves the client to a new connection without a hole, from anywhere, such as a handler that has read the venue's notice;
    /// see [`Client::rotate`](crate::Client::rotate). What comes of it is told as an event.
    ///
    /// # Errors
    /// [`NotConnected`](HyperSocketError::NotConnected) while there is no live session.
    pub fn rotate(&self) -> Result<()> {
        match self.shared.state() {
            (ClientState::Live, _) => self.command(Command::Rotate(self.shared.id)),
            _ => Err(HyperSocketError::NotConnected),
        }
    }

    /// Subscribes from now on: at once where the client is live, and in every session to come.
    ///
    /// # Errors
    /// [`DuplicateSubscription`](HyperSocketError::DuplicateSubscription),
    /// [`TooManySubscriptions`](HyperSocketError::TooManySubscriptions), and what its closure answers, which is called here.
    pub fn subscribe(&self, subscription: Subscription) -> Result<()> {
        let made = match &subscription.source {
            SubscriptionSource::Fixed(_) => None,
            fresh @ SubscriptionSource::Fresh(_) => Some(fresh.make()?),
        };
        lock(&self.shared.subscriptions).add(subscription, made)?;
        self.subscriptions_changed();
        Ok(())
    }

    /// Ends a subscription: at once where the client is live, and it is in no session to come.
    ///
    /// # Errors
    /// [`UnknownSubscription`](HyperSocketError::UnknownSubscription).
    pub fn unsubscribe(&self, name: &str) -> Result<()> {
        lock(&self.shared.subscriptions).remove(name)?;
        self.subscriptions_changed();
        Ok(())
    }

    /// Sends a subscription again, for a new snapshot, behind its end where it wants
    /// [`unsubscribe_first`](Subscription::unsubscribe_first). Without a session there is nothing to do: the next has it anyway.
    ///
    /// # Errors
    /// [`UnknownSubscription`](HyperSocketError::UnknownSubscription), and what its closure answers, which is called here.
    pub fn resubscribe(&self, name: &str) -> Result<()> {
        let source = lock(&self.shared.subscriptions).source(name)?;
        let made = source.make()?;
        lock(&self.shared.subscriptions).renew(name, made)?;
        self.subscriptions_changed();
        Ok(())
    }

    /// What the client is subscribed to, or wants to be, in the order in which it was asked for, and how far that has come.
    pub fn subscriptions(&self) -> Vec<(String, SubscriptionState)> {
        lock(&self.shared.subscriptions).states()
    }

    fn subscriptions_changed(&self) {
        // Without a loop they wait for the first session.
        let _ = self.command(Command::Subscriptions(self.shared.id));
    }

    fn queue(&self, message: WsMessage<'_>, epoch: u64, strictly: bool, tick_ns: Option<u64>) -> Result<SendId> {
        let bytes = message.as_bytes().len();
        self.shared.reserve(bytes)?;
        let message = message.into_owned();
        let mut last_send = lock(&self.shared.last_send);
        let id = SendId(*last_send + 1);
        let shared = Arc::clone(&self.shared);
        if let Err(error) = self.command(Command::Send(Send { shared, id, epoch, strictly, message, tick_ns })) {
            self.shared.release(bytes);
            return Err(error);
        }
        *last_send = id.0;
        Ok(id)
    }
}

impl Outlet for Sender {
    /// What answers a message of an earlier connection may go out on the one that has taken over from it.
    fn send(&mut self, message: WsMessage<'_>, epoch: u64, tick_ns: Option<u64>) -> Result<SendId> {
        match self.shared.state() {
            (_, current) if current != epoch && !(current > epoch && self.shared.is_unbroken_since(epoch)) => {
                Err(HyperSocketError::EpochChanged { current })
            }
            (ClientState::Live, current) => self.queue(message, current, false, tick_ns),
            _ => Err(HyperSocketError::NotConnected),
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("connection", &self.shared.id).finish_non_exhaustive()
    }
}
