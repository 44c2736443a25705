//! Promise: what is desired is sent once in each session, after the authentication; what comes and goes meanwhile follows; and what
//! the venue answers is known of each.

mod support {
    pub(crate) mod lines;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hypersockets::simulator::{Session, Venue};
use hypersockets::{
    AuthProvider, Client, ClientBuilder, ClientEvent, Engine, HasRouter, HasUrl, HyperSocketError, MessageRouter,
    Result, Subscription, SubscriptionReply, SubscriptionState, ThreadOptions, WsMessage,
};
use support::lines::{PATIENCE, next_session, recorder, soon};

/// `ok`, `ok NAME`, `no WHY` and `no NAME: WHY` answer subscriptions; all else are lines.
struct Answers;

impl MessageRouter for Answers {
    type Message = String;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<String> {
        Ok(message.as_text().unwrap_or_default().to_owned())
    }

    fn route_key(&self, _: &String) {}

    fn subscription_reply(&self, raw: &WsMessage<'_>) -> Option<SubscriptionReply> {
        let text = raw.as_text()?;
        match text.split_once(' ') {
            None if text == "ok" => Some(SubscriptionReply::Accepted),
            Some(("ok", name)) => Some(SubscriptionReply::AcceptedNamed(name.to_owned())),
            Some(("no", what)) => Some(match what.split_once(": ") {
                Some((name, why)) => SubscriptionReply::RejectedNamed { name: name.to_owned(), why: why.to_owned() },
                None => SubscriptionReply::Rejected(what.to_owned()),
            }),
            _ => None,
        }
    }
}

fn book(name: &str) -> Subscription {
    Subscription::new(name, format!("subscribe {name}")).unsubscribe(format!("unsubscribe {name}"))
}

fn builder(venue: &Venue) -> ClientBuilder<HasUrl, HasRouter> {
    hypersockets::builder()
        .url(venue.url())
        .router(Answers, |routing| routing.handler((), recorder().0))
        .reconnect_strategy(soon())
}

fn venue() -> Venue {
    Venue::scripted().start().expect("a free port")
}

#[track_caller]
fn next_text(session: &Session) -> String {
    session.await_text(PATIENCE).expect("a text")
}

/// Waits for the next answer that the client was told of.
#[track_caller]
fn answer(client: &Client) -> ClientEvent {
    loop {
        let event = client.events().next_timeout(PATIENCE).expect("an event");
        if matches!(event, ClientEvent::Subscribed { .. } | ClientEvent::SubscriptionFailed { .. }) {
            return event;
        }
    }
}

fn states(client: &Client) -> Vec<(String, SubscriptionState)> {
    client.subscriptions()
}

#[test]
fn what_the_venue_refuses_is_told_and_the_rest_goes_on() {
    use SubscriptionState::{Acknowledged, Failed, Sent};
    let venue = venue();
    let client = builder(&venue)
        .subscription(book("BTC"))
        .subscription(book("XYZ"))
        .subscription("plain")
        .build()
        .expect("live");
    let session = next_session(&venue);
    let sent: Vec<_> = (0..3).map(|_| next_text(&session)).collect();
    assert_eq!(sent, ["subscribe BTC", "subscribe XYZ", "plain"]);
    session.send_text("ok BTC");
    assert_eq!(answer(&client), ClientEvent::Subscribed { name: "BTC".into() });
    session.send_text("no no such market");
    assert_eq!(answer(&client), ClientEvent::SubscriptionFailed { name: "XYZ".into(), why: "no such market".into() });
    let expected = [("BTC", Acknowledged), ("XYZ", Failed("no such market".into())), ("subscription 3", Sent)];
    assert_eq!(states(&client), expected.map(|(name, state)| (name.to_owned(), state)));
}

#[test]
fn what_comes_and_goes_while_live_follows_and_after_a_loss_only_what_is_desired_goes_out_once() {
    let venue = venue();
    let client = builder(&venue).subscription(book("BTC")).build().expect("live");
    let session = next_session(&venue);
    assert_eq!(next_text(&session), "subscribe BTC");
    client.subscribe(book("ETH")).expect("a new name");
    assert_eq!(next_text(&session), "subscribe ETH");
    client.unsubscribe("BTC").expect("it is there");
    assert_eq!(next_text(&session), "unsubscribe BTC");
    assert!(
        matches!(client.subscribe(book("ETH")), Err(HyperSocketError::DuplicateSubscription(name)) if name == "ETH")
    );
    assert!(matches!(client.unsubscribe("BTC"), Err(HyperSocketError::UnknownSubscription(name)) if name == "BTC"));

    session.drop_rst();
    let session = next_session(&venue);
    assert_eq!(next_text(&session), "subscribe ETH");
    session.assert_silent();
}

#[test]
fn what_is_desired_while_there_is_no_session_goes_out_with_the_next() {
    let venue = venue();
    let client = builder(&venue).build().expect("live");
    let session = next_session(&venue);
    venue.stop(hypersockets::simulator::Ending::Rst);
    session.await_end(PATIENCE).expect("it is over");
    client.subscribe(book("BTC")).expect("a new name");
    client.subscribe(Subscription::new("fresh", || Ok(WsMessage::text("token 1")))).expect("a new name");
    client.unsubscribe("BTC").expect("it is there");
    client.subscribe(book("ETH")).expect("a new name");
    venue.restart().expect("the port is ours");
    let session = next_session(&venue);
    assert_eq!([next_text(&session), next_text(&session)], ["token 1", "subscribe ETH"]);
    session.assert_silent();
}

#[test]
fn one_that_is_made_fresh_is_made_anew_for_each_session_and_each_renewal() {
    let venue = venue();
    let made = Arc::new(AtomicUsize::new(0));
    let making = Arc::clone(&made);
    let token = move || Ok(WsMessage::text(format!("token {}", making.fetch_add(1, Ordering::AcqRel) + 1)));
    let client = builder(&venue).subscription(Subscription::new("private", token)).build().expect("live");
    let session = next_session(&venue);
    assert_eq!(next_text(&session), "token 1");
    client.resubscribe("private").expect("it is there");
    assert_eq!(next_text(&session), "token 2");
    session.drop_rst();
    assert_eq!(next_text(&next_session(&venue)), "token 3");
    let failing = Subscription::new("bad", || Err("no token".into()));
    assert!(client.subscribe(failing).is_err_and(|error| error.to_string() == "no token"));
    assert_eq!(states(&client).len(), 1, "what could not be made is not desired");
}

#[test]
fn where_the_venue_wants_it_a_renewal_ends_the_subscription_first() {
    let venue = venue();
    let client = builder(&venue).subscription(book("lighter").unsubscribe_first()).build().expect("live");
    let session = next_session(&venue);
    assert_eq!(next_text(&session), "subscribe lighter");
    session.send_text("ok");
    answer(&client);
    client.resubscribe("lighter").expect("it is there");
    assert_eq!([next_text(&session), next_text(&session)], ["unsubscribe lighter", "subscribe lighter"]);
    // The venue answers both, without a name.
    session.send_text("ok");
    assert_eq!(answer(&client), ClientEvent::Subscribed { name: "lighter".into() });
    session.drop_rst();
    let session = next_session(&venue);
    assert_eq!(next_text(&session), "subscribe lighter");
    session.assert_silent();
}

#[test]
fn batches_wait_for_their_answers_on_the_loop_and_on_lanes() {
    let lanes = Engine::builder().lanes([ThreadOptions::new(), ThreadOptions::new()]).start().expect("threads");
    let plain = Engine::builder().start().expect("a thread");
    for engine in [plain, lanes] {
        let venue = venue();
        let names = ["a", "b", "c", "d", "e"];
        let mut builder = builder(&venue).engine(&engine).subscription_batches(2, Duration::from_secs(600));
        for name in names {
            builder = builder.subscription(book(name));
        }
        let client = builder.build().expect("live");
        let session = next_session(&venue);
        for batch in names.chunks(2) {
            for name in batch {
                assert_eq!(next_text(&session), format!("subscribe {name}"));
            }
            session.assert_silent();
            session.send_text("a line in between");
            batch.iter().for_each(|_| session.send_text("ok"));
        }
        names.iter().for_each(|name| assert_eq!(answer(&client), ClientEvent::Subscribed { name: (*name).into() }));
    }
}

#[test]
fn a_batch_without_answers_does_not_keep_the_next_for_ever() {
    let venue = venue();
    let builder = builder(&venue).subscription_batches(1, Duration::from_millis(10));
    let _client = builder.subscription(book("a")).subscription(book("b")).build().expect("live");
    let session = next_session(&venue);
    assert_eq!([next_text(&session), next_text(&session)], ["subscribe a", "subscribe b"]);
}

#[test]
fn subscriptions_leave_after_the_authentication_only() {
    struct Login;

    impl AuthProvider for Login {
        fn get_auth_message(&self) -> Result<Option<WsMessage<'_>>> {
            Ok(Some(WsMessage::text("login")))
        }

        fn validate_auth_response(&self, response: &WsMessage<'_>) -> Result<bool> {
            Ok(response.as_text() == Some("welcome"))
        }
    }

    let venue = venue();
    let client = builder(&venue).auth(Login).subscription(book("a")).start().expect("a thread");
    let session = next_session(&venue);
    assert_eq!(next_text(&session), "login");
    client.subscribe(book("b")).expect("a new name");
    session.assert_silent();
    session.send_text("welcome");
    assert_eq!([next_text(&session), next_text(&session)], ["subscribe a", "subscribe b"]);
}
