//! What handing a message to a handler's thread costs, against a bare crossbeam channel. `cargo bench --bench hop` prints the
//! ratio against its bar; without `--bench`, as under `cargo test --benches`, it makes a short round to see that it still works.
//!
//! Both ways a message is read from a socket by a loop that this thread turns, and taken by a thread that spins. *Route*: from
//! the return of the parser to the handler's call, so with finding the route, counting and guarding. *Bare*: an inline handler
//! sends the same message over a crossbeam channel; from before its `send` to the return of `try_recv`.
//!
//! *Busy feed*: bursts, of which each message takes 2 µs to parse; so each finds its receiver waiting. *One at a time*: this
//! thread sleeps before each, and its caches are as cold as that leaves them.

mod support {
    pub(crate) mod figures;
}

use std::hint::spin_loop;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, unbounded};
use hypersockets::simulator::Venue;
use hypersockets::{Client, EventLoop, IdleStrategy, MessageRouter, Result, RouteOptions, WsMessage};
use support::figures::{self, median, median_ratio};

struct Plan {
    rounds: usize,
    /// Of each round.
    bursts: usize,
}

const MEASURED: Plan = Plan { rounds: 40, bursts: 500 };
const TRIED: Plan = Plan { rounds: 1, bursts: 20 };

/// A message takes this long to parse: about 600 bytes of JSON.
const PARSE: Duration = Duration::from_micros(2);
const BUSY: usize = 50;

const MESSAGE_BYTES: usize = 150;
const BAR: f64 = 1.3;
/// For what must come; a bench that hangs should say so.
const PATIENCE: Duration = Duration::from_secs(30);

/// A small typed message: when it was ready to be handed over.
struct Ready;

impl MessageRouter for Ready {
    type Message = Instant;
    type RouteKey = ();

    fn parse(&self, _: WsMessage<'_>) -> Result<Instant> {
        let begin = Instant::now();
        loop {
            let now = Instant::now();
            if now - begin >= PARSE {
                return Ok(now);
            }
        }
    }

    fn route_key(&self, _: &Instant) {}
}

fn main() -> Result<()> {
    let Plan { rounds, bursts } = if figures::is_measured() { MEASURED } else { TRIED };
    println!("one hop to a thread that spins, p50, {rounds} interleaved rounds, medians");
    for (name, burst, bar) in [("busy feed", BUSY, Some(BAR)), ("one at a time", 1, None)] {
        let [mut bare, mut route] = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            bare.push(bare_hop(bursts, burst)?);
            route.push(route_hop(bursts, burst)?);
        }
        let ratio = median_ratio(&route, &bare);
        let (bare, route) = (median(bare), median(route));
        let verdict = bar.map_or_else(String::new, |bar| format!("   bar {bar}x: {}", figures::verdict(ratio <= bar)));
        println!("{name:<14} bare crossbeam {bare:>4.0} ns   route {route:>4.0} ns   {ratio:.2}x{verdict}");
    }
    Ok(())
}

/// The median from the parser to the handler of a route with a thread of its own.
fn route_hop(bursts: usize, burst: usize) -> Result<f64> {
    let (taken, times) = unbounded();
    let handler = move |ready: Instant| {
        let hop = ready.elapsed();
        taken.send(hop).map_err(|_| "the bench has ended")?;
        Ok(())
    };
    let spinning = RouteOptions::new().idle(IdleStrategy::BusySpin);
    in_bursts(bursts, burst, &times, |venue, event_loop| {
        let builder = hypersockets::builder()
            .url(venue.url())
            .router(Ready, |routing| routing.handler_with((), handler, spinning));
        event_loop.add(builder)
    })
}

/// The median of a crossbeam channel by itself, in the same place.
fn bare_hop(bursts: usize, burst: usize) -> Result<f64> {
    let (sender, receiver) = unbounded::<Instant>();
    let (taken, times) = unbounded();
    let spinner = thread::spawn(move || {
        loop {
            match receiver.try_recv() {
                Ok(ready) => {
                    let hop = ready.elapsed();
                    if taken.send(hop).is_err() {
                        return;
                    }
                }
                Err(TryRecvError::Empty) => spin_loop(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    });
    let handler = move |_: Instant| {
        sender.send(Instant::now()).map_err(|_| "the receiver is gone")?;
        Ok(())
    };
    let median = in_bursts(bursts, burst, &times, |venue, event_loop| {
        let inline = RouteOptions::new().inline();
        let builder =
            hypersockets::builder().url(venue.url()).router(Ready, |routing| routing.handler_with((), handler, inline));
        event_loop.add(builder)
    })?;
    spinner.join().map_err(|_| "the receiver panicked")?;
    Ok(median)
}

/// Sends a burst, turns the loop until the receiver has it, and so on. The venue's thread sleeps meanwhile: of two cores,
/// one turns the loop and one spins.
fn in_bursts(
    bursts: usize,
    burst: usize,
    times: &Receiver<Duration>,
    add: impl FnOnce(&Venue, &mut EventLoop) -> Result<Client>,
) -> Result<f64> {
    let venue = Venue::scripted().start()?;
    let mut event_loop = EventLoop::new()?;
    let client = add(&venue, &mut event_loop)?;
    let begin = Instant::now();
    let session = loop {
        event_loop.turn();
        match venue.next_session(Duration::ZERO) {
            Ok(session) => break session,
            Err(error) if begin.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => {}
        }
    };
    let mut hops = Vec::with_capacity(bursts * burst);
    for _ in 0..bursts {
        for _ in 0..burst {
            session.send_text("x".repeat(MESSAGE_BYTES));
        }
        session.flush(PATIENCE)?;
        let begin = Instant::now();
        let wanted = hops.len() + burst;
        while hops.len() < wanted {
            event_loop.turn();
            hops.extend(times.try_iter().map(|hop| hop.as_nanos() as f64));
            if begin.elapsed() > PATIENCE {
                return Err("the messages did not come".into());
            }
        }
    }
    client.request_shutdown();
    while !event_loop.is_empty() {
        event_loop.turn();
    }
    Ok(median(hops))
}
