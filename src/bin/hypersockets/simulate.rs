//! `simulate`: the simulator as a venue for any client.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hypersockets::simulator::{Ending, Pace, Venue};

use crate::client::Running;
use crate::recorded::{load, pace};
use crate::{Result, status};

/// Is a venue on loopback until SIGINT or SIGTERM. Prints its URL on standard output once clients may dial.
#[derive(Args)]
#[command(after_help = "Examples:
  hypersockets simulate --port 9000 --coins BTC,ETH --rate 50
  hypersockets simulate --tls --cert-out venue.pem
  hypersockets simulate --replay feed.hsrec --speed max")]
pub(crate) struct Simulate {
    /// The port on loopback; any free one by default.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Speaks wss, under a certificate authority of its own.
    #[arg(long)]
    tls: bool,
    /// Where to write the certificate to trust, as PEM; `hypersockets-simulator.pem` by default.
    #[arg(long, value_name = "PEM", requires = "tls")]
    cert_out: Option<PathBuf>,
    /// How many coins, or which: `3`, or `BTC,ETH`. It speaks as Hyperliquid does.
    #[arg(long, value_name = "N|LIST", default_value = "BTC,ETH,SOL", value_parser = coins)]
    coins: std::sync::Arc<[String]>,
    /// Books a second of each coin that was subscribed to.
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
            None => Venue::hyperliquid(self.coins.iter()).rate_per_sec(self.rate),
            Some(file) => {
                let recording = load(file)?;
                status::say(&format!("{}: {} messages", file.display(), recording.len()));
                Venue::replay(recording).pace(self.speed)
            }
        };
        let venue = if self.tls { venue.tls() } else { venue };
        let port = self.port;
        let venue = venue.port(port).start().map_err(|error| format!("port {port}: {error}"))?;
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

fn coins(text: &str) -> Result<std::sync::Arc<[String]>, String> {
    let names: Vec<String> = match text.parse::<usize>() {
        Ok(count) => KNOWN_COINS
            .iter()
            .map(|coin| (*coin).to_owned())
            .chain((1..).map(|n| format!("COIN{n}")))
            .take(count)
            .collect(),
        Err(_) => text.split(',').map(|coin| coin.trim().to_owned()).filter(|coin| !coin.is_empty()).collect(),
    };
    if names.is_empty() { Err("at least one coin".to_owned()) } else { Ok(names.into()) }
}

const KNOWN_COINS: [&str; 10] = ["BTC", "ETH", "SOL", "HYPE", "XRP", "DOGE", "AVAX", "LINK", "ARB", "SUI"];
