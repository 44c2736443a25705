//! How many messages a loop takes from a full socket, against a raw reader: reads again and again, a parser written by hand, a UTF-8
//! check.
//! `cargo bench --bench socket` prints the ratios against their bars; without `--bench`, as under `cargo test --benches`, it makes a
//! short round to see that it still works.
//!
//! The sender is a thread on the last core that writes whole blocks of frames as fast as they are taken; both readers run on the first. The receive buffer of both is capped, or
//! its growth would decide. *Plain* is TCP; *TLS* is TLS 1.3 with records of 16 KiB, the raw reader rustls' own `read_tls`.

mod support {
    pub(crate) mod by_hand;
    pub(crate) mod cores;
    pub(crate) mod figures;
    pub(crate) mod flood;
    pub(crate) mod length;
    pub(crate) mod upgrade;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hypersockets::{EventLoop, Result, RouteOptions, SocketOptions, TlsOptions};
use support::by_hand::Intake;
use support::cores;
use support::figures::{self, median, median_ratio};
use support::flood::{Flood, RECEIVE_BUFFER_BYTES, RawReader};
use support::length::{Length, counting};

struct Plan {
    rounds: usize,
    bytes: usize,
}

const MEASURED: Plan = Plan { rounds: 31, bytes: 192 << 20 };
const TRIED: Plan = Plan { rounds: 1, bytes: 4 << 20 };

/// For what must come; a bench that hangs should say so.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let plan = if figures::is_measured() { MEASURED } else { TRIED };
    println!("million messages a second, {} interleaved rounds, medians; the ratio is to the raw reader", plan.rounds);
    for tls in [false, true] {
        for (text_bytes, bar) in [(150, 0.90), (2 * 1024, 0.95), (16 * 1024, 0.95)] {
            let flood = Flood::start(text_bytes, plan.bytes, tls)?;
            let [mut raw, mut ours] = [Vec::new(), Vec::new()];
            for _ in 0..plan.rounds {
                raw.push(on_first_core(&flood, raw_rate)?);
                ours.push(on_first_core(&flood, our_rate)?);
            }
            let ratio = median_ratio(&ours, &raw);
            let verdict = figures::verdict(ratio >= bar);
            println!(
                "{} {text_bytes:>5} B   raw {:>7.3}   hypersockets {:>7.3}   {ratio:.2}x   bar {bar}x: {verdict}",
                if tls { "TLS  " } else { "plain" },
                median(raw),
                median(ours),
            );
        }
    }
    Ok(())
}

fn on_first_core(flood: &Flood, rate: fn(&Flood) -> Result<f64>) -> Result<f64> {
    let flood = flood.clone();
    cores::on_first(move || rate(&flood))
}

/// Millions a second from the first message to the last.
fn our_rate(flood: &Flood) -> Result<f64> {
    let handled = Arc::<AtomicU64>::default();
    let mut builder = hypersockets::builder()
        .url(flood.url())
        .router(Length, |routing| {
            routing.handler_with((), counting(flood.text_bytes(), &handled), RouteOptions::new().inline())
        })
        .socket(SocketOptions::new().receive_buffer_bytes(RECEIVE_BUFFER_BYTES));
    if let Some(root) = flood.root() {
        builder = builder.tls(TlsOptions::new().add_root_der(root).only_added_roots());
    }
    let mut event_loop = EventLoop::new()?;
    let client = event_loop.add(builder)?;
    let patience = Instant::now();
    let mut begin = None;
    while handled.load(Ordering::Relaxed) < flood.messages() {
        event_loop.turn();
        if begin.is_none() && handled.load(Ordering::Relaxed) > 0 {
            begin = Some(Instant::now());
        }
        if patience.elapsed() > PATIENCE {
            return Err(format!("{} of {} messages came", handled.load(Ordering::Relaxed), flood.messages()).into());
        }
    }
    let took = begin.ok_or("no message came")?.elapsed();
    client.request_shutdown();
    while !event_loop.is_empty() {
        event_loop.turn();
    }
    Ok(flood.messages() as f64 / took.as_secs_f64() / 1e6)
}

fn raw_rate(flood: &Flood) -> Result<f64> {
    let mut reader = RawReader::dial(flood.port(), flood.root())?;
    reader.set_nonblocking()?;
    let (mut intake, mut messages, mut begin) = (Intake::new(), 0, None);
    while messages < flood.messages() {
        let came = intake.read(&mut reader, |text| {
            assert_eq!(text.len(), flood.text_bytes(), "not what was sent");
            messages += 1;
        })?;
        if came {
            begin.get_or_insert_with(Instant::now);
        }
    }
    let took = begin.ok_or("no message came")?.elapsed();
    Ok(messages as f64 / took.as_secs_f64() / 1e6)
}
