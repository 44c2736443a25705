//! Promise: whatever a venue does within a session, what came before is handled, nothing behind a violation ever is, the venue is
//! told by the right Close code, and the client is live again.
//!
//! The faults are [`SessionFault::ALL`], so that a new one is met here too.

mod support {
    pub(crate) mod lines;
}

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use hypersockets::simulator::{Session, SessionFault, Venue, Verdict};
use hypersockets::{
    Client, ClientBuilder, Compression, DisconnectReason, NoRouter, NoUrl, PassivePingDetector, WsMessage,
};
use support::lines::{Journal, Lines, PATIENCE, live_session, next_session, recorder, soon, trusting};

struct Scene {
    venue: Venue,
    client: Client,
    session: Session,
    journal: Journal,
}

/// A client in its first session, to which one message has been sent.
fn scene(venue: Venue) -> Scene {
    scene_with(hypersockets::builder(), venue)
}

fn scene_with(builder: ClientBuilder<NoUrl, NoRouter>, venue: Venue) -> Scene {
    let (recorder, mut journal) = recorder();
    let client = builder
        .url(venue.url())
        .tls(trusting(&venue))
        .router(Lines, |routing| routing.default_handler(recorder))
        .reconnect_strategy(soon())
        .data_idle_timeout(SILENCE)
        .build()
        .expect("the venue accepts");
    let session = next_session(&venue);
    session.send_text("BTC before");
    journal.until_message("BTC before");
    Scene { venue, client, session, journal }
}

/// So long that no busy machine takes a live session for a silent one by it; only the stalls wait for it.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Over `ws`, over `wss`, and with the messages around it compressed, for every fault of this verdict.
fn for_each(is_wanted: impl Fn(Verdict) -> bool, check: impl Fn(SessionFault, Scene)) {
    let faults: Vec<_> = SessionFault::ALL.iter().filter(|fault| is_wanted(fault.verdict())).collect();
    assert!(!faults.is_empty());
    for fault in faults {
        for venue in [Venue::scripted(), Venue::scripted().tls()] {
            eprintln!("{fault:?}");
            check(*fault, scene(venue.start().expect("a free port")));
        }
        // Where compression was agreed the bit is lawful; what may be wrong behind it is looked at in `tests/compression.rs`.
        if *fault != SessionFault::ReservedBit1 {
            eprintln!("{fault:?}, compressed");
            let offering = hypersockets::builder().compression(Compression::deflate().threshold_bytes(1));
            let scene = scene_with(offering, Venue::scripted().deflate().start().expect("a free port"));
            check(*fault, scene);
        }
    }
}

/// The client is in its second session, which works, and nothing but `before` was handled in the first.
#[track_caller]
fn assert_live_again(Scene { venue, client, session: _, mut journal }: Scene, fault: SessionFault, before: &[&str]) {
    journal.until_live(2);
    let again = next_session(&venue);
    again.send_text("BTC again");
    journal.until_message("BTC again");
    assert_eq!(journal.messages(), [before, &["BTC again"]].concat(), "{fault:?}");
    client.shutdown().expect("not a thread of the engine");
    venue.assert_protocol_kept();
}

#[test]
fn protocol_utf_8_or_size_violation_is_fatal_at_once_and_told_by_its_close_code() {
    for_each(
        |verdict| matches!(verdict, Verdict::Violation(_)),
        |fault, mut scene| {
            let Verdict::Violation(code) = fault.verdict() else { unreachable!("just filtered") };
            scene.session.commit(fault);
            assert_eq!(scene.session.await_close(PATIENCE).expect("a Close"), Some(code), "{fault:?}");
            let (epoch, reason) = scene.journal.until_lost();
            let fits = match code {
                1007 => reason == DisconnectReason::InvalidUtf8,
                1009 => matches!(reason, DisconnectReason::TooLarge { .. }),
                _ => matches!(reason, DisconnectReason::ProtocolViolation(_)),
            };
            assert!(fits && epoch == 1, "{fault:?}: {reason:?}");
            assert_live_again(scene, fault, &["BTC before"]);
        },
    );
}

#[test]
fn a_ping_and_then_a_violation_in_one_segment_is_a_pong_and_then_a_close() {
    let scene = scene(Venue::scripted().start().expect("a free port"));
    scene.session.commit(SessionFault::PingThenMaskedFrame);
    assert_eq!(scene.session.await_pong(PATIENCE).expect("a pong"), b"first");
    assert_eq!(scene.session.await_close(PATIENCE).expect("a Close"), Some(1002));
}

#[test]
fn fin_rst_close_or_no_close_at_all_delivers_what_came_and_dials_again() {
    for_each(
        |verdict| verdict == Verdict::Lost,
        |fault, mut scene| {
            scene.session.commit(fault);
            let (epoch, reason) = scene.journal.until_lost();
            let fits = match fault {
                SessionFault::Fin | SessionFault::CutHeader | SessionFault::CutPayload => {
                    reason == DisconnectReason::EndOfStream
                }
                SessionFault::Rst => matches!(reason, DisconnectReason::Broken(_)),
                SessionFault::Stall | SessionFault::StallWithinFrame => reason == DisconnectReason::DataIdle,
                _ => matches!(reason, DisconnectReason::ClosedByPeer { .. }),
            };
            assert!(fits && epoch == 1, "{fault:?}: {reason:?}");
            if THROWN_OUT.contains(&fault) {
                assert_eq!(scene.journal.messages(), ["BTC before"], "{fault:?}");
            } else {
                assert_live_again(scene, fault, &["BTC before"]);
            }
        },
    );
}

/// The write meets the RST while the message still waits in the kernel, where the read before has not seen it.
#[test]
fn a_message_between_a_read_and_a_write_that_meets_an_rst_is_handled() {
    let venue = Venue::scripted().start().expect("a free port");
    let (recorder, mut journal) = recorder();
    let (asked, is_asked) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler(recorder))
        .passive_ping(HeldPing { asked, may_go_on: Mutex::new(may_go_on) })
        .reconnect_strategy(soon())
        .build()
        .expect("the venue accepts");
    let session = next_session(&venue);
    session.send_text(HeldPing::PING);
    is_asked.recv_timeout(PATIENCE).expect("the ping is read");
    session.send_text("BTC last");
    session.flush(PATIENCE).expect("there is room");
    session.drop_rst();
    session.await_end(PATIENCE).expect("it is dropped");
    go_on.send(()).expect("the engine waits");
    let (epoch, reason) = journal.until_lost();
    assert!(epoch == 1 && matches!(reason, DisconnectReason::Broken(_)), "{reason:?}");
    assert_eq!(journal.messages(), ["BTC last"]);
    client.shutdown().expect("not a thread of the engine");
}

/// Holds the engine between the read of a ping and the write of its answer.
struct HeldPing {
    asked: mpsc::Sender<()>,
    may_go_on: Mutex<mpsc::Receiver<()>>,
}

impl HeldPing {
    const PING: &str = "are you there?";
}

impl PassivePingDetector for HeldPing {
    fn is_ping(&self, message: &WsMessage<'_>) -> bool {
        message.as_bytes() == Self::PING.as_bytes()
    }

    fn get_pong_response(&self) -> WsMessage<'_> {
        self.asked.send(()).expect("the test waits");
        let may_go_on = self.may_go_on.lock().expect("no panic before");
        may_go_on.recv_timeout(PATIENCE).expect("the test lets it");
        WsMessage::text("yes")
    }
}

/// A venue that wants us gone is dialed again after the longest delay only: `tests/reconnection.rs` looks at that.
const THROWN_OUT: [SessionFault; 2] = [SessionFault::PolicyViolation, SessionFault::ApplicationClose];

#[test]
fn what_is_lawful_is_survived_and_handed_on_whole() {
    for_each(
        |verdict| verdict == Verdict::Survived,
        |fault, mut scene| {
            scene.session.commit(fault);
            scene.session.send_text("BTC after");
            let empty = vec![""; 20_000];
            let came: &[&str] = match fault {
                SessionFault::EmptyTexts => &empty,
                SessionFault::EmptyFragments => &[""],
                SessionFault::ByteByByte => &["BTC byte by byte ✓"],
                SessionFault::PingsBetweenFragments => &["BTC ✓ ok"],
                _ => &[],
            };
            let last_ping = match fault {
                SessionFault::PingFlood => 19_999,
                SessionFault::PingsBetweenFragments => 2,
                _ => 0,
            };
            // Where pings pile up, answering the latest is enough: RFC 6455, section 5.5.3.
            let mut answered = 0;
            while answered < last_ping {
                let pong = scene.session.await_pong(PATIENCE).expect("a pong");
                let pong = String::from_utf8(pong).expect("a number").parse().expect("a number");
                assert!(pong > answered || (answered, pong) == (0, 0), "{fault:?}: {pong} behind {answered}");
                answered = pong;
            }
            scene.journal.until_message("BTC after");
            assert!(scene.journal.messages() == [&["BTC before"], came, &["BTC after"]].concat(), "{fault:?}");
            assert_eq!(scene.client.epoch(), 1, "{fault:?}");
            scene.client.shutdown().expect("not a thread of the engine");
        },
    );
}

#[test]
fn the_close_timeout_ends_a_session_whose_fin_never_comes_after_our_close() {
    let venue = Venue::scripted().ignore_close().start().expect("a free port");
    let mut scene = scene(venue);
    scene.session.commit(SessionFault::MaskedFrame);
    assert_eq!(scene.session.await_close(PATIENCE).expect("a Close"), Some(1002));
    scene.journal.until_lost();
    assert_live_again(scene, SessionFault::MaskedFrame, &["BTC before"]);
}

#[test]
fn a_restarted_venue_is_found_again_by_a_client_that_met_every_ending() {
    let Scene { venue, client, session, mut journal } = scene(Venue::scripted().start().expect("a free port"));
    let endings = [SessionFault::Fin, SessionFault::Rst, SessionFault::ServiceRestart, SessionFault::CutPayload];
    session.commit(SessionFault::MaskedFrame);
    for (n, fault) in endings.iter().enumerate() {
        journal.until_live(n as u64 + 2);
        let session = live_session(&client, &venue);
        session.send_text(format!("BTC {n}"));
        journal.until_message(&format!("BTC {n}"));
        session.commit(*fault);
        journal.until_lost();
    }
    assert_eq!(journal.messages(), ["BTC before", "BTC 0", "BTC 1", "BTC 2", "BTC 3"]);
}
