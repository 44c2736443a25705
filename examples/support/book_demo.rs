//! What the examples that keep order books have in common: their command line, the venue that they dial, and when they end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use hypersockets::simulator::{Pace, Recording, Venue, VenueBuilder};
use hypersockets::{Client, CtrlC, Result};

use super::book_board::BookBoard;
use super::demo::Demo;
use super::happenings::Happenings;

/// The options that all order book examples have.
#[derive(Debug, Args)]
pub(crate) struct BookDemo {
    #[command(flatten)]
    pub(crate) demo: Demo,

    /// Play a recording of the venue, one message a line, through the embedded simulator, to its end
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["url", "simulate"])]
    pub(crate) replay: Option<PathBuf>,

    /// How fast to replay: 1 as recorded, 10 ten times as fast; flat out unless given
    #[arg(long, value_name = "FACTOR", requires = "replay")]
    speed: Option<f64>,

    /// Have the simulator lose every Nth update of a book; none of a recording, and one in 251 of its own, unless given
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
    ///
    /// # Errors
    /// A recording in which there is none: it is empty, or another venue's.
    pub(crate) fn books(
        &self,
        recording: Option<&Recording>,
        usual: &[&str],
        book_of: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<String>> {
        let Some(recording) = recording else {
            let named = self.books.clone();
            return Ok(if named.is_empty() { usual.iter().map(|book| (*book).to_owned()).collect() } else { named });
        };
        let mut books = Vec::new();
        for payload in recording.messages() {
            if let Some(book) = std::str::from_utf8(payload).ok().and_then(&book_of)
                && !books.contains(&book)
            {
                books.push(book);
            }
        }
        if books.is_empty() {
            return Err(format!("{}: no message about a book of this venue's", self.file()).into());
        }
        Ok(books)
    }

    /// Says on stderr where the recording does not chain. The simulator makes its snapshots from the recording, so that a book that is
    /// mended behind a hole of the recording's own may lack what the hole does.
    pub(crate) fn warn_of_holes(
        &self,
        recording: Option<&Recording>,
        mut gap_before: impl FnMut(&str) -> Option<String>,
    ) {
        let messages = recording.into_iter().flat_map(Recording::messages).enumerate();
        let holes =
            messages.filter_map(|(index, payload)| Some((index, gap_before(std::str::from_utf8(payload).ok()?)?)));
        for (index, gap) in holes.take(MOST_HOLES) {
            eprintln!("{}:{}: the recording itself has a hole before this line: {gap}", self.file(), index + 1);
            eprintln!("what the simulator sends to mend it has the same hole, so the books may be wrong from here on");
        }
    }

    /// Starts the simulator, unless a real venue is to be dialed.
    pub(crate) fn start(&self, venue: VenueBuilder, recording: Option<Recording>) -> Result<Option<Venue>> {
        if self.demo.url.is_some() {
            return Ok(None);
        }
        let venue = match recording {
            Some(recording) => {
                let pace = self.speed.map_or(Pace::FlatOut, Pace::Factor);
                let venue = venue.history(recording).pace(pace).lose_every(self.lose.unwrap_or(0));
                venue.start().map_err(|error| format!("{}: {error}", self.file()))?
            }
            None => venue.rate_per_sec(UPDATES_PER_SEC).lose_every(self.lose.unwrap_or(LOSE_EVERY)).start()?,
        };
        Ok(Some(venue))
    }

    /// Prints the books once a second, until Ctrl-C, the end of the time, or the end of the recording; and what happens to the connections
    /// as it does. With the simulator it then waits for books that are being put in order.
    pub(crate) fn follow(
        &self,
        clients: &[(&'static str, &Client)],
        venue: Option<&Venue>,
        board: &BookBoard,
        ctrl_c: &CtrlC,
    ) -> Happenings {
        let began = Instant::now();
        // A recording has an end of its own.
        let longest = if self.replay.is_some() { self.demo.run_for } else { self.demo.longest() };
        let mut happenings = Happenings::new(clients);
        let mut printed = began;
        let mut over_since = None;
        while !ctrl_c.wait_timeout(TICK) {
            happenings.tell();
            let has_ended =
                self.replay.is_some() && venue.is_some_and(|venue| venue.await_replayed(Duration::ZERO).is_ok());
            if has_ended || longest.is_some_and(|longest| began.elapsed() >= longest) {
                over_since.get_or_insert_with(Instant::now);
            }
            // The books come last: what they are then is what they are told to be.
            let is_settled = || venue.is_none_or(|venue| has_handled_all(clients, venue) && board.is_in_sync());
            if happenings.is_over()
                || over_since.is_some_and(|since: Instant| since.elapsed() >= PATIENCE || is_settled())
            {
                break;
            }
            if printed.elapsed() >= PRINT_EVERY {
                printed = Instant::now();
                board.accounts().iter().for_each(|account| println!("{account}"));
            }
        }
        board.close();
        happenings
    }

    /// What the recording is called.
    fn file(&self) -> String {
        self.replay.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

/// Whether all that the simulator has written has been dealt with.
fn has_handled_all(clients: &[(&str, &Client)], venue: &Venue) -> bool {
    let dealt_with = |(_, client): &(&str, &Client)| {
        let metrics = client.metrics();
        let unread = metrics.skipped + metrics.parse_errors + metrics.parse_panics + metrics.unrouted;
        metrics.messages_handled + unread + metrics.passive_pings_answered + metrics.replies
    };
    clients.iter().map(dealt_with).sum::<u64>() >= venue.sent()
}

/// Of each of the simulator's own books. Every one of them loses an update within five seconds, and none so many that repairs are held
/// back.
const UPDATES_PER_SEC: f64 = 60.0;
const LOSE_EVERY: u64 = 251;
/// So many holes of a recording are told; more say nothing new.
const MOST_HOLES: usize = 3;
/// How much longer a run may take whose books are not in order yet.
const PATIENCE: Duration = Duration::from_secs(2);
const PRINT_EVERY: Duration = Duration::from_secs(1);
/// How soon the end is seen. Ctrl-C is seen at once.
const TICK: Duration = Duration::from_millis(20);
