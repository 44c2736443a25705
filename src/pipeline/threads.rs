//! The threads that handlers run on: one for each route, or one for many.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::handler::GuardedHandler;
use super::queue::{Envelope, QueueIn, QueueOut, QueuePolicy, queue};
use crate::error::{HyperSocketError, Result};
use crate::handler::Outlet;
use crate::metrics::RouteStats;
use crate::own_thread;
use crate::sync::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use crate::sync::{AtomicBool, JoinHandle, Mutex, Ordering, lock};
use crate::thread::{self, Agent, ThreadBell, ThreadOptions, Turn};

/// One route's place on a thread.
pub(super) struct Seat<M> {
    queue: QueueOut<M>,
    handler: GuardedHandler<M>,
    outlet: Box<dyn Outlet + Send>,
    abandon: Arc<AtomicBool>,
    /// Dropped with the seat: the client waits for that.
    _leaving: Leaving,
}

/// A [`Seat`] whose message type is forgotten.
trait AnySeat: Send {
    /// Handles at most `budget` messages.
    fn turn(&mut self, budget: usize) -> Turn;
}

impl<M: Send + 'static> AnySeat for Seat<M> {
    fn turn(&mut self, budget: usize) -> Turn {
        for taken in 0..budget {
            match self.queue.next() {
                Ok(envelope) => self.take(envelope),
                Err(TryRecvError::Empty) => {
                    self.handler.end_batch();
                    return if taken > 0 { Turn::Worked } else { Turn::Idle };
                }
                Err(TryRecvError::Disconnected) => {
                    self.handler.stop();
                    return Turn::Done;
                }
            }
        }
        Turn::Worked
    }
}

impl<M: Send + 'static> Seat<M> {
    fn take(&mut self, envelope: Envelope<M>) {
        match envelope {
            Envelope::Message { .. } if self.abandon.load(Ordering::Relaxed) => self.handler.stats().abandoned(1),
            Envelope::Message { message, arrival } => {
                self.handler.stats().taken(arrival.trail.received_ns);
                self.handler.handle(|| message, &arrival, self.outlet.as_mut());
            }
            Envelope::Event(event) => self.handler.event(&event),
        }
    }
}

/// Proof that somebody has yet to leave; see [`HandlerThreads::join`].
pub(super) type Leaving = Sender<()>;

/// Who works for one client beside its loop: handler threads, seats on shared ones, parse sites on lanes.
#[derive(Debug)]
pub(crate) struct HandlerThreads {
    own: Mutex<Vec<JoinHandle<()>>>,
    /// Set when nobody waits any more: what is left in the queues is counted and dropped.
    abandon: Arc<AtomicBool>,
    /// Disconnected once everybody has left.
    all_left: Receiver<()>,
    leaving: Mutex<Option<Leaving>>,
}

impl HandlerThreads {
    pub(crate) fn new() -> Self {
        let (leaving, all_left) = bounded(0);
        Self { own: Mutex::default(), abandon: Arc::default(), all_left, leaving: Mutex::new(Some(leaving)) }
    }

    /// For somebody whom [`join`](Self::join) must wait for.
    pub(super) fn leaving(&self) -> Result<Leaving> {
        lock(&self.leaving).clone().ok_or_else(|| "the client is shutting down".into())
    }

    pub(super) fn abandon_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandon)
    }

    /// Starts a thread for one route; returns the way into its queue.
    pub(super) fn start<M: Send + 'static>(
        &self,
        handler: GuardedHandler<M>,
        stats: &Arc<RouteStats>,
        policy: QueuePolicy<M>,
        outlet: Box<dyn Outlet + Send>,
        options: &ThreadOptions,
    ) -> Result<QueueIn<M>> {
        let (bell, parker) = thread::bell();
        let (queue_in, queue) = queue(policy, stats, Arc::clone(&bell));
        let seat = Seat { queue, handler, outlet, abandon: self.abandon_flag(), _leaving: self.leaving()? };
        let thread = options.start(&thread_name(&stats.name), move |waiter| {
            thread::run(&mut OneSeat(seat), &bell, &parker, waiter);
        })?;
        lock(&self.own).push(thread);
        Ok(queue_in)
    }

    /// Seats a route on a shared thread; returns the way into its queue.
    pub(super) fn seat<M: Send + 'static>(
        &self,
        handler: GuardedHandler<M>,
        stats: &Arc<RouteStats>,
        policy: QueuePolicy<M>,
        outlet: Box<dyn Outlet + Send>,
        thread: &HandlerThread,
    ) -> Result<QueueIn<M>> {
        let (queue_in, queue) = queue(policy, stats, Arc::clone(&thread.shared.bell));
        let seat = Seat { queue, handler, outlet, abandon: self.abandon_flag(), _leaving: self.leaving()? };
        thread.take(Box::new(seat))?;
        Ok(queue_in)
    }

    /// Waits until all have left, then joins the client's own threads; false where some had not by the deadline: those
    /// drop what is left in their queues and leave by themselves.
    pub(crate) fn join(&self, deadline: Instant) -> bool {
        drop(lock(&self.leaving).take());
        if let Err(RecvTimeoutError::Timeout) = self.all_left.recv_deadline(deadline) {
            self.abandon.store(true, Ordering::Release);
            return false;
        }
        for thread in lock(&self.own).drain(..) {
            // Handlers are guarded, so a panic here is a bug of ours; the report must still be given.
            if thread.join().is_err() {
                log::error!("a handler thread ended by a panic outside its handler");
            }
        }
        true
    }
}

/// Linux shows 15 bytes of a thread's name in `top -H`.
fn thread_name(route: &str) -> String {
    let plain: String = route.chars().filter(|c| c.is_ascii_graphic() && *c != '"').collect();
    let tail = plain.len().saturating_sub(12);
    format!("hs:{}", &plain[tail..])
}

/// A thread for one route.
struct OneSeat<M>(Seat<M>);

impl<M: Send + 'static> Agent for OneSeat<M> {
    fn turn(&mut self) -> Turn {
        self.0.turn(MESSAGES_PER_TURN)
    }
}

/// One thread for the handlers of many routes, of any clients; see [`RouteOptions::on`](crate::RouteOptions::on). Cheap to
/// clone; all clones are the same thread.
///
/// Each route keeps its own queue and its own order; the routes take turns, at most 64 messages each. A handler
/// that is slow here delays the others of this thread, and nobody else. The thread ends by itself once the last clone is
/// gone and the last of its routes has been stopped; [`join`](Self::join) also waits for that.
#[derive(Clone)]
pub struct HandlerThread {
    shared: Arc<SharedThread>,
}

struct SharedThread {
    bell: Arc<ThreadBell>,
    /// `None` once no route may join any more.
    joining: Mutex<Option<Sender<Box<dyn AnySeat>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl HandlerThread {
    /// Starts the thread; a core number alone pins it there. It waits for its first route.
    ///
    /// # Errors
    /// [`CoreUnavailable`](HyperSocketError::CoreUnavailable); [`Io`](HyperSocketError::Io) where the system gives no thread.
    pub fn start(options: impl Into<ThreadOptions>) -> Result<Self> {
        let options = options.into();
        options.check()?;
        let (bell, parker) = thread::bell();
        let (joining, newcomers) = unbounded();
        let own_bell = Arc::clone(&bell);
        let thread = options.start("hs-handlers", move |waiter| {
            let mut table = Table { seats: Vec::new(), newcomers };
            thread::run(&mut table, &own_bell, &parker, waiter);
        })?;
        let (joining, thread) = (Mutex::new(Some(joining)), Mutex::new(Some(thread)));
        Ok(Self { shared: Arc::new(SharedThread { bell, joining, thread }) })
    }

    /// Lets no further route on, and waits until all that are on it have been stopped, by the shutdown of their clients,
    /// and the thread has ended. A second call does nothing.
    ///
    /// # Errors
    /// [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread of the engine.
    pub fn join(&self) -> Result<()> {
        own_thread::refuse("HandlerThread::join")?;
        self.shared.close();
        match lock(&self.shared.thread).take() {
            Some(thread) => thread.join().map_err(|_| HyperSocketError::from("the handler thread had panicked")),
            None => Ok(()),
        }
    }

    fn take(&self, seat: Box<dyn AnySeat>) -> Result<()> {
        let joining = lock(&self.shared.joining);
        let taken = joining.as_ref().is_some_and(|joining| joining.send(seat).is_ok());
        drop(joining);
        self.shared.bell.ring();
        if taken {
            Ok(())
        } else {
            Err(HyperSocketError::InvalidConfig("the shared handler thread has been joined: start another".to_owned()))
        }
    }
}

impl SharedThread {
    fn close(&self) {
        drop(lock(&self.joining).take());
        self.bell.ring();
    }
}

impl Drop for SharedThread {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for HandlerThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerThread").finish_non_exhaustive()
    }
}

/// The routes of a shared thread.
struct Table {
    seats: Vec<Box<dyn AnySeat>>,
    newcomers: Receiver<Box<dyn AnySeat>>,
}

impl Agent for Table {
    fn turn(&mut self) -> Turn {
        let mut worked = false;
        self.seats.retain_mut(|seat| {
            let turn = seat.turn(MESSAGES_PER_TURN);
            worked |= turn != Turn::Idle;
            turn != Turn::Done
        });
        match self.newcomers.try_recv() {
            Ok(seat) => self.seats.push(seat),
            Err(TryRecvError::Disconnected) if self.seats.is_empty() => return Turn::Done,
            Err(_) if worked => {}
            Err(_) => return Turn::Idle,
        }
        Turn::Worked
    }
}

/// Lets one route of a shared thread delay the others by at most this many messages.
const MESSAGES_PER_TURN: usize = 64;
