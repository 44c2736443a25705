//! Sends on a client's connection, from any thread.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::engine::{Command, CommandSender, Send};
use crate::error::{HyperSocketError, Result};
use crate::handler::Outlet;
use crate::ids::SendId;
use crate::message::WsMessage;
use crate::metrics::Latency;
use crate::own_thread;
use crate::requests::{PendingReply, RequestId};
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
            (ClientState::Live, epoch) => self.queue(message.into(), Terms { epoch, ..Terms::default() }),
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
            (ClientState::Live, _) => self.queue(message.into(), Terms { epoch, strictly: true, ..Terms::default() }),
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

    /// Sends a request and waits for its reply: the message for which the extractor of
    /// [`ClientBuilder::reply_id`](crate::ClientBuilder::reply_id) finds this id. It goes to no route. Callable from any thread but a
    /// loop's own: also from a handler's, which handles nothing else meanwhile.
    ///
    /// # Errors
    /// [`RequestLost`](HyperSocketError::RequestLost) as soon as the session is over, and [`TimedOut`](HyperSocketError::TimedOut): the
    /// venue may have acted on it all the same, and nothing is sent again. [`WouldDeadlock`](HyperSocketError::WouldDeadlock) in
    /// an inline handler; and all of [`begin_request`](Self::begin_request).
    pub fn request<'a>(
        &self,
        message: impl Into<WsMessage<'a>>,
        id: impl Into<RequestId>,
        timeout: Duration,
    ) -> Result<WsMessage<'static>> {
        own_thread::refuse_in_turn("request")?;
        self.begin_request(message, id, timeout)?.wait()
    }

    /// Sends a request and returns at once; the reply is taken from what it returns.
    ///
    /// # Errors
    /// Those of [`send`](Self::send): nothing was queued then; [`DuplicateRequest`](HyperSocketError::DuplicateRequest) where this id is
    /// waited for; [`InvalidConfig`](HyperSocketError::InvalidConfig) where the client was built without
    /// [`reply_id`](crate::ClientBuilder::reply_id).
    pub fn begin_request<'a>(
        &self,
        message: impl Into<WsMessage<'a>>,
        id: impl Into<RequestId>,
        timeout: Duration,
    ) -> Result<PendingReply> {
        if !self.shared.knows_replies.load(Ordering::Acquire) {
            let what = "a request on a client that knows no replies: give its builder a reply_id".to_owned();
            return Err(HyperSocketError::InvalidConfig(what));
        }
        let (ClientState::Live, epoch) = self.shared.state() else { return Err(HyperSocketError::NotConnected) };
        let pending = self.shared.requests.await_reply(id.into(), epoch, timeout)?;
        // Where this errs, dropping what is pending forgets it.
        self.queue(message.into(), Terms { epoch, request: Some(pending.id()), ..Terms::default() })?;
        Ok(pending)
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

    fn queue(&self, message: WsMessage<'_>, terms: Terms<'_>) -> Result<SendId> {
        let Terms { epoch, strictly, tick_ns, request } = terms;
        let bytes = message.as_bytes().len();
        self.shared.reserve(bytes)?;
        let message = message.into_owned();
        let mut last_send = lock(&self.shared.last_send);
        let id = SendId(*last_send + 1);
        // Before the loop can know of it.
        if let Some(request) = request {
            self.shared.requests.queued(request, id);
        }
        let shared = Arc::clone(&self.shared);
        if let Err(error) = self.command(Command::Send(Send { shared, id, epoch, strictly, message, tick_ns })) {
            self.shared.release(bytes);
            return Err(error);
        }
        *last_send = id.0;
        Ok(id)
    }
}

/// In which session a message may go out, and what it is to its sender.
#[derive(Clone, Copy, Default)]
struct Terms<'a> {
    epoch: u64,
    /// Not in an epoch either that has followed without a hole.
    strictly: bool,
    tick_ns: Option<u64>,
    /// It asks for a reply.
    request: Option<&'a RequestId>,
}

impl Outlet for Sender {
    /// What answers a message of an earlier connection may go out on the one that has taken over from it.
    fn send(&mut self, message: WsMessage<'_>, epoch: u64, tick_ns: Option<u64>) -> Result<SendId> {
        match self.shared.state() {
            (_, current) if current != epoch && !(current > epoch && self.shared.is_unbroken_since(epoch)) => {
                Err(HyperSocketError::EpochChanged { current })
            }
            (ClientState::Live, current) => self.queue(message, Terms { epoch: current, tick_ns, ..Terms::default() }),
            _ => Err(HyperSocketError::NotConnected),
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("connection", &self.shared.id).finish_non_exhaustive()
    }
}
