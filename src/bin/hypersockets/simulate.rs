//! `simulate`: the simulator as a venue for any client.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hypersockets::simulator::{Ending, Pace, Venue, VenueBuilder};

use crate::client::Running;
use crate::recorded::{load, pace};
use crate::{Result, status};

/// Is a venue on loopback until SIGINT or SIGTERM. Prints its URL on standard output once clients may dial.
#[derive(Args)]
#[command(after_help = "Examples:
  hypersockets simulate --port 9000 --coins BTC,ETH --rate 50
  hypersockets simulate --venue kraken --coins BTC/USD --lose-every 100
  hypersockets simulate --tls --cert-out venue.pem
  hypersockets simulate --replay feed.hsrec --speed max")]
pub(crate) struct Simulate {
    /// The port on loopback; any free one by default.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Speaks wss, under a certificate authority of its own.
    #[arg(long)]
    tls: bool,
    /// Accepts compression (permessage-deflate) from who offers it.
    #[arg(long)]
    deflate: bool,
    /// Where to write the certificate to trust, as PEM; `hypersockets-simulator.pem` by default.
    #[arg(long, value_name = "PEM", requires = "tls")]
    cert_out: Option<PathBuf>,
    /// Whose formats it speaks.
    #[arg(long, value_name = "WHO", default_value = "hyperliquid")]
    venue: Speaks,
    /// How many coins, or which, by the venue's own spelling: `3`; `BTC,ETH`, `BTCUSDT`, `BTC/USD`, or at Lighter `0,1`.
    #[arg(long, value_name = "N|LIST", default_value = "3", value_parser = coins)]
    coins: Coins,
    /// Loses every Nth update of a book, where the venue's books have updates.
    #[arg(long, value_name = "N", default_value_t = 0)]
    lose_every: u64,
    /// Books, or updates of them, a second of each coin.
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    rate: f64,
    /// Plays this recording to each session in place of the coins, from its first message on.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// How fast to replay: so many times as fast as recorded, or `max`.
    #[arg(long, value_name = "X|max", default_value = "1", value_parser = pace, requires = "replay")]
    speed: Pace,
    /// Ends after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    for_long: Option<Duration>,
}

impl Simulate {
    pub(crate) fn run(&self) -> Result<()> {
        let running = Running::new(self.for_long)?;
        let venue = match &self.replay {
            None => self.venue.speaking(&self.coins)?.rate_per_sec(self.rate).lose_every(self.lose_every),
            Some(file) => {
                let recording = load(file)?;
                status::say(&format!("{}: {} messages", file.display(), recording.len()));
                Venue::replay(recording).pace(self.speed).replay_on_connect()
            }
        };
        let venue = if self.tls { venue.tls() } else { venue };
        let venue = if self.deflate { venue.deflate() } else { venue };
        let port = self.port;
        let venue = venue.port(port).start().map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => error.to_string(),
            _ => format!("port {port}: {error}"),
        })?;
        if let Some(pem) = venue.root_certificate_pem() {
            let file = self.cert_out.clone().unwrap_or_else(|| PathBuf::from("hypersockets-simulator.pem"));
            std::fs::write(&file, pem).map_err(|error| format!("{}: {error}", file.display()))?;
            status::say(&format!("the certificate to trust is in {}", file.display()));
        }
        let mut out = std::io::stdout();
        writeln!(out, "{}", venue.url()).and_then(|()| out.flush())?;
        while running.goes_on() {
            if let Ok(session) = venue.next_session(running.patience()) {
                status::say(&format!("session {}", session.number()));
            }
        }
        let sessions = venue.sessions_accepted();
        venue.stop(Ending::Fin);
        status::say(&format!("{sessions} sessions, {} messages sent", venue.sent()));
        Ok(())
    }
}

/// What was asked for under `--coins`.
#[derive(Clone)]
enum Coins {
    Count(usize),
    Named(Vec<String>),
}

fn coins(text: &str) -> Result<Coins, String> {
    let coins = match text.parse::<usize>() {
        Ok(count) => Coins::Count(count),
        Err(_) => {
            Coins::Named(text.split(',').map(|coin| coin.trim().to_owned()).filter(|coin| !coin.is_empty()).collect())
        }
    };
    match &coins {
        Coins::Named(names) if names.is_empty() => Err("at least one coin".to_owned()),
        _ => Ok(coins),
    }
}

/// Whose formats a venue speaks.
#[derive(Clone, Copy, ValueEnum)]
enum Speaks {
    Hyperliquid,
    Binance,
    Kraken,
    Lighter,
}

impl Speaks {
    fn speaking(self, coins: &Coins) -> Result<VenueBuilder> {
        let named = |suffix: &str| match coins {
            Coins::Named(names) => names.clone(),
            Coins::Count(count) => {
                let known = KNOWN_COINS.iter().map(|coin| (*coin).to_owned()).chain((1..).map(|n| format!("COIN{n}")));
                known.take(*count).map(|coin| coin + suffix).collect()
            }
        };
        Ok(match self {
            Self::Hyperliquid => Venue::hyperliquid(named("")),
            Self::Binance => Venue::binance(named("USDT")),
            Self::Kraken => Venue::kraken(named("/USD")),
            // A number that is no count, but its first market's.
            Self::Lighter if matches!(coins, Coins::Count(0)) => Venue::lighter([0]),
            _ if matches!(coins, Coins::Count(0)) => return Err("--coins: at least one coin".into()),
            Self::Lighter => Venue::lighter(match coins {
                Coins::Count(count) => (0..*count as u32).collect::<Vec<_>>(),
                Coins::Named(names) => {
                    let numbers = names.iter().map(|name| name.parse()).collect::<Result<_, _>>();
                    numbers.map_err(|error| format!("--coins: Lighter's markets go by numbers: {error}"))?
                }
            }),
        })
    }
}

const KNOWN_COINS: [&str; 10] = ["BTC", "ETH", "SOL", "HYPE", "XRP", "DOGE", "AVAX", "LINK", "ARB", "SUI"];
