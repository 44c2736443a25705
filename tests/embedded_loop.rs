//! Promise: an embedder may drive the event loop on a thread of its own. Then the engine starts no thread at all, as long as
//! handlers are inline and nobody has to be asked; in a test binary of its own, where every thread of ours would be seen.

mod support {
    pub(crate) mod lines;
}

use std::time::{Duration, Instant};

use hypersockets::simulator::{Ending, Venue};
use hypersockets::{
    Client, ClientBuilder, ClientState, ConnectionEvent, Delivery, DisconnectReason, Engine, EventLoop, HasRouter,
    HasUrl, HyperSocketError, MessageHandler, Result, RouteOptions,
};
use support::lines::{Journal, Lines, PATIENCE, Recorder, Seen, next_session, recorder, soon};

/// Answers each message, and writes it down.
struct Answering(Recorder);

impl MessageHandler<String> for Answering {
    fn handle(&mut self, _line: String) -> Result<()> {
        unreachable!("messages come by handle_delivery")
    }

    fn handle_delivery(&mut self, line: String, delivery: &mut Delivery<'_>) -> Result<()> {
        delivery.send(format!("re: {line}").into())?;
        self.0.handle_delivery(line, delivery)
    }

    fn on_event(&mut self, event: &ConnectionEvent) {
        self.0.on_event(event);
    }

    fn on_stop(&mut self) {
        self.0.on_stop();
    }
}

fn inline_builder(venue: &Venue) -> (ClientBuilder<HasUrl, HasRouter>, Journal) {
    let (recorder, journal) = recorder();
    let builder = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| {
            routing.handler_with("BTC".to_owned(), Answering(recorder), RouteOptions::new().inline())
        })
        .subscription("subscribe BTC")
        .reconnect_strategy(soon());
    (builder, journal)
}

/// Turns the loop, and sleeps in it, until it `is_done`.
#[track_caller]
fn turn_until(event_loop: &mut EventLoop, what: &str, mut is_done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_done() {
        assert!(Instant::now() < deadline, "never came: {what}");
        if event_loop.turn() == 0 {
            event_loop.wait(Duration::from_millis(10));
        }
    }
}

fn is_in(client: &Client, state: ClientState) -> impl FnMut() -> bool {
    move || client.state() == state
}

#[cfg(target_os = "linux")]
fn assert_no_threads_of_ours() {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this is Linux");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let ours: Vec<_> = names.filter(|name| name.starts_with("hs")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[cfg(not(target_os = "linux"))]
fn assert_no_threads_of_ours() {}

#[test]
fn a_client_lives_its_whole_life_on_the_callers_thread() {
    let venue = Venue::scripted().start().expect("a free port");
    let mut event_loop = EventLoop::new().expect("a poll descriptor");
    assert!(event_loop.is_empty() && event_loop.turn() == 0);
    let (builder, mut journal) = inline_builder(&venue);
    let client = event_loop.add(builder).expect("a valid configuration");
    assert_eq!((event_loop.len(), client.state()), (1, ClientState::Connecting));
    assert!(matches!(client.send("too early"), Err(HyperSocketError::NotConnected)));

    for epoch in 1..=2 {
        turn_until(&mut event_loop, "live", || client.state() == ClientState::Live && client.epoch() == epoch);
        assert_no_threads_of_ours();
        let session = next_session(&venue);
        session.assert_received("subscribe BTC");
        for n in 0..1_000 {
            session.send_text(format!("BTC {n}"));
        }
        turn_until(&mut event_loop, "a thousand messages", || client.metrics().messages_handled == 1_000 * epoch);
        client.send("order").expect("live");
        turn_until(&mut event_loop, "the order's leaving", || client.metrics().messages_sent == 1_002 * epoch);
        (0..1_000).for_each(|n| session.assert_received(&format!("re: BTC {n}")));
        session.assert_received("order");
        session.send_ping("are you there");
        turn_until(&mut event_loop, "a ping", || client.metrics().pings_answered == epoch);
        assert_eq!(session.await_pong(PATIENCE).expect("a pong"), b"are you there");
        if epoch == 1 {
            session.drop_fin();
            turn_until(&mut event_loop, "the loss", || client.state() != ClientState::Live);
        }
    }
    client.request_shutdown();
    turn_until(&mut event_loop, "the end", is_in(&client, ClientState::Closed));
    assert!(event_loop.is_empty());
    assert_eq!(journal.messages().len(), 2_000);
    journal.assert_stopped_once();
    let report = client.shutdown().expect("this thread is the engine's only while it turns");
    assert!(report.complete && report.unhandled == 0, "{report:?}");
    assert_no_threads_of_ours();
    venue.assert_protocol_kept();
}

/// Waits for the client, on the thread that would have to serve it.
struct Waiting {
    client: std::sync::Arc<std::sync::OnceLock<Client>>,
    outcome: crossbeam_channel::Sender<Result<()>>,
}

impl MessageHandler<String> for Waiting {
    fn handle(&mut self, _line: String) -> Result<()> {
        let client = self.client.get().ok_or("the test sets it first")?;
        self.outcome.send(client.shutdown().map(drop)).map_err(|_| "the test is over".into())
    }
}

#[test]
fn within_a_turn_the_callers_thread_is_the_engines() {
    let venue = Venue::scripted().start().expect("a free port");
    let mut event_loop = EventLoop::new().expect("a poll descriptor");
    let (outcome, outcomes) = crossbeam_channel::unbounded();
    let shared = std::sync::Arc::default();
    let waiting = Waiting { client: std::sync::Arc::clone(&shared), outcome };
    let builder = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.handler_with("BTC".to_owned(), waiting, RouteOptions::new().inline()));
    let client = event_loop.add(builder).expect("a valid configuration");
    assert!(shared.set(client.clone()).is_ok());
    turn_until(&mut event_loop, "live", is_in(&client, ClientState::Live));
    next_session(&venue).send_text("BTC 1");
    let mut outcome = None;
    turn_until(&mut event_loop, "the handler", || {
        outcome = outcomes.try_recv().ok();
        outcome.is_some()
    });
    assert!(matches!(outcome, Some(Err(HyperSocketError::WouldDeadlock(_)))), "{outcome:?}");
    client.request_shutdown();
    turn_until(&mut event_loop, "the end", is_in(&client, ClientState::Closed));
}

#[test]
fn two_clients_share_a_loop_and_one_may_fail_alone() {
    let (steady, failing) = (Venue::scripted().start(), Venue::scripted().start());
    let (steady, failing) = (steady.expect("a free port"), failing.expect("a free port"));
    let mut event_loop = EventLoop::new().expect("a poll descriptor");
    let (builder, mut steady_journal) = inline_builder(&steady);
    let first = event_loop.add(builder).expect("a valid configuration");
    let (builder, mut failing_journal) = inline_builder(&failing);
    let second = event_loop.add(builder.reconnect_strategy(hypersockets::NeverReconnect));
    let second = second.expect("a valid configuration");
    turn_until(&mut event_loop, "both live", || {
        first.state() == ClientState::Live && second.state() == ClientState::Live
    });
    failing.stop(Ending::Rst);
    turn_until(&mut event_loop, "the failure", is_in(&second, ClientState::Failed));
    failing_journal.assert_stopped_once();
    assert_eq!(event_loop.len(), 1);
    next_session(&steady).send_text("BTC 1");
    turn_until(&mut event_loop, "a message", || first.metrics().messages_handled == 1);
    assert_eq!(steady_journal.messages(), ["BTC 1"]);
    assert_no_threads_of_ours();
}

#[test]
fn a_loop_that_is_dropped_tells_its_handlers_and_its_clients() {
    let venue = Venue::scripted().start().expect("a free port");
    let mut event_loop = EventLoop::new().expect("a poll descriptor");
    let (builder, mut journal) = inline_builder(&venue);
    let client = event_loop.add(builder).expect("a valid configuration");
    turn_until(&mut event_loop, "live", is_in(&client, ClientState::Live));
    drop(event_loop);
    assert_eq!(client.state(), ClientState::Failed);
    assert!(matches!(client.send("too late"), Err(HyperSocketError::NotConnected)));
    assert!(matches!(client.wait_live(PATIENCE), Err(HyperSocketError::Closed(DisconnectReason::Broken(_)))));
    journal.assert_stopped_once();
    let lost = |seen: &Seen| matches!(seen, Seen::Event(ConnectionEvent::Lost { epoch: 1, .. }));
    assert!(journal.all().iter().any(lost), "{:?}", journal.all());
    next_session(&venue).await_end(PATIENCE).expect("the socket was closed");
}

#[test]
fn a_builder_with_an_engine_belongs_on_no_loop() {
    let venue = Venue::scripted().start().expect("a free port");
    let mut event_loop = EventLoop::new().expect("a poll descriptor");
    // By another name, so that the other tests of this process do not take its thread for one of a loop's.
    let engine = Engine::builder().name("another").start().expect("a thread");
    let refused = event_loop.add(inline_builder(&venue).0.engine(&engine));
    assert!(matches!(refused, Err(HyperSocketError::InvalidConfig(_))), "{refused:?}");
    assert!(event_loop.is_empty());
}
