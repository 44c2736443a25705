//! Promise: connections that share an engine share it fairly: a flood on one delays the others by a bounded number of
//! reads, and a hundred are served as one is.

mod support {
    pub(crate) mod lines;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hypersockets::simulator::{Session, Venue};
use hypersockets::{Client, Engine, IdleStrategy, MessageRouter, Result, RouteOptions, WsMessage};
use support::lines::{Journal, Lines, PATIENCE, live_session, next_session, recorder};

fn engine() -> Engine {
    Engine::builder().name("hs-shared").start().expect("a thread")
}

/// Counts what comes, without a look at it.
struct Count;

impl MessageRouter for Count {
    type Message = u64;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<u64> {
        Ok(message.as_bytes().len() as u64)
    }

    fn route_key(&self, _bytes: &u64) {}
}

/// A client on the engine that is flooded as fast as it reads, and how many messages it has handled.
fn flooded_client(engine: &Engine, venue: &Venue) -> (Client, Arc<AtomicU64>) {
    let handled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&handled);
    let (begun, flood) = crossbeam_channel::bounded(1);
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Count, |routing| {
            let inline = RouteOptions::new().inline();
            let handler = move |_: u64| {
                if count.fetch_add(1, Ordering::AcqRel) == 1_000 {
                    begun.send(()).map_err(|_| "the test is over")?;
                }
                Ok(())
            };
            routing.handler_with((), handler, inline)
        })
        .subscription(r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#)
        .engine(engine)
        .build()
        .expect("the venue accepts");
    flood.recv_timeout(PATIENCE).expect("the flood begins");
    (client, handled)
}

fn quiet_client(engine: &Engine, venue: &Venue) -> (Client, Session, Journal) {
    let (recorder, journal) = recorder();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler(recorder))
        .engine(engine)
        .build()
        .expect("the venue accepts");
    let session = next_session(venue);
    (client, session, journal)
}

#[test]
fn a_flood_on_other_connections_keeps_no_message_no_pong_and_no_send_from_this_one() {
    const ROUNDS: u64 = 300;
    const FLOOD: u64 = 1_000;
    let engine = engine();
    let flooding = [(); 2].map(|()| Venue::hyperliquid(["BTC"]).flat_out().start().expect("a free port"));
    let venue = Venue::scripted().start().expect("a free port");
    let flooded = [0, 1].map(|index| flooded_client(&engine, &flooding[index]));
    let (client, session, mut journal) = quiet_client(&engine, &venue);

    let floods = || [0, 1].map(|index| flooded[index].1.load(Ordering::Acquire));
    // Rounds go on until each flood has brought its share: there must be something to be unfair with.
    let enough = floods().map(|handled| handled + FLOOD);
    let mut rounds = 0;
    while rounds < ROUNDS || floods().iter().zip(&enough).any(|(handled, enough)| handled < enough) {
        assert!(rounds < 1_000 * ROUNDS, "the flood has dried up");
        let round = rounds;
        rounds += 1;
        let line = format!("BTC {round}");
        session.send_text(line.as_str());
        session.send_ping(line.as_bytes());
        journal.until_message(&line);
        assert_eq!(session.await_pong(PATIENCE).expect("a pong"), line.as_bytes());
        client.send(format!("order {round}")).expect("live");
        session.assert_received(&format!("order {round}"));
    }
    assert_eq!(journal.messages().len() as u64, rounds);

    // And nobody is in the way of a shutdown.
    assert!(client.shutdown().expect("not a thread of the engine").complete);
    for (client, _) in &flooded {
        let report = client.shutdown().expect("not a thread of the engine");
        assert!(report.complete && report.unhandled == 0, "{report:?}");
    }
    engine.shutdown().expect("the loop did not panic");
    flooding.iter().for_each(Venue::assert_protocol_kept);
}

#[test]
fn a_storm_of_sends_on_one_connection_keeps_no_message_from_another() {
    const ROUNDS: u64 = 300;
    let engine = engine();
    let (stormy_venue, venue) = (Venue::scripted().start(), Venue::scripted().start());
    let (stormy_venue, venue) = (stormy_venue.expect("a free port"), venue.expect("a free port"));
    let (stormy, _stormy_session, _stormy_journal) = quiet_client(&engine, &stormy_venue);
    let (_client, session, mut journal) = quiet_client(&engine, &venue);
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let (begun, storm) = crossbeam_channel::bounded(1);
    let sender = stormy.sender();
    let sending = std::thread::spawn(move || {
        let mut sent: u64 = 0;
        while stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
            // A full buffer is no error here: it is as full as it gets.
            sent += u64::from(sender.send("gust").is_ok());
            if sent == 1_000 {
                let _ = begun.try_send(());
            }
        }
        sent
    });
    storm.recv_timeout(PATIENCE).expect("the storm begins");
    for round in 0..ROUNDS {
        let line = format!("BTC {round}");
        session.send_text(line.as_str());
        session.send_ping(line.as_bytes());
        journal.until_message(&line);
        assert_eq!(session.await_pong(PATIENCE).expect("a pong"), line.as_bytes());
    }
    drop(stop);
    let sent = sending.join().expect("it does not panic");
    let metrics = stormy.shutdown().expect("not a thread of the engine").metrics;
    assert_eq!(metrics.messages_sent + metrics.sends_dropped, sent);
    stormy_venue.assert_protocol_kept();
}

#[test]
fn a_hundred_connections_live_on_one_engine() {
    const CLIENTS: usize = 100;
    let engine = engine();
    let venue = Venue::scripted().start().expect("a free port");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (recorder, journal) = recorder();
            let client = hypersockets::builder()
                .url(format!("{}?client={number}", venue.url()))
                .router(Lines, |routing| routing.default_handler(recorder))
                .subscription("subscribe")
                .engine(&engine)
                .start()
                .expect("a valid configuration");
            (client, journal)
        })
        .collect();
    let mut sessions: Vec<Option<Session>> = (0..CLIENTS).map(|_| None).collect();
    for (client, _) in &clients {
        // The venue numbers sessions as they come; the path tells whose it is.
        let session = live_session(client, &venue);
        let number = session.path().rsplit('=').next().and_then(|number| number.parse::<usize>().ok());
        sessions[number.expect("the path tells")] = Some(session);
    }
    let sessions: Vec<Session> = sessions.into_iter().map(|session| session.expect("one a client")).collect();
    for (number, session) in sessions.iter().enumerate() {
        session.send_text(format!("BTC {number}"));
        session.send_ping(format!("{number}"));
    }
    let mut clients = clients;
    for (number, (session, (client, journal))) in sessions.iter().zip(&mut clients).enumerate() {
        session.assert_received("subscribe");
        assert_eq!(session.await_pong(PATIENCE).expect("a pong"), number.to_string().as_bytes());
        journal.until_message(&format!("BTC {number}"));
        client.send(format!("order {number}")).expect("live");
        session.assert_received(&format!("order {number}"));
    }
    for (client, journal) in &mut clients {
        let report = client.shutdown().expect("not a thread of the engine");
        assert!(report.complete && report.metrics.messages_handled == 1, "{report:?}");
        journal.assert_stopped_once();
    }
    engine.shutdown().expect("the loop did not panic");
    for session in &sessions {
        assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1000));
    }
    venue.assert_protocol_kept();
}

#[test]
fn eleven_handler_threads_that_spin_keep_neither_a_message_nor_a_pong_from_the_loop() {
    const ROUNDS: usize = 100;
    let venue = Venue::scripted().start().expect("a free port");
    let (recorders, mut journals): (Vec<_>, Vec<_>) = (0..11).map(|_| recorder()).unzip();
    // More than this machine may have cores for; each asks for a whole one.
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| {
            recorders.into_iter().enumerate().fold(routing, |routing, (n, recorder)| {
                routing.handler_with(format!("R{n}"), recorder, RouteOptions::new().idle(IdleStrategy::BusySpin))
            })
        })
        .build()
        .expect("the venue accepts");
    let session = next_session(&venue);
    for round in 0..ROUNDS {
        session.send_ping(round.to_string());
        for n in 0..11 {
            session.send_text(format!("R{n} {round}"));
        }
        assert_eq!(session.await_pong(PATIENCE).expect("a pong"), round.to_string().as_bytes());
    }
    let expected = |n: usize| (0..ROUNDS).map(|round| format!("R{n} {round}")).collect::<Vec<_>>();
    client.shutdown().expect("it ends");
    for (n, journal) in journals.iter_mut().enumerate() {
        assert_eq!(journal.messages(), expected(n));
    }
}
