//! This library with its defaults: an engine of its own, unpinned, waiting adaptively. Once with a thread per route, once
//! with the handlers inline.

use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use hypersockets::{ClientEvent, MessageHandler, MessageRouter, NeverReconnect, RouteOptions, WsMessage};

use super::{Feed, Peer};
use crate::Result;
use crate::payload::{COINS, Update};
use crate::tally::Tally;

pub(super) const THREADED: Peer = Peer { name: "hypersockets", run: |feed| run(feed, &RouteOptions::new()) };
pub(super) const INLINE: Peer =
    Peer { name: "hypersockets, inline", run: |feed| run(feed, &RouteOptions::new().inline()) };

fn run(feed: &Feed, options: &RouteOptions<Update>) -> Result<Vec<Tally>> {
    let (done, tallies) = bounded(COINS.len());
    let client = hypersockets::builder()
        .url(feed.url.as_str())
        .router(Router(feed.clone()), |routing| {
            (0..COINS.len() as u8).fold(routing, |routing, route| {
                routing.handler_with(route, Recorder::new(done.clone()), options.clone())
            })
        })
        .reconnect_strategy(NeverReconnect)
        .build()?;
    let events = client.events();
    while !matches!(events.next_timeout(Duration::MAX), Some(ClientEvent::Closed { .. }) | None) {}
    if !client.shutdown()?.complete {
        return Err("the shutdown was not complete".into());
    }
    Ok(tallies.try_iter().collect())
}

struct Router(Feed);

impl MessageRouter for Router {
    type Message = Update;
    type RouteKey = u8;

    fn parse(&self, message: WsMessage<'_>) -> hypersockets::Result<Update> {
        let text = message.as_text().ok_or("a binary message")?;
        Ok(self.0.parse.read(text, self.0.shape)?)
    }

    fn route_key(&self, update: &Update) -> u8 {
        update.route()
    }
}

/// Hands its tally over when the route ends.
struct Recorder {
    tally: Tally,
    done: Sender<Tally>,
}

impl Recorder {
    fn new(done: Sender<Tally>) -> Self {
        Self { tally: Tally::new(), done }
    }
}

impl MessageHandler<Update> for Recorder {
    fn handle(&mut self, update: Update) -> hypersockets::Result<()> {
        self.tally.record(&update);
        Ok(())
    }

    fn on_stop(&mut self) {
        // The receiver has room for every route and outlives the client.
        let _ = self.done.send(std::mem::replace(&mut self.tally, Tally::new()));
    }
}
