//! A venue that sends everything as gzip in binary messages, its pings included (HTX): a router inflates into memory that is used again, and
//! a detector inflates what is as short as a ping, and answers with the ping's own number.
//!
//! ```text
//! cargo run --release --example htx_gzip                              a simulated venue, which drops who does not answer; 5 s
//! cargo run --release --example htx_gzip -- wss://api.huobi.pro/ws    the real venue, until Ctrl-C
//! ```

pub(crate) mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
    pub(crate) mod script;
}

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use hypersockets::{Gunzip, HyperSocketError, MessageRouter, Parsed, PassivePingDetector, Result, Scratch, WsMessage};
use serde::Deserialize;
use support::demo::{Run, run, summary};
use support::script::Script;

fn main() -> ExitCode {
    run("A venue that sends everything as gzip in binary messages, its pings included", example)
}

fn example(run: &Run) -> Result<()> {
    let (url, _venue) = run.url_or(venue, Script::url)?;
    let client = hypersockets::builder()
        .url(url)
        .router(Depths, |routing| {
            routing.handler((), |depth: Depth| {
                println!("{}: bid {:?} ask {:?}", depth.channel, depth.bid, depth.ask);
                Ok(())
            })
        })
        .passive_ping(HtxPing::default())
        .subscription(r#"{"sub":"market.btcusdt.depth.step0","id":1}"#)
        .shutdown_flag(run.flag())
        .build()?;
    run.wait(&client);
    let report = client.shutdown()?;
    summary(&report);
    println!("{} pings answered", report.metrics.passive_pings_answered);
    Ok(())
}

/// `{"ping":N}` in gzip is answered by `{"pong":N}` as text.
#[derive(Default)]
pub(crate) struct HtxPing(Mutex<Gunzip>);

impl HtxPing {
    /// The number of a ping, if it is one.
    fn number(&self, message: &WsMessage<'_>) -> Option<u64> {
        let WsMessage::Binary(bytes) = message else { return None };
        // A book is longer, and is not inflated twice.
        if bytes.len() > LONGEST_PING {
            return None;
        }
        // Only the loop asks: nobody waits here.
        let mut gunzip = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = gunzip.inflate(bytes, 256).ok()?;
        let digits = std::str::from_utf8(text).ok()?.strip_prefix(r#"{"ping":"#)?.strip_suffix('}')?;
        digits.parse().ok()
    }
}

impl PassivePingDetector for HtxPing {
    fn is_ping(&self, message: &WsMessage<'_>) -> bool {
        self.number(message).is_some()
    }

    fn get_pong_response(&self) -> WsMessage<'_> {
        WsMessage::text(r#"{"pong":0}"#)
    }

    fn pong_for(&self, ping: &WsMessage<'_>) -> WsMessage<'_> {
        WsMessage::text(format!(r#"{{"pong":{}}}"#, self.number(ping).unwrap_or_default()))
    }
}

/// `{"ping":1618678069915}` takes some forty bytes.
const LONGEST_PING: usize = 64;
/// The largest that was recorded of this venue is a hundredth of it.
const LIMIT: usize = 4 << 20;

/// The top of a book.
#[derive(Debug)]
pub(crate) struct Depth {
    channel: String,
    bid: Option<(f64, f64)>,
    ask: Option<(f64, f64)>,
}

pub(crate) struct Depths;

impl MessageRouter for Depths {
    type Message = Depth;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<Depth> {
        read(&mut Scratch::default(), message.as_bytes())
    }

    /// The same, with the memory of the parsing thread.
    fn parse_each(&self, raw: WsMessage<'_>, out: &mut Parsed<'_, Depth>) -> Result<()> {
        let depth = read(out.scratch(), raw.as_bytes())?;
        out.push(depth);
        Ok(())
    }

    fn route_key(&self, _: &Depth) {}
}

fn read(scratch: &mut Scratch, gzip: &[u8]) -> Result<Depth> {
    scratch.gunzip(gzip, LIMIT, |scratch, text| {
        let wire: Wire<'_> = scratch.typed(text)?;
        // Acknowledgements have no book.
        let (Some(channel), Some(tick)) = (wire.channel, wire.tick) else { return Err(HyperSocketError::Skip) };
        Ok(Depth { channel: channel.to_owned(), bid: tick.bids.first().copied(), ask: tick.asks.first().copied() })
    })
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "ch")]
    channel: Option<&'a str>,
    tick: Option<Tick>,
}

#[derive(Deserialize)]
struct Tick {
    #[serde(default)]
    bids: Vec<(f64, f64)>,
    #[serde(default)]
    asks: Vec<(f64, f64)>,
}

/// A venue that speaks like HTX: books, a ping a second, and a farewell to who has not answered the last.
fn venue() -> Result<Script> {
    let script = Script::start(Duration::from_millis(250), |session, beat| {
        match beat % 4 {
        0 => {
            let due = format!(r#"{{"pong":{}}}"#, beat.saturating_sub(4));
            // The first text is the subscription.
            let mut texts = std::iter::from_fn(|| session.await_text(Duration::from_millis(1)).ok());
            let answered = beat == 0 || texts.any(|text| text == due);
            if answered {
                session.send_binary(gzip(&format!(r#"{{"ping":{beat}}}"#)));
            } else {
                session.close(1003, "ping check expired");
            }
        }
        _ => session.send_binary(gzip(&format!(
            r#"{{"ch":"market.btcusdt.depth.step0","ts":{beat},"tick":{{"bids":[[61000.{beat},0.5]],"asks":[[61001.5,1.25]]}}}}"#
        ))),
    }
    });
    Ok(script?)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("into memory")
}
