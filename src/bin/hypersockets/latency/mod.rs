//! `latency`: where each microsecond goes, of a venue or of the simulator.

mod screen;
mod tick;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use hypersockets::report::{self, HtmlReport, IntervalLog};
use hypersockets::simulator::{Ending, Venue};
use hypersockets::{
    Client, Engine, IdleStrategy, LatencyReport, Metrics, NeverReconnect, RouteOptions, SocketOptions, TlsOptions,
};

use crate::Result;
use crate::client::{Connection, LAST_WORDS, Running, await_closed, has_ended, say_event, say_if_never_live};
use screen::Screen;
use tick::{Tick, Ticks};

/// Connects, measures each message stage by stage (in the kernel, from the read to the parser, in the parser, in the
/// queue, in the handler) and sums it up. The parser reads each message as JSON, by simd-json; the handler has a thread
/// of its own and does nothing.
#[derive(Args)]
#[command(after_help = "Examples:
  hypersockets latency --simulate --for 5s --json
  hypersockets latency --simulate --rate 20000 --size 2048 --connections 4 --tls --idle busy --core 2
  hypersockets latency wss://api.hyperliquid.xyz/ws --for 1m --html btc.html \\
    --subscribe '{\"method\":\"subscribe\",\"subscription\":{\"type\":\"bbo\",\"coin\":\"BTC\"}}'")]
pub(crate) struct Latency {
    /// `ws://…` or `wss://…`
    #[arg(required_unless_present = "simulate", conflicts_with = "simulate")]
    url: Option<String>,
    #[command(flatten)]
    connection: Connection,
    /// Ends after this time: `30s`, `5m`. Until Ctrl-C by default.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    for_long: Option<Duration>,
    /// The core that the loop is pinned to.
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// What the loop and the handler do while nothing comes.
    #[arg(long, value_enum, default_value_t = Idle::Backoff)]
    idle: Idle,
    /// Measures against a venue in this process.
    #[arg(long)]
    simulate: bool,
    /// Messages a second of each connection.
    #[arg(long, value_name = "N", default_value_t = 1_000.0, conflicts_with = "url")]
    rate: f64,
    /// The size of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 150, conflicts_with = "url")]
    size: usize,
    /// How many connections, all on one loop.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "url", value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// Over TLS.
    #[arg(long, conflicts_with = "url")]
    tls: bool,
    /// Writes a page with tables and plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Writes HdrHistogram's percentile text: the total into FILE, each stage into FILE with the stage before its extension.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Writes HdrHistogram's interval log, a line a second and stage.
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
    /// Prints one JSON object at the end in place of a table; all times in nanoseconds.
    #[arg(long)]
    json: bool,
    /// Says nothing on standard error but errors.
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Idle {
    /// Never sleeps: for a core of its own.
    Busy,
    /// Spins while messages come often enough, sleeps otherwise.
    Backoff,
    /// Sleeps at once.
    Park,
}

impl From<Idle> for IdleStrategy {
    fn from(idle: Idle) -> Self {
        match idle {
            Idle::Busy => Self::BusySpin,
            Idle::Backoff => Self::default(),
            Idle::Park => Self::Park,
        }
    }
}

/// What was seen in all.
struct Outcome {
    latency: LatencyReport,
    metrics: Vec<Metrics>,
    /// By the simulator.
    sent: Option<u64>,
}

impl Latency {
    pub(crate) fn run(&self) -> Result<()> {
        let running = Running::new(self.for_long)?;
        let venue = self.venue()?;
        let url = match (&self.url, &venue) {
            (Some(url), _) => url.clone(),
            (None, Some(venue)) => venue.url(),
            (None, None) => return Err("neither a URL nor --simulate was given".into()),
        };
        let mut log = match &self.hlog {
            Some(path) => Some(IntervalLog::new(BufWriter::new(File::create(path).map_err(at(path))?))),
            None => None,
        };
        // Better now than behind an hour of measuring.
        for path in self.html.iter().chain(&self.hgrm) {
            File::create(path).map_err(at(path))?;
        }
        let mut html = HtmlReport::new(format!("Latency of {}", source(&url)))
            .note("Idle", IdleStrategy::from(self.idle).to_string());

        let engine = self.core.into_iter().fold(Engine::builder().name("hs-loop"), |engine, core| engine.core(core));
        let engine = engine.idle(self.idle.into()).start()?;
        let clients = self.start(&url, venue.as_ref(), &engine, &running)?;
        let mut take = |interval: &LatencyReport| {
            html.interval(interval);
            log.as_mut().map_or(Ok(()), |log| log.write(interval))
        };
        let before = self.watch(&clients, &running, &mut take)?;
        if !self.quiet {
            clients.iter().for_each(say_if_never_live);
        }
        let outcome = self.end(&clients, venue.as_ref())?;
        take(&outcome.latency.since(&before))?;
        engine.shutdown()?;

        self.write_files(&outcome, &html)?;
        let printed = self.print(&outcome);
        if let Some(sent) = outcome.sent
            && sent != outcome.handled()
        {
            return Err(format!("the venue sent {sent} messages, {} were handled", outcome.handled()).into());
        }
        printed
    }

    fn venue(&self) -> Result<Option<Venue>> {
        if !self.simulate {
            return Ok(None);
        }
        let venue = Venue::ticks(self.size).rate_per_sec(self.rate);
        let venue = if self.tls { venue.tls() } else { venue };
        let venue = if self.connection.deflates() { venue.deflate() } else { venue };
        Ok(Some(venue.start().map_err(|error| format!("--simulate: {error}"))?))
    }

    fn start(&self, url: &str, venue: Option<&Venue>, engine: &Engine, running: &Running) -> Result<Vec<Client>> {
        let start = |_| {
            let mut builder = self.connection.builder(url)?;
            if let Some(venue) = venue {
                // Ours goes away once, at the end.
                builder = builder.reconnect_strategy(NeverReconnect);
                if let Some(der) = venue.root_certificate_der() {
                    builder = builder.tls(TlsOptions::new().add_root_der(der));
                }
            }
            let options = RouteOptions::new().idle(self.idle.into());
            Ok(builder
                .router(Ticks, |routing| routing.handler_with((), |_: Tick| Ok(()), options))
                .engine(engine)
                .socket(SocketOptions::new().kernel_timestamps())
                .measure_latency()
                .shutdown_flag(running.flag())
                .start()?)
        };
        (0..self.connections).map(start).collect()
    }

    /// Waits and shows, until it is time to go or all clients have closed by themselves; an interval a second. Gives the
    /// last report.
    fn watch(
        &self,
        clients: &[Client],
        running: &Running,
        mut each: impl FnMut(&LatencyReport) -> io::Result<()>,
    ) -> Result<LatencyReport> {
        let mut screen = Screen::new(self.quiet);
        let mut before = read(clients);
        while running.goes_on() && !clients.iter().all(has_ended) {
            running.pause(Duration::from_secs(1));
            for client in clients {
                let events = client.events();
                while let Some(event) = events.try_next() {
                    say_event(&event, self.quiet || screen.is_live())?;
                }
            }
            let now = read(clients);
            let interval = now.since(&before);
            each(&interval)?;
            screen.show(&interval, &now, clients);
            before = now;
        }
        Ok(before)
    }

    /// Ends the clients: by the venue's going where it is ours, so that all it sent arrives.
    fn end(&self, clients: &[Client], venue: Option<&Venue>) -> Result<Outcome> {
        if let Some(venue) = venue {
            venue.stop(Ending::Fin);
            clients.iter().for_each(await_closed);
        }
        let reports: Result<Vec<_>, _> = clients.iter().map(|client| client.shutdown_within(LAST_WORDS)).collect();
        let metrics: Vec<_> = reports?.into_iter().map(|report| report.metrics).collect();
        Ok(Outcome { latency: read(clients), metrics, sent: venue.map(Venue::sent) })
    }

    fn write_files(&self, outcome: &Outcome, html: &HtmlReport) -> Result<()> {
        if let Some(path) = &self.html {
            fs::write(path, html.render(&outcome.latency)).map_err(at(path))?;
        }
        if let Some(path) = &self.hgrm {
            for (stage, latency) in outcome.latency.stages.named().into_iter().filter(|(_, all)| all.count() > 0) {
                let path = if stage == "total" { path.clone() } else { with_stage(path, stage) };
                fs::write(&path, report::hgrm(latency)).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    fn print(&self, outcome: &Outcome) -> Result<()> {
        let mut out = io::stdout().lock();
        if !self.json {
            out.write_all(screen::summary(&outcome.latency, outcome.reconnects(), outcome.received()).as_bytes())?;
            return Ok(());
        }
        let mut object = report::json(&outcome.latency);
        object["connections"] = self.connections.into();
        object["messages_received"] = outcome.received().into();
        object["messages_handled"] = outcome.handled().into();
        object["messages_sent_by_venue"] = outcome.sent.into();
        object["reconnects"] = outcome.reconnects().into();
        writeln!(out, "{object}")?;
        Ok(())
    }
}

impl Outcome {
    fn sum(&self, field: fn(&Metrics) -> u64) -> u64 {
        self.metrics.iter().map(field).sum()
    }

    fn received(&self) -> u64 {
        self.sum(|metrics| metrics.messages_received)
    }

    fn handled(&self) -> u64 {
        self.sum(|metrics| metrics.messages_handled)
    }

    fn reconnects(&self) -> u64 {
        self.sum(|metrics| metrics.reconnect_count)
    }
}

fn read(clients: &[Client]) -> LatencyReport {
    LatencyReport::merged(&clients.iter().map(Client::latency).collect::<Vec<_>>())
}

/// What may be shown of a URL: its path and query may hold a key.
fn source(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find(['/', '?', '#']).map_or(url.len(), |at| authority + at);
    match url[authority..end].rfind('@') {
        Some(at) => &url[authority + at + 1..end],
        None => &url[..end],
    }
}

/// `feed.hgrm` and `queue` are `feed.queue.hgrm`.
fn with_stage(path: &Path, stage: &str) -> PathBuf {
    match path.extension() {
        Some(extension) => path.with_extension(format!("{stage}.{}", extension.to_string_lossy())),
        None => path.with_extension(stage),
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}
