//! What a message costs as things grow: connections, its own size, routes, lanes; what an idle connection holds; who waits for whom.
//! `cargo bench --bench scale` prints the tables and the bars, with `-- --svg FILE` the curves as well; without `--bench`, as under
//! `cargo test --benches`, it makes a short round to see that it still works.
//!
//! The thread that measures turns the loop itself, and writes what the venue says between its measurements: so only the loop is
//! on the clock, from a full socket to the inline handler. *Lanes* alone run on threads of their own, and count the time
//! that passes.

mod support {
    pub(crate) mod by_hand;
    pub(crate) mod cores;
    pub(crate) mod figures;
    pub(crate) mod flood;
    pub(crate) mod hand;
    pub(crate) mod plot;
    pub(crate) mod upgrade;
}

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hypersockets::{
    Client, ClientBuilder, Engine, EventLoop, HasRouter, HasUrl, MessageRouter, Parsed, Result, RouteOptions,
    ThreadOptions, TlsOptions, WsMessage,
};
use support::figures::{self, median, median_ratio};
use support::hand::{End, Hand, PATIENCE, RECORD_BYTES};
use support::plot::{self, Curve};

struct Plan {
    rounds: usize,
    connections: &'static [usize],
    /// On each number of connections, of each size, over each number of routes.
    messages: usize,
    size_bytes: usize,
    routes: &'static [u32],
    lanes: &'static [usize],
}

const MEASURED: Plan = Plan {
    rounds: 11,
    connections: &[1, 10, 100, 1_000],
    messages: 20_000,
    size_bytes: 8 << 20,
    routes: &[1, 10, 100, 1_000, 10_000],
    lanes: &[0, 1, 2, 4],
};
const TRIED: Plan =
    Plan { rounds: 1, connections: &[1, 10], messages: 200, size_bytes: 1 << 16, routes: &[1, 10], lanes: &[0, 1] };

const SIZES: [usize; 8] = [64, 150, 512, 2 << 10, 8 << 10, 64 << 10, 256 << 10, 1 << 20];
const TEXT_BYTES: usize = 150;
/// Of the cost on one connection.
const CONNECTIONS_BAR: f64 = 1.5;
/// KiB an idle live connection, without TLS and with it.
const MEMORY_BARS: [f64; 2] = [24.0, 64.0];

fn main() -> Result<()> {
    let plan = if figures::is_measured() { MEASURED } else { TRIED };
    println!("{} interleaved rounds, medians", plan.rounds);
    let curves = [by_connections(&plan)?, by_size(&plan)?, by_routes(&plan)?, by_lanes(&plan)?];
    memory(&plan)?;
    fairness()?;
    let mut arguments = std::env::args().skip_while(|argument| argument != "--svg").skip(1);
    if let Some(file) = arguments.next() {
        plot::svg(&file, &curves)?;
    }
    Ok(())
}

/// The number that a text begins with is its route.
struct Numbered {
    /// Parses the JSON behind it, too.
    reads: bool,
}

impl Numbered {
    fn route(raw: &WsMessage<'_>) -> Result<u32> {
        let digits = raw.as_bytes().get(1..1 + ROUTE_DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| "not of this venue".into())
    }
}

impl MessageRouter for Numbered {
    type Message = u32;
    type RouteKey = u32;

    fn parse(&self, message: WsMessage<'_>) -> Result<u32> {
        Self::route(&message)
    }

    fn parse_each(&self, raw: WsMessage<'_>, out: &mut Parsed<'_, u32>) -> Result<()> {
        if self.reads {
            out.scratch().tape(raw.as_bytes(), |value| {
                black_box(value);
                Ok(())
            })?;
        }
        out.push(Self::route(&raw)?);
        Ok(())
    }

    fn route_key(&self, route: &u32) -> u32 {
        *route
    }

    fn shard_key(&self, raw: &WsMessage<'_>) -> u64 {
        Self::route(raw).unwrap_or(0).into()
    }
}

const ROUTE_DIGITS: usize = 5;

/// A text frame for a route: a JSON array that begins with the route's number.
fn frame(route: u32, text_bytes: usize) -> Vec<u8> {
    let mut text = format!("[1{route:04}").into_bytes();
    while text.len() + 9 <= text_bytes {
        text.extend_from_slice(b",95123.10");
    }
    text.resize(text_bytes - 1, b' ');
    text.push(b']');
    let mut frame = vec![0x81];
    match text_bytes {
        0..126 => frame.push(text_bytes as u8),
        126..65_536 => {
            frame.push(126);
            frame.extend_from_slice(&(text_bytes as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(text_bytes as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&text);
    frame
}

/// The number that stands in the text for a route: five digits, with a leading 1.
fn key(route: u32) -> u32 {
    10_000 + route
}

/// A loop with live clients, and the venue's ends of them.
struct Stage {
    event_loop: EventLoop,
    ends: Vec<End>,
    handled: Arc<AtomicU64>,
    _clients: Vec<Client>,
}

impl Stage {
    fn set(connections: usize, routes: u32) -> Result<Self> {
        let hand = Hand::start(false)?;
        let handled = Arc::default();
        let mut event_loop = EventLoop::new()?;
        let clients = (0..connections)
            .map(|_| event_loop.add(prepare(&hand, routes, &RouteOptions::new().inline(), &handled)))
            .collect::<Result<Vec<_>>>()?;
        let ends = hand.meet(&mut event_loop, &clients)?;
        Ok(Self { event_loop, ends, handled, _clients: clients })
    }

    fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// Lets `say` write, and turns the loop on the clock, until so many messages were handled; nanoseconds a message.
    fn run(&mut self, messages: usize, mut say: impl FnMut(&mut [End]) -> Result<()>) -> Result<f64> {
        let target = self.handled() + messages as u64;
        let (mut busy, patience) = (Duration::ZERO, Instant::now());
        while self.handled() < target {
            say(&mut self.ends)?;
            let said = self.handled();
            let begin = Instant::now();
            while self.event_loop.turn() > 0 || self.handled() == said {
                if patience.elapsed() > PATIENCE {
                    return Err("the messages did not come".into());
                }
            }
            busy += begin.elapsed();
        }
        Ok(busy.as_nanos() as f64 / messages as f64)
    }
}

fn prepare(
    hand: &Hand,
    routes: u32,
    options: &RouteOptions<u32>,
    handled: &Arc<AtomicU64>,
) -> ClientBuilder<HasUrl, HasRouter> {
    let router = Numbered { reads: false };
    let builder = hypersockets::builder().url(hand.url()).router(router, |routing| {
        (0..routes).fold(routing, |routing, route| routing.handler_with(key(route), counting(handled), options.clone()))
    });
    match hand.root() {
        Some(root) => builder.tls(TlsOptions::new().add_root_der(root).only_added_roots()),
        None => builder,
    }
}

fn counting(handled: &Arc<AtomicU64>) -> impl FnMut(u32) -> Result<()> + Send + use<> {
    let handled = Arc::clone(handled);
    move |_| {
        handled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn pour(end: &mut End, bytes: &[u8], written: &mut usize) -> Result<()> {
    Ok(end.pour(bytes, written, RECORD_BYTES)?)
}

fn by_connections(plan: &Plan) -> Result<Curve> {
    println!("\none frame per read, {TEXT_BYTES} B, ns a message, by connections");
    let mut stages = plan.connections.iter().map(|&count| Stage::set(count, 1)).collect::<Result<Vec<_>>>()?;
    let frame = frame(0, TEXT_BYTES);
    let mut costs = vec![Vec::new(); stages.len()];
    for _ in 0..plan.rounds {
        for (costs, stage) in costs.iter_mut().zip(&mut stages) {
            costs.push(stage.run(plan.messages.next_multiple_of(stage.ends.len()), |ends| {
                ends.iter_mut().try_for_each(|end| pour(end, &frame, &mut 0))
            })?);
        }
    }
    for (count, cost) in plan.connections.iter().zip(&costs) {
        println!("{count:>8}   {:>8.0} ns   {:.2}x", median(cost.clone()), median_ratio(cost, &costs[0]));
    }
    let ratio = median_ratio(&costs[costs.len() - 1], &costs[0]);
    println!(
        "of one connection's: {ratio:.2}x   bar {CONNECTIONS_BAR}x: {}",
        figures::verdict(ratio <= CONNECTIONS_BAR)
    );
    Ok(curve("ns a message, by connections", plan.connections.iter().map(|&count| count as f64), costs))
}

fn by_size(plan: &Plan) -> Result<Curve> {
    println!("\nfrom a full socket, ns a message and a KiB, by the message's size");
    let mut stage = Stage::set(1, 1)?;
    let mut costs = vec![Vec::new(); SIZES.len()];
    for _ in 0..plan.rounds {
        for (costs, bytes) in costs.iter_mut().zip(SIZES) {
            let messages = (plan.size_bytes / bytes).clamp(4, plan.messages);
            let (said, mut written) = (frame(0, bytes).repeat(messages), 0);
            costs.push(stage.run(messages, |ends| pour(&mut ends[0], &said, &mut written))?);
        }
    }
    for (bytes, cost) in SIZES.iter().zip(&costs) {
        let cost = median(cost.clone());
        println!("{bytes:>8} B   {cost:>9.0} ns   {:>6.0} ns a KiB", cost * 1024.0 / *bytes as f64);
    }
    Ok(curve("ns a message, by bytes", SIZES.iter().map(|&bytes| bytes as f64), costs))
}

fn by_routes(plan: &Plan) -> Result<Curve> {
    println!("\nfrom a full socket, {TEXT_BYTES} B, ns a message, by routes in no order");
    let mut stages = plan.routes.iter().map(|&routes| Stage::set(1, routes)).collect::<Result<Vec<_>>>()?;
    let mut costs = vec![Vec::new(); stages.len()];
    for _ in 0..plan.rounds {
        for ((costs, stage), routes) in costs.iter_mut().zip(&mut stages).zip(plan.routes) {
            // A step that shares no factor with the number of routes leads to all of them, far from one after the other.
            let said: Vec<u8> = (0..plan.messages as u32)
                .flat_map(|number| frame(number.wrapping_mul(7_919) % routes, TEXT_BYTES))
                .collect();
            let mut written = 0;
            costs.push(stage.run(plan.messages, |ends| pour(&mut ends[0], &said, &mut written))?);
        }
    }
    for (routes, cost) in plan.routes.iter().zip(&costs) {
        println!("{routes:>8}   {:>8.0} ns   {:.2}x", median(cost.clone()), median_ratio(cost, &costs[0]));
    }
    Ok(curve("ns a message, by routes", plan.routes.iter().map(|&routes| f64::from(routes)), costs))
}

fn by_lanes(plan: &Plan) -> Result<Curve> {
    const BYTES: usize = 2 << 10;
    const ROUTES: u32 = 8;
    println!(
        "\n2 KiB, read by simd-json, one connection, {ROUTES} shard keys, ns a message, by lanes (0: on the loop)"
    );
    let messages = (plan.messages / 2) as u32;
    let said: Vec<u8> = (0..messages).flat_map(|number| frame(number % ROUTES, BYTES)).collect();
    let mut costs = vec![Vec::new(); plan.lanes.len()];
    for _ in 0..plan.rounds {
        for (costs, &lanes) in costs.iter_mut().zip(plan.lanes) {
            costs.push(over_lanes(lanes, ROUTES, &said)? / f64::from(messages));
        }
    }
    for (lanes, cost) in plan.lanes.iter().zip(&costs) {
        println!("{lanes:>8}   {:>8.0} ns   {:.2}x", median(cost.clone()), median_ratio(cost, &costs[0]));
    }
    // Lanes only: a logarithm knows no 0.
    let (lanes, costs): (Vec<_>, Vec<_>) = plan.lanes.iter().zip(costs).filter(|(lanes, _)| **lanes > 0).unzip();
    Ok(curve("ns a message of 2 KiB, by lanes", lanes.into_iter().map(|&lanes| lanes as f64), costs))
}

/// From the first write to the last handled message, in nanoseconds.
fn over_lanes(lanes: usize, routes: u32, said: &[u8]) -> Result<f64> {
    let hand = Hand::start(false)?;
    let handled = Arc::default();
    let engine = Engine::builder().lanes((0..lanes).map(|_| ThreadOptions::new())).start()?;
    let client = hypersockets::builder()
        .url(hand.url())
        .router(Numbered { reads: true }, |routing| {
            let inline = RouteOptions::new().inline();
            (0..routes)
                .fold(routing, |routing, route| routing.handler_with(key(route), counting(&handled), inline.clone()))
        })
        .engine(&engine)
        .build()?;
    client.wait_live(PATIENCE)?;
    let mut ends = hand.meet(&mut EventLoop::new()?, std::slice::from_ref(&client))?;
    let messages = (said.len() / frame(0, 2 << 10).len()) as u64;
    let (begin, mut written) = (Instant::now(), 0);
    while handled.load(Ordering::Relaxed) < messages {
        pour(&mut ends[0], said, &mut written)?;
        std::thread::yield_now();
        if begin.elapsed() > PATIENCE {
            return Err("the messages did not come".into());
        }
    }
    let took = begin.elapsed().as_nanos() as f64;
    client.shutdown()?;
    engine.shutdown()?;
    Ok(took)
}

fn curve(title: &str, across: impl Iterator<Item = f64>, costs: Vec<Vec<f64>>) -> Curve {
    Curve { title: title.to_owned(), points: across.zip(costs.into_iter().map(median)).collect() }
}

/// What the loop's thread allocates for a connection that is live, has received something, and is idle now.
fn memory(plan: &Plan) -> Result<()> {
    let count = *plan.connections.last().ok_or("no connections")?;
    println!("\nheap of an idle live connection, of {count}");
    for (tls, bar) in [false, true].into_iter().zip(MEMORY_BARS) {
        let hand = Hand::start(tls)?;
        let handled = Arc::<AtomicU64>::default();
        let mut event_loop = EventLoop::new()?;
        let (mut clients, mut ends) = (Vec::with_capacity(count), Ok(Vec::new()));
        let held = allocation_counter::measure(|| {
            for _ in 0..count {
                clients.push(event_loop.add(prepare(&hand, 1, &RouteOptions::new().inline(), &handled)));
            }
        });
        let clients = clients.into_iter().collect::<Result<Vec<_>>>()?;
        let met = allocation_counter::measure(|| ends = hand.meet(&mut event_loop, &clients));
        let mut ends = ends?;
        for end in &mut ends {
            pour(end, &frame(0, TEXT_BYTES), &mut 0)?;
        }
        let patience = Instant::now();
        let received = allocation_counter::measure(|| {
            while handled.load(Ordering::Relaxed) < count as u64 && patience.elapsed() < PATIENCE {
                event_loop.turn();
            }
        });
        let bytes = held.bytes_current + met.bytes_current + received.bytes_current;
        let kib = bytes as f64 / 1024.0 / count as f64;
        let scheme = if tls { "wss" } else { "ws" };
        println!("{scheme:>8}   {kib:>8.1} KiB   bar {bar} KiB: {}", figures::verdict(kib <= bar));
    }
    Ok(())
}

/// How many messages of flooding connections are handled before the one of a quiet connection that came behind them.
fn fairness() -> Result<()> {
    const FLOODING: usize = 4;
    let hand = Hand::start(false)?;
    let (handled, before) = (Arc::<AtomicU64>::default(), Arc::new(AtomicU64::new(u64::MAX)));
    let mut event_loop = EventLoop::new()?;
    let clients = (0..=FLOODING)
        .map(|_| {
            let (count, before) = (Arc::clone(&handled), Arc::clone(&before));
            let quiet = move |_: u32| {
                before.store(count.load(Ordering::Relaxed), Ordering::Relaxed);
                Ok(())
            };
            event_loop.add(hypersockets::builder().url(hand.url()).router(Numbered { reads: false }, |routing| {
                let inline = RouteOptions::new().inline();
                routing.handler_with(key(0), counting(&handled), inline.clone()).handler_with(
                    key(1),
                    quiet,
                    inline.clone(),
                )
            }))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut ends = hand.meet(&mut event_loop, &clients)?;
    let (quiet, flooding) = ends.split_last_mut().ok_or("no connections")?;
    let flood = frame(0, TEXT_BYTES).repeat(1 << 14);
    for end in flooding {
        pour(end, &flood, &mut 0)?;
    }
    pour(quiet, &frame(1, TEXT_BYTES), &mut 0)?;
    let patience = Instant::now();
    while before.load(Ordering::Relaxed) == u64::MAX && patience.elapsed() < PATIENCE {
        event_loop.turn();
    }
    let before = before.load(Ordering::Relaxed);
    let kib = before * flood.len() as u64 / (1 << 14) / 1024;
    println!(
        "\na message on a quiet connection, behind {FLOODING} full sockets: {before} of their messages ({kib} KiB) come first"
    );
    Ok(())
}
