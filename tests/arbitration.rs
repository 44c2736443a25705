//! Promise: of a feed over several lines handlers see what any line had, once and in order, whatever becomes of the lines.

mod support {
    pub(crate) mod lines;
    pub(crate) mod numbered;
}

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Receiver;
use hypersockets::simulator::{Ending, Session, SessionFault, UpgradeFault, Venue};
use hypersockets::{
    ClientBuilder, ClientEvent, ClientState, ConnectionEvent, DisconnectReason, Engine, FeedArbiter,
    FeedArbiterBuilder, HasRouter, HasUrl, HyperSocketError, NoRouter, RouteOptions, ThreadOptions,
};
use support::lines::{Lines, PATIENCE, next_session, recorder, soon};
use support::numbered::{Note, Noter, Number, Numbered, PerConnection, Pump, Spare, noter, numbers, until_number};

const STREAMS: u64 = 3;

fn venue() -> Arc<Venue> {
    Arc::new(Venue::scripted().start().expect("a free port"))
}

fn line(venue: &Venue) -> ClientBuilder<HasUrl, NoRouter> {
    hypersockets::builder().url(venue.url()).reconnect_strategy(soon())
}

fn routed(
    feed: FeedArbiterBuilder<NoRouter>,
    options: impl Fn() -> RouteOptions<Number>,
) -> (FeedArbiterBuilder<HasRouter>, Vec<Receiver<Note>>) {
    let (noters, notes): (Vec<Noter>, Vec<_>) = (0..STREAMS).map(|_| noter()).unzip();
    let feed = feed.router(Numbered, |mut routing| {
        for (stream, noter) in (1..).zip(noters) {
            routing = routing.handler_with(stream, noter, options());
        }
        routing
    });
    (feed, notes)
}

fn gaps(notes: &[Note]) -> Vec<(u64, u64)> {
    let gaps = notes.iter().filter_map(|note| match note {
        Note::Event(ConnectionEvent::Gap { first, last, .. }) => Some((*first, *last)),
        _ => None,
    });
    gaps.collect()
}

/// Loses one number in twenty on each line, and ends a session of one line after the other; what any line was sent is written down.
fn lossy(sent: &Arc<Mutex<BTreeSet<u64>>>, end_every: u64) -> Spare {
    let sent = Arc::clone(sent);
    let mut ended = HashSet::new();
    let mut last_end = 0;
    Box::new(move |venue, session, number| {
        if ended.contains(&(venue, session.number())) {
            return true;
        }
        if number >= last_end + end_every && (number / end_every) as usize % 2 == venue {
            last_end = number;
            ended.insert((venue, session.number()));
            session.drop_fin();
            return true;
        }
        // The same for all streams.
        let mixed = (number << 8 | session.number() << 1 | venue as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let draw = (mixed >> 32).is_multiple_of(20);
        if !draw {
            sent.lock().expect("nobody panics with it").insert(number);
        }
        draw
    })
}

/// What the two lossy lines bring: everything that either had, once and in order, and a gap for what neither had.
#[track_caller]
fn assert_two_lossy_lines(lines: [ClientBuilder<HasUrl, NoRouter>; 2], venues: Vec<Arc<Venue>>, inline: bool) {
    const NUMBERS: u64 = 4_000;
    let [a, b] = lines;
    let options = move || if inline { RouteOptions::new().inline() } else { RouteOptions::new() };
    let (feed, notes) = routed(FeedArbiter::builder().line("a", a).line("b", b), options);
    let feed = feed.build().expect("the venues accept");
    let sent = Arc::<Mutex<BTreeSet<u64>>>::default();
    let pump = Pump::start(venues, STREAMS, 4_000, lossy(&sent, 300));
    while pump.sent() < NUMBERS {
        std::thread::yield_now();
    }
    let last_sent = pump.stop();
    let expected: Vec<u64> = sent.lock().expect("nobody panics with it").iter().copied().collect();
    let last = *expected.last().expect("numbers");
    assert!(last > last_sent / 2, "the pump sends nearly to the end");
    for (stream, notes) in notes.iter().enumerate() {
        let seen = until_number(notes, last);
        let seen_numbers = numbers(&seen);
        assert!(seen_numbers.is_sorted_by(|a, b| a < b), "stream {stream}: twice, or not in order");
        let missing: Vec<_> = expected.iter().filter(|number| seen_numbers.binary_search(number).is_err()).collect();
        assert!(missing.is_empty(), "stream {stream}: {missing:?}");
        assert_eq!(seen_numbers.len(), expected.len());
        assert!(
            gaps(&seen)
                .iter()
                .all(|&(first, last)| (first..=last).all(|number| expected.binary_search(&number).is_err()))
        );
    }
    let reports = feed.lines();
    assert!(reports.iter().all(|line| line.wins > 0 && line.repeats > 0 && line.filled > 0), "{reports:?}");
    let metrics = feed.metrics();
    assert!(metrics.messages_received > metrics.messages_handled && metrics.dials > 4, "{metrics:?}");
    assert!((reports.iter().map(|line| line.share).sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(reports.iter().any(|line| feed.line(&line.name).is_ok_and(|client| client.metrics().reconnect_count > 2)));
    let report = feed.shutdown().expect("not on a thread of an engine");
    assert!(report.complete && report.unhandled == 0 && report.reason == DisconnectReason::Shutdown, "{report:?}");
}

#[test]
fn two_lines_that_lose_and_die_bring_what_either_had_once_and_in_order() {
    let venues = vec![venue(), venue()];
    assert_two_lossy_lines([line(&venues[0]), line(&venues[1])], venues.clone(), false);
}

#[test]
fn so_they_do_on_engines_of_their_own_with_inline_handlers() {
    let venues = vec![venue(), venue()];
    let engines = [(); 2].map(|()| Engine::builder().start().expect("a thread"));
    let lines = [line(&venues[0]).engine(&engines[0]), line(&venues[1]).engine(&engines[1])];
    assert_two_lossy_lines(lines, venues.clone(), true);
}

#[test]
fn so_they_do_on_parser_lanes() {
    let venues = vec![venue(), venue()];
    let engine = Engine::builder().lanes([ThreadOptions::new(), ThreadOptions::new()]).start().expect("threads");
    assert_two_lossy_lines([line(&venues[0]).engine(&engine), line(&venues[1]).engine(&engine)], venues.clone(), false);
}

/// A feed over two lines whose sessions the test holds; both have shown number 1 of stream 1.
fn begun() -> (FeedArbiter, [Arc<Venue>; 2], [Session; 2], Receiver<Note>) {
    let venues = [venue(), venue()];
    let feed = FeedArbiter::builder().line("a", line(&venues[0])).line("b", line(&venues[1]));
    let (feed, mut notes) = routed(feed, RouteOptions::new);
    let feed = feed.build().expect("the venues accept");
    let sessions = [next_session(&venues[0]), next_session(&venues[1])];
    for name in ["a", "b"] {
        feed.line(name).and_then(|line| line.wait_live(PATIENCE)).expect("the venue has accepted");
    }
    sessions.iter().for_each(|session| session.send_text("1 1"));
    let notes = notes.swap_remove(0);
    assert_eq!(numbers(&until_number(&notes, 1)), [1]);
    (feed, venues, sessions, notes)
}

#[test]
fn a_line_that_dies_and_comes_back_is_unseen_and_the_last_to_go_is_a_loss() {
    let (feed, venues, [a, b], notes) = begun();
    a.drop_rst();
    let a = next_session(&venues[0]);
    b.send_text("1 2");
    a.send_text("1 3");
    b.send_text("1 3");
    assert_eq!(numbers(&until_number(&notes, 3)), [2, 3]);
    assert_eq!((feed.state(), feed.epoch()), (ClientState::Live, 1));

    for venue in &venues {
        venue.stop(Ending::Rst);
    }
    let lost = notes.recv_timeout(PATIENCE).expect("a note");
    assert!(matches!(lost, Note::Event(ConnectionEvent::Lost { epoch: 1, .. })), "{lost:?}");
    venues[1].restart().expect("the port is ours");
    next_session(&venues[1]).send_text("1 9");
    let seen = until_number(&notes, 9);
    assert_eq!(seen[0], Note::Event(ConnectionEvent::Live { epoch: 2 }));
    assert_eq!(seen[1], Note::Number { number: 9, epoch: 2 });
    feed.shutdown().expect("it ends");
}

#[test]
fn a_line_that_is_silent_lets_nobody_wait_longer_than_the_hold() {
    let venues = [venue(), venue()];
    let feed =
        FeedArbiter::builder().line("a", line(&venues[0])).line("b", line(&venues[1])).hold(Duration::from_millis(20));
    let (feed, notes) = routed(feed, RouteOptions::new);
    let feed = feed.build().expect("the venues accept");
    let [a, _b] = [next_session(&venues[0]), next_session(&venues[1])];
    for number in [1, 2, 5, 6] {
        a.send_text(format!("1 {number}"));
    }
    let seen = until_number(&notes[0], 6);
    assert_eq!((numbers(&seen), gaps(&seen)), (vec![1, 2, 5, 6], vec![(3, 4)]));
    assert_eq!(feed.metrics().sequence_gaps, 2);
    feed.shutdown().expect("it ends");
}

#[test]
fn a_feed_without_numbers_is_refused_with_the_reason() {
    let venues = [venue(), venue()];
    let feed = FeedArbiter::builder()
        .line("a", line(&venues[0]))
        .line("b", line(&venues[1]))
        .router(Lines, |routing| routing.default_handler(recorder().0))
        .build()
        .expect("the venues accept");
    next_session(&venues[0]).send_text("l2Book snapshot");
    let closed = loop {
        if let ClientEvent::Closed { reason } = feed.events().next_timeout(PATIENCE).expect("an event") {
            break reason;
        }
    };
    assert!(matches!(&closed, DisconnectReason::NotSpliced(why) if why.contains("l2Book")), "{closed}");
    assert_eq!(feed.state(), ClientState::Failed);
    assert!(matches!(feed.wait_live(PATIENCE), Err(HyperSocketError::Closed(DisconnectReason::NotSpliced(_)))));
}

#[test]
fn what_cannot_be_is_an_error_before_anything_is_dialed() {
    let venue = venue();
    let two = || FeedArbiter::builder().line("a", line(&venue)).line("b", line(&venue));
    let per_connection = two().router(PerConnection, |routing| routing.handler((), |_: Number| Ok(())));
    assert!(matches!(per_connection.start(), Err(HyperSocketError::NotSpliced(_))));
    let (alone, _) = routed(FeedArbiter::builder().line("a", line(&venue)), RouteOptions::new);
    assert!(matches!(alone.start(), Err(HyperSocketError::InvalidConfig(_))));
    let (twins, _) = routed(two().line("a", line(&venue)), RouteOptions::new);
    assert!(matches!(twins.start(), Err(HyperSocketError::DuplicateClient(name)) if name == "a"));
    let (stale, _) = routed(two(), || RouteOptions::new().stale_after(Duration::from_secs(1)));
    assert!(matches!(stale.start(), Err(HyperSocketError::InvalidConfig(_))));
    assert_eq!(venue.connections_accepted(), 0);
}

#[test]
fn building_takes_the_first_line_that_is_live_and_errs_where_none_will_be() {
    let [good, bad] = [venue(), venue()];
    bad.stop(Ending::Fin);
    let (feed, _notes) =
        routed(FeedArbiter::builder().line("bad", line(&bad)).line("good", line(&good)), RouteOptions::new);
    let halted = Arc::new(AtomicBool::new(false));
    let feed = feed.halted_flag(Arc::clone(&halted)).build().expect("one of them accepts");
    assert!(feed.state() == ClientState::Live && !halted.load(Ordering::Acquire));
    good.stop(Ending::Fin);
    while feed.state() == ClientState::Live {
        std::thread::yield_now();
    }
    assert!(halted.load(Ordering::Acquire));
    feed.shutdown().expect("it ends");
    assert!(!halted.load(Ordering::Acquire));

    let (none, _notes) =
        routed(FeedArbiter::builder().line("bad", line(&bad)).line("good", line(&good)), RouteOptions::new);
    assert!(matches!(none.build(), Err(HyperSocketError::ConnectFailed(DisconnectReason::Connect(_)))));
}

#[test]
fn every_fault_of_one_line_leaves_the_feed_whole() {
    for fault in SessionFault::ALL {
        let (feed, _venues, [a, b], notes) = begun();
        a.send_text("1 2");
        a.commit(*fault);
        for number in 2..=6 {
            b.send_text(format!("1 {number}"));
        }
        let seen = until_number(&notes, 6);
        assert_eq!((numbers(&seen), gaps(&seen)), ((2..=6).collect(), Vec::new()), "{fault:?}");
        assert_eq!(feed.epoch(), 1, "{fault:?}");
    }
}

#[test]
fn a_line_that_cannot_be_dialed_again_leaves_the_feed_whole() {
    for fault in UpgradeFault::ALL {
        let (feed, venues, [a, b], notes) = begun();
        venues[0].plan_upgrade(*fault);
        a.drop_rst();
        for number in 2..=4 {
            b.send_text(format!("1 {number}"));
        }
        assert_eq!(numbers(&until_number(&notes, 4)), [2, 3, 4], "{fault:?}");
        assert_eq!(feed.epoch(), 1, "{fault:?}");
    }
}

#[test]
fn the_line_that_is_first_least_is_replaced_now_and_then() {
    let venues = [venue(), venue()];
    let feed = FeedArbiter::builder()
        .line("quick", line(&venues[0]))
        .line("slow", line(&venues[1]))
        .replace_slowest(Duration::from_millis(30));
    let (feed, notes) = routed(feed, RouteOptions::new);
    let feed = feed.build().expect("the venues accept");
    // Two numbers of three come over the first line only, and what both have mostly comes over it first.
    let spare: Spare = Box::new(|venue, _, number| venue == 1 && number % 3 > 0);
    let pump = Pump::start(venues.to_vec(), STREAMS, 1_000, spare);
    let slow = feed.line("slow").expect("it is there");
    while slow.metrics().reconnect_count < 3 {
        std::thread::yield_now();
    }
    let last = pump.stop();
    let seen = until_number(&notes[0], last);
    let seen = numbers(&seen);
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "nobody may notice");
    assert!(feed.line("other").is_err());
    feed.shutdown().expect("it ends");
}
