//! Promise: no thread outlives its engine. In a test binary of its own, where every thread of ours is this test's.
#![cfg(target_os = "linux")]

mod support {
    pub(crate) mod lines;
}

use std::time::Instant;

use hypersockets::simulator::Venue;
use hypersockets::{ClientBuilder, Engine, HasRouter, HasUrl};
use support::lines::{Lines, PATIENCE, next_session, recorder, soon};

/// The names of the engine's threads in this process.
fn our_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this is Linux");
    // A thread that ends between the two looks has left.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let mut ours: Vec<_> = names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("hs")).collect();
    ours.sort();
    ours
}

/// Waits until these threads are left. Nothing tells of a thread's end but the system's list of them, where even one that
/// was joined may stand for a moment.
#[track_caller]
fn await_threads(expected: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    while our_threads() != expected {
        assert!(Instant::now() < deadline, "awaited {expected:?}, there are {:?}", our_threads());
        std::thread::yield_now();
    }
}

fn builder(url: String) -> ClientBuilder<HasUrl, HasRouter> {
    let builder = hypersockets::builder().url(url).reconnect_strategy(soon());
    builder.router(Lines, |routing| {
        routing
            .handler("BTC".to_owned(), recorder().0)
            .handler("ETH".to_owned(), recorder().0)
            .default_handler(recorder().0)
    })
}

#[test]
fn all_threads_leave_with_their_client_or_their_engine() {
    let venue = Venue::scripted().start().expect("a free port");

    let client = builder(venue.url()).build().expect("the venue accepts");
    await_threads(&["hs-loop", "hs:BTC", "hs:ETH", "hs:default"]);
    client.shutdown().expect("not a thread of the engine");
    await_threads(&[]);

    // A name has to be resolved, which another thread does.
    let client = builder(format!("ws://localhost:{}/ws", venue.port())).build().expect("the venue accepts");
    await_threads(&["hs-loop", "hs-offload", "hs:BTC", "hs:ETH", "hs:default"]);
    client.shutdown().expect("not a thread of the engine");
    await_threads(&[]);

    let client = builder(venue.url()).build().expect("the venue accepts");
    drop(client);
    await_threads(&[]);

    let engine = Engine::builder().name("hs-shared").start().expect("a thread");
    let clients = [(); 2].map(|()| builder(venue.url()).engine(&engine).build().expect("the venue accepts"));
    clients[0].shutdown().expect("not a thread of the engine");
    await_threads(&["hs-shared", "hs:BTC", "hs:ETH", "hs:default"]);
    engine.shutdown().expect("the loop did not panic");
    await_threads(&[]);
    drop(clients);

    let engine = Engine::builder().name("hs-dropped").start().expect("a thread");
    let client = builder(venue.url()).engine(&engine).build().expect("the venue accepts");
    drop(engine);
    await_threads(&["hs-dropped", "hs:BTC", "hs:ETH", "hs:default"]);
    drop(client);
    await_threads(&[]);

    // A client that failed, and one that never got as far.
    let client = builder(venue.url()).reconnect_strategy(hypersockets::NeverReconnect).build();
    let client = client.expect("the venue accepts");
    let sessions = std::iter::from_fn(|| venue.next_session(std::time::Duration::ZERO).ok());
    sessions.for_each(|session| session.drop_fin());
    await_threads(&["hs-loop"]);
    drop(client);
    await_threads(&[]);
    venue.stop(hypersockets::simulator::Ending::Fin);
    builder(venue.url()).build().expect_err("the venue is down");
    await_threads(&[]);
    venue.restart().expect("the port was kept");

    let twice = builder(venue.url());
    let client = twice.build().expect("the venue is back");
    next_session(&venue).drop_rst();
    client.shutdown().expect("not a thread of the engine");
    await_threads(&[]);
}
