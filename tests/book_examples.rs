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
use std::time::{Duration, Instant};

use clap::Parser;
use hypersockets::simulator::{Session, Venue};
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

/// An event of Binance's depth stream, with a bid that is its own.
fn depth(first: u64, last: u64) -> binance_depth::support::binance::Depth {
    use binance_depth::support::binance::Feed;
    let text = format!(
        r#"{{"stream":"x@depth","data":{{"s":"X","U":{first},"u":{last},"b":[["{}","1"]],"a":[]}}}}"#,
        first % 1000
    );
    match Feed::parse(&text) {
        Ok(Feed::Depth(depth)) => depth,
        other => panic!("{other:?}"),
    }
}

#[test]
fn binances_books_take_no_event_for_old_but_the_last_one() {
    use binance_depth::support::binance::{Applied, Book, Snapshot};
    let snapshot = |last: u64| -> Snapshot {
        serde_json::from_str(&format!(r#"{{"lastUpdateId":{last},"bids":[],"asks":[]}}"#)).expect("a snapshot")
    };
    let gap = |applied: Result<Applied>| matches!(applied, Ok(Applied::Needs { gap: Some(_), .. }));
    let mut book = Book::default();
    assert_eq!(book.apply(&depth(5, 6)).ok(), Some(Applied::Needs { snapshot_from: 4, gap: None }));
    book.load(&snapshot(8)).expect("plain levels");
    assert_eq!(
        book.apply(&depth(5, 6)).ok(),
        Some(Applied::Early),
        "it may still be that no event follows the snapshot"
    );
    assert_eq!(book.apply(&depth(7, 9)).ok(), Some(Applied::Update));
    assert_eq!(book.apply(&depth(7, 9)).ok(), Some(Applied::Repeat));
    assert!(gap(book.apply(&depth(8, 9))), "no repeat");
    // One that ends where the snapshot does goes with it, also where nothing comes behind it.
    book.load(&snapshot(12)).expect("plain levels");
    assert_eq!(book.apply(&depth(10, 12)).ok(), Some(Applied::Update));
    // A number that is far too large follows, and is found out by the next event.
    assert_eq!(book.apply(&depth(13, u64::MAX)).ok(), Some(Applied::Update));
    assert!(gap(book.apply(&depth(15, 16))));
    for (first, last) in [(u64::MAX, u64::MAX), (0, 0), (9, 3)] {
        book.load(&snapshot(u64::MAX - 2)).expect("plain levels");
        assert!(!matches!(book.apply(&depth(first, last)), Ok(Applied::Update | Applied::Repeat)), "{first}, {last}");
    }
}

#[test]
fn what_binance_says_is_a_streams_or_about_the_connection_or_not_understood() {
    use binance_depth::support::binance::Feed;
    for about in [r#"{"result":null,"id":1}"#, r#"{"e":"serverShutdown","E":1}"#, r#"{"stream":"x@trade","data":{}}"#] {
        assert!(matches!(Feed::parse(about), Ok(Feed::Other(_))), "{about}");
    }
    for broken in ["", "{", "[]", r#"{"stream":"x@depth"}"#, r#"{"stream":"x@depth","data":{"s":"X","U":-1}}"#] {
        assert!(Feed::parse(broken).is_err(), "{broken}");
    }
}

#[test]
fn numbers_at_the_end_of_their_range_are_gaps() {
    use lighter_orderbook::support::lighter::{Applied, Book, Feed};
    let mut book = Book::default();
    let mut apply = |stage: &str, offset: u64| {
        let text = format!(
            r#"{{"channel":"order_book:0","order_book":{{"asks":[],"bids":[],"offset":{offset}}},"type":"{stage}/order_book"}}"#
        );
        match Feed::parse(&text) {
            Ok(Feed::Book(message)) => book.apply(&message).expect("plain levels"),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(apply("subscribed", u64::MAX), Applied::Snapshot);
    assert!(matches!(apply("update", 0), Applied::Gap(_)));
    assert_eq!(apply("update", 1), Applied::Awaiting);
}

#[test]
fn a_book_is_asked_for_once_and_again_where_it_does_not_come() {
    use kraken_checksum::support::repairs::Repairs;
    let mut repairs = Repairs::default();
    let began = Instant::now();
    let at = |ms| began + Duration::from_millis(ms);
    assert!(repairs.begin(at(0)));
    assert!(!repairs.begin(at(100)) && !repairs.is_overdue(at(100)), "it was asked for");
    assert!(repairs.is_overdue(at(5000)) && repairs.begin(at(5000)), "it was lost");
    repairs.is_answered();
    assert!(repairs.begin(at(5001)), "the next gap");
    repairs.is_answered();
    assert!(!repairs.is_overdue(at(20_000)), "counted from the first time that it is missed");
    assert!(repairs.is_overdue(at(25_000)));
    // Many in a minute are spaced out, though each is answered.
    let asked = (30_000..50_000).filter(|ms| {
        repairs.is_answered();
        repairs.begin(at(*ms))
    });
    assert_eq!(asked.count(), 20 - 3 + 3, "three were in this minute, and three pauses fit into twenty seconds");
}

#[test]
fn snapshots_come_from_the_market_of_the_stream() {
    use binance_depth::support::binance_hosts::{api_of, base_of};
    let api = |url: &str| base_of(url).and_then(api_of).map_err(|error| error.to_string());
    let is = |url: &str, wanted: &str| assert_eq!(api(url).as_deref(), Ok(wanted), "{url}");
    is("wss://stream.binance.com:9443", "wss://ws-api.binance.com:443/ws-api/v3");
    is("wss://fstream.binance.com/", "wss://ws-fapi.binance.com/ws-fapi/v1");
    is("wss://stream.testnet.binance.vision/ws", "wss://ws-api.testnet.binance.vision/ws-api/v3");
    is("ws://127.0.0.1:1234/ws", "ws://127.0.0.1:1234/ws-api/v3");
    is("ws://127.0.0.1:1234/", "ws://127.0.0.1:1234/ws-api/v3");
    is("wss://books.example", "wss://books.example/ws-api/v3");
    assert!(api("wss://dstream.binance.com").is_err_and(|error| error.contains("--api")));
    for nonsense in ["nonsense", "http://stream.binance.com", "wss://", ""] {
        assert!(api(nonsense).is_err_and(|error| error.contains("URL")), "{nonsense:?}");
    }
}

#[test]
fn a_recording_without_a_book_or_without_its_snapshot_ends_by_itself() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bookless");
    std::fs::create_dir_all(&place).expect("a place of our own");
    let play = |name: &str, lines: &str| {
        let file = place.join(name);
        std::fs::write(&file, lines).expect("a place of our own");
        let options = |file: &Path| ["example".to_owned(), "--replay".to_owned(), file.display().to_string()];
        let lighter = lighter_orderbook::Options::parse_from(options(&file));
        let kraken = kraken_checksum::Options::parse_from(options(&file));
        let binance = binance_depth::Options::parse_from(options(&file));
        [
            lighter_orderbook::run(&lighter, &CTRL_C).map(|ended| ended.faults),
            kraken_checksum::run(&kraken, &CTRL_C).map(|ended| ended.faults),
            binance_depth::run(&binance, &CTRL_C).map(|ended| ended.faults),
        ]
    };
    for (name, lines) in [("empty.jsonl", ""), ("control.jsonl", "{\"channel\":\"heartbeat\"}\n")] {
        for ended in play(name, lines) {
            let error = ended.expect_err("there is no book in it").to_string();
            assert!(error.contains(name), "{error}");
        }
    }
    let update =
        r#"{"channel":"order_book:0","order_book":{"asks":[],"bids":[],"offset":7},"type":"update/order_book"}"#;
    let [lighter, ..] = play("update.jsonl", &format!("{update}\n"));
    assert_eq!(lighter.expect("it has a book"), ["order_book:0 is not in sync"]);
}

/// Runs kraken_checksum against a venue that does what `act` does with its session.
fn with_kraken(
    books: &str,
    time: &str,
    act: impl FnOnce(&Session) + Send,
) -> kraken_checksum::support::book_end::Ended {
    let venue = Venue::scripted().start().expect("a free port");
    let arguments = ["example", &venue.url(), "--books", books, "--for", time].map(str::to_owned);
    std::thread::scope(|scope| {
        scope.spawn(|| act(&venue.next_session(PATIENCE).expect("the example dials")));
        kraken_checksum::run(&kraken_checksum::Options::parse_from(arguments), &CTRL_C).expect("the venue is there")
    })
}

const PATIENCE: Duration = Duration::from_secs(5);
const ACCEPTED: &str = r#"{"method":"subscribe","result":{"channel":"book","depth":10,"symbol":"A/B"},"success":true}"#;

/// A book of Kraken's with one bid and one ask.
fn snapshot_of_kraken(bid: u32, ask: u32) -> String {
    let checksum = crc32fast::hash(format!("{ask}1{bid}1").as_bytes());
    let level = |price: u32| format!(r#"{{"price":{price},"qty":1}}"#);
    let book = format!(r#""bids":[{}],"asks":[{}],"checksum":{checksum}"#, level(bid), level(ask));
    format!(r#"{{"channel":"book","type":"snapshot","data":[{{"symbol":"A/B",{book}}}]}}"#)
}

#[test]
fn what_cannot_be_read_makes_a_book_void_until_it_was_asked_for_anew() {
    let ended = with_kraken("A/B", "3s", |session| {
        session.await_text(PATIENCE).expect("a subscription");
        session.send_text(ACCEPTED);
        session.send_text(snapshot_of_kraken(99, 101));
        session.send_text("{ no JSON");
        // Its keeper learns of that at the next message.
        session.send_text(snapshot_of_kraken(99, 101));
        let asked = [(); 2].map(|()| session.await_text(PATIENCE).expect("it is asked for anew"));
        assert!(asked[0].contains("unsubscribe") && asked[1].contains(r#""subscribe""#), "{asked:?}");
        session.send_text(ACCEPTED);
        session.send_text(snapshot_of_kraken(98, 101));
    });
    let [book] = &ended.books[..] else { panic!("{ended:?}") };
    assert!(book.in_sync && book.errors == 1 && book.bid.as_ref().is_some_and(|bid| bid.0 == "98"), "{book:?}");
    assert_eq!(ended.faults, ["1 message(s) not understood"]);
}

#[test]
fn a_snapshot_that_is_lost_or_wrong_is_asked_for_again() {
    let ended = with_kraken("A/B", "8s", |session| {
        session.await_text(PATIENCE).expect("a subscription");
        session.send_text(ACCEPTED);
        // Updates come, and no snapshot.
        let update = snapshot_of_kraken(99, 101).replace("snapshot", "update");
        let began = Instant::now();
        let asked = std::iter::repeat_with(|| {
            session.send_text(&update);
            session.await_text(Duration::from_millis(100)).ok()
        });
        let asked = asked.take_while(|_| began.elapsed() < 2 * PATIENCE).flatten().next();
        assert!(asked.is_some_and(|asked| asked.contains("unsubscribe")), "it is asked for anew");
        session.await_text(PATIENCE).expect("a subscription");
        session.send_text(ACCEPTED);
        session.send_text(snapshot_of_kraken(98, 101));
        // Another one, which is broken.
        session.send_text(snapshot_of_kraken(98, 101).replace(r#""qty":1"#, r#""qty":"one""#));
        let asked = [(); 2].map(|()| session.await_text(PATIENCE).expect("it is asked for anew"));
        assert!(asked[1].contains(r#""subscribe""#), "{asked:?}");
        session.send_text(ACCEPTED);
        session.send_text(snapshot_of_kraken(97, 101));
    });
    let [book] = &ended.books[..] else { panic!("{ended:?}") };
    assert!(book.in_sync && book.bid.as_ref().is_some_and(|bid| bid.0 == "97"), "{book:?}");
    assert_eq!((book.errors, book.gaps, book.resyncs), (1, 2, 2), "{book:?}");
    assert_eq!(ended.faults, ["1 message(s) failed in a handler"]);
}

#[test]
fn a_snapshot_of_binances_that_no_event_goes_beyond_is_no_book() {
    let venue = Venue::scripted().start().expect("a free port");
    let arguments = ["example", &venue.url(), "--books", "X", "--for", "8s"].map(str::to_owned);
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            let api = venue.next_session(PATIENCE).expect("the example asks here");
            let feed = venue.next_session(PATIENCE).expect("and listens there");
            assert!(
                api.path() == "/ws-api/v3" && feed.path().starts_with("/stream?streams=x@depth"),
                "{api:?} {feed:?}"
            );
            let event = |first: u64, last: u64| {
                let levels = format!(r#""b":[["{first}","1"]],"a":[["999","1"]]"#);
                feed.send_text(format!(
                    r#"{{"stream":"x@depth@100ms","data":{{"s":"X","U":{first},"u":{last},{levels}}}}}"#
                ));
            };
            let answer = |request: &str, last: u64| {
                let request: serde_json::Value = serde_json::from_str(request).expect("a request");
                let book = format!(r#"{{"lastUpdateId":{last},"bids":[],"asks":[]}}"#);
                api.send_text(format!(r#"{{"id":{},"status":200,"result":{book}}}"#, request["id"]));
            };
            event(5, 6);
            answer(&api.await_text(PATIENCE).expect("a snapshot is asked for"), u64::MAX);
            let began = Instant::now();
            let asked = std::iter::repeat_with(|| {
                event(7, 8);
                api.await_text(Duration::from_millis(100)).ok()
            });
            let asked = asked.take_while(|_| began.elapsed() < 2 * PATIENCE).flatten().next();
            answer(&asked.expect("it is asked for anew"), 8);
            event(9, 9);
        });
        binance_depth::run(&binance_depth::Options::parse_from(arguments), &CTRL_C).expect("the venue is there")
    });
    let [book] = &ended.books[..] else { panic!("{ended:?}") };
    assert_eq!(book.bid.as_ref().map(|bid| bid.0.as_str()), Some("9"), "{book:?}");
    assert!(book.in_sync && book.gaps == 1 && book.resyncs == 1 && ended.faults.is_empty(), "{ended:?}");
}

#[test]
fn a_book_whose_bids_reach_its_asks_is_not_in_sync() {
    let ended = with_kraken("A/B", "3s", |session| {
        session.await_text(PATIENCE).expect("a subscription");
        session.send_text(ACCEPTED);
        session.send_text(snapshot_of_kraken(101, 101));
    });
    assert_eq!(ended.faults, ["A/B is not in sync"]);
}

#[test]
fn what_the_venue_refuses_is_told_at_the_end() {
    let ended = with_kraken("NO/PE", "3s", |session| {
        session.await_text(PATIENCE).expect("a subscription");
        session.send_text(r#"{"error":"Currency pair not supported NO/PE","method":"subscribe","success":false}"#);
    });
    assert!(ended.faults[0].contains("refuses NO/PE: Currency pair not supported"), "{:?}", ended.faults);
}
