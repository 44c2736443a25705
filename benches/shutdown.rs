//! How long a shutdown takes on loopback: with nothing queued, with a venue that ignores our Close, and with 60,000 messages
//! queued. `cargo bench --bench shutdown` prints the figures against their bars; without `--bench`, as under
//! `cargo test --benches`, it makes a few runs to see that it still works.

mod support {
    pub(crate) mod figures;
}

use std::hint::black_box;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use hypersockets::simulator::{Session, Venue};
use hypersockets::{Client, MessageRouter, Result, RouteOptions, WsMessage};
use support::figures;

/// How often each case is run, and how many messages are queued in the last.
struct Plan {
    runs: usize,
    queued_runs: usize,
    queued: u64,
}

const MEASURED: Plan = Plan { runs: 200, queued_runs: 200, queued: 60_000 };
const TRIED: Plan = Plan { runs: 3, queued_runs: 1, queued: 1_000 };

/// For what must come; a bench that hangs should say so.
const PATIENCE: Duration = Duration::from_secs(30);

/// Routes a line by its first byte; a message is its length.
struct FirstByte;

impl MessageRouter for FirstByte {
    type Message = (u8, usize);
    type RouteKey = u8;

    fn parse(&self, message: WsMessage<'_>) -> Result<(u8, usize)> {
        let bytes = message.as_bytes();
        Ok((bytes.first().copied().ok_or("an empty message")?, bytes.len()))
    }

    fn route_key(&self, (first, _): &(u8, usize)) -> u8 {
        *first
    }
}

fn main() -> Result<()> {
    let plan = if figures::is_measured() { MEASURED } else { TRIED };
    let Plan { runs, queued_runs, queued } = plan;

    let venue = Venue::scripted().start()?;
    let empty = (0..runs).map(|_| idle_shutdown(&venue)).collect::<Result<_>>()?;
    report("empty queues", empty, |taken| {
        let p99 = taken.p99();
        (format!("p99 {} < 10 ms", ms(p99)), p99 < Duration::from_millis(10))
    });

    let venue = Venue::scripted().ignore_close().start()?;
    let ignored = (0..runs).map(|_| idle_shutdown(&venue)).collect::<Result<_>>()?;
    report("the venue ignores our Close", ignored, |taken| {
        let max = taken.max();
        (format!("max {} < 150 ms", ms(max)), max < Duration::from_millis(150))
    });

    let venue = Venue::scripted().start()?;
    let mut unhandled = 0;
    let mut busy = Vec::new();
    for _ in 0..queued_runs {
        let (took, left) = queued_shutdown(&venue, queued)?;
        busy.push(took);
        unhandled += left;
    }
    report(&format!("{queued} messages queued"), busy, |_| {
        (format!("{unhandled} unhandled of {}", queued * queued_runs as u64), unhandled == 0)
    });
    Ok(())
}

/// Shuts a client down that has nothing left to do.
fn idle_shutdown(venue: &Venue) -> Result<Duration> {
    let client = hypersockets::builder()
        .url(venue.url())
        .router(FirstByte, |routing| routing.handler(b'B', |_| Ok(())).default_handler(|_| Ok(())))
        .build()?;
    let _session = venue.next_session(PATIENCE)?;
    Ok(timed(&client)?.0)
}

/// Shuts a client down while its handler has all messages before it; the time begins when the handler does.
fn queued_shutdown(venue: &Venue, queued: u64) -> Result<(Duration, u64)> {
    let (open, gate) = bounded::<()>(0);
    let (all_queued, is_queued) = bounded(1);
    let client = hypersockets::builder()
        .url(venue.url())
        .router(FirstByte, |routing| {
            let end = move |_| all_queued.send(()).map_err(|_| "the bench is over".into());
            let inline = RouteOptions::new().inline();
            routing.handler(b'B', gated(gate)).handler_with(b'E', end, inline)
        })
        .build()?;
    let session = venue.next_session(PATIENCE)?;
    fill(&session, queued);
    is_queued.recv_timeout(PATIENCE).map_err(|_| "the venue never sent the end")?;
    drop(open);
    let (took, handled) = timed(&client)?;
    Ok((took, (queued + 1).saturating_sub(handled)))
}

/// A handler that does a little work a message, once the gate is open.
fn gated(gate: Receiver<()>) -> impl FnMut((u8, usize)) -> Result<()> + Send {
    let mut bytes = 0;
    move |(_, len)| {
        // Ends at once, with an error, when the gate was opened by being dropped.
        let _ = gate.recv();
        bytes += len;
        black_box(bytes);
        Ok(())
    }
}

fn fill(session: &Session, queued: u64) {
    for number in 0..queued {
        session.send_text(format!("B{number}"));
    }
    session.send_text("E");
}

/// Shuts down; the time it took, and the messages handled in the client's life.
fn timed(client: &Client) -> Result<(Duration, u64)> {
    let began = Instant::now();
    let report = client.shutdown()?;
    let took = began.elapsed();
    match report.complete {
        true => Ok((took, report.metrics.messages_handled)),
        false => Err("a shutdown did not complete".into()),
    }
}

/// The times of one case, sorted.
struct Taken(Vec<Duration>);

impl Taken {
    fn quantile(&self, quantile: f64) -> Duration {
        let rank = (self.0.len() as f64 * quantile).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    fn max(&self) -> Duration {
        self.quantile(1.0)
    }
}

fn report(case: &str, mut taken: Vec<Duration>, bar: impl FnOnce(&Taken) -> (String, bool)) {
    taken.sort();
    let taken = Taken(taken);
    let (words, is_met) = bar(&taken);
    println!(
        "{case}: {} runs, p50 {}, p99 {}, max {}; {words}: {}",
        taken.0.len(),
        ms(taken.quantile(0.5)),
        ms(taken.p99()),
        ms(taken.max()),
        if is_met { "ok" } else { "MISSED" }
    );
}

fn ms(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}
