//! Runs handlers: guarded against their errors and panics, on the loop or on a thread of their own.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};

use crate::clock;
use crate::error::Result;
use crate::event::{ClientEvent, ConnectionEvent};
use crate::handler::{Delivery, MessageHandler, Origin, Outlet};
use crate::idle::{Idle, Waiter};
use crate::metrics::RouteStats;
use crate::state::Shared;
use crate::thread::ThreadOptions;

/// What travels through a route's queue.
pub(super) enum Envelope<M> {
    Message { message: M, origin: Origin },
    Event(ConnectionEvent),
}

/// Makes the way back to the socket for one handler thread.
pub(crate) type NewOutlet<'a> = &'a dyn Fn() -> Box<dyn Outlet + Send>;

/// A handler whose errors and panics cost one message and are counted.
pub(super) struct GuardedHandler<M> {
    handler: Box<dyn MessageHandler<M>>,
    stats: Arc<RouteStats>,
    shared: Arc<Shared>,
    /// A message was handled since the last end of a batch.
    in_batch: bool,
}

impl<M: 'static> GuardedHandler<M> {
    pub(super) fn new(handler: Box<dyn MessageHandler<M>>, stats: Arc<RouteStats>, shared: Arc<Shared>) -> Self {
        Self { handler, stats, shared, in_batch: false }
    }

    pub(super) fn handle(&mut self, message: M, origin: Origin, outlet: &mut dyn Outlet) {
        self.in_batch = true;
        if let Some(latency) = &self.stats.latency {
            latency.record(clock::now().saturating_duration_since(origin.stamps.received()));
        }
        let mut delivery = Delivery::new(origin, outlet);
        self.guard(|handler| handler.handle_delivery(message, &mut delivery));
        self.stats.counters.handled.add(1);
    }

    pub(super) fn event(&mut self, event: &ConnectionEvent) {
        self.guard(|handler| {
            handler.on_event(event);
            Ok(())
        });
    }

    pub(super) fn end_batch(&mut self) {
        if std::mem::take(&mut self.in_batch) {
            self.guard(|handler| {
                handler.on_batch_end();
                Ok(())
            });
        }
    }

    pub(super) fn stop(&mut self) {
        self.end_batch();
        self.guard(|handler| {
            handler.on_stop();
            Ok(())
        });
    }

    fn guard(&mut self, call: impl FnOnce(&mut dyn MessageHandler<M>) -> Result<()>) {
        // A handler that panicked is called again: it keeps its own state as a caught panic leaves it.
        let outcome = catch_unwind(AssertUnwindSafe(|| call(self.handler.as_mut())));
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                self.stats.counters.errors.add(1);
                error.to_string()
            }
            Err(panic) => {
                self.stats.counters.panics.add(1);
                panic_text(panic.as_ref())
            }
        };
        self.shared.report(|| ClientEvent::HandlerFailed { route: self.stats.name.clone(), error });
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "(no message)".to_owned()))
}

/// The handler threads of one client, and the word of each when it leaves.
#[derive(Debug)]
pub(crate) struct HandlerThreads {
    threads: Vec<JoinHandle<()>>,
    /// Set when nobody waits any more: what is left in the queues is counted and dropped.
    abandon: Arc<AtomicBool>,
    /// Closed once every thread has dropped its end.
    all_left: Receiver<()>,
    leaving: Option<Sender<()>>,
}

impl HandlerThreads {
    pub(crate) fn new() -> Self {
        let (leaving, all_left) = bounded(0);
        Self { threads: Vec::new(), abandon: Arc::default(), all_left, leaving: Some(leaving) }
    }

    /// Starts the thread of one route; returns the way into its queue.
    pub(super) fn start<M: Send + 'static>(
        &mut self,
        handler: GuardedHandler<M>,
        options: &ThreadOptions,
        outlet: Box<dyn Outlet + Send>,
    ) -> Result<Sender<Envelope<M>>> {
        let (sender, queue) = unbounded();
        let abandon = Arc::clone(&self.abandon);
        let leaving = self.leaving.clone();
        let name = thread_name(&handler.stats.name);
        let waiter = Waiter::new(options.idle_strategy());
        let thread = options.start(&name, move |_| {
            run(handler, &queue, outlet, waiter, &abandon);
            drop(leaving);
        })?;
        self.threads.push(thread);
        Ok(sender)
    }

    /// Waits until all have left, then joins them; false where some had not by the deadline: those drop what is left in
    /// their queues and leave by themselves.
    pub(crate) fn join(&mut self, deadline: Instant) -> bool {
        self.leaving = None;
        if let Err(RecvTimeoutError::Timeout) = self.all_left.recv_deadline(deadline) {
            self.abandon.store(true, Ordering::Release);
            return false;
        }
        for thread in self.threads.drain(..) {
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

fn run<M: 'static>(
    mut handler: GuardedHandler<M>,
    queue: &Receiver<Envelope<M>>,
    mut outlet: Box<dyn Outlet + Send>,
    mut waiter: Waiter,
    abandon: &AtomicBool,
) {
    let mut arrived = true;
    loop {
        let envelope = match queue.try_recv() {
            Ok(envelope) => envelope,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                handler.end_batch();
                arrived = true;
                match waiter.idle(clock::now()) {
                    Idle::Spin => std::hint::spin_loop(),
                    Idle::Yield => std::thread::yield_now(),
                    Idle::Park(longest) => match queue.recv_timeout(longest) {
                        Ok(envelope) => {
                            waiter.worked(clock::now());
                            arrived = false;
                            take(&mut handler, envelope, outlet.as_mut(), abandon);
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break,
                    },
                }
                continue;
            }
        };
        // The gap that matters for waiting is the one between arrivals, so a burst counts once.
        if std::mem::take(&mut arrived) {
            waiter.worked(clock::now());
        }
        take(&mut handler, envelope, outlet.as_mut(), abandon);
    }
    handler.stop();
}

fn take<M: 'static>(
    handler: &mut GuardedHandler<M>,
    envelope: Envelope<M>,
    outlet: &mut dyn Outlet,
    abandon: &AtomicBool,
) {
    match envelope {
        Envelope::Message { .. } if abandon.load(Ordering::Relaxed) => handler.stats.counters.abandoned.add(1),
        Envelope::Message { message, origin } => handler.handle(message, origin, outlet),
        Envelope::Event(event) => handler.event(&event),
    }
}
