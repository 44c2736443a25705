//! `record`: a venue's messages into a file, with the times at which they came.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use hypersockets::simulator::RecordingWriter;
use hypersockets::{ConnectionEvent, Delivery, MessageHandler};

use crate::client::{Connection, Running, end, follow, say_if_never_live, unix_ns_ago};
use crate::print::{AsItIs, Raw};
use crate::{Result, status};

/// Writes every message and its receive time into a new file, which `replay` and `simulate --replay` read. Reconnects for
/// ever, and notes where messages may be missing. The file may be cut anywhere, by a crash or a full disk: what came
/// before is read back.
#[derive(Args)]
#[command(after_help = "Example:
  hypersockets record wss://api.hyperliquid.xyz/ws btc.hsrec --for 10m \\
    --subscribe '{\"method\":\"subscribe\",\"subscription\":{\"type\":\"l2Book\",\"coin\":\"BTC\"}}'")]
pub(crate) struct Record {
    /// `ws://…` or `wss://…`
    url: String,
    /// The file to write; it must not be there yet.
    file: PathBuf,
    #[command(flatten)]
    connection: Connection,
    /// Ends after this time: `30s`, `5m`.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    for_long: Option<Duration>,
    /// Says nothing on standard error but errors.
    #[arg(short, long)]
    quiet: bool,
}

impl Record {
    pub(crate) fn run(&self) -> Result<()> {
        let running = Running::new(self.for_long)?;
        let builder = self.connection.builder(&self.url)?;
        let writer = RecordingWriter::create(&self.file).map_err(|error| self.at_fault(&error))?;
        let failed = Arc::<Mutex<Option<io::Error>>>::default();
        let recorder = Recorder { writer, failed: Arc::clone(&failed), running: running.clone(), last_unix_ns: 0 };
        let client =
            builder.router(AsItIs, |routing| routing.handler((), recorder)).shutdown_flag(running.flag()).start()?;
        let followed = follow(&client, &running, self.quiet);
        let ended = end(&client);
        followed?;
        if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(self.at_fault(&error).into());
        }
        let report = ended?;
        if !self.quiet {
            say_if_never_live(&client);
            let messages = report.metrics.messages_received;
            status::say(&format!("{messages} messages in {}", self.file.display()));
        }
        Ok(())
    }

    fn at_fault(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.file.display())
    }
}

/// Writes messages down. Behind an error nothing more is written, so that the file has no hole.
struct Recorder {
    writer: RecordingWriter,
    failed: Arc<Mutex<Option<io::Error>>>,
    running: Running,
    last_unix_ns: u64,
}

impl Recorder {
    fn write(&mut self, write: impl FnOnce(&mut RecordingWriter) -> io::Result<()>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some() {
            return;
        }
        if let Err(error) = write(&mut self.writer) {
            *failed = Some(error);
            self.running.stop();
        }
    }

    fn take(&mut self, message: &Raw, age: Duration) {
        // Two clocks are read for it, so messages of one read differ by nanoseconds: never backwards.
        let received_unix_ns = unix_ns_ago(age).max(self.last_unix_ns);
        self.last_unix_ns = received_unix_ns;
        self.write(|writer| match message {
            Raw::Text(text) => writer.text(received_unix_ns, text),
            Raw::Binary(bytes) => writer.binary(received_unix_ns, bytes),
        });
    }
}

impl MessageHandler<Raw> for Recorder {
    fn handle(&mut self, message: Raw) -> hypersockets::Result<()> {
        self.take(&message, Duration::ZERO);
        Ok(())
    }

    fn handle_delivery(&mut self, message: Raw, delivery: &mut Delivery<'_>) -> hypersockets::Result<()> {
        self.take(&message, delivery.stamps().age());
        Ok(())
    }

    fn on_event(&mut self, event: &ConnectionEvent) {
        if matches!(event, ConnectionEvent::Live { epoch } if *epoch > 1) {
            self.write(|writer| writer.gap(unix_ns_ago(Duration::ZERO)));
        }
    }

    fn on_batch_end(&mut self) {
        self.write(RecordingWriter::flush);
    }

    fn on_stop(&mut self) {
        self.write(RecordingWriter::sync);
    }
}
