//! Upgrades that fail, clients that misbehave, venues that go and come back.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use tungstenite::{Error, HandshakeError, Message};

use super::{Client, PATIENCE, connect, dial, next_text, read_error, wire};
use crate::simulator::{Ending, UpgradePlan, Venue};

fn refused(venue: &Venue) -> Error {
    match tungstenite::client(venue.url(), wire(venue)) {
        Err(HandshakeError::Failure(e)) => e,
        Err(HandshakeError::Interrupted(_)) => panic!("the read timed out"),
        Ok(_) => panic!("awaited a refused upgrade"),
    }
}

#[test]
fn upgrades_follow_their_plans_in_order() {
    let venue = Venue::scripted().start().expect("a free port");
    let retry = ("Retry-After".to_owned(), "7".to_owned());
    venue.plan_upgrade(UpgradePlan::Reject { status: 429, headers: vec![retry] });
    venue.plan_upgrade(UpgradePlan::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()));
    venue.plan_upgrade(UpgradePlan::Delay(Duration::from_millis(50)));

    match refused(&venue) {
        Error::Http(response) => {
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()["retry-after"], "7");
        }
        e => panic!("awaited a 429, came {e}"),
    }
    refused(&venue);
    let start = Instant::now();
    let mut client = dial(&venue);
    assert!(start.elapsed() >= Duration::from_millis(50));
    let session = venue.next_session(PATIENCE).expect("a session");
    session.send_text("in");
    assert_eq!(next_text(&mut client), "in");
    assert_eq!((venue.connections_accepted(), venue.sessions_accepted()), (3, 1));
}

#[test]
fn a_stalled_upgrade_is_never_answered() {
    let venue = Venue::scripted().start().expect("a free port");
    venue.plan_upgrade(UpgradePlan::Stall);
    let mut stream = connect(&venue);
    let request = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("the venue reads");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("the timeout is not zero");
    let silence = stream.read(&mut [0; 64]).expect_err("no answer");
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
    assert!(venue.next_session(Duration::ZERO).is_err());
}

#[test]
fn a_client_without_masks_is_closed_with_1002_and_blamed() {
    let venue = Venue::scripted().start().expect("a free port");
    let mut client: Client = dial(&venue);
    client.get_mut().write_all(&[0x81, 1, b'x']).expect("the venue reads");
    match client.read() {
        Ok(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 1002),
        other => panic!("awaited a Close, came {other:?}"),
    }
    assert_eq!(venue.protocol_errors().len(), 1);
}

#[test]
fn a_request_that_is_no_upgrade_gets_a_400() {
    let venue = Venue::scripted().start().expect("a free port");
    let mut stream = connect(&venue);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("the venue reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the venue answers");
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
}

#[test]
fn a_stopped_venue_refuses_and_comes_back_on_its_port_with_its_certificate() {
    let venue = Venue::scripted().tls().start().expect("a free port");
    let port = venue.port();
    let root = venue.root_certificate_der();
    for (ending, seen) in
        [(Ending::Fin, std::io::ErrorKind::UnexpectedEof), (Ending::Rst, std::io::ErrorKind::ConnectionReset)]
    {
        let mut client = dial(&venue);
        let session = venue.next_session(PATIENCE).expect("a session");
        let reader = std::thread::spawn(move || read_error(&mut client));
        venue.stop(ending);
        session.await_end(Duration::ZERO).expect("all threads are joined");
        assert_eq!(reader.join().expect("it ends with the connection"), seen);
        let refused = std::net::TcpStream::connect(("127.0.0.1", port)).expect_err("refused");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        venue.restart().expect("the port was kept");
        assert!(venue.restart().is_err(), "it is running");
    }
    dial(&venue);
    assert_eq!(venue.port(), port);
    assert_eq!(venue.root_certificate_der(), root);
    assert_eq!(venue.next_session(PATIENCE).expect("a session").number(), 3);
}

#[test]
fn a_dropped_venue_leaves_its_port_to_others() {
    let venue = Venue::scripted().start().expect("a free port");
    let port = venue.port();
    let client = dial(&venue);
    drop(venue);
    drop(client);
    let again = Venue::scripted().port(port).start();
    assert_eq!(again.expect("the port is free").port(), port);
}
