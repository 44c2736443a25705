//! The command line. Invariant: what comes out of it can be run; everything else was refused with the reason.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser};
use hypersockets::simulator::Pace;

use super::duration::duration;
use super::hyperliquid::Coin;

/// Live L2 order books from Hyperliquid, one handler thread a coin.
#[derive(Debug, Parser)]
#[command(group(ArgGroup::new("embedded").args(["simulate", "replay"])))]
pub(crate) struct Options {
    /// Where to dial
    #[arg(long, default_value = "wss://api.hyperliquid.xyz/ws", conflicts_with = "embedded")]
    pub(crate) url: String,

    /// Play against the embedded simulator, for 10 s unless --for says otherwise
    #[arg(long)]
    pub(crate) simulate: bool,

    /// Play a recording, one message a line, through the embedded simulator, to its end
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) replay: Option<PathBuf>,

    /// How fast to replay: 1 as recorded, 10 ten times as fast; flat out unless given
    #[arg(long, value_name = "FACTOR", value_parser = above_zero, requires = "replay")]
    pub(crate) speed: Option<f64>,

    /// Speak wss with the simulator
    #[arg(long, requires = "embedded")]
    pub(crate) tls: bool,

    /// Stop by itself after this long, such as 10s, 500ms or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    run_for: Option<Duration>,

    /// Which books, by the venue's own spelling
    #[arg(
        long,
        value_name = "COIN,…",
        value_delimiter = ',',
        value_parser = coin,
        default_value = "BTC,ETH,SOL,HYPE,DOGE,XRP,AVAX,LINK,ARB,SUI",
        conflicts_with = "replay"
    )]
    coins: Vec<Coin>,

    /// Books per second and coin from the simulator; quotes and trades come along
    #[arg(long, value_name = "BOOKS", value_parser = above_zero, default_value_t = 10.0, requires = "simulate")]
    pub(crate) rate: f64,
}

impl Options {
    /// How long to run; `None` is until Ctrl-C or the recording's end.
    pub(crate) fn run_for(&self) -> Option<Duration> {
        self.run_for.or(self.simulate.then_some(SIMULATED_FOR))
    }

    pub(crate) fn pace(&self) -> Pace {
        self.speed.map_or(Pace::FlatOut, Pace::Factor)
    }

    /// Each once, in the order given.
    pub(crate) fn coins(&self) -> Vec<Coin> {
        let mut coins = Vec::with_capacity(self.coins.len());
        for coin in &self.coins {
            if !coins.contains(coin) {
                coins.push(*coin);
            }
        }
        coins
    }
}

/// Long enough to see books move, short enough to wait for.
const SIMULATED_FOR: Duration = Duration::from_secs(10);

fn coin(name: &str) -> Result<Coin, String> {
    Coin::try_from(name.trim()).map_err(|error| format!("no coin: {error}"))
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("must be above zero".to_owned()) }
}
