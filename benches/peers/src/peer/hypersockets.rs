//! This library. With its defaults, which is an engine of its own, unpinned, waiting adaptively: once with a thread per route, once
//! with the handlers inline. And on the thread that called, turning its loop again and again.

use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use hypersockets::{
    ClientBuilder, ClientEvent, EventLoop, HasRouter, HasUrl, MessageHandler, MessageRouter, NeverReconnect,
    RouteOptions, SocketOptions, WsMessage,
};

use super::{Feed, Peer, RECEIVE_BUFFER_BYTES};
use crate::Result;
use crate::payload::{COINS, Parse, Update};
use crate::tally::Tally;

pub(super) const THREADED: Peer = Peer { name: "hypersockets", run: |feed| run(feed, &RouteOptions::new()) };
pub(super) const INLINE: Peer =
    Peer { name: "hypersockets, inline", run: |feed| run(feed, &RouteOptions::new().inline()) };

pub(super) const BUSY: Peer = Peer { name: "hypersockets, busy", run: run_here };

type Ready = ClientBuilder<HasUrl, HasRouter>;

fn run(feed: &Feed, options: &RouteOptions<Update>) -> Result<Vec<Tally>> {
    let (done, tallies) = bounded(COINS.len());
    let client = prepare(feed, options, &done).build()?;
    let events = client.events();
    while !matches!(events.next_timeout(Duration::MAX), Some(ClientEvent::Closed { .. }) | None) {}
    if !client.shutdown()?.complete {
        return Err("the shutdown was not complete".into());
    }
    Ok(tallies.try_iter().collect())
}

fn run_here(feed: &Feed) -> Result<Vec<Tally>> {
    let (done, tallies) = bounded(COINS.len());
    let mut event_loop = EventLoop::new()?;
    let _client = event_loop.add(prepare(feed, &RouteOptions::new().inline(), &done))?;
    while !event_loop.is_empty() {
        event_loop.turn();
    }
    Ok(tallies.try_iter().collect())
}

fn prepare(feed: &Feed, options: &RouteOptions<Update>, done: &Sender<Tally>) -> Ready {
    // What is not read has one route only.
    let routes = if feed.parse == Parse::Text { 1 } else { COINS.len() as u8 };
    hypersockets::builder()
        .url(feed.url())
        .router(Router(feed.clone()), |routing| {
            (0..routes).fold(routing, |routing, route| {
                let recorder = Recorder { tally: Tally::new(feed.messages), done: done.clone() };
                routing.handler_with(route, recorder, options.clone())
            })
        })
        .socket(SocketOptions::new().receive_buffer_bytes(RECEIVE_BUFFER_BYTES))
        .reconnect_strategy(NeverReconnect)
}

struct Router(Feed);

impl MessageRouter for Router {
    type Message = Update;
    type RouteKey = u8;

    fn parse(&self, message: WsMessage<'_>) -> hypersockets::Result<Update> {
        let text = message.as_text().ok_or("a binary message")?;
        Ok(self.0.parse.read(text.as_bytes(), self.0.shape)?)
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

impl MessageHandler<Update> for Recorder {
    fn handle(&mut self, update: Update) -> hypersockets::Result<()> {
        self.tally.record(&update);
        Ok(())
    }

    fn on_stop(&mut self) {
        // The receiver has room for every route and outlives the client.
        let _ = self.done.send(std::mem::replace(&mut self.tally, Tally::new(0)));
    }
}
