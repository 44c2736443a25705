//! A router for venues whose messages are only looked at.

use hypersockets::{MessageRouter, Result, WsMessage};

/// Takes every text message as it is: one route for all.
pub(crate) struct Lines;

impl MessageRouter for Lines {
    type Message = String;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<String> {
        Ok(message.as_text().ok_or("a binary message")?.to_owned())
    }

    fn route_key(&self, _: &String) {}
}
