//! Promise: twenty clients that lose one venue come back at growing distances, none of them in a hot loop, and all of them do.

mod support {
    pub(crate) mod lines;
}

use std::time::{Duration, Instant};

use hypersockets::simulator::{Ending, Venue};
use hypersockets::{Client, ClientEvent, Engine, ExponentialBackoff, ReconnectionStrategy, RouteOptions};
use support::lines::{Lines, PATIENCE, next_session, recorder};

const CLIENTS: usize = 20;
const FAILED_DIALS: usize = 6;
/// So that a run takes a second; what grows by the same factors grows alike.
const FIRST: Duration = Duration::from_millis(10);

/// The waits that the client announces between its failed dials, until there are enough of them.
fn waits(client: &Client) -> Vec<Duration> {
    let mut waits = Vec::new();
    let events = client.events();
    while waits.len() < FAILED_DIALS {
        match events.next_timeout(PATIENCE) {
            Some(ClientEvent::DialFailed { attempt, retry_in, .. }) => {
                waits.push(retry_in);
                assert_eq!(attempt, waits.len());
            }
            Some(_) => {}
            None => panic!("it no longer dials; {waits:?}"),
        }
    }
    waits
}

#[test]
fn twenty_clients_that_lose_one_server_come_back_at_growing_distances_and_all_of_them() {
    let venue = Venue::scripted().start().expect("a free port");
    let engine = Engine::builder().start().expect("a thread");
    let (clients, mut journals): (Vec<_>, Vec<_>) = (0..CLIENTS)
        .map(|_| {
            let (recorder, journal) = recorder();
            let builder = hypersockets::builder()
                .url(venue.url())
                .router(Lines, |routing| routing.default_handler_with(recorder, RouteOptions::new().inline()))
                // The default's factor and jitter.
                .reconnect_strategy(ExponentialBackoff::new(FIRST, FIRST * 1_000, None).jitter(0.1))
                .engine(&engine);
            (builder.build().expect("the venue accepts"), journal)
        })
        .unzip();
    (0..CLIENTS).for_each(|_| drop(next_session(&venue)));

    venue.stop(Ending::Rst);
    let all: Vec<_> = clients.iter().map(waits).collect();
    for waits in &all {
        let grows = waits.windows(2).all(|pair| pair[1].as_secs_f64() >= 1.5 * pair[0].as_secs_f64());
        assert!(grows, "{waits:?}");
    }
    assert!(all.iter().any(|waits| waits != &all[0]), "they must not all come back at the same moments");

    venue.restart().expect("the port is still ours");
    journals.iter_mut().for_each(|journal| journal.until_live(2));
    assert_eq!(venue.sessions_accepted(), 2 * CLIENTS as u64, "one session each");
}

#[test]
fn the_default_strategy_makes_few_attempts_and_is_back_soon() {
    const DOWN: Duration = Duration::from_secs(10);
    // Each draw of the jitter is another client.
    for _ in 0..1_000 {
        let strategy = ExponentialBackoff::default();
        let mut dials = Vec::<Duration>::new();
        while dials.last().is_none_or(|at| *at <= DOWN) {
            let delay = strategy.next_delay(dials.len()).expect("it never gives up");
            dials.push(dials.last().copied().unwrap_or_default() + delay);
        }
        assert!(dials.len() - 1 <= 15, "while the venue is down: {dials:?}");
        assert!(dials.last().is_some_and(|at| *at <= DOWN + Duration::from_secs(35)), "after its return: {dials:?}");
    }
}

/// The storm itself, as long as it takes: `cargo test --release --test faults_storm -- --ignored`.
#[test]
#[ignore = "a minute"]
fn twenty_clients_that_lose_one_server_for_twenty_seconds_come_back_by_the_default_strategy() {
    const DOWN: Duration = Duration::from_secs(20);
    const BACK: Duration = Duration::from_secs(35);
    let venue = Venue::scripted().start().expect("a free port");
    let engine = Engine::builder().start().expect("a thread");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let builder = hypersockets::builder()
                .url(venue.url())
                .router(Lines, |routing| routing.default_handler_with(recorder().0, RouteOptions::new().inline()));
            builder.engine(&engine).build().expect("the venue accepts")
        })
        .collect();
    let begun = Instant::now();
    venue.stop(Ending::Rst);
    let mut dials = vec![Vec::new(); CLIENTS];
    while begun.elapsed() < DOWN {
        for (client, dials) in clients.iter().zip(&mut dials) {
            while let Some(event) = client.events().next_timeout(Duration::from_millis(1)) {
                if let ClientEvent::DialFailed { retry_in, .. } = event {
                    dials.push((begun.elapsed(), retry_in));
                }
            }
        }
    }
    venue.restart().expect("the port is still ours");
    for client in &clients {
        client.wait_live(BACK.saturating_sub(begun.elapsed() - DOWN)).expect("all are live within 35 s of its return");
    }
    for dials in &dials {
        let in_ten = dials.iter().filter(|(at, _)| *at <= Duration::from_secs(10)).count();
        assert!(in_ten <= 15, "{dials:?}");
        let waits: Vec<_> = dials.iter().map(|(_, wait)| wait.as_secs_f64()).collect();
        assert!(waits.windows(2).all(|pair| pair[1] >= 1.5 * pair[0]), "{waits:?}");
    }
}
