//! What many threads and many silent connections cost. `cargo bench --bench threads` prints the figures against their bars;
//! without `--bench`, as under `cargo test --benches`, it makes a short run to see that it still works.
//!
//! *Idle*: the processor time of the engine's own threads with 100 live connections on which nothing happens. *Handlers*: one
//! feed over one to a hundred handler threads: how long the loop and the handlers need from the venue's send, so that threads
//! which spin would show where they starve the loop; what the process holds in memory for each thread; and what the engine's
//! threads use where each route gets a message a second.

mod support {
    pub(crate) mod figures;
}

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hypersockets::simulator::Venue;
use hypersockets::{Client, Engine, MessageRouter, Result, RouteOptions, WsMessage};
use support::figures::{self, median, percentile};

struct Plan {
    silence: Duration,
    /// Of each number of handlers, interleaved.
    rounds: usize,
    messages: usize,
    /// Of a message a second and route.
    trickle: Duration,
}

const MEASURED: Plan =
    Plan { silence: Duration::from_secs(20), rounds: 9, messages: 10_000, trickle: Duration::from_secs(10) };
const TRIED: Plan =
    Plan { silence: Duration::from_millis(200), rounds: 1, messages: 100, trickle: Duration::from_millis(200) };

const CONNECTIONS: usize = 100;
/// Of a core.
const IDLE_BAR: f64 = 0.01;
const HANDLERS: [u64; 7] = [1, 3, 4, 10, 11, 30, 100];
const PER_SECOND: f64 = 5_000.0;
const MESSAGE_BYTES: usize = 150;
/// Set for a process that is to say what so many handlers hold.
const OF_HANDLERS: &str = "HS_RESIDENT_OF_HANDLERS";
/// For what must come; a bench that hangs should say so.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    if let Some(handlers) = std::env::var(OF_HANDLERS).ok().and_then(|handlers| handlers.parse().ok()) {
        println!("{}", resident(handlers)?);
        return Ok(());
    }
    let plan = if figures::is_measured() { MEASURED } else { TRIED };
    let used = idle(plan.silence)?;
    let verdict = figures::verdict(used < IDLE_BAR);
    println!(
        "{CONNECTIONS} silent connections: {:.3} % of a core   bar {} %: {verdict}",
        used * 100.0,
        IDLE_BAR * 100.0
    );

    println!("{PER_SECOND} messages of {MESSAGE_BYTES} B a second, {} interleaved rounds, medians", plan.rounds);
    let mut figures: [Vec<[f64; 4]>; HANDLERS.len()] = Default::default();
    for _ in 0..plan.rounds {
        for (figures, handlers) in figures.iter_mut().zip(HANDLERS) {
            figures.push(feed(handlers, plan.messages)?);
        }
    }
    for (figures, handlers) in figures.iter().zip(HANDLERS) {
        let (used, resident_bytes) = (trickle(handlers, plan.trickle)?, resident_elsewhere(handlers)?);
        let [loop_p50, loop_p99, p50, p99] =
            [0, 1, 2, 3].map(|column| median(figures.iter().map(|round| round[column]).collect()) / 1e3);
        println!(
            "{handlers:>3} handlers   to the loop p50 {loop_p50:>6.1} µs p99 {loop_p99:>6.1} µs   to the handler p50 {p50:>6.1} µs p99 {p99:>6.1} µs   \
             a message a second each: {:>6.3} % of a core   resident {:>5.0} KiB a thread",
            used * 100.0,
            resident_bytes / 1024.0 / handlers as f64
        );
    }
    Ok(())
}

/// Takes every message for one route of its own number of routes; a message is when it was sent and when it was parsed.
struct Spread(u64);

#[derive(Debug)]
struct Timed {
    number: u64,
    sent_unix_ns: u64,
    parsed_unix_ns: u64,
}

impl MessageRouter for Spread {
    type Message = Timed;
    type RouteKey = u64;

    fn parse(&self, message: WsMessage<'_>) -> Result<Timed> {
        let parsed_unix_ns = unix_ns();
        let text = message.as_text().ok_or("not of this venue")?;
        let mut numbers = text.split([':', ',']).filter_map(|word| word.parse().ok());
        let (Some(number), Some(sent_unix_ns)) = (numbers.next(), numbers.next()) else {
            return Err("not of this venue".into());
        };
        Ok(Timed { number, sent_unix_ns, parsed_unix_ns })
    }

    fn route_key(&self, message: &Timed) -> u64 {
        message.number % self.0
    }
}

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// How many cores the engine's threads use while its connections are live and silent.
fn idle(silence: Duration) -> Result<f64> {
    let venue = Venue::scripted().start()?;
    let engine = Engine::builder().start()?;
    let clients = (0..CONNECTIONS)
        .map(|_| {
            hypersockets::builder()
                .url(venue.url())
                .router(Spread(1), |routing| routing.handler(0, |_: Timed| Ok(())))
                .engine(&engine)
                .build()
        })
        .collect::<Result<Vec<Client>>>()?;
    let (begin, used) = (Instant::now(), engine_cpu_ns()?);
    thread::sleep(silence);
    let cores = (engine_cpu_ns()? - used) / begin.elapsed().as_nanos() as f64;
    clients.iter().for_each(Client::request_shutdown);
    engine.shutdown()?;
    Ok(cores)
}

/// How many cores the engine's threads use where each of these routes gets a message a second.
fn trickle(handlers: u64, time: Duration) -> Result<f64> {
    let venue = Venue::ticks(MESSAGE_BYTES).rate_per_sec(handlers as f64).start()?;
    let client = counting(&venue, handlers)?;
    // The start is not what is asked about.
    thread::sleep(time / 4);
    let (begin, used) = (Instant::now(), engine_cpu_ns()?);
    thread::sleep(time);
    let cores = (engine_cpu_ns()? - used) / begin.elapsed().as_nanos() as f64;
    client.shutdown()?;
    Ok(cores)
}

fn counting(venue: &Venue, handlers: u64) -> Result<Client> {
    hypersockets::builder()
        .url(venue.url())
        .router(Spread(handlers), |routing| {
            (0..handlers).fold(routing, |routing, route| routing.handler(route, |_: Timed| Ok(())))
        })
        .build()
}

/// How much a process grows by these handlers, in bytes: in one of its own, since this one has stacks of earlier threads at hand.
fn resident_elsewhere(handlers: u64) -> Result<f64> {
    let output = Command::new(std::env::current_exe()?).env(OF_HANDLERS, handlers.to_string()).output()?;
    let grown = String::from_utf8_lossy(&output.stdout).trim().parse();
    Ok(grown.map_err(|_| format!("no figure from {output:?}"))?)
}

/// The same in this process: what the handlers' threads add to a client that has all else, once each has handled something.
fn resident(handlers: u64) -> Result<f64> {
    let venue = Venue::ticks(MESSAGE_BYTES).rate_per_sec(2_000.0).start()?;
    let idle = hypersockets::builder()
        .url(venue.url())
        .router(Spread(1), |routing| routing.handler_with(0, |_: Timed| Ok(()), RouteOptions::new().inline()))
        .build()?;
    thread::sleep(Duration::from_millis(300));
    let before = resident_bytes()?;
    let client = counting(&venue, handlers)?;
    thread::sleep(Duration::from_millis(500));
    let grown = resident_bytes()? - before;
    client.shutdown()?;
    idle.shutdown()?;
    Ok(grown)
}

/// What the process holds in memory.
fn resident_bytes() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    Ok(kib.ok_or("this kernel does not say what a process holds")? * 1024.0)
}

/// The processor time of this process's threads that are the engine's, by their names, in nanoseconds.
fn engine_cpu_ns() -> Result<f64> {
    let mut used = 0.0;
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        // A thread may have left meanwhile.
        let (Ok(name), Ok(times)) = (fs::read_to_string(task.join("comm")), fs::read_to_string(task.join("schedstat")))
        else {
            continue;
        };
        if name.starts_with("hs") {
            let ran = times.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
            used += ran.ok_or("this kernel keeps no time of threads")?;
        }
    }
    Ok(used)
}

/// From the venue's send: to the loop's parser p50 and p99, to the handler p50 and p99; in nanoseconds.
fn feed(handlers: u64, messages: usize) -> Result<[f64; 4]> {
    let venue = Venue::ticks(MESSAGE_BYTES).rate_per_sec(PER_SECOND).start()?;
    let times = Arc::new(Mutex::new(Vec::with_capacity(messages)));
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Spread(handlers), |routing| {
            (0..handlers).fold(routing, |routing, route| {
                let times = Arc::clone(&times);
                routing.handler(route, move |message: Timed| {
                    let handled = unix_ns().saturating_sub(message.sent_unix_ns) as f64;
                    let parsed = message.parsed_unix_ns.saturating_sub(message.sent_unix_ns) as f64;
                    times.lock().unwrap_or_else(PoisonError::into_inner).push((parsed, handled));
                    Ok(())
                })
            })
        })
        .build()?;
    let begin = Instant::now();
    while times.lock().unwrap_or_else(PoisonError::into_inner).len() < messages {
        if begin.elapsed() > PATIENCE {
            return Err("the messages did not come".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    client.shutdown()?;
    let times = std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
    let (parsed, handled): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    Ok([median(parsed.clone()), percentile(0.99, parsed), median(handled.clone()), percentile(0.99, handled)])
}
