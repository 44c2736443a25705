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
use crate::payload::{Parse, Shape, Update, glance};
use crate::tally::Tally;
use crate::texts::COINS;

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
    let recorder = || Recorder { tally: Tally::new(feed.messages), done: done.clone() };
    let builder = hypersockets::builder().url(feed.url());
    let builder = match feed.parse {
        Some(parse) => builder.router(Updates { parse, shape: feed.shape }, |routing| {
            (0..COINS.len() as u8)
                .fold(routing, |routing, route| routing.handler_with(route, recorder(), options.clone()))
        }),
        None => builder.router(Texts, |routing| routing.handler_with((), recorder(), RouteOptions::new().inline())),
    };
    builder.socket(SocketOptions::new().receive_buffer_bytes(RECEIVE_BUFFER_BYTES)).reconnect_strategy(NeverReconnect)
}

struct Updates {
    parse: Parse,
    shape: Shape,
}

impl MessageRouter for Updates {
    type Message = Update;
    type RouteKey = u8;

    fn parse(&self, message: WsMessage<'_>) -> hypersockets::Result<Update> {
        let text = message.as_text().ok_or("a binary message")?;
        Ok(self.parse.read(text.as_bytes(), self.shape)?)
    }

    fn route_key(&self, update: &Update) -> u8 {
        update.route()
    }
}

/// What is not parsed is its [`glance`], and goes one way.
struct Texts;

impl MessageRouter for Texts {
    type Message = u64;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> hypersockets::Result<u64> {
        Ok(glance(message.as_text().ok_or("a binary message")?.as_bytes()))
    }

    fn route_key(&self, _: &u64) {}
}

/// Hands its tally over when the route ends.
struct Recorder {
    tally: Tally,
    done: Sender<Tally>,
}

impl Recorder {
    fn hand_over(&mut self) {
        // The receiver has room for every route and outlives the client.
        let _ = self.done.send(std::mem::replace(&mut self.tally, Tally::new(0)));
    }
}

impl MessageHandler<Update> for Recorder {
    fn handle(&mut self, update: Update) -> hypersockets::Result<()> {
        self.tally.record(&update);
        Ok(())
    }

    fn on_stop(&mut self) {
        self.hand_over();
    }
}

impl MessageHandler<u64> for Recorder {
    fn handle(&mut self, digest: u64) -> hypersockets::Result<()> {
        self.tally.count(digest);
        Ok(())
    }

    fn on_stop(&mut self) {
        self.hand_over();
    }
}
