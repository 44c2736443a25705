//! Promise: what is published to Redis is there once and in order, also when Redis was away meanwhile; what did not fit while it was
//! is told where it is missing.

#[path = "../examples/support/redis_server.rs"]
mod redis_server;
#[path = "../examples/support/redis_sink.rs"]
mod redis_sink;
mod support {
    pub(crate) mod lines;
}

use std::path::{Path, PathBuf};

use hypersockets::simulator::{Session, Venue};
use hypersockets::{Client, Overflow, RouteOptions};
use redis::streams::StreamRangeReply;
use redis_server::RedisServer;
use redis_sink::RedisSink;
use support::lines::{Lines, PATIENCE, next_session, soon};

/// A server with data of its own, or a word that there is none.
fn server(tag: &str) -> Option<RedisServer> {
    let folder: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("redis").join(tag);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
    let server = RedisServer::start(&folder).expect("it answers");
    if server.is_none() {
        println!("SKIPPED: no redis-server on this machine");
    }
    server
}

fn publisher(venue: &Venue, server: &RedisServer, waiting: usize) -> (Client, Session) {
    let sink = RedisSink::connect(&server.url(), "feed").expect("it is there");
    let bound = RouteOptions::new().bounded(waiting, Overflow::DropOldest);
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler_with(sink, bound))
        .reconnect_strategy(soon())
        .build()
        .expect("the venue accepts");
    let session = next_session(venue);
    (client, session)
}

/// The stream's entries: field and value of each.
fn entries(server: &RedisServer) -> Vec<(String, String)> {
    let client = redis::Client::open(server.url()).expect("a URL");
    let mut connection = client.get_connection().expect("it is there");
    let all = redis::cmd("XRANGE").arg("feed").arg("-").arg("+").to_owned();
    let all: StreamRangeReply = all.query(&mut connection).expect("a stream");
    let field = |entry: redis::streams::StreamId| {
        let (name, value) = entry.map.into_iter().next().expect("one field");
        (name, redis::from_redis_value(value).expect("a text"))
    };
    all.ids.into_iter().map(field).collect()
}

/// What was published as data, in order.
fn data(entries: &[(String, String)]) -> Vec<&str> {
    entries.iter().filter(|(field, _)| field == "data").map(|(_, value)| value.as_str()).collect()
}

/// Sends these numbers and has them read.
fn send(session: &Session, numbers: std::ops::Range<u32>) {
    numbers.for_each(|number| session.send_text(format!("n {number}")));
    session.flush(PATIENCE).expect("the client reads, whatever its sink does");
}

#[test]
fn everything_is_there_once_and_in_order_though_redis_was_killed_twice() {
    let Some(mut server) = server("killed") else { return };
    let venue = Venue::scripted().start().expect("a free port");
    let (client, session) = publisher(&venue, &server, 100_000);
    send(&session, 0..5_000);
    for round in 1..=2 {
        server.kill();
        send(&session, round * 5_000..(round + 1) * 5_000);
        assert!(server.resume().expect("it answers"), "it was there before");
        send(&session, round * 100_000..round * 100_000);
    }
    let report = client.shutdown().expect("not on the engine's thread");
    assert!(report.complete, "{report:?}");
    let entries = entries(&server);
    let expected: Vec<_> = (0..15_000).map(|number| format!("n {number}")).collect();
    assert_eq!(data(&entries), expected);
    assert_eq!(entries.first().map(|entry| entry.0.as_str()), Some("live"));
    assert_eq!(entries.last().map(|entry| entry.0.as_str()), Some("lost"));
    assert!(entries.iter().all(|(field, _)| field != "dropped"));
}

#[test]
fn beyond_the_limit_the_oldest_are_dropped_and_the_stream_says_where_and_how_many() {
    let Some(mut server) = server("bounded") else { return };
    let venue = Venue::scripted().start().expect("a free port");
    let (client, session) = publisher(&venue, &server, 1_000);
    server.kill();
    send(&session, 0..50_000);
    // All have been read when this is answered.
    session.assert_silent();
    assert!(server.resume().expect("it answers"));
    let report = client.shutdown().expect("not on the engine's thread");
    assert!(report.complete, "{report:?}");
    let entries = entries(&server);
    let published = data(&entries).len() as u64;
    let dropped: u64 = entries
        .iter()
        .filter(|(field, _)| field == "dropped")
        .map(|(_, count)| count.parse::<u64>().expect("a count"))
        .sum();
    assert_eq!(published + dropped, 50_000);
    assert!(dropped > 0 && published >= 1_000, "{published} published, {dropped} dropped");
    let numbers: Vec<u32> = data(&entries).iter().map(|text| text[2..].parse().expect("a number")).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, and none twice");
    assert_eq!(numbers.last(), Some(&49_999), "the newest matter most");
    assert_eq!(report.metrics.messages_dropped, dropped);
}

#[test]
fn a_redis_that_is_not_there_at_the_start_is_an_error_that_says_where() {
    let Some(mut server) = server("absent") else { return };
    server.kill();
    let error = RedisSink::connect(&server.url(), "feed").err().expect("nobody listens");
    assert!(error.to_string().contains(&server.url()), "{error}");
}
