//! Runs a handler of the user's, guarded against its errors and panics.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::clock;
use crate::error::Result;
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
        self.handle_since(dequeued_ns, take, arrival, outlet)
    }

    /// The same, of one that waited until then; a stamp where the route is measured.
    pub(super) fn handle_since(
        &mut self,
        dequeued_ns: Option<u64>,
        take: impl FnOnce() -> M,
        arrival: &Arrival,
        outlet: &mut dyn Outlet,
    ) -> bool {
        let first = !std::mem::replace(&mut self.in_batch, true);
        let mut delivery = Delivery::new(*arrival, dequeued_ns, outlet);
        self.guard(|handler| handler.handle_delivery(take(), &mut delivery));
        if let Some(dequeued_ns) = dequeued_ns
            && let Some(latency) = self.stats.latency()
        {
            latency.record(arrival.epoch, &arrival.trail, dequeued_ns, clock::stamp_ns());
        }
        self.stats.handled();
        first
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
                self.stats.erred();
                error.to_string()
            }
            Err(panic) => {
                self.stats.panicked();
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
