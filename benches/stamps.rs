//! What [`measure_latency`](hypersockets::ClientBuilder::measure_latency) costs: stamps and histograms on, against off, in
//! interleaved rounds. `cargo bench --bench stamps` prints the figures against their bars; without `--bench`, as under
//! `cargo test --benches`, it makes a short round to see that it still works.
//!
//! *Paced*: 5,000 messages of 150 B a second over loopback, the venue's stamp to the handler's, p50. *Flat out*: the same
//! messages, read from a full socket by a loop that this thread turns; time per message.

mod support {
    pub(crate) mod figures;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::bounded;
use hypersockets::simulator::{Recording, Venue};
use hypersockets::{EventLoop, MessageRouter, Result, RouteOptions, WsMessage};
use support::figures::{self, median};

struct Plan {
    rounds: usize,
    /// Messages a paced round.
    paced: usize,
    /// Messages a round from a full socket.
    flat_out: u64,
}

const MEASURED: Plan = Plan { rounds: 60, paced: 1_000, flat_out: 100_000 };
const TRIED: Plan = Plan { rounds: 1, paced: 50, flat_out: 2_000 };

const MESSAGE_BYTES: usize = 150;
const PER_SECOND: f64 = 5_000.0;
/// For what must come; a bench that hangs should say so.
const PATIENCE: Duration = Duration::from_secs(30);

/// When the venue sent the message, in nanoseconds since 1970; the number behind the second colon.
struct SentAt;

impl MessageRouter for SentAt {
    type Message = u64;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<u64> {
        let number = message.as_text().and_then(|text| text.split([':', ',']).nth(3));
        Ok(number.and_then(|number| number.parse().ok()).unwrap_or(0))
    }

    fn route_key(&self, _: &u64) {}
}

fn main() -> Result<()> {
    let plan = if figures::is_measured() { MEASURED } else { TRIED };
    println!("{MESSAGE_BYTES} B, {} interleaved rounds, medians", plan.rounds);
    for (name, inline) in [("paced, inline", true), ("paced, a thread a route", false)] {
        let [off, on] = interleaved(plan.rounds, |measured| paced(plan.paced, inline, measured))?;
        print(name, off, on, 300.0);
    }
    let [off, on] = interleaved(plan.rounds, |measured| flat_out(plan.flat_out, measured))?;
    print("flat out, inline", off, on, 100.0);
    Ok(())
}

/// Neighbouring rounds meet the same host: so the median of their differences, not the difference of the medians.
fn print(name: &str, off: Vec<f64>, on: Vec<f64>, bar: f64) {
    let more = median(on.iter().zip(&off).map(|(on, off)| on - off).collect());
    let (off, on) = (median(off), median(on));
    let (verdict, ratio) = (figures::verdict(more <= bar), 1.0 + more / off);
    println!(
        "{name:<24} off {off:>8.0} ns   on {on:>8.0} ns   {more:>+6.0} ns ({ratio:.2}x)   bar +{bar:.0} ns: {verdict}"
    );
}

/// The figures without and with, by round; which comes first takes turns.
fn interleaved(rounds: usize, mut round: impl FnMut(bool) -> Result<f64>) -> Result<[Vec<f64>; 2]> {
    let mut figures = [Vec::new(), Vec::new()];
    for n in 0..rounds {
        for measured in [n % 2 == 1, n % 2 == 0] {
            figures[usize::from(measured)].push(round(measured)?);
        }
    }
    Ok(figures)
}

/// The median time from the venue's stamp to the handler, in nanoseconds.
fn paced(messages: usize, inline: bool, measured: bool) -> Result<f64> {
    let venue = Venue::ticks(MESSAGE_BYTES).rate_per_sec(PER_SECOND).start()?;
    let (done, taken) = bounded(1);
    let mut times = Vec::with_capacity(messages);
    let handler = move |sent_unix_ns: u64| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if times.len() < messages {
            times.push(now.as_nanos().saturating_sub(sent_unix_ns.into()) as f64);
            if times.len() == messages {
                let _ = done.send(std::mem::take(&mut times));
            }
        }
        Ok(())
    };
    let options = if inline { RouteOptions::new().inline() } else { RouteOptions::new() };
    let builder =
        hypersockets::builder().url(venue.url()).router(SentAt, |routing| routing.handler_with((), handler, options));
    let client = if measured { builder.measure_latency().build()? } else { builder.build()? };
    let times = taken.recv_timeout(PATIENCE).map_err(|_| "the messages did not come")?;
    client.shutdown()?;
    Ok(median(times))
}

/// The time for each of so many messages, in nanoseconds, counted only while the loop had some to read.
fn flat_out(messages: u64, measured: bool) -> Result<f64> {
    let text = format!(r#"{{"seq":1,"sent_unix_ns":1700000000000000000,"pad":"{}"}}"#, "x".repeat(MESSAGE_BYTES - 58));
    let all = Recording::from_messages(vec![text; messages as usize]);
    let venue = Venue::replay(all).flat_out().replay_on_connect().start()?;
    let handled = Arc::<AtomicU64>::default();
    let count = Arc::clone(&handled);
    let handler = move |_: u64| {
        // One writer.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok(())
    };
    let builder = hypersockets::builder()
        .url(venue.url())
        .router(SentAt, |routing| routing.handler_with((), handler, RouteOptions::new().inline()));
    let mut event_loop = EventLoop::new()?;
    let _client = event_loop.add(if measured { builder.measure_latency() } else { builder })?;
    let (mut busy, begin) = (Duration::ZERO, Instant::now());
    while handled.load(Ordering::Relaxed) < messages {
        // The venue fills the socket meanwhile, so that it is the loop that is measured.
        std::thread::sleep(Duration::from_millis(2));
        let start = Instant::now();
        while event_loop.turn() > 0 {}
        busy += start.elapsed();
        if begin.elapsed() > PATIENCE {
            return Err("the messages did not come".into());
        }
    }
    Ok(busy.as_nanos() as f64 / messages as f64)
}
