//! Promise: what a venue limits is kept to: dials wait for their turn, messages beyond the limit are refused before they leave, pongs
//! always go, and a host that wants peace has it from all clients.

mod support {
    pub(crate) mod lines;
}

use std::time::Duration;

use hypersockets::simulator::{Session, UpgradePlan, Venue};
use hypersockets::{
    Client, ClientBuilder, ClientEvent, ClientState, ConnectionLimit, DisconnectReason, HasRouter, HasUrl,
    HyperSocketError, MessageLimit, Subscription, TextPassivePing, VenueProfile, WsMessage,
};
use support::lines::{Lines, PATIENCE, next_session, recorder, soon};

const HOUR: Duration = Duration::from_secs(3_600);

fn venue() -> Venue {
    Venue::scripted().start().expect("a free port")
}

fn builder(venue: &Venue) -> ClientBuilder<HasUrl, HasRouter> {
    hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler(recorder().0))
        .reconnect_strategy(soon())
}

/// Waits until the client is told that its dial is to wait, and for how long.
#[track_caller]
fn held_back(client: &Client) -> Duration {
    loop {
        if let ClientEvent::HeldBack { retry_in } = client.events().next_timeout(PATIENCE).expect("an event") {
            return retry_in;
        }
    }
}

#[test]
fn dials_wait_for_their_turn_over_all_clients_with_the_limit() {
    let venue = venue();
    let limit = ConnectionLimit::new(2, HOUR);
    let first = [(); 2].map(|()| builder(&venue).connection_limit(&limit).build().expect("it has its turn at once"));
    let third = builder(&venue).connection_limit(&limit).start().expect("a thread");
    let wait = held_back(&third);
    assert!(wait > HOUR / 2 && wait <= HOUR, "{wait:?}");
    assert_eq!(third.state(), ClientState::NeverConnected);
    let impatient = builder(&venue).connection_limit(&limit).build().expect_err("it would wait for an hour");
    assert!(matches!(impatient, HyperSocketError::ConnectFailed(DisconnectReason::HeldBack(_))), "{impatient}");
    assert_eq!(venue.connections_accepted(), 2);
    // One that has been live and lost its connection waits, too.
    next_session(&venue).drop_rst();
    held_back(&first[0]);
    assert_eq!(first[0].state(), ClientState::BackingOff);
    third.shutdown().expect("one that waits can be shut down");
}

#[test]
fn a_turn_that_comes_is_taken() {
    let venue = venue();
    let limit = ConnectionLimit::new(1, Duration::from_millis(50));
    let clients: Vec<_> = (0..5).map(|_| builder(&venue).connection_limit(&limit).start().expect("a thread")).collect();
    clients.iter().for_each(|client| client.wait_live(PATIENCE).expect("its turn comes"));
    assert!(clients.iter().all(|client| client.metrics().dials == 1), "waiting is no dial");
}

#[test]
fn a_host_that_wants_peace_has_it_from_all_its_clients() {
    let venue = venue();
    let headers = vec![("Retry-After".to_owned(), "600".to_owned())];
    venue.plan_upgrade(UpgradePlan::Reject { status: 429, headers });
    let told = builder(&venue).start().expect("a thread");
    let retry_in = loop {
        if let ClientEvent::DialFailed { retry_in, .. } = told.events().next_timeout(PATIENCE).expect("an event") {
            break retry_in;
        }
    };
    let other = builder(&venue).start().expect("a thread");
    let wait = held_back(&other);
    assert!(wait > retry_in / 2 && wait <= retry_in.mul_f64(1.1), "{wait:?} of {retry_in:?}");
    assert_eq!(venue.connections_accepted(), 1);
}

/// All that the session has been sent up to this text.
#[track_caller]
fn texts_until(session: &Session, last: &str) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.last().is_none_or(|text| text != last) {
        texts.push(session.await_text(PATIENCE).expect("a text"));
    }
    texts
}

#[test]
fn messages_beyond_the_limit_are_refused_and_pongs_go_all_the_same() {
    let venue = venue();
    let limit = MessageLimit::new(5, HOUR).counts_control_frames().keep_for_pongs(2);
    let client = builder(&venue)
        .message_limit(&limit)
        .passive_ping(TextPassivePing::new("ping", WsMessage::text("pong")))
        .subscription("subscribe")
        .build()
        .expect("the venue accepts");
    let session = next_session(&venue);
    assert_eq!(session.await_text(PATIENCE).expect("a text"), "subscribe");
    let sent: Vec<_> = (0..4).map(|order| client.send(format!("order {order}"))).collect();
    assert!(sent[..2].iter().all(Result::is_ok));
    assert!(
        matches!(sent[2], Err(HyperSocketError::RateLimited { retry_in }) if retry_in <= HOUR && retry_in > HOUR / 2)
    );
    for _ in 0..4 {
        session.send_ping("there?");
        session.await_pong(PATIENCE).expect("a pong");
        session.send_text("ping");
    }
    session.send_text("ping");
    let texts = texts_until(&session, "pong");
    assert_eq!(texts, ["order 0", "order 1", "pong"]);
    // The venue counts per connection.
    session.drop_rst();
    let session = next_session(&venue);
    assert_eq!(session.await_text(PATIENCE).expect("a text"), "subscribe");
    client.wait_live(PATIENCE).expect("it comes back");
    client.send("order 4").expect("a new connection");
}

#[test]
fn subscriptions_wait_for_the_limit_and_go_when_it_lets_them() {
    let venue = venue();
    let limit = MessageLimit::new(2, Duration::from_millis(40));
    let mut builder = builder(&venue).message_limit(&limit);
    for name in ["a", "b", "c", "d", "e"] {
        builder = builder.subscription(name);
    }
    let _client = builder.build().expect("the venue accepts");
    assert_eq!(texts_until(&next_session(&venue), "e"), ["a", "b", "c", "d", "e"]);
}

#[test]
fn one_subscription_too_many_is_refused_before_the_venue_does() {
    let venue = venue();
    let client = builder(&venue).max_subscriptions(1).subscription("a").build().expect("the venue accepts");
    let refused = client.subscribe(Subscription::new("b", "b"));
    assert!(matches!(refused, Err(HyperSocketError::TooManySubscriptions { limit: 1 })));
    let refused = builder(&venue).max_subscriptions(1).subscription("a").subscription("b").start();
    assert!(matches!(refused, Err(HyperSocketError::TooManySubscriptions { limit: 1 })));
}

#[test]
fn a_venues_profile_sets_what_the_venue_wants() {
    let profile = VenueProfile::from_toml(
        r#"
        [[venue]]
        name = "ours"
        connections = { count = 1, per_s = 3600, source = "this test" }
        messages = { count = 1, per_s = 3600, source = "this test" }
        subscriptions = { count = 1, source = "this test" }
        "#,
    )
    .expect("it is well formed")
    .swap_remove(0);
    let venue = venue();
    let client = builder(&venue).venue(&profile).subscription("a").build().expect("the venue accepts");
    assert_eq!(next_session(&venue).await_text(PATIENCE).expect("a text"), "a");
    assert!(matches!(client.send("b"), Err(HyperSocketError::RateLimited { .. })));
    assert!(client.subscribe(Subscription::new("b", "b")).is_err());
    held_back(&builder(&venue).venue(&profile.clone()).start().expect("a thread"));
}
