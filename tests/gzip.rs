//! Promise: gzip in binary messages is inflated as an independent reader inflates it, each once and in order, and its pings are answered.

#![allow(dead_code)] // an example's `main` is not called here

#[path = "../examples/htx_gzip.rs"]
mod htx_gzip;
mod support {
    pub(crate) mod lines;
    pub(crate) mod recordings;
}

use std::io::Read;
use std::sync::{Arc, Mutex, mpsc};

use flate2::read::GzDecoder;
use hypersockets::simulator::{Recording, Venue};
use hypersockets::{HyperSocketError, MessageRouter, Parsed, Result, Scratch, WsMessage};
use support::lines::{PATIENCE, soon};
use support::recordings;

/// Every message's text.
struct Texts;

impl MessageRouter for Texts {
    type Message = String;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<String> {
        text(&mut Scratch::default(), &message)
    }

    fn parse_each(&self, raw: WsMessage<'_>, out: &mut Parsed<'_, String>) -> Result<()> {
        let text = text(out.scratch(), &raw)?;
        out.push(text);
        Ok(())
    }

    fn route_key(&self, _: &String) {}
}

fn text(scratch: &mut Scratch, message: &WsMessage<'_>) -> Result<String> {
    scratch.gunzip(message.as_bytes(), 1 << 24, |_, inflated| {
        let text = std::str::from_utf8(inflated).map_err(|error| HyperSocketError::Parse(error.to_string()))?;
        Ok(text.to_owned())
    })
}

#[test]
fn each_recorded_message_is_what_an_independent_reader_makes_of_it() {
    let recorded = recordings::sessions().into_iter().find(|recording| recording.venue == "huobi-htx");
    let Some(recorded) = recorded else { return println!("SKIPPED: this machine has no recordings") };
    let mut expected: Vec<String> = Vec::new();
    for payload in recorded.payloads() {
        let mut text = String::new();
        GzDecoder::new(payload.as_slice()).read_to_string(&mut text).expect("the venue's own");
        expected.push(text);
    }
    let pings: Vec<_> =
        expected.iter().filter_map(|text| text.strip_prefix(r#"{"ping":"#)?.strip_suffix('}')).collect();
    let pongs: Vec<_> = pings.iter().map(|number| format!(r#"{{"pong":{number}}}"#)).collect();
    assert!(!pongs.is_empty() && expected.len() > 300, "{} messages, {} pings", expected.len(), pongs.len());

    let venue = Venue::replay(Recording::load(&recorded.path).expect("it is listed")).flat_out().close_after_replay();
    let venue = venue.start().expect("a free port");
    let handled = Arc::new(Mutex::new(Vec::new()));
    let (ended, end) = mpsc::channel();
    let keep = Arc::clone(&handled);
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Texts, move |routing| {
            routing.handler((), move |text: String| {
                keep.lock().expect("nobody panics").push(text);
                ended.send(()).map_err(|_| "the test is over".into())
            })
        })
        .passive_ping(htx_gzip::HtxPing::default())
        .subscription("start")
        .reconnect_strategy(soon())
        .build()
        .expect("the venue accepts");
    let session = venue.next_session(PATIENCE).expect("it is played to one");
    for _ in 0..expected.len() - pongs.len() {
        end.recv_timeout(PATIENCE).expect("the next message");
    }
    session.assert_received("start");
    for pong in &pongs {
        session.assert_received(pong);
    }
    client.shutdown().expect("not on the engine's thread");
    expected.retain(|text| !text.starts_with(r#"{"ping":"#));
    assert_eq!(*handled.lock().expect("nobody panics"), expected);
}
