//! Promise: nothing but the auth message leaves before the venue has accepted us. A venue that is silent, slow, chatty or
//! hostile, and an auth provider that errs, panics or hangs, cost their own client one dial at a time, and nobody else.

mod support {
    pub(crate) mod lines;
}

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hypersockets::simulator::{Session, Venue};
use hypersockets::{
    AuthProvider, AuthVerdict, Client, ClientBuilder, ClientEvent, ClientState, ConnectionEvent, DisconnectReason,
    Engine, HasRouter, HasUrl, HyperSocketError, IntoUrl, Result, WsMessage,
};
use support::lines::{Lines, PATIENCE, Recorder, Seen, connect_failure, gate, next_session, recorder, soon, texts_of};

fn scripted() -> Venue {
    Venue::scripted().start().expect("a free port")
}

fn builder(url: impl IntoUrl, recorder: Recorder) -> ClientBuilder<HasUrl, HasRouter> {
    let builder = hypersockets::builder().url(url);
    builder.router(Lines, |routing| routing.default_handler(recorder)).reconnect_strategy(soon())
}

/// What a login is like: its first message, and its view of the answers.
struct Login<F> {
    message: F,
}

impl<F: Fn() -> Result<Option<WsMessage<'static>>> + Send + Sync + 'static> AuthProvider for Login<F> {
    fn get_auth_message(&self) -> Result<Option<WsMessage<'_>>> {
        (self.message)()
    }

    fn validate_auth_response(&self, response: &WsMessage<'_>) -> Result<bool> {
        match response.as_text() {
            Some("welcome") => Ok(true),
            Some("denied") => Err("wrong key".into()),
            // No print, as a panic! would make.
            Some("explode") => resume_unwind(Box::new("on purpose")),
            _ => Ok(false),
        }
    }

    fn judge_auth_response(&self, response: &WsMessage<'_>) -> AuthVerdict {
        match (response.as_text(), self.validate_auth_response(response)) {
            (Some(challenge), _) if challenge.starts_with("challenge ") => {
                AuthVerdict::Reply(format!("signed {challenge}").into())
            }
            (_, Ok(true)) => AuthVerdict::Accepted,
            (_, Ok(false)) => AuthVerdict::Unrelated,
            (_, Err(error)) => AuthVerdict::Rejected(error.to_string()),
        }
    }
}

fn login() -> impl AuthProvider {
    Login { message: || Ok(Some(WsMessage::text("login"))) }
}

/// Says its words at the first dial and `login` at all others.
fn login_after(first: impl Fn() -> Result<Option<WsMessage<'static>>> + Send + Sync + 'static) -> impl AuthProvider {
    let dials = AtomicUsize::new(0);
    let message = move || match dials.fetch_add(1, Ordering::Relaxed) {
        0 => first(),
        _ => Ok(Some(WsMessage::text("login"))),
    };
    Login { message }
}

/// The first session that the client and the venue agree on. On a machine that is busy for long a dial may miss its
/// deadline; then there is another.
fn accepted_session(venue: &Venue) -> Session {
    loop {
        let session = next_session(venue);
        let says = |text| session.await_text(PATIENCE).is_ok_and(|came| came == text);
        if says("login") {
            session.send_text("welcome");
            if says("subscribe BTC") {
                return session;
            }
        }
    }
}

/// The next failed dial.
#[track_caller]
fn next_failure(client: &Client) -> (DisconnectReason, Duration) {
    loop {
        match client.events().next_timeout(PATIENCE) {
            Some(ClientEvent::DialFailed { reason, retry_in, .. }) => return (reason, retry_in),
            Some(ClientEvent::Connection(_)) => {}
            other => panic!("awaited a failed dial, came {other:?}"),
        }
    }
}

/// An unmasked text frame; several of them in one write come in one read.
fn frame(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).expect("a short text");
    assert!(len < 126, "a short text");
    [&[0x81, len], text.as_bytes()].concat()
}

#[test]
fn subscriptions_leave_only_after_acceptance_and_data_before_it_is_handed_on_in_order() {
    let venue = scripted();
    let (recorder, mut journal) = recorder();
    let builder = builder(venue.url(), recorder).auth(login()).subscription("subscribe BTC");
    let client = builder.start().expect("a valid configuration");
    for epoch in 1..=2 {
        let session = next_session(&venue);
        session.assert_received("login");
        session.send_text("BTC 1");
        session.send_text("BTC 2");
        journal.until_message("BTC 2");
        assert!(matches!(client.send("order"), Err(HyperSocketError::NotConnected)));
        session.send_text("challenge 7");
        session.assert_received("signed challenge 7");
        session.assert_silent();
        // The acceptance and what follows it in one read.
        session.send_raw([frame("welcome"), frame("BTC 3")].concat());
        session.assert_received("subscribe BTC");
        client.wait_live(PATIENCE).expect("accepted");
        client.send("order").expect("accepted");
        session.assert_received("order");
        journal.until_message("BTC 3");
        session.drop_fin();
        assert_eq!(journal.until_lost().0, epoch);
    }
    let entries = journal.all();
    for epoch in 1..=2 {
        let message = |text: &str| Seen::Message { epoch, text: text.to_owned() };
        let live = Seen::Event(ConnectionEvent::Live { epoch });
        let expected = [message("BTC 1"), message("BTC 2"), live, message("BTC 3")];
        let first = entries.iter().position(|seen| *seen == expected[0]).expect("handed on");
        assert_eq!(entries[first..first + 4], expected);
    }
    let metrics = client.shutdown().expect("not a thread of the engine").metrics;
    assert_eq!(metrics.auth_messages, 4, "two challenges and two welcomes");
    assert_eq!(texts_of(&venue, 1), ["login", "signed challenge 7", "subscribe BTC", "order"]);
}

#[test]
fn a_session_that_needs_no_auth_is_live_at_once() {
    let venue = scripted();
    let (recorder, mut journal) = recorder();
    let builder = builder(venue.url(), recorder).auth(login_after(|| Ok(None))).subscription("subscribe BTC");
    let client = builder.build().expect("nobody needs to accept it");
    let session = next_session(&venue);
    session.assert_received("subscribe BTC");
    // Nobody judges: what would be a refusal is a message like any other.
    session.send_text("denied");
    journal.until_message("denied");
    session.drop_fin();
    // And each dial is asked about anew.
    accepted_session(&venue);
    journal.until_live(2);
    assert_eq!(texts_of(&venue, 1), ["subscribe BTC"]);
    assert_eq!(client.metrics().auth_messages, 1);
}

/// The end of a first dial that authenticates, with a venue that does `act`.
fn failed_login(auth_timeout: Duration, act: impl FnOnce(&Session)) -> DisconnectReason {
    let venue = scripted();
    let (recorder, mut journal) = recorder();
    let builder = builder(venue.url(), recorder).auth(login()).auth_timeout(auth_timeout);
    let building = std::thread::spawn(move || builder.subscription("subscribe BTC").build());
    let session = next_session(&venue);
    session.assert_received("login");
    act(&session);
    let reason = connect_failure(building.join().expect("it does not panic"));
    session.await_end(PATIENCE).expect("the client left");
    assert_eq!(texts_of(&venue, 1), ["login"], "no subscription before acceptance");
    assert_eq!((venue.connections_accepted(), journal.all()), (1, &[Seen::Stop][..]));
    reason
}

#[test]
fn a_rejection_is_an_error_of_build_and_so_is_silence() {
    let denied = |session: &Session| session.send_text("denied");
    assert_eq!(failed_login(PATIENCE, denied), DisconnectReason::AuthRejected("wrong key".to_owned()));
    let soon = Duration::from_millis(100);
    assert_eq!(failed_login(soon, |_| ()), DisconnectReason::Deadline("authenticating"));
}

#[test]
fn nothing_behind_a_rejection_is_handled_and_the_venue_is_told_goodbye() {
    let poisoned = |session: &Session| {
        session.send_raw([frame("denied"), frame("BTC poison"), frame("welcome")].concat());
        assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1000));
    };
    assert_eq!(failed_login(PATIENCE, poisoned), DisconnectReason::AuthRejected("wrong key".to_owned()));
}

#[test]
fn a_venue_that_does_not_answer_costs_a_dial_at_the_deadline_and_is_dialed_again() {
    let venue = scripted();
    let (recorder, mut journal) = recorder();
    let builder = builder(venue.url(), recorder).auth(login()).auth_timeout(Duration::from_millis(200));
    let client = builder.subscription("subscribe BTC").start().expect("a valid configuration");
    let silent = next_session(&venue);
    silent.assert_received("login");
    assert_eq!(next_failure(&client).0, DisconnectReason::Deadline("authenticating"));
    silent.await_end(PATIENCE).expect("the client left");
    let session = accepted_session(&venue);
    journal.until_live(1);
    session.assert_silent();
    assert_eq!(texts_of(&venue, silent.number()), ["login"]);
    assert_eq!(texts_of(&venue, session.number()), ["login", "subscribe BTC"]);
    assert_eq!(journal.all(), [Seen::Event(ConnectionEvent::Live { epoch: 1 })]);
}

#[test]
fn neither_data_nor_asking_back_moves_the_deadline() {
    let venue = scripted();
    let builder = builder(venue.url(), recorder().0).auth(login()).auth_timeout(Duration::from_millis(200));
    let client = builder.start().expect("a valid configuration");
    let give_up = Instant::now() + PATIENCE;
    let mut rounds = 0;
    // On a machine that is busy for long, a session may end before its first round.
    while rounds == 0 {
        let session = next_session(&venue);
        session.assert_received("login");
        loop {
            assert!(Instant::now() < give_up, "{rounds} rounds and no deadline");
            session.send_text("BTC 1");
            session.send_text(format!("challenge {rounds}"));
            let Ok(reply) = session.await_text(PATIENCE) else { break };
            assert_eq!(reply, format!("signed challenge {rounds}"));
            rounds += 1;
        }
        assert_eq!(next_failure(&client).0, DisconnectReason::Deadline("authenticating"));
    }
}

#[test]
fn a_slow_acceptance_is_awaited_beyond_the_dials_own_deadline_and_only_pongs_leave_meanwhile() {
    let (venue, silent) = (scripted(), scripted());
    let (recorder, mut journal) = recorder();
    let connect_timeout = Duration::from_secs(1);
    let client = builder(venue.url(), recorder)
        .connect_timeout(connect_timeout)
        .auth(login())
        .auth_timeout(PATIENCE)
        .heartbeat(Duration::from_millis(5), WsMessage::text("beat"))
        .subscription("subscribe BTC")
        .start()
        .expect("a valid configuration");
    let session = next_session(&venue);
    session.assert_received("login");
    // Another client's deadline tells when the time of the first one's dial is over.
    let clock = builder(silent.url(), support::lines::recorder().0).auth(login()).auth_timeout(connect_timeout);
    assert_eq!(connect_failure(clock.build()), DisconnectReason::Deadline("authenticating"));
    assert_eq!(client.state(), ClientState::Connecting);
    session.assert_silent();
    // Byte by byte, with pings in between.
    let (last, first) = frame("welcome").split_last().map(|(last, first)| (*last, first.to_vec())).expect("a frame");
    session.send_ping("are you there");
    assert_eq!(session.await_pong(PATIENCE).expect("a pong"), b"are you there");
    for byte in first {
        session.send_raw([byte]);
        session.flush(PATIENCE).expect("the client reads");
    }
    assert_eq!(client.state(), ClientState::Connecting);
    session.send_raw([last]);
    session.assert_received("subscribe BTC");
    session.assert_received("beat");
    journal.until_live(1);
    assert_eq!((client.metrics().dials, client.metrics().auth_messages), (1, 1));
}

#[test]
fn a_rejection_later_in_life_is_an_event_and_a_long_wait() {
    let venue = scripted();
    let (recorder, mut journal) = recorder();
    let builder = builder(venue.url(), recorder).auth(login()).subscription("subscribe BTC");
    let client = builder.start().expect("a valid configuration");
    accepted_session(&venue).drop_fin();
    let (reason, _) = next_failure(&client);
    assert_eq!(reason, DisconnectReason::EndOfStream);
    let session = next_session(&venue);
    session.assert_received("login");
    session.send_text("BTC before the refusal");
    session.send_text("denied");
    let (reason, retry_in) = next_failure(&client);
    assert_eq!(reason, DisconnectReason::AuthRejected("wrong key".to_owned()));
    assert!(retry_in >= Duration::from_secs(60), "{retry_in:?}");
    assert_eq!(client.state(), ClientState::BackingOff);
    assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1000));
    assert_eq!(venue.connections_accepted(), 2);
    assert_eq!(texts_of(&venue, 2), ["login"]);
    // A wait that long does not keep a shutdown waiting.
    assert!(client.shutdown().expect("not a thread of the engine").complete);
    let epochs = journal.all().iter().filter_map(|seen| match seen {
        Seen::Event(ConnectionEvent::Live { epoch } | ConnectionEvent::Lost { epoch, .. }) => Some(*epoch),
        _ => None,
    });
    assert!(epochs.eq([1, 1]), "the refused session was never live, so it was not lost");
    assert_eq!(journal.messages(), ["BTC before the refusal"]);
}

#[test]
fn a_first_login_that_is_refused_is_an_event_of_a_client_that_was_started() {
    let venue = scripted();
    let client = builder(venue.url(), recorder().0).auth(login()).start().expect("a valid configuration");
    next_session(&venue).send_text("denied");
    let (reason, retry_in) = next_failure(&client);
    assert_eq!(reason, DisconnectReason::AuthRejected("wrong key".to_owned()));
    assert_eq!(retry_in, Duration::from_secs(60));
}

/// A first dial whose provider fails: an error of `build`, and an event and another dial after `start`.
fn assert_costs_a_dial(fail: fn() -> Result<Option<WsMessage<'static>>>) {
    let venue = scripted();
    let reason = connect_failure(builder(venue.url(), recorder().0).auth(Login { message: fail }).build());
    assert!(matches!(reason, DisconnectReason::Provider(_)), "{reason:?}");
    assert_eq!(venue.connections_accepted(), 0, "no byte leaves");

    let builder = builder(venue.url(), recorder().0).auth(login_after(fail)).subscription("subscribe BTC");
    let client = builder.start().expect("a valid configuration");
    assert_eq!(next_failure(&client).0, reason);
    accepted_session(&venue);
    client.wait_live(PATIENCE).expect("accepted");
}

#[test]
fn an_auth_provider_that_errs_or_panics_costs_a_dial_before_a_byte_leaves() {
    assert_costs_a_dial(|| Err("no key in the vault".into()));
    assert_costs_a_dial(|| resume_unwind(Box::new("on purpose")));
}

#[test]
fn an_auth_provider_that_panics_at_the_answer_costs_a_dial() {
    let exploded = DisconnectReason::Provider("auth provider panicked".to_owned());
    assert_eq!(failed_login(PATIENCE, |session| session.send_text("explode")), exploded);

    let venue = scripted();
    let builder = builder(venue.url(), recorder().0).auth(login()).subscription("subscribe BTC");
    let client = builder.start().expect("a valid configuration");
    next_session(&venue).send_text("explode");
    assert_eq!(next_failure(&client).0, exploded);
    accepted_session(&venue);
    client.wait_live(PATIENCE).expect("accepted");
}

#[test]
fn an_auth_provider_that_hangs_costs_its_own_dials_and_no_other_client_feels_it() {
    // More than an engine has threads for calls that block.
    const MISSED_DIALS: usize = 8;
    let engine = Engine::builder().start().expect("a thread");
    let (venue, hanging_venue) = (scripted(), scripted());
    let (recorder, mut journal) = recorder();
    let client = builder(venue.url(), recorder).engine(&engine).auth(login()).connect_timeout(PATIENCE);
    let _client = client.subscription("subscribe BTC").start().expect("a valid configuration");
    let mut session = accepted_session(&venue);
    journal.until_live(1);

    let (keeper, gate) = gate();
    let (asked, was_asked) = crossbeam_channel::unbounded();
    let message = move || {
        asked.send(()).map_err(|_| "the test is over")?;
        gate.pass();
        Ok(Some(WsMessage::text("login")))
    };
    let (hanging_recorder, mut hanging_journal) = support::lines::recorder();
    let hanging = builder(hanging_venue.url(), hanging_recorder).engine(&engine).auth(Login { message });
    let hanging = hanging.connect_timeout(Duration::from_millis(100)).subscription("subscribe BTC");
    let hanging = hanging.start().expect("a valid configuration");
    was_asked.recv_timeout(PATIENCE).expect("the dial asks for an auth message");

    for missed in 1..=MISSED_DIALS {
        assert_eq!(next_failure(&hanging).0, DisconnectReason::Deadline("dialing"));
        // The other one reads, reconnects and authenticates, which takes a thread that is free.
        session.send_text(format!("BTC {missed}"));
        journal.until_message(&format!("BTC {missed}"));
        session.drop_fin();
        session = accepted_session(&venue);
        journal.until_live(missed as u64 + 1);
    }
    assert_eq!(was_asked.len(), 0, "who hangs is not asked again meanwhile");
    assert_eq!(hanging_venue.connections_accepted(), 0);

    keeper.open();
    was_asked.recv_timeout(PATIENCE).expect("the late answer is not used: the dial of now asks anew");
    accepted_session(&hanging_venue);
    hanging_journal.until_live(1);
    engine.shutdown().expect("not a thread of the engine");
}
