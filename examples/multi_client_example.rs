//! Many venues under one roof: a client each, one flag that says whether any of them is down, the events of all in one queue, and one
//! shutdown. New connections keep to a limit that all clients share, and two engines share the clients out.
//!
//! ```text
//! cargo run --release --example multi_client_example             three simulated venues, of which one goes away for a second; 5 s
//! cargo run --release --example multi_client_example -- wss://api.hyperliquid.xyz/ws      three clients of one venue, until Ctrl-C
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
}

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use hypersockets::simulator::{Ending, Venue};
use hypersockets::{
    Client, ClientManager, ConnectionLimit, Engine, EngineGroup, FixedDelay, ManagerEvents, MessageRouter, Result,
    Subscription, WsMessage,
};
use support::demo::{Run, run, summary, tell};

const COINS: [&str; 3] = ["BTC", "ETH", "SOL"];

fn main() -> ExitCode {
    run("Many venues under one roof: one halted flag, one queue of events, one shutdown", example)
}

fn example(run: &Run) -> Result<()> {
    let venues = match run.demo.url {
        Some(_) => Vec::new(),
        None => COINS
            .map(|coin| Venue::hyperliquid([coin]).rate_per_sec(100.0).start())
            .into_iter()
            .collect::<Result<_, _>>()?,
    };
    let group = EngineGroup::start(["hs-a", "hs-b"].map(|name| Engine::builder().name(name)))?;
    let limit = ConnectionLimit::new(30, Duration::from_secs(60));
    let manager = ClientManager::new(run.flag());
    let events = manager.events();
    thread::spawn(move || follow(&events));
    for (number, coin) in COINS.into_iter().enumerate() {
        let url = run.demo.url.clone().unwrap_or_else(|| venues[number].url());
        let client = client(&url, coin, &group, &limit, &manager, run)?;
        println!("{coin} is on engine {:?}", group.engine_of(client.connection()));
        manager.add_client(coin, client)?;
    }
    for (name, outcome) in manager.broadcast(r#"{"method":"ping"}"#)? {
        println!("{name}: ping {}", if outcome.is_ok() { "queued" } else { "refused" });
    }
    if let Some(venue) = venues.first() {
        outage(venue, &manager, run)?;
    }
    while !run.is_over_within(Duration::from_secs(60)) {}
    for (name, report) in manager.shutdown()? {
        print!("{name} ");
        summary(&report);
    }
    group.shutdown()
}

/// One venue goes away for a second; the end of the run ends that, too.
fn outage(venue: &Venue, manager: &ClientManager, run: &Run) -> Result<()> {
    let show = || println!("halted: {}, down: {:?}", manager.is_halted(), manager.get_disconnected_clients());
    if run.is_over_within(Duration::from_millis(500)) {
        return Ok(());
    }
    venue.stop(Ending::Rst);
    if run.is_over_within(Duration::from_secs(1)) {
        return Ok(());
    }
    show();
    venue.restart()?;
    if !run.is_over_within(Duration::from_secs(1)) {
        show();
    }
    Ok(())
}

fn client(
    url: &str,
    coin: &str,
    group: &EngineGroup,
    limit: &ConnectionLimit,
    manager: &ClientManager,
    run: &Run,
) -> Result<Client> {
    let book = format!(r#"{{"method":"subscribe","subscription":{{"type":"l2Book","coin":"{coin}"}}}}"#);
    hypersockets::builder()
        .url(url.to_owned())
        .router(Lengths, |routing| routing.handler((), |_bytes: usize| Ok(())))
        .subscription(Subscription::new(format!("{coin} book"), book))
        .heartbeat(Duration::from_secs(30), WsMessage::text(r#"{"method":"ping"}"#))
        .reconnect_strategy(FixedDelay::new(Duration::from_millis(500), None))
        .connection_limit(limit)
        .engine_group(group)
        .halted_flag(manager.halted_flag())
        .shutdown_flag(run.flag())
        .build()
}

/// A message is its length in bytes: one route for all.
struct Lengths;

impl MessageRouter for Lengths {
    type Message = usize;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<usize> {
        Ok(message.as_bytes().len())
    }

    fn route_key(&self, _: &usize) {}
}

/// Tells what happens to all of them, to the end of the program.
fn follow(events: &ManagerEvents) {
    loop {
        if let Some((name, event)) = events.next_timeout(Duration::from_secs(3_600)) {
            tell(&name, &event);
        }
    }
}
