//! Promise: a session that is dead is found out, and one that is only quiet is not.

mod support {
    pub(crate) mod lines;
}

use std::time::Duration;

use hypersockets::simulator::Venue;
use hypersockets::{ClientBuilder, DisconnectReason, HasRouter, HasUrl, TextPassivePing, WsMessage};
use support::lines::{Lines, PATIENCE, Recorder, next_session, recorder, soon};

/// Short enough for a test, long enough for a machine under load.
const A_MOMENT: Duration = Duration::from_millis(50);

fn scripted() -> Venue {
    Venue::scripted().start().expect("a free port")
}

fn builder(venue: &Venue, recorder: Recorder) -> ClientBuilder<HasUrl, HasRouter> {
    let builder = hypersockets::builder().url(venue.url());
    builder.router(Lines, |routing| routing.default_handler(recorder)).reconnect_strategy(soon())
}

#[test]
fn pings_that_were_asked_for_go_out_again_and_again_and_their_round_trips_are_measured() {
    let venue = scripted();
    let client = builder(&venue, recorder().0).ping(Duration::from_millis(5), PATIENCE).build().expect("accepted");
    let session = next_session(&venue);
    let payloads: Vec<_> = (0..3).map(|_| session.await_ping(PATIENCE).expect("a ping")).collect();
    assert!(payloads.windows(2).all(|pair| pair[0] != pair[1]), "each ping is told from the one before");
    // The third goes out only once the second was answered.
    let round_trips = client.latency().round_trips;
    assert!(round_trips.count() >= 2 && round_trips.max_ns() > 0, "{round_trips:?}");
}

#[test]
fn a_venue_that_answers_no_ping_is_given_up_and_dialed_again() {
    let venue = scripted();
    let (recorder, mut journal) = recorder();
    let _client = builder(&venue, recorder).ping(Duration::from_millis(5), A_MOMENT).build().expect("accepted");
    next_session(&venue).stall();
    assert_eq!(journal.until_lost(), (1, DisconnectReason::PongTimeout));
    journal.until_live(2);
}

#[test]
fn a_feed_without_data_is_given_up_although_it_answers_pings_and_sends_its_own() {
    let venue = scripted();
    let (recorder, mut journal) = recorder();
    let _client = builder(&venue, recorder)
        .passive_ping(TextPassivePing::new("ping", WsMessage::text("pong")))
        .ping(Duration::from_millis(5), PATIENCE)
        // Long enough that the first line is in time on a machine under load.
        .data_idle_timeout(Duration::from_secs(1))
        .build()
        .expect("accepted");
    let session = next_session(&venue);
    session.send_text("BTC 1");
    journal.until_message("BTC 1");
    session.send_text("ping");
    assert_eq!(session.await_text(PATIENCE).expect("an answer"), "pong");
    assert_eq!(journal.until_lost(), (1, DisconnectReason::DataIdle));
}
