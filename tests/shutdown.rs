//! Promise: a shutdown handles everything that had arrived, in order, and is bounded: by the close timeout where the venue
//! is silent, by the caller's deadline where a handler is busy, and then it counts what was left.

mod support {
    pub(crate) mod lines;
}

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use hypersockets::simulator::{Ending, Session, Venue};
use hypersockets::{
    AuthProvider, Client, ClientBuilder, ClientEvent, ClientState, ConnectionEvent, DisconnectReason, EventLoop,
    HasRouter, HasUrl, HyperSocketError, IntoUrl, MessageHandler, Result, RouteOptions, ShutdownReport, SocketOptions,
    WsMessage,
};
use support::lines::{
    GateKeeper, Journal, Lines, PATIENCE, Recorder, Seen, gate, gated_recorder, live_session, next_session, recorder,
    soon, unacknowledged,
};

fn scripted() -> Venue {
    Venue::scripted().start().expect("a free port")
}

fn builder(url: impl IntoUrl, recorder: Recorder) -> ClientBuilder<HasUrl, HasRouter> {
    let builder = hypersockets::builder().url(url);
    builder.router(Lines, |routing| routing.default_handler(recorder)).reconnect_strategy(soon())
}

fn recording_client(venue: &Venue) -> (Client, Journal) {
    let (recorder, journal) = recorder();
    (builder(venue.url(), recorder).build().expect("the venue accepts"), journal)
}

#[track_caller]
fn shut_down(client: &Client) -> ShutdownReport {
    client.shutdown().expect("not a thread of the engine")
}

/// A client whose handler of BTC stands at a gate, and whose inline handler of END tells that all before it is queued.
fn gated_client(venue: &Venue) -> (Client, GateKeeper, Journal, Journal) {
    let (keeper, gate) = gate();
    let (slow, slow_journal) = gated_recorder(gate);
    let (end, end_journal) = recorder();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| {
            let inline = RouteOptions::new().inline();
            routing.handler("BTC".to_owned(), slow).handler_with("END".to_owned(), end, inline)
        })
        .build()
        .expect("the venue accepts");
    (client, keeper, slow_journal, end_journal)
}

/// Sends so many messages to the route at the gate, and returns once all of them have reached its queue.
fn queue_behind_the_gate(session: &Session, count: u64, end: &mut Journal) {
    (0..count).for_each(|n| session.send_text(format!("BTC {n}")));
    session.send_text("END");
    end.until_message("END");
}

#[test]
fn sixty_thousand_queued_messages_are_handled_in_order_before_shutdown_returns() {
    const QUEUED: u64 = 60_000;
    let venue = scripted();
    let (client, keeper, mut slow, mut end) = gated_client(&venue);
    let session = next_session(&venue);
    queue_behind_the_gate(&session, QUEUED, &mut end);

    let stopping = std::thread::spawn(move || shut_down(&client));
    assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1000));
    keeper.open();
    let report = stopping.join().expect("it does not panic");
    assert!(report.complete && report.unhandled == 0, "{report:?}");
    assert_eq!(report.reason, DisconnectReason::Shutdown);
    assert_eq!(report.metrics.messages_handled, QUEUED + 1);
    let messages = slow.messages();
    assert_eq!(messages.len() as u64, QUEUED);
    assert!((0..).zip(&messages).all(|(n, message): (u64, _)| *message == format!("BTC {n}")));
    slow.assert_stopped_once();
}

#[test]
fn the_callers_deadline_ends_the_wait_and_what_was_left_is_counted() {
    const QUEUED: u64 = 1_000;
    let venue = scripted();
    let (client, keeper, mut slow, mut end) = gated_client(&venue);
    let session = next_session(&venue);
    queue_behind_the_gate(&session, QUEUED, &mut end);

    let report = client.shutdown_within(Duration::from_millis(200)).expect("not a thread of the engine");
    assert!(!report.complete);
    assert_eq!(report.unhandled, QUEUED, "the one that is being handled is not handled yet");
    assert_eq!(shut_down(&client), report, "a second call returns the same report");
    end.until_stop();

    keeper.open();
    slow.until_stop();
    assert_eq!(slow.messages(), ["BTC 0"]);
    slow.assert_stopped_once();
    let route = &client.metrics().routes[0];
    assert_eq!((route.handled, route.abandoned, route.depth), (1, QUEUED - 1, 0));
}

#[test]
fn a_venue_that_ignores_our_close_cannot_hold_us() {
    let venue = Venue::scripted().ignore_close().start().expect("a free port");
    let (client, mut journal) = recording_client(&venue);
    let session = next_session(&venue);
    session.send_text("BTC 1");
    journal.until_message("BTC 1");
    let report = shut_down(&client);
    assert!(report.complete, "{report:?}");
    assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1000));
    journal.assert_stopped_once();
    assert_eq!(client.state(), ClientState::Closed);
}

#[test]
fn what_a_venue_sends_behind_our_close_is_still_handled() {
    let venue = Venue::scripted().ignore_close().start().expect("a free port");
    let (recorder, mut journal) = recorder();
    let client = builder(venue.url(), recorder).close_timeout(PATIENCE).build().expect("the venue accepts");
    let session = next_session(&venue);
    client.request_shutdown();
    assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1000));
    assert!(matches!(client.send("too late"), Err(HyperSocketError::NotConnected)));
    (0..1_000).for_each(|n| session.send_text(format!("BTC {n}")));
    session.drop_fin();
    let report = shut_down(&client);
    assert!(report.complete, "{report:?}");
    assert_eq!(journal.messages().len(), 1_000);
    session.await_end(PATIENCE).expect("both sides are done");
    venue.assert_protocol_kept();
}

#[test]
fn many_calls_at_once_are_one_shutdown() {
    let venue = scripted();
    let (client, mut journal) = recording_client(&venue);
    let session = next_session(&venue);
    let start = Arc::new(Barrier::new(8));
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (client, start) = (client.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                shut_down(&client)
            })
        })
        .collect();
    let reports: Vec<_> = calls.into_iter().map(|call| call.join().expect("it does not panic")).collect();
    assert!(reports.iter().all(|report| *report == reports[0] && report.complete), "{reports:?}");
    assert_eq!(shut_down(&client), reports[0]);
    journal.assert_stopped_once();
    assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1000));
    session.await_end(PATIENCE).expect("both Closes are done");
    venue.assert_protocol_kept();
}

#[test]
fn sends_that_were_queued_leave_before_the_close() {
    let venue = scripted();
    let (client, _journal) = recording_client(&venue);
    let session = next_session(&venue);
    for n in 0..1_000 {
        client.send(format!("cancel {n}")).expect("live");
    }
    shut_down(&client);
    (0..1_000).for_each(|n| session.assert_received(&format!("cancel {n}")));
}

/// A listener that accepts, and is as silent as the test.
fn silent_venue() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // On Linux this bounds the wait of accept, too.
    let bounded = socket2::SockRef::from(&listener).set_read_timeout(Some(PATIENCE));
    bounded.expect("the timeout is not zero");
    let url = format!("ws://{}/", listener.local_addr().expect("it is bound"));
    (listener, url)
}

#[test]
fn a_shutdown_before_the_venue_answers_ends_the_dial() {
    let (listener, url) = silent_venue();
    let (recorder, mut journal) = recorder();
    let client = builder(url, recorder).start().expect("a valid configuration");
    let (mut socket, _) = listener.accept().expect("the client dials");
    assert_eq!(client.state(), ClientState::Connecting);
    let report = shut_down(&client);
    assert!(report.complete && report.reason == DisconnectReason::Shutdown, "{report:?}");
    assert_eq!(journal.all(), [Seen::Stop], "there was no session to lose");
    socket.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
    std::io::copy(&mut socket, &mut std::io::sink()).expect("a FIN follows the request");
}

#[test]
fn a_shutdown_in_backoff_waits_for_no_dial() {
    let (listener, url) = silent_venue();
    drop(listener);
    let (recorder, mut journal) = recorder();
    let client = builder(url, recorder)
        .reconnect_strategy(hypersockets::FixedDelay::new(Duration::from_secs(3_600), None))
        .start()
        .expect("a valid configuration");
    let failed = client.events().next_timeout(PATIENCE);
    assert!(matches!(failed, Some(ClientEvent::DialFailed { .. })), "{failed:?}");
    assert!(shut_down(&client).complete);
    journal.assert_stopped_once();
}

#[test]
fn a_shutdown_does_not_wait_for_a_provider_that_hangs() {
    let (keeper, gate) = gate();
    let (asked, was_asked) = crossbeam_channel::bounded(1);
    let url = move || {
        asked.send(()).expect("the test waits for it");
        gate.pass();
        Err(HyperSocketError::from("too late"))
    };
    let (recorder, mut journal) = recorder();
    let client = builder(url, recorder).start().expect("a valid configuration");
    was_asked.recv_timeout(PATIENCE).expect("the dial asks for a URL");
    let report = shut_down(&client);
    assert!(report.complete, "{report:?}");
    journal.assert_stopped_once();
    keeper.open();
}

/// Says its word and is never content.
struct Login;

impl AuthProvider for Login {
    fn get_auth_message(&self) -> Result<Option<WsMessage<'_>>> {
        Ok(Some(WsMessage::text("login")))
    }

    fn validate_auth_response(&self, _response: &WsMessage<'_>) -> Result<bool> {
        Ok(false)
    }
}

#[test]
fn a_shutdown_while_authenticating_says_goodbye() {
    let venue = scripted();
    let (recorder, mut journal) = recorder();
    let client = builder(venue.url(), recorder).auth(Login).start().expect("a valid configuration");
    let session = next_session(&venue);
    session.assert_received("login");
    session.send_text("BTC before acceptance");
    journal.until_message("BTC before acceptance");
    assert!(shut_down(&client).complete);
    assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1000));
    assert!(!journal.all().iter().any(|seen| matches!(seen, Seen::Event(_))), "never live, so nothing was lost");
    journal.assert_stopped_once();
}

/// Calls what must not be called here, then what may be.
struct Caller {
    client: Arc<OnceLock<Client>>,
    url: String,
    outcomes: crossbeam_channel::Sender<[Result<()>; 4]>,
    recorder: Recorder,
}

impl MessageHandler<String> for Caller {
    fn handle(&mut self, _line: String) -> Result<()> {
        let client = self.client.get().ok_or("the test sets it first")?;
        let outcomes = [
            builder(self.url.as_str(), recorder().0).build().map(drop),
            client.wait_live(PATIENCE),
            client.shutdown().map(drop),
            client.shutdown_within(PATIENCE).map(drop),
        ];
        client.request_shutdown();
        self.outcomes.send(outcomes).map_err(|_| "the test is over".into())
    }

    fn on_event(&mut self, event: &ConnectionEvent) {
        self.recorder.on_event(event);
    }

    fn on_stop(&mut self) {
        self.recorder.on_stop();
    }
}

#[test]
fn a_handler_that_would_wait_for_itself_is_refused_but_may_ask_for_the_end() {
    for options in [RouteOptions::new(), RouteOptions::new().inline()] {
        let venue = scripted();
        let (outcomes, coming) = crossbeam_channel::bounded(1);
        let (recorder, mut journal) = recorder();
        let shared = Arc::new(OnceLock::new());
        let caller = Caller { client: Arc::clone(&shared), url: venue.url(), outcomes, recorder };
        let client = hypersockets::builder()
            .url(venue.url())
            .router(Lines, |routing| routing.handler_with("BTC".to_owned(), caller, options))
            .build()
            .expect("the venue accepts");
        shared.set(client.clone()).expect("set once");
        next_session(&venue).send_text("BTC 1");
        for outcome in coming.recv_timeout(PATIENCE).expect("the handler is called") {
            assert!(matches!(outcome, Err(HyperSocketError::WouldDeadlock(_))), "{outcome:?}");
        }
        journal.until_stop();
        assert!(shut_down(&client).complete);
        assert_eq!((venue.sessions_accepted(), client.state()), (1, ClientState::Closed));
    }
}

#[test]
fn dropping_the_last_client_asks_for_the_end() {
    let venue = scripted();
    let (client, mut journal) = recording_client(&venue);
    let session = next_session(&venue);
    let clone = client.clone();
    drop(client);
    session.send_text("BTC 1");
    journal.until_message("BTC 1");
    session.send_text("BTC 2");
    drop(clone);
    assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1000));
    journal.until_stop();
    assert_eq!(journal.messages(), ["BTC 1", "BTC 2"]);
    let lost = journal.all().iter().rev().nth(1).cloned();
    let Some(Seen::Event(ConnectionEvent::Lost { epoch: 1, reason: DisconnectReason::Shutdown, .. })) = lost else {
        panic!("the handler must hear of the loss before it stops: {lost:?}");
    };
    journal.assert_stopped_once();
}

#[test]
fn a_shutdown_flag_is_seen_by_all_that_share_it_and_written_by_none() {
    let venue = scripted();
    let running = Arc::new(AtomicBool::new(true));
    let flagged = || {
        let (recorder, journal) = recorder();
        let client = builder(venue.url(), recorder).shutdown_flag(Arc::clone(&running)).build();
        let client = client.expect("the venue accepts");
        (client, next_session(&venue), journal)
    };
    let (first, _, mut first_journal) = flagged();
    let (second, second_session, mut second_journal) = flagged();
    let (third, _, mut third_journal) = flagged();

    assert!(shut_down(&first).complete);
    first_journal.until_stop();
    assert!(running.load(Ordering::Acquire), "the flag is the caller's");
    second_session.send_text("BTC 1");
    second_journal.until_message("BTC 1");
    assert_eq!((second.state(), third.state()), (ClientState::Live, ClientState::Live));

    running.store(false, Ordering::Release);
    for (client, journal) in [(&second, &mut second_journal), (&third, &mut third_journal)] {
        journal.until_stop();
        journal.assert_stopped_once();
        assert_eq!(shut_down(client).reason, DisconnectReason::Shutdown);
    }
    assert!(!running.load(Ordering::Acquire), "the flag is the caller's");
}

#[test]
fn a_flag_that_is_false_already_keeps_a_client_from_starting() {
    let venue = scripted();
    let flag = Arc::new(AtomicBool::new(false));
    let flagged = || builder(venue.url(), recorder().0).shutdown_flag(Arc::clone(&flag));
    for refused in [flagged().build(), flagged().start()] {
        assert!(matches!(refused, Err(HyperSocketError::Closed(DisconnectReason::Shutdown))), "{refused:?}");
    }
    assert_eq!(venue.connections_accepted(), 0);
    assert!(!flag.load(Ordering::Acquire));
}

#[test]
fn a_flag_that_turns_false_while_build_waits_ends_the_wait() {
    let (listener, url) = silent_venue();
    let flag = Arc::new(AtomicBool::new(true));
    let (recorder, mut journal) = recorder();
    let flagged = builder(url, recorder).shutdown_flag(Arc::clone(&flag));
    let building = std::thread::spawn(move || flagged.build());
    let _socket = listener.accept().expect("the client dials");
    flag.store(false, Ordering::Release);
    let built = building.join().expect("it does not panic");
    assert!(matches!(built, Err(HyperSocketError::Closed(DisconnectReason::Shutdown))), "{built:?}");
    journal.assert_stopped_once();
}

#[test]
fn a_halted_flag_is_true_while_any_of_its_clients_is_down() {
    let (one, other) = (scripted(), scripted());
    other.stop(Ending::Fin);
    let halted = Arc::new(AtomicBool::new(false));
    let is_halted = || halted.load(Ordering::Acquire);
    let flagged = |venue: &Venue| {
        let (recorder, journal) = recorder();
        let client = builder(venue.url(), recorder).halted_flag(Arc::clone(&halted)).start();
        (client.expect("a valid configuration"), journal)
    };
    let (first, mut first_journal) = flagged(&one);
    assert!(is_halted(), "not live yet");
    live_session(&first, &one);
    assert!(!is_halted());

    let (second, mut second_journal) = flagged(&other);
    assert!(is_halted(), "the second is not live yet");
    one.stop(Ending::Fin);
    first_journal.until_lost();
    one.restart().expect("the port was kept");
    first_journal.until_live(2);
    assert!(is_halted(), "the first must not clear it for the second");
    other.restart().expect("the port was kept");
    live_session(&second, &other);
    assert!(!is_halted());

    other.stop(Ending::Rst);
    second_journal.until_lost();
    assert!(is_halted());
    shut_down(&second);
    assert!(!is_halted(), "a client that was shut down need not be live");
    shut_down(&first);
    assert!(!is_halted());
}

#[test]
fn what_the_kernel_held_when_the_shutdown_began_is_handled() {
    const UNREAD: usize = 5_000;
    for venue in [Venue::scripted(), Venue::scripted().ignore_close()] {
        let venue = venue.start().expect("a free port");
        let (keeper, gate) = gate();
        let (entered, was_entered) = crossbeam_channel::bounded(1);
        let (recorder, mut journal) = recorder();
        let client = hypersockets::builder()
            .url(venue.url())
            .router(Lines, |routing| {
                let block = move |_: String| {
                    entered.send(()).map_err(|_| "the test is over")?;
                    gate.pass();
                    Ok(())
                };
                let inline = RouteOptions::new().inline();
                routing.handler_with("BLOCK".to_owned(), block, inline).handler("BTC".to_owned(), recorder)
            })
            .build()
            .expect("the venue accepts");
        let session = next_session(&venue);
        session.send_text("BLOCK");
        was_entered.recv_timeout(PATIENCE).expect("the loop stands still");
        (0..UNREAD).for_each(|n| session.send_text(format!("BTC {n}")));
        session.flush(PATIENCE).expect("it fits the socket buffers");
        client.request_shutdown();
        keeper.open();
        let report = shut_down(&client);
        assert!(report.complete, "{report:?}");
        let messages = journal.messages();
        assert_eq!(messages.len(), UNREAD);
        assert!((0..UNREAD).all(|n| messages[n] == format!("BTC {n}")));
    }
}

#[test]
fn what_our_kernel_has_when_the_close_timeout_ends_is_handled() {
    const MANY: usize = 400;
    if !cfg!(target_os = "linux") {
        return println!("SKIPPED: what is acknowledged is read from /proc");
    }
    let venue = Venue::scripted().ignore_close().start().expect("a free port");
    let (recorder, mut journal) = recorder();
    let mut event_loop = EventLoop::new().expect("descriptors");
    let builder = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler_with(recorder, RouteOptions::new().inline()))
        .socket(SocketOptions::new().receive_buffer_bytes(4 << 20))
        .close_timeout(Duration::from_millis(1));
    let client = event_loop.add(builder).expect("a valid configuration");
    while client.state() != ClientState::Live {
        event_loop.turn();
    }
    let session = next_session(&venue);
    client.request_shutdown();
    while client.state() == ClientState::Live {
        event_loop.turn();
    }
    // More than the loop reads in a turn, and the next turn finds the deadline passed.
    (0..MANY).for_each(|n| session.send_text(format!("{n} {}", "x".repeat(2_000))));
    let begin = Instant::now();
    while session.flush(PATIENCE / 10).is_err() || unacknowledged(venue.port()) > 0 {
        if begin.elapsed() > PATIENCE / 10 {
            return println!("SKIPPED: this kernel takes no {} bytes for us", MANY * 2_000);
        }
    }
    while !event_loop.is_empty() {
        event_loop.turn();
    }
    assert_eq!(journal.messages().len(), MANY);
}
