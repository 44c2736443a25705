//! What the small examples have in common: a command line, an end by Ctrl-C or by the clock, a line for whatever happens to a
//! connection meanwhile, and the closing summary.
#![allow(dead_code)] // each example takes its own part of the support

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, CommandFactory, FromArgMatches, Parser};
use hypersockets::{
    Client, ClientEvent, ConnectionEvent, CtrlC, DisconnectReason, HyperSocketError, Result, ShutdownReport,
};

use super::duration::duration;

// The command line of the small examples, and what one of them has `more`. No doc comment: each example has its own description, which
// clap would replace by this one.
#[derive(Debug, Parser)]
pub(crate) struct Demo<More: Args = Nothing> {
    /// Where to dial; the embedded simulator unless given
    pub(crate) url: Option<String>,

    /// Play against the embedded simulator, which is the default
    #[arg(long, conflicts_with = "url")]
    simulate: bool,

    /// Stop by itself after this long, such as 10s, 500ms or 2m; after 5s with the simulator unless given
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) run_for: Option<Duration>,

    #[command(flatten)]
    pub(crate) more: More,
}

// No arguments beyond the common ones; no doc comment, for the same reason.
#[derive(Debug, Args)]
pub(crate) struct Nothing {}

impl<More: Args> Demo<More> {
    /// How long to run; `None` is until Ctrl-C.
    pub(crate) fn longest(&self) -> Option<Duration> {
        self.run_for.or(self.url.is_none().then_some(SIMULATED_FOR))
    }
}

/// Runs an example, whose `--help` begins with `about`. What went wrong is told on stderr.
pub(crate) fn run<More: Args>(about: &'static str, example: impl FnOnce(&Run<More>) -> Result<()>) -> ExitCode {
    let arguments = Demo::<More>::command().about(about).get_matches();
    let demo = Demo::from_arg_matches(&arguments).unwrap_or_else(|error| error.exit());
    let run = match CtrlC::install() {
        Ok(ctrl_c) => Run::begin(demo, ctrl_c),
        Err(error) => return failure(&error.to_string()),
    };
    match example(&run) {
        Ok(()) => ExitCode::SUCCESS,
        // What a builder answers whose flag turned false before the first session.
        Err(
            HyperSocketError::Closed(DisconnectReason::Shutdown)
            | HyperSocketError::ConnectFailed(DisconnectReason::Shutdown),
        ) => match run.demo.longest() {
            Some(longest) if !run.is_interrupted() => failure(&format!("not connected within {longest:?}")),
            _ => {
                eprintln!("stopped before the first session");
                ExitCode::SUCCESS
            }
        },
        Err(error) => failure(&error.to_string()),
    }
}

fn failure(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}

/// An example that runs: what it was asked for, and its end.
pub(crate) struct Run<More: Args = Nothing> {
    pub(crate) demo: Demo<More>,
    ctrl_c: CtrlC,
    ends: Option<Instant>,
}

impl<More: Args> Run<More> {
    fn begin(demo: Demo<More>, ctrl_c: CtrlC) -> Self {
        let longest = demo.longest();
        if let Some(longest) = longest {
            let ctrl_c = ctrl_c.clone();
            // Clients watch one flag for both ends: so a client that is still connecting is over in time, too.
            thread::spawn(move || {
                ctrl_c.wait_timeout(longest);
                ctrl_c.flag().store(false, Ordering::Release);
            });
        }
        Self { demo, ctrl_c, ends: longest.and_then(|longest| Instant::now().checked_add(longest)) }
    }

    /// The URL that was given; else that of the simulated venue, which then is there as long as it is held.
    pub(crate) fn url_or<V>(
        &self,
        start: impl FnOnce() -> Result<V>,
        url_of: fn(&V) -> String,
    ) -> Result<(String, Option<V>)> {
        if let Some(url) = &self.demo.url {
            return Ok((url.clone(), None));
        }
        let venue = start()?;
        Ok((url_of(&venue), Some(venue)))
    }

    /// For [`shutdown_flag`](hypersockets::ClientBuilder::shutdown_flag): true until Ctrl-C, or until the time is over.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.ctrl_c.flag()
    }

    /// Whether the end has come.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over_within(Duration::ZERO)
    }

    /// Waits this long, and not beyond the end; whether the end has come.
    pub(crate) fn is_over_within(&self, longest: Duration) -> bool {
        let left = self.ends.map_or(longest, |ends| ends.saturating_duration_since(Instant::now()));
        self.ctrl_c.wait_timeout(left.min(longest)) || left <= longest && self.ends.is_some()
    }

    /// Waits for the end of the run, or of the client where that comes first; tells its events.
    pub(crate) fn wait(&self, client: &Client) {
        self.wait_all(&[("connection", client)]);
    }

    /// The same, with several clients and what to call them.
    pub(crate) fn wait_all(&self, clients: &[(&str, &Client)]) {
        let mut open = clients.len();
        while open > 0 && !self.is_over_within(TICK) {
            for (name, client) in clients {
                while let Some(event) = client.events().try_next() {
                    tell(name, &event);
                    open -= usize::from(matches!(event, ClientEvent::Closed { .. }));
                }
            }
        }
    }

    fn is_interrupted(&self) -> bool {
        self.ctrl_c.wait_timeout(Duration::ZERO)
    }
}

/// One line on stderr for what happens to a connection.
pub(crate) fn tell(name: &str, event: &ClientEvent) {
    if let Some(told) = words(event) {
        eprintln!("{name}: {told}");
    }
}

/// What happens to a connection, in words; `None` where that is no news, as our own shutdown is none.
pub(crate) fn words(event: &ClientEvent) -> Option<String> {
    Some(match event {
        ClientEvent::Connection(ConnectionEvent::Lost { reason: DisconnectReason::Shutdown, .. })
        | ClientEvent::Closed { reason: DisconnectReason::Shutdown } => return None,
        ClientEvent::Connection(ConnectionEvent::Live { epoch }) => format!("live, session {epoch}"),
        ClientEvent::Connection(ConnectionEvent::Lost { epoch, reason, .. }) => {
            format!("session {epoch} lost: {reason}")
        }
        ClientEvent::DialFailed { reason, retry_in, .. } => format!("dials again in {retry_in:.1?}: {reason}"),
        ClientEvent::HeldBack { retry_in } => format!("the next dial waits {retry_in:.1?} for its turn"),
        ClientEvent::Closed { reason } => format!("closed for good: {reason}"),
        ClientEvent::SubscriptionFailed { name, why } => format!("the venue refuses {name}: {why}"),
        ClientEvent::ParseFailed { error } => format!("not understood: {error}"),
        ClientEvent::HandlerFailed { route, error } => format!("handler of {route} failed: {error}"),
        ClientEvent::Unrouted { route } => format!("nobody handles {route}"),
        _ => return None,
    })
}

/// Says how it went.
pub(crate) fn summary(report: &ShutdownReport) {
    let metrics = &report.metrics;
    let errors = metrics.parse_errors + metrics.parse_panics + metrics.handler_errors + metrics.handler_panics;
    println!("--");
    print!("received {}, handled {}", metrics.messages_received, metrics.messages_handled);
    if report.unhandled > 0 {
        print!(", unhandled {}", report.unhandled);
    }
    println!(
        ", sent {}; errors {errors}; {} reconnects; closed in {:.1?}: {}",
        metrics.messages_sent, metrics.reconnect_count, report.took, report.reason
    );
    let panics = metrics.parse_panics + metrics.handler_panics;
    if panics > 0 {
        println!("{panics} of the errors were panics");
    }
}

/// Long enough to see something, short enough to wait for.
const SIMULATED_FOR: Duration = Duration::from_secs(5);
/// How soon an event is told. Ctrl-C is seen at once.
const TICK: Duration = Duration::from_millis(20);
