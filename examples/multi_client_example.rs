//! Many venues under one roof: a client each, one flag that says whether any of them is down, the events of all in one queue, and one
//! shutdown. New connections keep to a limit that all clients share, and two engines share the clients out.
//!
//! ```text
//! cargo run --release --example multi_client_example             three simulated venues, of which one goes away for a second
//! cargo run --release --example multi_client_example -- wss://api.hyperliquid.xyz/ws      three clients of one venue, until Ctrl-C
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
}

use std::time::Duration;

use clap::Parser;
use hypersockets::simulator::{Ending, Venue};
use hypersockets::{
    Client, ClientEvent, ClientManager, ConnectionEvent, ConnectionLimit, CtrlC, DisconnectReason, Engine, EngineGroup,
    ManagerEvents, MessageRouter, Result, Subscription, WsMessage,
};
use support::demo::{Demo, summary};

const COINS: [&str; 3] = ["BTC", "ETH", "SOL"];

/// Takes every text message as it is: one route for all.
struct Lines;

impl MessageRouter for Lines {
    type Message = usize;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<usize> {
        Ok(message.as_bytes().len())
    }

    fn route_key(&self, _: &usize) {}
}

fn main() -> Result<()> {
    let ctrl_c = CtrlC::install()?;
    let demo = Demo::parse();
    let venues = match demo.url {
        Some(_) => Vec::new(),
        None => COINS
            .map(|coin| Venue::hyperliquid([coin]).rate_per_sec(100.0).start())
            .into_iter()
            .collect::<Result<_, _>>()?,
    };
    let group = EngineGroup::start(["hs-a", "hs-b"].map(|name| Engine::builder().name(name)))?;
    let limit = ConnectionLimit::new(30, Duration::from_secs(60));
    let manager = ClientManager::new(ctrl_c.flag());
    for (number, coin) in COINS.into_iter().enumerate() {
        let url = demo.url.clone().unwrap_or_else(|| venues[number].url());
        let client = client(&url, coin, &group, &limit, &manager)?;
        println!("{coin} is on engine {:?}", group.engine_of(client.connection()));
        manager.add_client(coin, client)?;
    }
    let events = manager.events();
    std::thread::spawn(move || follow(&events));
    match venues.first() {
        Some(venue) => {
            ctrl_c.wait_timeout(Duration::from_secs(2));
            venue.stop(Ending::Rst);
            ctrl_c.wait_timeout(Duration::from_secs(1));
            println!("halted: {}, down: {:?}", manager.is_halted(), manager.get_disconnected_clients());
            venue.restart()?;
            ctrl_c.wait_timeout(Duration::from_secs(3));
            println!("halted: {}, down: {:?}", manager.is_halted(), manager.get_disconnected_clients());
        }
        None => demo.wait(&ctrl_c),
    }
    for (name, outcome) in manager.broadcast(r#"{"method":"ping"}"#)? {
        println!("{name}: ping {}", if outcome.is_ok() { "queued" } else { "refused" });
    }
    for (name, report) in manager.shutdown()? {
        print!("{name} ");
        summary(&report);
    }
    group.shutdown()
}

fn client(
    url: &str,
    coin: &str,
    group: &EngineGroup,
    limit: &ConnectionLimit,
    manager: &ClientManager,
) -> Result<Client> {
    let book = format!(r#"{{"method":"subscribe","subscription":{{"type":"l2Book","coin":"{coin}"}}}}"#);
    hypersockets::builder()
        .url(url.to_owned())
        .router(Lines, |routing| routing.handler((), |_bytes: usize| Ok(())))
        .subscription(Subscription::new(format!("{coin} book"), book))
        .heartbeat(Duration::from_secs(30), WsMessage::text(r#"{"method":"ping"}"#))
        .connection_limit(limit)
        .engine_group(group)
        .halted_flag(manager.halted_flag())
        .build()
}

/// Prints what happens to all of them, to the end of the program.
fn follow(events: &ManagerEvents) {
    loop {
        let Some((name, event)) = events.next_timeout(Duration::from_secs(3_600)) else { continue };
        match event {
            ClientEvent::Connection(ConnectionEvent::Live { epoch }) => println!("{name}: live, session {epoch}"),
            ClientEvent::Connection(ConnectionEvent::Lost { reason: DisconnectReason::Shutdown, .. }) => {}
            ClientEvent::Connection(ConnectionEvent::Lost { reason, .. }) => println!("{name}: lost: {reason}"),
            ClientEvent::DialFailed { retry_in, .. } => println!("{name}: dialing again in {retry_in:?}"),
            _ => {}
        }
    }
}
