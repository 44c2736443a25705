//! Runs a handler of the user's, guarded against its errors and panics.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::clock;
use crate::error::HyperSocketError;
use crate::event::{ClientEvent, ConnectionEvent};
use crate::handler::{Arrival, Delivery, MessageHandler, Outlet};
use crate::metrics::RouteStats;
use crate::state::Shared;

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

    pub(super) fn stats(&self) -> &RouteStats {
        &self.stats
    }

    /// Handles one message that waited until now; true where it is the first of a batch. It is taken where it is used: each move of
    /// a large message costs as much as the first look at it.
    pub(super) fn handle(&mut self, take: impl FnOnce() -> M, arrival: &Arrival, outlet: &mut dyn Outlet) -> bool {
        let dequeued_ns = self.stats.latency().map(|_| clock::stamp_ns());
        let first = self.begin();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.call(dequeued_ns, take, arrival, outlet))) {
            self.panicked(panic.as_ref());
        }
        self.end(dequeued_ns, arrival);
        first
    }

    /// The same in three steps, for a caller with a guard of its own: this, [`call`](Self::call), and
    /// [`end`](Self::end), before which [`panicked`](Self::panicked) where the call did not return.
    pub(super) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.in_batch, true)
    }

    /// Calls the handler; its panics come through. `dequeued_ns` is a stamp where the route is measured.
    #[inline]
    pub(super) fn call(
        &mut self,
        dequeued_ns: Option<u64>,
        take: impl FnOnce() -> M,
        arrival: &Arrival,
        outlet: &mut dyn Outlet,
    ) {
        let mut delivery = Delivery::new(arrival, dequeued_ns, outlet);
        if let Err(error) = self.handler.handle_delivery(take(), &mut delivery) {
            self.erred(&error);
        }
    }

    #[inline]
    pub(super) fn end(&mut self, dequeued_ns: Option<u64>, arrival: &Arrival) {
        if let Some(dequeued_ns) = dequeued_ns
            && let Some(latency) = self.stats.latency()
        {
            latency.record(arrival.epoch, &arrival.trail, dequeued_ns, clock::stamp_ns());
        }
        self.stats.handled();
    }

    pub(super) fn event(&mut self, event: &ConnectionEvent) {
        self.guard(|handler| handler.on_event(event));
    }

    pub(super) fn end_batch(&mut self) {
        if std::mem::take(&mut self.in_batch) {
            self.guard(|handler| handler.on_batch_end());
        }
    }

    pub(super) fn stop(&mut self) {
        self.end_batch();
        self.guard(|handler| handler.on_stop());
    }

    /// A handler that panicked is called again: it keeps its own state as a caught panic leaves it.
    fn guard(&mut self, call: impl FnOnce(&mut dyn MessageHandler<M>)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(self.handler.as_mut()))) {
            self.panicked(panic.as_ref());
        }
    }

    #[cold]
    fn erred(&self, error: &HyperSocketError) {
        self.stats.erred();
        self.tell(error.to_string());
    }

    #[cold]
    pub(super) fn panicked(&self, panic: &(dyn Any + Send)) {
        self.stats.panicked();
        self.tell(panic_text(panic));
    }

    fn tell(&self, error: String) {
        self.shared.report_fault(|| ClientEvent::HandlerFailed { route: self.stats.name.clone(), error });
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "(no message)".to_owned()))
}
