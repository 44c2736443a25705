//! The smallest useful client: subscribes, prints what comes, answers Ctrl-C with a report.
//!
//! ```text
//! cargo run --release --example basic_example                                    the embedded simulator, for 5 s
//! cargo run --release --example basic_example -- wss://api.hyperliquid.xyz/ws    the real venue, until Ctrl-C
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
}

use std::time::Duration;

use clap::Parser;
use hypersockets::simulator::Venue;
use hypersockets::{CtrlC, DisconnectReason, HyperSocketError, MessageRouter, Result, WsMessage};
use support::demo::{Demo, summary};

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
    let demo = Demo::parse();
    let simulated = match demo.url {
        Some(_) => None,
        None => Some(Venue::hyperliquid(["BTC"]).rate_per_sec(5.0).start()?),
    };
    let url = demo.url.clone().or(simulated.as_ref().map(Venue::url)).unwrap_or_default();

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

    demo.wait(&ctrl_c);
    summary(&client.shutdown()?);
    Ok(())
}
