//! The least that a router and a handler can do: a message is its text's length, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hypersockets::{MessageRouter, Result, WsMessage};

pub(crate) struct Length;

impl MessageRouter for Length {
    type Message = usize;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<usize> {
        Ok(message.as_text().ok_or("not a text")?.len())
    }

    fn route_key(&self, _: &usize) {}
}

/// Counts messages of this length, and errs at any other.
pub(crate) fn counting(text_bytes: usize, handled: &Arc<AtomicU64>) -> impl FnMut(usize) -> Result<()> + Send + use<> {
    let handled = Arc::clone(handled);
    move |bytes| {
        if bytes != text_bytes {
            return Err("not what was sent".into());
        }
        // One writer.
        handled.store(handled.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok(())
    }
}
