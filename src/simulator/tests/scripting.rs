//! Sessions under a test's command.

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message};

use super::{PATIENCE, dial, next_text, read_error, read_to_close};
use crate::simulator::{Received, Venue};

#[test]
fn a_script_speaks_and_listens_over_ws_and_wss() {
    for builder in [Venue::scripted(), Venue::scripted().tls()] {
        let venue = builder.start().expect("a free port");
        let mut client = dial(&venue);
        let session = venue.next_session(PATIENCE).expect("a session");
        assert_eq!(session.path(), "/ws");
        let headers = session.headers();
        let is_upgrade =
            |(name, value): &(String, String)| name.eq_ignore_ascii_case("upgrade") && value == "websocket";
        assert!(headers.iter().any(is_upgrade), "{headers:?}");

        client.send(Message::text("hello")).expect("the venue reads");
        session.assert_received("hello");
        client.send(Message::binary(vec![7])).expect("the venue reads");
        let came = session.await_message(PATIENCE).expect("a message");
        assert_eq!(came, Received::Binary(vec![7]));

        session.send_text("x".repeat(300));
        session.send_binary(vec![9; 70_000]);
        session.send_ping("are you there");
        session.flush(PATIENCE).expect("the client's socket has room");
        assert_eq!(venue.sent(), 2);
        assert_eq!(next_text(&mut client).len(), 300);
        let binary = client.read().expect("the venue sends");
        assert_eq!(binary, Message::binary(vec![9; 70_000]));
        assert!(client.read().expect("the venue sends").is_ping());
        client.flush().expect("the venue reads");
        let pong = session.await_pong(PATIENCE).expect("a pong");
        assert_eq!(pong, b"are you there");

        client.send(Message::Ping("p".into())).expect("the venue reads");
        assert_eq!(session.await_ping(PATIENCE).expect("a ping"), b"p");
        client
            .close(Some(CloseFrame { code: CloseCode::Library(4001), reason: "done".into() }))
            .expect("the venue reads");
        assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(4001));
        read_to_close(&mut client);
        session.await_end(PATIENCE).expect("both Closes are done");
        venue.assert_protocol_kept();
    }
}

#[test]
fn a_frame_cut_anywhere_arrives_whole() {
    let venue = Venue::scripted().start().expect("a free port");
    let mut client = dial(&venue);
    let session = venue.next_session(PATIENCE).expect("a session");
    for byte in [0x81_u8, 3, b'a', b'b', b'c'] {
        session.send_raw([byte]);
    }
    assert_eq!(next_text(&mut client), "abc");
    assert_eq!(venue.sent(), 0);
}

#[test]
fn the_venues_close_follows_all_that_was_sent_before() {
    let venue = Venue::scripted().tls().start().expect("a free port");
    let mut client = dial(&venue);
    let session = venue.next_session(PATIENCE).expect("a session");
    (0..10_000).for_each(|n| session.send_text(format!("{n}")));
    session.close(1012, "restart");
    session.send_text("never sent");
    let texts: Vec<String> = (0..10_000).map(|_| next_text(&mut client)).collect();
    assert_eq!(texts[9_999], "9999");
    assert_eq!(venue.sent(), 10_000);
    match client.read() {
        Ok(Message::Close(Some(frame))) => {
            assert_eq!(u16::from(frame.code), 1012);
            assert_eq!(frame.reason.as_str(), "restart");
        }
        other => panic!("awaited a Close, came {other:?}"),
    }
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)));
    assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1012));
}

#[test]
fn a_fin_follows_what_was_sent_and_an_rst_does_not_wait() {
    let venue = Venue::scripted().start().expect("a free port");
    let mut client = dial(&venue);
    let session = venue.next_session(PATIENCE).expect("a session");
    session.send_text("last words");
    session.drop_fin();
    assert_eq!(next_text(&mut client), "last words");
    assert_eq!(read_error(&mut client), std::io::ErrorKind::UnexpectedEof);

    let mut client = dial(&venue);
    let session = venue.next_session(PATIENCE).expect("a session");
    session.drop_rst();
    session.await_end(PATIENCE).expect("it was dropped");
    assert_eq!(read_error(&mut client), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_stalled_session_neither_reads_nor_writes_until_resumed() {
    let venue = Venue::scripted().start().expect("a free port");
    let mut client = dial(&venue);
    let session = venue.next_session(PATIENCE).expect("a session");
    session.stall();
    session.send_text("later");
    client.send(Message::text("early")).expect("the socket has room");
    let brief = std::time::Duration::from_millis(50);
    assert!(session.flush(brief).is_err());
    assert!(session.await_message(brief).is_err());
    assert_eq!(venue.sent(), 0);
    session.resume();
    session.assert_received("early");
    assert_eq!(next_text(&mut client), "later");
}

#[test]
fn silence_is_fenced_by_a_ping() {
    let venue = Venue::scripted().start().expect("a free port");
    let client_venue = dial(&venue);
    let session = venue.next_session(PATIENCE).expect("a session");
    let reader = std::thread::spawn(move || {
        let mut client = client_venue;
        while client.read().is_ok() {}
    });
    session.assert_silent();
    session.assert_silent();
    session.drop_rst();
    reader.join().expect("it ends with the connection");
}

#[test]
#[should_panic(expected = "awaited silence, came Text(\"noise\")")]
fn noise_before_the_fence_breaks_the_silence() {
    let venue = Venue::scripted().start().expect("a free port");
    let mut client = dial(&venue);
    let session = venue.next_session(PATIENCE).expect("a session");
    client.send(Message::text("noise")).expect("the venue reads");
    std::thread::spawn(move || while client.read().is_ok() {});
    session.assert_silent();
}

#[test]
fn a_close_is_ignored_where_that_was_asked_for() {
    let venue = Venue::scripted().ignore_close().start().expect("a free port");
    let mut client = dial(&venue);
    let session = venue.next_session(PATIENCE).expect("a session");
    client.close(None).expect("the venue reads");
    assert_eq!(session.await_close(PATIENCE).expect("a Close"), None);
    session.send_text("still here");
    assert_eq!(next_text(&mut client), "still here");
    session.drop_rst();
}

#[test]
fn a_client_that_does_not_read_loses_nothing() {
    let venue = Venue::scripted().start().expect("a free port");
    let mut client = dial(&venue);
    let session = venue.next_session(PATIENCE).expect("a session");
    let payload = "y".repeat(100_000);
    (0..200).for_each(|_| session.send_text(payload.clone()));
    let brief = std::time::Duration::from_millis(50);
    assert!(session.flush(brief).is_err(), "20 MB fit no socket buffer");
    assert!(venue.sent() < 200);
    (0..200).for_each(|_| assert!(next_text(&mut client) == payload));
    session.flush(PATIENCE).expect("the client has read all");
    assert_eq!(venue.sent(), 200);
}

#[test]
fn ticks_are_numbered_of_the_size_asked_for_and_none_is_missing() {
    for venue in [Venue::ticks(150).flat_out(), Venue::ticks(0).rate_per_sec(100_000.0).tls()] {
        let venue = venue.start().expect("a free port");
        let mut client = dial(&venue);
        for seq in 1..=5_000 {
            let text = next_text(&mut client);
            assert!(text.starts_with(&format!(r#"{{"seq":{seq},"sent_unix_ns":"#)) && text.ends_with("\"}"), "{text}");
            assert!(text.len() == 150 || text.len() < 70, "{text}");
        }
    }
}
