//! What the examples that keep order books have in common: their command line, the venue that they dial, and when they end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use hypersockets::simulator::{Pace, Recording, Venue, VenueBuilder};
use hypersockets::{Client, CtrlC, Result};

use super::book_board::BookBoard;
use super::demo::Demo;

/// The command line of the order book examples.
#[derive(Debug, Parser)]
pub(crate) struct BookDemo {
    #[command(flatten)]
    pub(crate) demo: Demo,

    /// Play a recording of the venue, one message a line, through the embedded simulator, to its end
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["url", "simulate"])]
    pub(crate) replay: Option<PathBuf>,

    /// How fast to replay: 1 as recorded, 10 ten times as fast; flat out unless given
    #[arg(long, value_name = "FACTOR", requires = "replay")]
    speed: Option<f64>,

    /// Have the simulator lose every Nth update; none of a recording, and one in 61 of its own, unless given
    #[arg(long, value_name = "N", conflicts_with = "url")]
    lose: Option<u64>,

    /// Which books, by the venue's own spelling
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "replay")]
    books: Vec<String>,
}

impl BookDemo {
    /// The recording that is to be played, if any.
    pub(crate) fn recording(&self) -> Result<Option<Recording>> {
        Ok(self.replay.as_ref().map(Recording::load).transpose()?)
    }

    /// The books that were asked for: by name, or all that `book_of` finds in the recording, or the usual ones.
    pub(crate) fn books(
        &self,
        recording: Option<&Recording>,
        usual: &[&str],
        book_of: impl Fn(&str) -> Option<String>,
    ) -> Vec<String> {
        let Some(recording) = recording else {
            let named = self.books.clone();
            return if named.is_empty() { usual.iter().map(|book| (*book).to_owned()).collect() } else { named };
        };
        let mut books = Vec::new();
        for payload in recording.messages() {
            if let Some(book) = std::str::from_utf8(payload).ok().and_then(&book_of)
                && !books.contains(&book)
            {
                books.push(book);
            }
        }
        books
    }

    /// Starts the simulator, unless a real venue is to be dialed.
    pub(crate) fn start(&self, venue: VenueBuilder, recording: Option<Recording>) -> Result<Option<Venue>> {
        if self.demo.url.is_some() {
            return Ok(None);
        }
        let venue = match recording {
            Some(recording) => {
                let pace = self.speed.map_or(Pace::FlatOut, Pace::Factor);
                venue.history(recording).pace(pace).lose_every(self.lose.unwrap_or(0))
            }
            None => venue.rate_per_sec(20.0).lose_every(self.lose.unwrap_or(61)),
        };
        Ok(Some(venue.start()?))
    }

    /// Prints the books once a second, until Ctrl-C, the end of the time, or the end of the recording. With the simulator it then
    /// waits for books that are being put in order.
    pub(crate) fn follow(&self, clients: &[&Client], venue: Option<&Venue>, board: &BookBoard, ctrl_c: &CtrlC) {
        let began = Instant::now();
        // A recording has an end of its own.
        let longest = if self.replay.is_some() { self.demo.run_for } else { self.demo.longest() };
        let mut printed = began;
        let mut has_ended = false;
        while !ctrl_c.wait_timeout(TICK) {
            has_ended |=
                self.replay.is_some() && venue.is_some_and(|venue| venue.await_replayed(Duration::ZERO).is_ok());
            let is_over = has_ended || longest.is_some_and(|longest| began.elapsed() >= longest);
            let is_settled = venue.is_none_or(|venue| board.is_in_sync() && has_handled_all(clients, venue));
            let is_late = longest.is_some_and(|longest| began.elapsed() >= longest + PATIENCE);
            if is_over && (is_settled || is_late) {
                return;
            }
            if printed.elapsed() >= PRINT_EVERY {
                printed = Instant::now();
                board.accounts().iter().for_each(|account| println!("{account}"));
            }
        }
    }
}

/// Whether all that the simulator has written has been dealt with.
fn has_handled_all(clients: &[&Client], venue: &Venue) -> bool {
    let dealt_with = |client: &&Client| {
        let metrics = client.metrics();
        let elsewhere = metrics.skipped + metrics.parse_errors + metrics.passive_pings_answered + metrics.replies;
        metrics.messages_handled + elsewhere
    };
    clients.iter().map(dealt_with).sum::<u64>() >= venue.sent()
}

/// How much longer a run may take whose books are not in order yet.
const PATIENCE: Duration = Duration::from_secs(2);
const PRINT_EVERY: Duration = Duration::from_secs(1);
/// How soon the end is seen. Ctrl-C is seen at once.
const TICK: Duration = Duration::from_millis(20);
