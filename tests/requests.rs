//! Promise: each reply goes to whoever asked, and to no route; when a session ends, its requests fail at once, and nothing is sent again.

mod support {
    pub(crate) mod lines;
    pub(crate) mod numbered;
}

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hypersockets::simulator::{Session, Venue};
use hypersockets::{
    Client, ClientBuilder, ClientEvent, ConnectionEvent, Delivery, HasRouter, HasUrl, HyperSocketError, MessageHandler,
    RequestId, Result, RouteOptions, Sender, WsMessage,
};
use support::lines::{Journal, Lines, PATIENCE, next_session, recorder, soon};
use support::numbered::{Numbered, noter, until_number};

fn venue() -> Venue {
    Venue::scripted().start().expect("a free port")
}

/// `reply ID …` answers the request ID; numbers are numbers.
fn reply_id(raw: &WsMessage<'_>) -> Option<RequestId> {
    let id = raw.as_text()?.strip_prefix("reply ")?.split(' ').next()?;
    Some(id.parse::<u64>().map_or_else(|_| id.into(), RequestId::from))
}

fn builder(venue: &Venue) -> (ClientBuilder<HasUrl, HasRouter>, Journal) {
    let (recorder, journal) = recorder();
    let builder = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler(recorder))
        .reply_id(reply_id)
        .reconnect_strategy(soon());
    (builder, journal)
}

#[track_caller]
fn next_text(session: &Session) -> String {
    session.await_text(PATIENCE).expect("a text")
}

#[test]
fn replies_find_their_requests_in_any_order_and_go_to_no_route() {
    let venue = venue();
    let (builder, mut journal) = builder(&venue);
    let client = builder.build().expect("the venue accepts");
    let session = next_session(&venue);
    let asking: Vec<_> = (0..8_u64)
        .map(|id| {
            let client = client.clone();
            std::thread::spawn(move || client.request(format!("ask {id}"), id, PATIENCE))
        })
        .collect();
    let mut asked: Vec<_> = (0..8).map(|_| next_text(&session)).collect();
    asked.sort();
    assert_eq!(asked, (0..8).map(|id| format!("ask {id}")).collect::<Vec<_>>());
    for id in (0..8).rev() {
        session.send_text(format!("tick before {id}"));
        session.send_text(format!("reply {id} filled"));
    }
    for (id, asking) in asking.into_iter().enumerate() {
        let reply = asking.join().expect("no panic").expect("a reply");
        assert_eq!(reply.as_text(), Some(&*format!("reply {id} filled")));
    }
    journal.until_message("tick before 0");
    assert_eq!(journal.messages().len(), 8, "the ticks alone");
    assert_eq!(client.metrics().replies, 8);
}

#[test]
fn ids_can_be_texts_and_one_id_waits_once() {
    let venue = venue();
    let (builder, _journal) = builder(&venue);
    let client = builder.build().expect("the venue accepts");
    let session = next_session(&venue);
    let mut pending = client.begin_request("ask", "a-1", PATIENCE).expect("it is live");
    assert_eq!(pending.id(), &RequestId::from("a-1"));
    assert!(pending.try_take().is_none());
    let twice = client.begin_request("ask", "a-1", PATIENCE);
    assert!(matches!(twice, Err(HyperSocketError::DuplicateRequest(id)) if id == "a-1"));
    session.send_text("reply a-1 done");
    assert_eq!(pending.wait().expect("a reply").as_text(), Some("reply a-1 done"));
    // It is free again, and what comes for nobody goes nowhere.
    let given_up = client.begin_request("ask", "a-1", PATIENCE).expect("it is live");
    drop(given_up);
    session.send_text("reply a-1 late");
    drop(client.begin_request("ask", 2_u64, PATIENCE).expect("it is live"));
    let pending = client.begin_request("ask", 3_u64, PATIENCE).expect("it is live");
    session.send_text("reply 3");
    pending.wait().expect("a reply");
    assert_eq!((client.metrics().replies, client.metrics().replies_unmatched), (2, 1));
    let timed_out = client.request("ask", 4_u64, Duration::from_millis(1));
    assert!(matches!(timed_out, Err(HyperSocketError::TimedOut(after)) if after == Duration::from_millis(1)));
}

#[test]
fn a_loss_fails_what_is_waited_for_at_once_and_nothing_is_sent_again() {
    let venue = venue();
    let (builder, mut journal) = builder(&venue);
    let client = builder.build().expect("the venue accepts");
    let session = next_session(&venue);
    let pending: Vec<_> =
        (0..3_u64).map(|id| client.begin_request(format!("order {id}"), id, PATIENCE).expect("it is live")).collect();
    assert_eq!(next_text(&session), "order 0");
    session.drop_rst();
    for pending in pending {
        assert!(matches!(pending.wait(), Err(HyperSocketError::RequestLost { epoch: 1 })));
    }
    let session = next_session(&venue);
    journal.until_live(2);
    session.assert_silent();
    let pending = client.begin_request("order 9", 9_u64, PATIENCE).expect("it is live again");
    assert_eq!(next_text(&session), "order 9");
    client.shutdown().expect("it ends");
    assert!(matches!(pending.wait(), Err(HyperSocketError::RequestLost { epoch: 2 })));
    assert!(matches!(client.request("order", 1_u64, PATIENCE), Err(HyperSocketError::NotConnected)));
}

#[test]
fn without_a_way_to_know_replies_a_request_is_an_error() {
    let venue = venue();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler(recorder().0))
        .build()
        .expect("the venue accepts");
    assert!(matches!(client.request("ask", 1_u64, PATIENCE), Err(HyperSocketError::InvalidConfig(_))));
}

/// Asks about each message that it handles.
struct Asking {
    sender: Sender,
    answers: Arc<Mutex<Vec<String>>>,
}

impl MessageHandler<String> for Asking {
    fn handle(&mut self, _: String) -> Result<()> {
        unreachable!("messages come by handle_delivery")
    }

    fn handle_delivery(&mut self, line: String, _: &mut Delivery<'_>) -> Result<()> {
        let answer = self.sender.request(format!("ask {line}"), line.as_str(), PATIENCE);
        let answer = match answer {
            Ok(reply) => reply.as_text().unwrap_or_default().to_owned(),
            Err(error) => error.to_string(),
        };
        self.answers.lock().expect("nobody panics with it").push(answer);
        Ok(())
    }
}

#[test]
fn a_handler_may_wait_for_a_reply_on_a_thread_but_not_within_the_loop() {
    for inline in [false, true] {
        let venue = venue();
        let answers = Arc::<Mutex<Vec<String>>>::default();
        let options = if inline { RouteOptions::new().inline() } else { RouteOptions::new() };
        let asking = Arc::clone(&answers);
        let client = hypersockets::builder()
            .url(venue.url())
            .router(Lines, |routing| {
                let handler = Asking { sender: routing.sender(), answers: asking };
                routing.default_handler_with(handler, options)
            })
            .reply_id(reply_id)
            .build()
            .expect("the venue accepts");
        let session = next_session(&venue);
        session.send_text("quote");
        if !inline {
            assert_eq!(next_text(&session), "ask quote");
            session.send_text("reply quote 7");
        }
        while client.metrics().messages_handled < 1 {
            std::thread::yield_now();
        }
        let answers = answers.lock().expect("nobody panics with it");
        assert!(if inline { answers[0].contains("own threads") } else { answers[0] == "reply quote 7" }, "{answers:?}");
    }
}

#[track_caller]
fn rotated(client: &Client) {
    let events = client.events();
    while !matches!(
        events.next_timeout(PATIENCE).expect("an event"),
        ClientEvent::Connection(ConnectionEvent::Rotated { .. })
    ) {}
}

#[test]
fn a_rotation_waits_for_replies_on_the_old_connection_before_it_closes_that() {
    let venue = venue();
    let (noter, notes) = noter();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Numbered, |routing| routing.handler(1, noter))
        .reply_id(reply_id)
        .build()
        .expect("the venue accepts");
    let old = next_session(&venue);
    old.send_text("1 1");
    until_number(&notes, 1);
    let pending = client.begin_request("order 1", 1_u64, PATIENCE).expect("it is live");
    assert_eq!(next_text(&old), "order 1");
    client.rotate().expect("it is live");
    let new = next_session(&venue);
    new.send_text("1 1");
    rotated(&client);
    let later = client.begin_request("order 2", 2_u64, PATIENCE).expect("it is live");
    assert_eq!(next_text(&new), "order 2");
    old.send_text("reply 1 filled");
    assert_eq!(pending.wait().expect("a reply").as_text(), Some("reply 1 filled"));
    old.await_end(PATIENCE).expect("it was closed then");
    new.send_text("reply 2 filled");
    assert_eq!(later.wait().expect("a reply").as_text(), Some("reply 2 filled"));
}
