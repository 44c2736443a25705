//! `listen`: prints what a venue sends.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::client::{Connection, Running, end, follow, say_if_never_live};
use crate::print::{AsItIs, Format, Outcome, Printer};
use crate::{Result, status};

/// Prints every message on a line of its own, line breaks in it as `\n` and `\r`, binary ones as base64. Reconnects for
/// ever, after 1, 2, 4 … 60 s. SIGINT and SIGTERM end it: all that had arrived is printed, and the exit code is 0.
#[derive(Args)]
#[command(after_help = "Examples:
  hypersockets listen wss://api.hyperliquid.xyz/ws \\
    --subscribe '{\"method\":\"subscribe\",\"subscription\":{\"type\":\"trades\",\"coin\":\"BTC\"}}'
  hypersockets listen wss://stream.binance.com:9443/ws/btcusdt@trade --jsonl --for 1m > trades.jsonl
  hypersockets listen ws://127.0.0.1:8080/ --heartbeat '20s=ping' --count 100 | jq .")]
pub(crate) struct Listen {
    /// `ws://…` or `wss://…`
    url: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// Ends after this time: `30s`, `5m`.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    for_long: Option<Duration>,
    /// Ends after so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Says nothing on standard error but errors.
    #[arg(short, long)]
    quiet: bool,
}

impl Listen {
    pub(crate) fn run(&self) -> Result<()> {
        let running = Running::new(self.for_long)?;
        let outcome = Arc::<Outcome>::default();
        let printer = Printer::new(self.format, self.count, &running, &outcome)?;
        let client = self
            .connection
            .builder(&self.url)?
            .router(AsItIs, |routing| routing.handler((), printer))
            .shutdown_flag(running.flag())
            .start()?;
        let followed = follow(&client, &running, self.quiet);
        let ended = end(&client);
        followed?;
        if outcome.is_closed() {
            return Ok(());
        }
        if let Some(error) = outcome.error() {
            return Err(format!("standard output: {error}").into());
        }
        let report = ended?;
        if !self.quiet {
            say_if_never_live(&client);
            let metrics = &report.metrics;
            status::say(&format!(
                "{} messages in {} bytes, {} reconnects",
                metrics.messages_received, metrics.bytes_received, metrics.reconnect_count
            ));
        }
        Ok(())
    }
}
