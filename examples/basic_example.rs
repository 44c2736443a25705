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

use std::process::ExitCode;
use std::time::Duration;

use hypersockets::simulator::Venue;
use hypersockets::{MessageRouter, Result, WsMessage};
use support::demo::{Run, run, summary};

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

fn main() -> ExitCode {
    run("The smallest useful client: subscribes, prints what comes, answers Ctrl-C with a report", example)
}

fn example(run: &Run) -> Result<()> {
    let (url, _venue) = run.url_or(|| Ok(Venue::hyperliquid(["BTC"]).rate_per_sec(5.0).start()?), Venue::url)?;
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
        .shutdown_flag(run.flag())
        .build()?;

    run.wait(&client);
    summary(&client.shutdown()?);
    Ok(())
}
