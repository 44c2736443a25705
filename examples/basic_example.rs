//! The smallest useful client: subscribes, prints what comes, answers Ctrl-C with a report.
//!
//! `cargo run --release --example basic_example` runs against the embedded simulator for five seconds;
//! `… --example basic_example wss://api.hyperliquid.xyz/ws` against the real venue until Ctrl-C.

use std::time::Duration;

use hypersockets::simulator::Venue;
use hypersockets::{CtrlC, DisconnectReason, HyperSocketError, MessageRouter, Result, WsMessage};

/// Takes every text message as it is: one route for all.
struct Lines;

impl MessageRouter for Lines {
    type Message = String;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<String> {
        Ok(message.as_text().ok_or("a binary message")?.to_owned())
    }

    fn route_key(&self, _line: &String) {}
}

fn main() -> Result<()> {
    let ctrl_c = CtrlC::install()?;
    let (url, venue) = match std::env::args().nth(1) {
        Some(url) => (url, None),
        None => {
            let venue = Venue::hyperliquid(["BTC"]).rate_per_sec(5.0).start()?;
            (venue.url(), Some(venue))
        }
    };

    let client = hypersockets::builder()
        .url(url)
        .router(Lines, |routing| {
            routing.handler((), |line: String| {
                println!("{}", line.chars().take(120).collect::<String>());
                Ok(())
            })
        })
        .subscription(r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#)
        .heartbeat(Duration::from_secs(30), WsMessage::text(r#"{"method":"ping"}"#))
        .shutdown_flag(ctrl_c.flag())
        .build();
    let client = match client {
        // Ctrl-C before the venue had answered: nothing has come, so there is nothing to report.
        Err(HyperSocketError::Closed(DisconnectReason::Shutdown)) => return Ok(()),
        client => client?,
    };

    match venue {
        Some(_) => drop(ctrl_c.wait_timeout(Duration::from_secs(5))),
        None => ctrl_c.wait(),
    }
    let report = client.shutdown()?;
    let metrics = &report.metrics;
    println!(
        "received {}, handled {}, sent {}, reconnected {} times; shutdown took {:?}",
        metrics.messages_received,
        metrics.messages_handled,
        metrics.messages_sent,
        metrics.reconnect_count,
        report.took
    );
    Ok(())
}
