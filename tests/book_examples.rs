//! Promise: the order book examples end with the books of an independent reference; what is missing they notice, say, and mend.

#![allow(dead_code)] // an example's `main` is not called here
#![allow(clippy::duplicate_mod)] // each example brings what it shares with the others

#[path = "../examples/binance_depth.rs"]
mod binance_depth;
#[path = "../examples/hyperliquid_orderbook.rs"]
mod hyperliquid_orderbook;
#[path = "../examples/kraken_checksum.rs"]
mod kraken_checksum;
#[path = "../examples/lighter_orderbook.rs"]
mod lighter_orderbook;
mod support {
    pub(crate) mod recordings;
}

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::Parser;
use hypersockets::{CtrlC, Result};
use support::recordings;

/// One a process; nobody presses it here.
static CTRL_C: LazyLock<CtrlC> = LazyLock::new(|| CtrlC::install().expect("the first of this process"));

/// One book at the end, whichever example kept it.
#[derive(Debug)]
struct End {
    name: String,
    bid: Option<(String, String)>,
    ask: Option<(String, String)>,
    gaps: u64,
    resyncs: u64,
    in_sync: bool,
}

/// Runs an example in this process.
macro_rules! ends_of {
    ($example:ident, $arguments:expr) => {{
        let arguments = std::iter::once("example").chain($arguments.iter().map(String::as_str));
        let options = $example::Options::parse_from(arguments);
        let ends: Result<Vec<End>> = $example::run(&options, &CTRL_C).map(|ended| {
            let end = |it: $example::support::book_board::BookAccount| End {
                name: it.name,
                bid: it.bid,
                ask: it.ask,
                gaps: it.gaps,
                resyncs: it.resyncs,
                in_sync: it.in_sync,
            };
            ended.books.into_iter().map(end).collect()
        });
        ends.expect("the simulator is there")
    }};
}

/// Plays a recording of the folder's venue through its example.
fn play(recording: &Path, more: &[&str]) -> Vec<End> {
    let file = recording.to_str().expect("a plain name").to_owned();
    let arguments: Vec<String> =
        ["--replay".to_owned(), file].into_iter().chain(more.iter().map(|&it| it.to_owned())).collect();
    match folder(recording) {
        "lighter" => ends_of!(lighter_orderbook, arguments),
        "kraken-v2" => ends_of!(kraken_checksum, arguments),
        _ => ends_of!(binance_depth, arguments),
    }
}

fn folder(recording: &Path) -> &str {
    recording.parent().and_then(Path::file_name).and_then(|name| name.to_str()).expect("a venue's folder")
}

/// The recordings that have an example, none where this machine has none.
fn recorded() -> Vec<recordings::Recording> {
    let folders = ["lighter", "kraken-v2", "binance-spot", "binance-usdm", "binance-coinm"];
    let mut sessions = recordings::sessions();
    sessions.retain(|recording| folders.contains(&recording.venue.as_str()));
    if sessions.is_empty() {
        println!("SKIPPED: this machine has no recordings");
    }
    sessions
}

/// Every book is whole, and ends with the reference's best bid and offer.
#[track_caller]
fn assert_ends(name: &str, ends: &[End]) {
    let expected = recordings::expected();
    let books = &expected[name].final_books;
    assert_eq!(ends.len(), books.len(), "{name}: {ends:?}");
    for end in ends {
        assert!(end.in_sync, "{name}: {end:?}");
        let book = &books[&end.name];
        assert_eq!((&end.bid, &end.ask), (&book.bid, &book.ask), "{name}: {}", end.name);
    }
}

/// A copy of the recording in a folder of the same name, without its lines that `leave_out` says, and without what was fetched
/// beside it: the reference has not seen that either.
fn copy(recording: &Path, tag: &str, leave_out: impl Fn(usize, &str) -> bool) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(tag).join(folder(recording));
    std::fs::create_dir_all(&place).expect("a place of our own");
    let lines = std::fs::read_to_string(recording).expect("it is listed");
    let kept = lines.lines().enumerate().filter(|(index, line)| !leave_out(*index, line));
    let file = place.join(recording.file_name().expect("a file"));
    std::fs::write(&file, kept.map(|(_, line)| format!("{line}\n")).collect::<String>()).expect("a place of our own");
    file
}

#[test]
fn each_recording_ends_with_the_references_best_bid_and_offer() {
    for recording in recorded() {
        let file = copy(&recording.path, "whole", |_, _| false);
        let ends = play(&file, &[]);
        assert_ends(&recording.name, &ends);
        let troubles: u64 = ends.iter().map(|end| end.gaps + end.resyncs).sum();
        assert_eq!(troubles, 0, "{}: {ends:?}", recording.name);
    }
}

/// Each of its books is a whole one, without a number: nothing can go missing but the book before it.
#[test]
fn hyperliquids_recordings_end_with_the_references_best_bid_and_offer() {
    let mut recordings = recordings::sessions();
    recordings.retain(|recording| recording.venue == "hyperliquid");
    for recording in recordings {
        let arguments = ["example", "--replay", recording.path.to_str().expect("a plain name")];
        let options = hyperliquid_orderbook::support::options::Options::parse_from(arguments);
        let summary = hyperliquid_orderbook::run(&options, &CTRL_C).expect("the simulator is there");
        let ended = summary.tops().map(|(coin, top)| {
            let [bid, ask] =
                top.map(|level| level.map(|it| (it.price.as_str().to_owned(), it.size.as_str().to_owned())));
            (coin.as_str().to_owned(), (bid, ask))
        });
        let expected = recordings::expected().remove(&recording.name).expect("it was listed by its results");
        let books = expected.final_books.into_iter().map(|(coin, book)| (coin, (book.bid, book.ask)));
        assert_eq!(ended.collect::<BTreeMap<_, _>>(), books.collect::<BTreeMap<_, _>>(), "{}", recording.name);
    }
}

#[test]
fn with_the_snapshots_that_were_fetched_beside_it_a_recording_ends_the_same() {
    let mut recordings = recorded();
    // Of the third the reference's books lack what only the snapshots have.
    recordings.retain(|recording| ["binance-spot", "binance-usdm"].contains(&recording.venue.as_str()));
    for recording in recordings {
        assert_ends(&recording.name, &play(&recording.path, &[]));
    }
}

#[test]
fn a_line_taken_out_is_noticed_and_the_book_made_whole() {
    for recording in recorded() {
        // Some way in, where there is a book already and much is still to come.
        let is_update = |line: &str| {
            line.contains(r#""type":"update/order_book"#)
                || line.contains("@depth")
                || line.contains(r#""channel":"book","type":"update"#)
        };
        // Kraken's messages have no numbers: what the next one sets anew, or what never comes near the top, was not missed.
        let candidates = if recording.venue == "kraken-v2" { 20 } else { 1 };
        let lines = std::fs::read_to_string(&recording.path).expect("it is listed");
        let updates: Vec<_> =
            lines.lines().enumerate().filter(|(_, line)| is_update(line)).map(|(index, _)| index).collect();
        for part in [3, 7] {
            let is_noticed = |lost: &usize| {
                let file = copy(&recording.path, &format!("without-{part}"), |index, _| index == *lost);
                let ends = play(&file, &[]);
                assert_ends(&recording.name, &ends);
                let (gaps, resyncs) = ends.iter().fold((0, 0), |sum, end| (sum.0 + end.gaps, sum.1 + end.resyncs));
                assert_eq!(gaps > 0, resyncs > 0, "{} without line {}: {ends:?}", recording.name, lost + 1);
                gaps > 0
            };
            let from = updates.len() * part / 10;
            let noticed = updates[from..from + candidates].iter().any(is_noticed);
            assert!(noticed, "{}: {:?} taken out, one by one", recording.name, &updates[from..from + candidates]);
        }
    }
}

#[test]
fn what_is_lost_on_the_way_is_mended_while_the_feed_goes_on() {
    for recording in recorded() {
        if !["lighter", "kraken-v2"].contains(&recording.venue.as_str()) {
            continue;
        }
        let ends = play(&recording.path, &["--lose", "90", "--speed", "25"]);
        assert_ends(&recording.name, &ends);
        let (gaps, resyncs) = (ends[0].gaps, ends[0].resyncs);
        assert!(gaps > 1 && resyncs > 1, "{}: {ends:?}", recording.name);
    }
}

#[test]
fn on_the_simulators_own_markets_every_loss_is_mended() {
    let arguments = ["--for", "2s", "--lose", "15"].map(str::to_owned);
    let all = [
        ends_of!(lighter_orderbook, arguments),
        ends_of!(kraken_checksum, arguments),
        ends_of!(binance_depth, arguments),
    ];
    for ends in all {
        assert_eq!(ends.len(), 2);
        assert!(ends.iter().all(|end| end.in_sync && end.gaps > 0 && end.resyncs == end.gaps), "{ends:?}");
    }
}
