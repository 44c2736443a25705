//! A queue to a thread that may sleep: sending wakes it, and costs one look while it is awake.

use std::sync::Arc;

use crate::bell::{Bell, Wake};
use crate::sync::channel;

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

/// Every way in which two senders and a receiver that sleeps can interleave; a wake that is lost is a deadlock.
#[cfg(all(loom, test))]
mod models {
    use super::*;
    use crate::sync::{Parker, Unparker, model};

    fn receive(receiver: &Receiver<u32, Unparker>, parker: &Parker) -> u32 {
        loop {
            if let Some(mail) = receiver.try_recv() {
                return mail;
            }
            if receiver.may_sleep() {
                parker.park_timeout(std::time::Duration::MAX);
                receiver.woke();
            }
        }
    }

    #[test]
    fn model_a_sleeper_gets_what_two_senders_send() {
        model(3, || {
            let parker = Parker::new();
            let (sender, receiver) = mailbox(parker.unparker().clone());
            let other = sender.clone();
            let senders = [
                loom::thread::spawn(move || sender.send(1).expect("it receives")),
                loom::thread::spawn(move || other.send(2).expect("it receives")),
            ];
            let got = receive(&receiver, &parker) + receive(&receiver, &parker);
            assert_eq!((got, receiver.try_recv()), (3, None));
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        });
    }

    #[test]
    fn model_a_sleeper_gets_all_that_one_sender_sends_in_order() {
        model(3, || {
            let parker = Parker::new();
            let (sender, receiver) = mailbox(parker.unparker().clone());
            let sender = loom::thread::spawn(move || (0..3).for_each(|mail| sender.send(mail).expect("it receives")));
            (0..3).for_each(|mail| assert_eq!(receive(&receiver, &parker), mail));
            sender.join().unwrap();
        });
    }
}
