//! Requests over the socket and the replies that they wait for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use crate::clock;
use crate::error::{HyperSocketError, Result};
use crate::ids::SendId;
use crate::message::WsMessage;
use crate::metrics::Counter;
use crate::sync::lock;

/// What tells the replies to requests apart: the number or the text that the venue sends back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestId {
    /// A number.
    Number(u64),
    /// A text.
    Text(Box<str>),
}

impl From<u64> for RequestId {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for RequestId {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<&str> for RequestId {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for RequestId {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// The requests of one client that wait for their replies.
#[derive(Debug, Default)]
pub(crate) struct Requests(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    entries: HashMap<RequestId, Entry>,
    /// Counts the requests.
    serial: u64,
    /// Sessions up to this epoch are over: nothing can be asked in them.
    lost_through: u64,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    epoch: u64,
    /// Known once it is queued.
    send: Option<SendId>,
    reply: Sender<Result<WsMessage<'static>>>,
}

impl Requests {
    /// Waits for the reply to this request from now on.
    ///
    /// # Errors
    /// [`DuplicateRequest`](HyperSocketError::DuplicateRequest); [`NotConnected`](HyperSocketError::NotConnected) where the session
    /// is over already.
    pub(crate) fn await_reply(self: &Arc<Self>, id: RequestId, epoch: u64, timeout: Duration) -> Result<PendingReply> {
        let mut waiting = lock(&self.0);
        if epoch <= waiting.lost_through {
            return Err(HyperSocketError::NotConnected);
        }
        if waiting.entries.contains_key(&id) {
            return Err(HyperSocketError::DuplicateRequest(id.to_string()));
        }
        let (reply, coming) = bounded(1);
        waiting.serial += 1;
        let serial = waiting.serial;
        waiting.entries.insert(id.clone(), Entry { serial, epoch, send: None, reply });
        Ok(PendingReply { requests: Arc::clone(self), serial, id, coming, timeout, deadline: clock::after(timeout) })
    }

    /// The request was queued under this number.
    pub(crate) fn queued(&self, id: &RequestId, send: SendId) {
        if let Some(entry) = lock(&self.0).entries.get_mut(id) {
            entry.send = Some(send);
        }
    }

    /// A reply came in the session of this epoch, which is counted before whoever waits for it wakes; false where nobody does.
    pub(crate) fn reply(&self, id: &RequestId, epoch: u64, message: &WsMessage<'_>, replies: &Counter) -> bool {
        let mut waiting = lock(&self.0);
        if waiting.entries.get(id).is_none_or(|entry| entry.epoch != epoch) {
            return false;
        }
        let Some(entry) = waiting.entries.remove(id) else { return false };
        replies.add(1);
        // There is room for the one reply; whoever asked may have lost interest.
        let _ = entry.reply.try_send(Ok(message.borrowed().into_owned()));
        true
    }

    /// What was queued under this number goes out in another session than it was meant for.
    pub(crate) fn moved(&self, send: SendId, epoch: u64) {
        if let Some(entry) = lock(&self.0).entries.values_mut().find(|entry| entry.send == Some(send)) {
            entry.epoch = epoch;
        }
    }

    /// What was queued under this number will never go out.
    pub(crate) fn dropped(&self, send: SendId) {
        self.fail(|entry| entry.send == Some(send));
    }

    /// The session of this epoch is over.
    pub(crate) fn lost(&self, epoch: u64) {
        let mut waiting = lock(&self.0);
        waiting.lost_through = waiting.lost_through.max(epoch);
        drop(waiting);
        self.fail(|entry| entry.epoch == epoch);
    }

    /// Whether somebody waits for a reply in the session of this epoch.
    pub(crate) fn waits_in(&self, epoch: u64) -> bool {
        lock(&self.0).entries.values().any(|entry| entry.epoch == epoch)
    }

    fn fail(&self, which: impl Fn(&Entry) -> bool) {
        let failed: Vec<_> = lock(&self.0).entries.extract_if(|_, entry| which(entry)).collect();
        for (_, Entry { epoch, reply, .. }) in failed {
            let _ = reply.try_send(Err(HyperSocketError::RequestLost { epoch }));
        }
    }
}

/// A request on its way; see [`Sender::begin_request`](crate::Sender::begin_request). Dropping it gives up the reply: one that comes
/// all the same is counted, and goes to nobody.
#[derive(Debug)]
#[must_use = "the reply goes to nobody else"]
pub struct PendingReply {
    requests: Arc<Requests>,
    serial: u64,
    id: RequestId,
    coming: Receiver<Result<WsMessage<'static>>>,
    timeout: Duration,
    deadline: Instant,
}

impl PendingReply {
    /// What was asked for.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// Waits for the reply, until the request's timeout.
    ///
    /// # Errors
    /// [`TimedOut`](HyperSocketError::TimedOut): the venue may have acted on it all the same;
    /// [`RequestLost`](HyperSocketError::RequestLost) as soon as the session is over.
    pub fn wait(self) -> Result<WsMessage<'static>> {
        match self.coming.recv_deadline(self.deadline) {
            Ok(reply) => reply,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(HyperSocketError::TimedOut(self.timeout))
            }
        }
    }

    /// The reply, where it has come, or the error of [`wait`](Self::wait); once. Never waits.
    pub fn try_take(&mut self) -> Option<Result<WsMessage<'static>>> {
        match self.coming.try_recv() {
            Ok(reply) => Some(reply),
            Err(TryRecvError::Empty) if clock::now() < self.deadline => None,
            Err(_) => Some(Err(HyperSocketError::TimedOut(self.timeout))),
        }
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        let mut waiting = lock(&self.requests.0);
        // Another request may have this id by now.
        if waiting.entries.get(&self.id).is_some_and(|entry| entry.serial == self.serial) {
            waiting.entries.remove(&self.id);
        }
    }
}
