//! How a client is built from arguments, and how it is waited for.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use hypersockets::{
    Client, ClientBuilder, ClientEvent, ClientState, Compression, CtrlC, DisconnectReason, HasUrl, HeaderProvider,
    Headers, NoRouter, ShutdownReport, TextPassivePing, TlsOptions, WsMessage,
};

use crate::{Result, status};

/// How to dial, and what to say there.
#[derive(Args)]
pub(crate) struct Connection {
    /// A message to send at the start of each session; may be given several times.
    #[arg(long, value_name = "JSON")]
    subscribe: Vec<String>,
    /// Trusts the certificates of this PEM file too.
    #[arg(long, value_name = "PEM")]
    ca_file: Option<PathBuf>,
    /// A header for the upgrade request, `Name: value`; may be given several times. The value is never printed.
    #[arg(long, value_name = "K:V", value_parser = header)]
    header: Vec<(String, String)>,
    /// Lets headers go over plain ws:// to other hosts, where everyone on the way can read them.
    #[arg(long)]
    dangerous_plain_text_credentials: bool,
    /// Sends this text every so often, as `30s={"op":"ping"}`.
    #[arg(long, value_name = "EVERY=TEXT", value_parser = heartbeat)]
    heartbeat: Option<(Duration, String)>,
    /// Answers the venue's text `ping` by the text `pong`, and prints neither.
    #[arg(long, value_name = "PING=PONG", value_parser = text_ping)]
    text_ping: Option<(String, String)>,
    /// Offers compression (permessage-deflate).
    #[arg(long)]
    deflate: bool,
    /// The largest message to accept, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    max_message: u64,
}

impl Connection {
    /// Whether compression is offered.
    pub(crate) fn deflates(&self) -> bool {
        self.deflate
    }

    /// A builder with all of this.
    pub(crate) fn builder(&self, url: &str) -> Result<ClientBuilder<HasUrl, NoRouter>> {
        let mut builder = hypersockets::builder().url(url).max_message_bytes(self.max_message);
        let subscriptions = self.subscribe.iter().map(|text| WsMessage::text(text.clone())).collect();
        builder = builder.subscriptions(subscriptions);
        if self.deflate {
            builder = builder.compression(Compression::deflate());
        }
        if let Some(file) = &self.ca_file {
            let pem = std::fs::read(file).map_err(|error| format!("--ca-file {}: {error}", file.display()))?;
            builder = builder.tls(TlsOptions::new().add_root_pem(&pem));
        }
        if !self.header.is_empty() {
            builder = builder.headers(FixedHeaders::new(&self.header)?);
        }
        if self.dangerous_plain_text_credentials {
            builder = builder.dangerous_plain_text_credentials();
        }
        if let Some((every, text)) = &self.heartbeat {
            builder = builder.heartbeat(*every, WsMessage::text(text.clone()));
        }
        if let Some((ping, pong)) = &self.text_ping {
            builder = builder.passive_ping(TextPassivePing::new(ping.clone(), WsMessage::text(pong.clone())));
        }
        Ok(builder)
    }
}

/// The headers of the command line, the same at every dial.
struct FixedHeaders(Headers);

impl FixedHeaders {
    fn new(pairs: &[(String, String)]) -> Result<Self> {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            if headers.keys().any(|known| known.eq_ignore_ascii_case(name)) {
                return Err(format!("--header {name} is given twice").into());
            }
            headers.insert(name.clone(), value.clone());
        }
        Ok(Self(headers))
    }
}

impl HeaderProvider for FixedHeaders {
    fn get_headers(&self) -> Headers {
        self.0.clone()
    }
}

/// What ends a run: a signal, the time, or somebody of ours who has had enough.
#[derive(Clone)]
pub(crate) struct Running {
    flag: Arc<AtomicBool>,
    until: Option<Instant>,
}

impl Running {
    /// Catches the signals.
    pub(crate) fn new(for_long: Option<Duration>) -> Result<Self> {
        let flag = CtrlC::install()?.flag();
        Ok(Self { flag, until: for_long.and_then(|time| Instant::now().checked_add(time)) })
    }

    /// What a client watches.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    pub(crate) fn stop(&self) {
        self.flag.store(false, Ordering::Release);
    }

    /// False once it is time to go.
    pub(crate) fn goes_on(&self) -> bool {
        self.flag.load(Ordering::Acquire) && self.until.is_none_or(|until| Instant::now() < until)
    }

    /// Waits for this long, less where it is time to go.
    pub(crate) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while self.goes_on() && Instant::now() < until {
            thread::sleep(self.patience().min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// How long to wait for something else before looking again.
    pub(crate) fn patience(&self) -> Duration {
        let left = self.until.map_or(LOOK_EVERY, |until| until.saturating_duration_since(Instant::now()));
        left.min(LOOK_EVERY)
    }
}

/// Says what happens to the client, until it is time to go or it has closed by itself.
///
/// # Errors
/// As [`say_event`].
pub(crate) fn follow(client: &Client, running: &Running, quiet: bool) -> Result<()> {
    let events = client.events();
    while running.goes_on() {
        match events.next_timeout(running.patience()) {
            Some(ClientEvent::Closed { .. }) => return Ok(()),
            Some(event) => say_event(&event, quiet)?,
            // Its last event is lost where too many came before it.
            None if has_ended(client) => return Ok(()),
            None => {}
        }
    }
    Ok(())
}

/// Says what happened, unless it is of no interest.
///
/// # Errors
/// Where dialling again will never help: what we were told to send in the upgrade request is no header.
pub(crate) fn say_event(event: &ClientEvent, quiet: bool) -> Result<()> {
    if let ClientEvent::DialFailed { reason: DisconnectReason::InvalidHeader(what), .. } = event {
        return Err(format!("--header: {what}").into());
    }
    if !quiet && let Some(words) = status::words(event) {
        status::say(&words);
    }
    Ok(())
}

/// Whether the client will never be live again.
pub(crate) fn has_ended(client: &Client) -> bool {
    matches!(client.state(), ClientState::Closed | ClientState::Failed)
}

/// Waits until the client has closed by itself, for at most [`LAST_WORDS`].
pub(crate) fn await_closed(client: &Client) {
    let (events, until) = (client.events(), Instant::now() + LAST_WORDS);
    while !has_ended(client) && Instant::now() < until {
        events.next_timeout(LOOK_EVERY);
    }
}

/// Says so where there was no session from beginning to end: nothing that was received is then no news of the venue.
pub(crate) fn say_if_never_live(client: &Client) {
    if client.epoch() == 0 {
        status::say("there was no connection in all that time");
    }
}

/// Shuts the client down: everything that had arrived is handled first.
///
/// # Errors
/// Where something is left, or where the client had given up by itself.
pub(crate) fn end(client: &Client) -> Result<ShutdownReport> {
    let report = client.shutdown_within(LAST_WORDS)?;
    if report.unhandled > 0 {
        return Err(format!("{} messages could not be given out within {LAST_WORDS:?}", report.unhandled).into());
    }
    match &report.reason {
        DisconnectReason::Shutdown => Ok(report),
        reason => Err(reason.to_string().into()),
    }
}

/// So long before now, in nanoseconds since 1970.
pub(crate) fn unix_ns_ago(age: Duration) -> u64 {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.saturating_sub(age).as_nanos()).unwrap_or(u64::MAX)
}

fn header(text: &str) -> Result<(String, String), String> {
    // The value may be a secret, so no error shows it.
    let (name, value) = text.split_once(':').ok_or("expected `Name: value`")?;
    Ok((name.trim().to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

fn heartbeat(text: &str) -> Result<(Duration, String), String> {
    let (every, text) = text.split_once('=').ok_or("expected `30s=TEXT`")?;
    let every = humantime::parse_duration(every.trim()).map_err(|error| format!("{every:?}: {error}"))?;
    if every.is_zero() {
        return Err("a heartbeat needs some time between its beats".to_owned());
    }
    Ok((every, text.to_owned()))
}

fn text_ping(text: &str) -> Result<(String, String), String> {
    let (ping, pong) = text.split_once('=').ok_or("expected `ping=pong`")?;
    Ok((ping.to_owned(), pong.to_owned()))
}

/// The flag is also cleared by signals, which wake nobody.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For what has arrived and waits to be printed, however slow the reader of our output is.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(60);
