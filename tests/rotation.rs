//! Promise: a client that moves to a new connection shows its handlers one stream, without a hole, a repeat or another order.

mod support {
    pub(crate) mod lines;
    pub(crate) mod numbered;
}

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use hypersockets::simulator::{Ending, Session, SessionFault, UpgradeFault, Venue};
use hypersockets::{
    AuthProvider, Client, ClientBuilder, ClientEvent, ClientState, ConnectionEvent, DisconnectReason, Engine,
    HasRouter, HasUrl, HyperSocketError, RouteOptions, WsMessage,
};
use support::lines::{Lines, PATIENCE, next_session, recorder, soon, trusting};
use support::numbered::{
    Note, Noter, Number, Numbered, PerConnection, Pump, Spare, assert_unbroken, noter, numbers, until_number,
};

const STREAMS: u64 = 3;

fn venue() -> Arc<Venue> {
    Arc::new(Venue::scripted().start().expect("a free port"))
}

fn builder(
    venue: &Venue,
    options: impl Fn() -> RouteOptions<Number>,
) -> (ClientBuilder<HasUrl, HasRouter>, Vec<Receiver<Note>>) {
    let (noters, notes): (Vec<Noter>, Vec<_>) = (0..STREAMS).map(|_| noter()).unzip();
    let builder = hypersockets::builder()
        .url(venue.url())
        .tls(trusting(venue))
        .router(Numbered, |mut routing| {
            for (stream, noter) in (1..).zip(noters) {
                routing = routing.handler_with(stream, noter, options());
            }
            routing
        })
        .reconnect_strategy(soon());
    (builder, notes)
}

fn everybody_gets_all() -> Spare {
    Box::new(|_, _, _| false)
}

/// Waits for what becomes of a rotation.
#[track_caller]
fn outcome(client: &Client) -> ClientEvent {
    let events = client.events();
    loop {
        let event = events.next_timeout(PATIENCE).expect("an event");
        if matches!(
            event,
            ClientEvent::Connection(ConnectionEvent::Rotated { .. } | ConnectionEvent::Lost { .. })
                | ClientEvent::RotationFailed { .. }
        ) {
            return event;
        }
    }
}

#[track_caller]
fn rotate(client: &Client, epoch: u64) {
    client.rotate().expect("it is live");
    assert_eq!(outcome(client), ClientEvent::Connection(ConnectionEvent::Rotated { epoch }));
}

/// Rotates so often under so many messages a second of each stream, and asserts that nobody noticed.
#[track_caller]
fn rotate_under_load(rotations: u64, per_second: u64, engine: &Engine, options: impl Fn() -> RouteOptions<Number>) {
    let venue = venue();
    let (builder, notes) = builder(&venue, options);
    let client = builder.engine(engine).build().expect("the venue accepts");
    let pump = Pump::start(vec![Arc::clone(&venue)], STREAMS, per_second, everybody_gets_all());
    (2..rotations + 2).for_each(|epoch| rotate(&client, epoch));
    let last = pump.stop();
    for notes in &notes {
        let (_, end) = assert_unbroken(&until_number(notes, last));
        assert_eq!(end, last);
    }
    assert_eq!(client.epoch(), rotations + 1);
    let metrics = client.metrics();
    assert_eq!((metrics.rotations, metrics.reconnect_count, metrics.sequence_gaps), (rotations, 0, 0));
    assert_eq!(venue.sessions_accepted(), rotations + 1);
    venue.assert_protocol_kept();
    client.shutdown().expect("it ends");
}

#[test]
fn a_hundred_rotations_under_load_leave_no_hole_no_repeat_and_no_other_order() {
    let engine = Engine::builder().start().expect("a thread");
    rotate_under_load(100, 20_000 / STREAMS, &engine, RouteOptions::new);
}

#[test]
fn nor_do_they_inline() {
    let engine = Engine::builder().start().expect("a thread");
    rotate_under_load(20, 2_000, &engine, || RouteOptions::new().inline());
}

#[test]
fn nor_do_they_on_parser_lanes() {
    use hypersockets::ThreadOptions;
    let engine = Engine::builder().lanes([ThreadOptions::new(), ThreadOptions::new()]).start().expect("threads");
    rotate_under_load(20, 2_000, &engine, RouteOptions::new);
    engine.shutdown().expect("it ends");
}

#[test]
fn a_feed_without_numbers_is_refused_with_the_reason_and_goes_on() {
    let venue = venue();
    let (recorder, mut journal) = recorder();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler(recorder))
        .build()
        .expect("the venue accepts");
    let session = next_session(&venue);
    session.send_text("l2Book snapshot");
    journal.until_message("l2Book snapshot");
    let refused = client.rotate().expect_err("nothing says what was handled already");
    assert!(matches!(&refused, HyperSocketError::NotSpliced(why) if why.contains("l2Book")), "{refused}");
    // One that asks from elsewhere hears of it as an event.
    client.sender().rotate().expect("it is live");
    assert!(matches!(outcome(&client), ClientEvent::RotationFailed { reason: DisconnectReason::NotSpliced(_) }));
    session.send_text("l2Book again");
    journal.until_message("l2Book again");
    assert_eq!(venue.sessions_accepted(), 1);
}

#[test]
fn numbers_that_count_per_connection_are_refused() {
    let venue = venue();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(PerConnection, |routing| routing.handler((), |_: Number| Ok(())))
        .build()
        .expect("the venue accepts");
    assert!(matches!(client.rotate(), Err(HyperSocketError::NotSpliced(_))));
}

/// A client, its venue, its first session and the notes of stream 1, which has had the numbers 1 to 3.
fn begun() -> (Client, Arc<Venue>, Session, Receiver<Note>) {
    begun_at(venue())
}

fn begun_at(venue: Arc<Venue>) -> (Client, Arc<Venue>, Session, Receiver<Note>) {
    let (builder, mut notes) = builder(&venue, RouteOptions::new);
    let client = builder.build().expect("the venue accepts");
    let session = next_session(&venue);
    (1..=3).for_each(|number| session.send_text(format!("1 {number}")));
    let notes = notes.swap_remove(0);
    // What is left in the channel is for the test.
    let first = until_number(&notes, 3);
    assert_eq!(assert_unbroken(&first), (1, 3));
    (client, venue, session, notes)
}

#[test]
fn a_new_connection_that_fails_leaves_the_client_on_the_old_one() {
    let (client, venue, session, notes) = begun();
    venue.plan_upgrade(UpgradeFault::TooManyRequests);
    client.rotate().expect("it is live");
    let outcome = outcome(&client);
    assert!(
        matches!(
            &outcome,
            ClientEvent::RotationFailed { reason: DisconnectReason::UpgradeRejected { status: 429, .. } }
        ),
        "{outcome:?}"
    );
    session.send_text("1 4");
    assert_eq!(numbers(&until_number(&notes, 4)), [4]);
    assert_eq!((client.epoch(), client.metrics().reconnect_count), (1, 0));
}

#[test]
fn should_the_old_connection_die_while_both_are_there_the_new_one_goes_on_and_says_what_is_missing() {
    for (next, gap) in [(4, None), (6, Some((4, 5)))] {
        let (client, venue, session, notes) = begun();
        client.rotate().expect("it is live");
        let relief = next_session(&venue);
        // It has shown nothing yet, so the old one is kept; its death is known to us before it says anything.
        relief.send_ping("are you there");
        relief.await_pong(PATIENCE).expect("it is live");
        session.drop_rst();
        assert_eq!(outcome(&client), ClientEvent::Connection(ConnectionEvent::Rotated { epoch: 2 }));
        relief.send_text(format!("1 {next}"));
        let seen = until_number(&notes, next);
        assert_eq!(numbers(&seen), [next]);
        let gaps: Vec<_> =
            seen.iter().filter(|note| matches!(note, Note::Event(ConnectionEvent::Gap { .. }))).collect();
        let told = gap.map(|(first, last)| Note::Event(ConnectionEvent::Gap { stream: 1, first, last }));
        assert_eq!(gaps, told.iter().collect::<Vec<_>>());
        assert_eq!((client.state(), client.metrics().reconnect_count), (ClientState::Live, 0));
    }
}

#[test]
fn should_the_old_connection_die_before_the_new_one_is_live_it_is_an_ordinary_loss() {
    let (client, venue, session, notes) = begun();
    let sent = client.send("order").expect("it is live");
    assert_eq!(session.await_text(PATIENCE).expect("a text"), "order");
    venue.plan_upgrade(UpgradeFault::Silence);
    client.rotate().expect("it is live");
    while venue.connections_accepted() < 2 {
        std::thread::yield_now();
    }
    session.drop_rst();
    assert!(matches!(outcome(&client), ClientEvent::Connection(ConnectionEvent::Lost { epoch: 1, .. })));
    let again = next_session(&venue);
    again.send_text("1 9");
    let seen = until_number(&notes, 9);
    assert!(seen.contains(&Note::Event(ConnectionEvent::Live { epoch: 2 })) && numbers(&seen) == [9], "{seen:?}");
    let lost = seen.iter().find_map(|note| match note {
        Note::Event(ConnectionEvent::Lost { written_through, .. }) => Some(*written_through),
        _ => None,
    });
    assert_eq!(lost, Some(Some(sent)), "what had left is told");
    // The connection that was to take over is gone, too.
    client.shutdown().expect("it ends");
}

#[test]
fn a_stream_that_the_new_connection_never_brings_keeps_the_client_on_the_old_one() {
    let venue = venue();
    let (builder, notes) = builder(&venue, RouteOptions::new);
    let client = builder.build().expect("the venue accepts");
    // Sessions behind the first get nothing.
    let pump = Pump::start(vec![Arc::clone(&venue)], 1, 500, Box::new(|_, session, _| session.number() > 1));
    client.rotate().expect("it is live");
    let outcome = outcome(&client);
    assert!(matches!(&outcome, ClientEvent::RotationFailed { reason: DisconnectReason::NotSpliced(_) }), "{outcome:?}");
    let last = pump.stop();
    assert_eq!(assert_unbroken(&until_number(&notes[0], last)).1, last);
    assert_eq!(client.epoch(), 1);
}

#[test]
fn old_age_and_the_venues_notice_move_a_client_by_themselves() {
    let venue = venue();
    let (builder, notes) = builder(&venue, RouteOptions::new);
    let client = builder
        .max_age(Duration::from_millis(50))
        .rotate_on_notice(|raw| raw.as_text() == Some("serverShutdown"))
        .build()
        .expect("the venue accepts");
    let pump = Pump::start(vec![Arc::clone(&venue)], STREAMS, 1_000, everybody_gets_all());
    for epoch in 2..5 {
        assert_eq!(outcome(&client), ClientEvent::Connection(ConnectionEvent::Rotated { epoch }));
    }
    let last = pump.stop();
    assert_eq!(assert_unbroken(&until_number(&notes[0], last)).1, last);
}

#[test]
fn a_notice_moves_a_client() {
    let venue = venue();
    let (builder, notes) = builder(&venue, RouteOptions::new);
    let client =
        builder.rotate_on_notice(|raw| raw.as_text() == Some("serverShutdown")).build().expect("the venue accepts");
    let session = next_session(&venue);
    session.send_text("1 1");
    session.send_text("serverShutdown");
    let relief = next_session(&venue);
    relief.send_text("1 1");
    assert_eq!(outcome(&client), ClientEvent::Connection(ConnectionEvent::Rotated { epoch: 2 }));
    relief.send_text("1 2");
    assert_eq!(numbers(&until_number(&notes[0], 2)), [1, 2]);
    session.await_end(PATIENCE).expect("the old one was closed");
}

#[test]
fn a_shutdown_amid_a_rotation_ends_both_connections_and_loses_nothing() {
    let (client, venue, session, notes) = begun();
    client.rotate().expect("it is live");
    let relief = next_session(&venue);
    relief.send_ping("are you there");
    relief.await_pong(PATIENCE).expect("it is live");
    session.send_text("1 4");
    session.flush(PATIENCE).expect("sent");
    assert_eq!(numbers(&until_number(&notes, 4)), [4]);
    let report = client.shutdown().expect("not on a thread of the engine");
    assert!(report.complete && report.unhandled == 0, "{report:?}");
    assert!(matches!(notes.try_iter().last(), Some(Note::Event(ConnectionEvent::Lost { epoch: 1, .. }))));
    venue.stop(Ending::Fin);
}

#[test]
fn what_is_sent_goes_out_once_whichever_connection_it_is_by_then() {
    const EACH: usize = 200;
    let venue = venue();
    let (builder, notes) = builder(&venue, RouteOptions::new);
    let client = builder.build().expect("the venue accepts");
    let pump = Pump::start(vec![Arc::clone(&venue)], STREAMS, 2_000, everybody_gets_all());
    let sender = client.sender();
    let sending = std::thread::spawn(move || {
        for order in 0..EACH {
            sender.send(format!("order {order}")).expect("it is never down");
            std::thread::yield_now();
        }
    });
    (2..12).for_each(|epoch| rotate(&client, epoch));
    sending.join().expect("no send erred");
    assert!(matches!(client.send_in_epoch(1, "late"), Err(HyperSocketError::EpochChanged { current: 11 })));
    let last = pump.stop();
    assert_unbroken(&until_number(&notes[0], last));
    let metrics = client.shutdown().expect("it ends").metrics;
    assert_eq!(metrics.sends_dropped, 0);
    let mut orders: Vec<_> = venue.received().into_iter().map(|(_, text)| text).collect();
    orders.sort();
    orders.dedup();
    assert_eq!((orders.len(), venue.received().len()), (EACH, EACH));
}

/// For every fault, over `ws` and over `wss`: a client amid a rotation, with both connections live, the old and the new.
fn for_each_fault(check: impl Fn(SessionFault, Client, [Session; 2], Receiver<Note>)) {
    for fault in SessionFault::ALL {
        for venue in [Venue::scripted(), Venue::scripted().tls()] {
            eprintln!("{fault:?}");
            let (client, venue, old, notes) = begun_at(Arc::new(venue.start().expect("a free port")));
            client.rotate().expect("it is live");
            let new = next_session(&venue);
            new.send_ping("are you there");
            new.await_pong(PATIENCE).expect("it is live");
            check(*fault, client, [old, new], notes);
        }
    }
}

#[test]
fn whatever_the_venue_does_wrong_on_the_old_connection_the_new_one_goes_on() {
    for_each_fault(|fault, client, [old, new], notes| {
        old.commit(fault);
        (3..=5).for_each(|number| new.send_text(format!("1 {number}")));
        let seen = until_number(&notes, 5);
        assert_eq!(numbers(&seen), [4, 5], "{fault:?}");
        assert_eq!(outcome(&client), ClientEvent::Connection(ConnectionEvent::Rotated { epoch: 2 }), "{fault:?}");
        assert!(!seen.iter().any(|note| matches!(note, Note::Event(ConnectionEvent::Gap { .. }))), "{fault:?}");
    });
}

#[test]
fn whatever_the_venue_does_wrong_on_the_new_connection_the_old_one_goes_on() {
    for_each_fault(|fault, client, [old, new], notes| {
        new.commit(fault);
        (4..=5).for_each(|number| old.send_text(format!("1 {number}")));
        assert_eq!(numbers(&until_number(&notes, 5)), [4, 5], "{fault:?}");
        assert_eq!((client.state(), client.epoch()), (ClientState::Live, 1), "{fault:?}");
    });
}

#[test]
fn whatever_the_venue_answers_to_the_new_connection_the_client_stays_live() {
    for fault in UpgradeFault::ALL {
        let (client, venue, old, notes) = begun();
        venue.plan_upgrade(*fault);
        client.rotate().expect("it is live");
        old.send_text("1 4");
        assert_eq!(numbers(&until_number(&notes, 4)), [4], "{fault:?}");
        assert_eq!((client.state(), client.epoch()), (ClientState::Live, 1), "{fault:?}");
    }
}

#[test]
fn the_new_connection_is_authenticated_and_subscribed_before_the_old_one_goes() {
    struct Login;

    impl AuthProvider for Login {
        fn get_auth_message(&self) -> hypersockets::Result<Option<WsMessage<'_>>> {
            Ok(Some(WsMessage::text("login")))
        }

        fn validate_auth_response(&self, response: &WsMessage<'_>) -> hypersockets::Result<bool> {
            Ok(response.as_text() == Some("welcome"))
        }
    }

    #[track_caller]
    fn welcome(session: &Session) {
        assert_eq!(session.await_text(PATIENCE).expect("a text"), "login");
        session.send_text("welcome");
        assert_eq!(session.await_text(PATIENCE).expect("a text"), "subscribe");
    }

    let venue = venue();
    let (builder, notes) = builder(&venue, RouteOptions::new);
    let client = builder.auth(Login).subscription("subscribe").start().expect("a thread");
    let old = next_session(&venue);
    welcome(&old);
    old.send_text("1 1");
    until_number(&notes[0], 1);
    client.rotate().expect("it is live");
    let new = next_session(&venue);
    // Market data before the answer is put into its place, too: 3 waits for the 2 of the old one.
    new.send_text("1 3");
    new.send_ping("are you there");
    new.await_pong(PATIENCE).expect("it has read that");
    old.send_text("1 2");
    assert_eq!(numbers(&until_number(&notes[0], 3)), [2, 3]);
    welcome(&new);
    new.send_text("1 4");
    assert_eq!(outcome(&client), ClientEvent::Connection(ConnectionEvent::Rotated { epoch: 2 }));
    assert_eq!(numbers(&until_number(&notes[0], 4)), [4]);
    old.await_end(PATIENCE).expect("it was closed");
}
