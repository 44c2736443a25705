//! Promise: one loop holds a thousand connections: dialed at a limited pace, every ping answered, none lost for good, and one that is
//! slow or in trouble harms nobody else. The whole thousand, for a minute with restarts of the venue, runs by
//! `cargo test --release --test many_connections -- --ignored`, which needs 8,000 file descriptors.

mod support {
    pub(crate) mod lines;
}

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hypersockets::simulator::{Ending, Session, Venue};
use hypersockets::{
    Client, ClientManager, ClientState, ConnectionLimit, Engine, EngineGroup, HyperSocketError, RouteOptions,
};
use support::lines::{Lines, PATIENCE, recorder, soon, trusting};

struct Scale {
    plain: usize,
    encrypted: usize,
    /// Restarts of the venues, spread over this time.
    restarts: usize,
    lasts: Duration,
}

/// A client whose handler runs inline and only counts.
fn client(venue: &Venue, limit: &ConnectionLimit, engine: &Engine, handled: &Arc<AtomicU64>) -> Client {
    let handled = Arc::clone(handled);
    hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| {
            let count = move |_: String| {
                handled.fetch_add(1, Ordering::AcqRel);
                Ok(())
            };
            routing.default_handler_with(count, RouteOptions::new().inline())
        })
        .tls(trusting(venue))
        .connection_limit(limit)
        .reconnect_strategy(soon())
        .connect_timeout(PATIENCE)
        .engine(engine)
        .start()
        .expect("it dials by and by")
}

/// The next session of each of so many clients.
#[track_caller]
fn sessions(venue: &Venue, count: usize) -> Vec<Session> {
    (0..count).map(|_| venue.next_session(PATIENCE).expect("a session")).collect()
}

/// Pings every session, and gives each a message; returns how many answered.
fn ping_all(sessions: &[Session]) -> usize {
    for session in sessions {
        session.send_ping("there?");
        session.send_text("tick");
    }
    sessions.iter().filter(|session| session.await_pong(PATIENCE).is_ok()).count()
}

#[track_caller]
fn hold(scale: &Scale) {
    let engine = Engine::builder().start().expect("a thread");
    let venues = [Venue::scripted().start(), Venue::scripted().tls().start()].map(|venue| venue.expect("a free port"));
    let counts = [scale.plain, scale.encrypted];
    // A tenth of them in each twentieth of a second.
    let limit = ConnectionLimit::new((scale.plain + scale.encrypted).div_ceil(10), Duration::from_millis(50));
    let manager = ClientManager::new(Arc::new(AtomicBool::new(true)));
    let handled = Arc::new(AtomicU64::new(0));
    for (venue, count) in venues.iter().zip(counts) {
        for number in 0..count {
            let name = format!("{} {number}", venue.url());
            manager.add_client(name, client(venue, &limit, &engine, &handled)).expect("a new name");
        }
    }
    let mut live: Vec<_> = venues.iter().zip(counts).map(|(venue, count)| sessions(venue, count)).collect();
    let begun = Instant::now();
    let mut pinged = 0;
    for restart in 0..=scale.restarts {
        let until = begun + scale.lasts.mul_f64((restart + 1) as f64 / (scale.restarts + 1) as f64);
        // One round at least, and then for as long as is asked for.
        while pinged == 0 || Instant::now() < until {
            for sessions in &live {
                assert_eq!(ping_all(sessions), sessions.len(), "a ping without an answer");
                pinged += sessions.len() as u64;
            }
        }
        if restart < scale.restarts {
            let which = restart % 2;
            venues[which].stop(if restart % 4 < 2 { Ending::Rst } else { Ending::Fin });
            venues[which].restart().expect("the port is still ours");
            live[which] = sessions(&venues[which], counts[which]);
            assert_eq!(ping_all(&live[which]), counts[which]);
            pinged += counts[which] as u64;
        }
    }
    let clients = manager.states();
    assert!(clients.iter().all(|(_, state)| *state == ClientState::Live), "all of them are there");
    assert!(!manager.is_halted());
    assert_eq!(handled.load(Ordering::Acquire), pinged, "each message once");
    venues.iter().for_each(Venue::assert_protocol_kept);
    let reports = manager.shutdown().expect("not on a thread of the engine");
    assert!(reports.iter().all(|(_, report)| report.complete && report.unhandled == 0));
}

#[test]
fn many_connections_on_one_loop_answer_every_ping_and_come_back_from_restarts() {
    hold(&Scale { plain: 100, encrypted: 20, restarts: 2, lasts: Duration::ZERO });
}

#[test]
#[ignore = "a minute, and 8,000 file descriptors"]
fn a_thousand_connections_for_a_minute() {
    hold(&Scale { plain: 700, encrypted: 300, restarts: 6, lasts: Duration::from_secs(60) });
}

#[test]
fn one_that_floods_and_one_that_stalls_harm_nobody() {
    let engine = Engine::builder().start().expect("a thread");
    let limit = ConnectionLimit::new(100, Duration::from_secs(1));
    let handled = Arc::new(AtomicU64::new(0));
    let [quiet, flooding] =
        [Venue::scripted(), Venue::ticks(2_000).flat_out()].map(|venue| venue.start().expect("a port"));
    let clients: Vec<_> = (0..20).map(|_| client(&quiet, &limit, &engine, &handled)).collect();
    let flooded = client(&flooding, &limit, &engine, &Arc::default());
    let sessions = sessions(&quiet, 20);
    flooded.wait_live(PATIENCE).expect("the venue accepts");
    // This one does not read, so what is sent to it piles up.
    sessions[0].stall();
    for client in &clients {
        client.wait_live(PATIENCE).expect("the venue accepts");
        while client.connection() == clients[0].connection() && client.send("x".repeat(100_000)).is_ok() {}
    }
    let others: Vec<_> = sessions.into_iter().skip(1).collect();
    assert_eq!(ping_all(&others), 19);
    assert!(flooded.metrics().messages_received > 0);
    for client in clients.iter().chain([&flooded]) {
        client.request_shutdown();
    }
}

#[test]
fn a_group_shares_clients_out_and_says_where_each_is() {
    let venue = Venue::scripted().start().expect("a free port");
    let group = EngineGroup::start([(); 3].map(|()| Engine::builder())).expect("threads");
    let build = || {
        let builder = hypersockets::builder().url(venue.url());
        let builder = builder.router(Lines, |routing| routing.default_handler(recorder().0));
        builder.engine_group(&group).build().expect("the venue accepts")
    };
    let mut clients: Vec<_> = (0..9).map(|_| build()).collect();
    let placements = group.placements();
    assert!(placements.iter().all(|clients| clients.len() == 3), "{placements:?}");
    let all: HashSet<_> = placements.concat().into_iter().collect();
    assert_eq!(all, clients.iter().map(Client::connection).collect());
    // Those that have ended make room.
    let gone: Vec<_> = clients.extract_if(.., |client| group.engine_of(client.connection()) == Some(1)).collect();
    gone.iter().for_each(|client| drop(client.shutdown().expect("not on a thread of an engine")));
    assert_eq!(group.engine_of(gone[0].connection()), None);
    let next = build();
    assert_eq!(group.engine_of(next.connection()), Some(1));
    assert!(matches!(EngineGroup::of([]), Err(HyperSocketError::InvalidConfig(_))));
    group.shutdown().expect("no loop has panicked");
    assert!(clients.iter().all(|client| client.state() == ClientState::Closed));
}
