//! A queue to a thread that may sleep: sending wakes it, and costs one look while it is awake.

use std::sync::Arc;

use crossbeam_channel as channel;

use crate::bell::{Bell, Wake};

pub(crate) fn mailbox<T, W: Wake>(waker: W) -> (Sender<T, W>, Receiver<T, W>) {
    let (sender, receiver) = channel::unbounded();
    let bell = Arc::new(Bell::new(waker));
    (Sender { queue: sender, bell: Arc::clone(&bell) }, Receiver { queue: receiver, bell })
}

pub(crate) struct Sender<T, W> {
    queue: channel::Sender<T>,
    bell: Arc<Bell<W>>,
}

impl<T, W: Wake> Sender<T, W> {
    /// Queues, and wakes the receiver if it sleeps; gives back what was sent where the receiver is gone.
    pub(crate) fn send(&self, mail: T) -> Result<(), T> {
        self.queue.send(mail).map_err(|unsent| unsent.0)?;
        self.bell.ring();
        Ok(())
    }
}

impl<T, W> Clone for Sender<T, W> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bell: Arc::clone(&self.bell) }
    }
}

pub(crate) struct Receiver<T, W> {
    queue: channel::Receiver<T>,
    bell: Arc<Bell<W>>,
}

impl<T, W: Wake> Receiver<T, W> {
    pub(crate) fn try_recv(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// Announces sleep; false where something came first, and the thread must stay awake.
    pub(crate) fn may_sleep(&self) -> bool {
        self.bell.announce_sleep();
        if self.queue.is_empty() {
            return true;
        }
        self.bell.woke();
        false
    }

    /// The thread is awake again.
    pub(crate) fn woke(&self) {
        self.bell.woke();
    }
}
