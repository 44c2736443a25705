//! `replay`: a recording, through a socket and the engine, onto standard output.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use hypersockets::simulator::{Pace, Venue};
use hypersockets::{DisconnectReason, NeverReconnect, ShutdownReport};

use crate::client::{Running, follow};
use crate::print::{AsItIs, Format, Outcome, Printer};
use crate::recorded::{load, pace};
use crate::{Result, status};

/// Plays a recording to a client of this process and prints what that receives, as `listen` would have: the same lines in
/// the same order each time. With `--jsonl` the times are those of the recording.
#[derive(Args)]
#[command(after_help = "Examples:
  hypersockets replay btc.hsrec --speed max | wc -l
  hypersockets replay btc.hsrec --speed 10 --jsonl")]
pub(crate) struct Replay {
    /// A file of `record`; or messages a line each, `.b64l` if they are base64, with the times beside it in `.recv_ns`.
    file: PathBuf,
    /// So many times as fast as recorded, or `max`.
    #[arg(long, value_name = "X|max", default_value = "1", value_parser = pace)]
    speed: Pace,
    #[command(flatten)]
    format: Format,
    /// Says nothing on standard error but errors.
    #[arg(short, long)]
    quiet: bool,
}

impl Replay {
    pub(crate) fn run(&self) -> Result<()> {
        let recording = load(&self.file)?;
        let (messages, times) = (recording.len(), recording.received_ns().map(<[u64]>::to_vec));
        if messages == 0 {
            if !self.quiet {
                status::say(&format!("{}: no messages", self.file.display()));
            }
            return Ok(());
        }
        let running = Running::new(None)?;
        let outcome = Arc::<Outcome>::default();
        let printer = Printer::new(self.format, None, &running, &outcome)?.with_times(times.unwrap_or_default());
        let venue = Venue::replay(recording).pace(self.speed).replay_on_connect().close_after_replay().start()?;
        let client = hypersockets::builder()
            .url(venue.url())
            .max_message_bytes(u64::MAX >> 1)
            .reconnect_strategy(NeverReconnect)
            .router(AsItIs, |routing| routing.handler((), printer))
            .shutdown_flag(running.flag())
            .start()?;
        follow(&client, &running, true)?;
        let ShutdownReport { reason, metrics, .. } = client.shutdown()?;
        if outcome.is_closed() {
            return Ok(());
        }
        if let Some(error) = outcome.error() {
            return Err(format!("standard output: {error}").into());
        }
        let replayed = metrics.messages_received;
        let was_stopped = matches!(reason, DisconnectReason::Shutdown);
        if replayed != messages as u64 && !was_stopped {
            return Err(format!("{replayed} of {messages} messages were replayed: {reason}").into());
        }
        if !self.quiet {
            status::say(&format!("{replayed} of {messages} messages replayed"));
        }
        Ok(())
    }
}
