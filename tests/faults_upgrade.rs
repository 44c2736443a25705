//! Promise: nothing of a session that was not rightly agreed on is ever handed on, nothing is sent to a stranger, and the client
//! says what was wrong and goes on dialing.
//!
//! The faults are [`UpgradeFault::ALL`] and [`TlsFault::ALL`], so that a new one is met here too.

mod support {
    pub(crate) mod lines;
}

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use hypersockets::simulator::{TlsFault, UpgradeFault, UpgradePlan, Venue, Verdict};
use hypersockets::{
    Client, ClientBuilder, ClientEvent, Compression, DisconnectReason, FixedDelay, HasRouter, HasUrl, HeaderProvider,
    Headers, HyperSocketError, Result,
};
use support::lines::{Journal, Lines, PATIENCE, live_session, next_session, recorder, soon, trusting};

/// Only an answer that does not come, or never ends, waits for it.
const IMPATIENCE: Duration = Duration::from_millis(500);

/// Credentials that no stranger may see.
struct Token;

impl HeaderProvider for Token {
    fn get_headers(&self) -> Headers {
        Headers::from([("Authorization".to_owned(), "Bearer secret".to_owned())])
    }
}

fn client_of(venue: &Venue) -> (ClientBuilder<HasUrl, HasRouter>, Journal) {
    let (recorder, journal) = recorder();
    let builder = hypersockets::builder()
        .url(venue.url())
        .tls(trusting(venue))
        .router(Lines, |routing| routing.default_handler(recorder))
        .headers(Token)
        .reconnect_strategy(soon())
        .connect_timeout(IMPATIENCE);
    (builder, journal)
}

/// Why the first dial of a client that goes on dialing failed.
#[track_caller]
fn first_failure(client: &Client) -> DisconnectReason {
    match client.events().next_timeout(PATIENCE) {
        Some(ClientEvent::DialFailed { attempt: 1, reason, .. } | ClientEvent::Closed { reason }) => reason,
        other => panic!("awaited a failed dial, came {other:?}"),
    }
}

#[test]
fn bad_accept_missing_upgrade_unasked_subprotocol_or_extension_http_1_0_and_endless_headers_are_handshake_errors() {
    for fault in UpgradeFault::ALL.iter().filter(|fault| fault.verdict() == Verdict::Refused) {
        // Such an offer insists on something, so that whoever just names the extension has not kept to it.
        let offer = Compression::deflate().server_no_context_takeover();
        for (venue, offer) in
            [(Venue::scripted(), None), (Venue::scripted().tls(), None), (Venue::scripted().deflate(), Some(offer))]
        {
            eprintln!("{fault:?}, {offer:?}");
            let venue = venue.start().expect("a free port");
            venue.plan_upgrade(*fault);
            let (builder, mut journal) = client_of(&venue);
            let builder = if let Some(offer) = offer { builder.compression(offer) } else { builder };
            let client = builder.start().expect("nothing is wrong with it");
            let reason = first_failure(&client);
            let status = match fault {
                UpgradeFault::Page => Some(200),
                UpgradeFault::Redirect => Some(301),
                UpgradeFault::Unauthorized => Some(401),
                UpgradeFault::Forbidden => Some(403),
                UpgradeFault::TooManyRequests => Some(429),
                UpgradeFault::Unavailable => Some(503),
                _ => None,
            };
            let fits = match (&reason, fault) {
                (DisconnectReason::UpgradeRejected { status: told, .. }, _) => Some(*told) == status,
                (DisconnectReason::EndOfStream, UpgradeFault::CutShort | UpgradeFault::NoAnswer) => true,
                (DisconnectReason::Broken(_), UpgradeFault::Reset) => true,
                (DisconnectReason::Deadline(_), UpgradeFault::Silence | UpgradeFault::Drip) => true,
                (DisconnectReason::UpgradeInvalid(_), _) => status.is_none(),
                _ => false,
            };
            assert!(fits, "{fault:?}: {reason:?}");
            // 401 and 403 at the first dial are fatal.
            if !matches!(status, Some(401 | 403)) {
                let session = live_session(&client, &venue);
                session.send_text("BTC first");
                journal.until_message("BTC first");
            }
            client.shutdown().expect("not a thread of the engine");
            let came = journal.messages();
            assert!(came.iter().all(|text| *text == "BTC first"), "{fault:?}: {came:?}");
        }
    }
}

#[test]
fn connection_keep_alive_upgrade_and_other_lawful_oddities_are_accepted() {
    for fault in UpgradeFault::ALL.iter().filter(|fault| fault.verdict() == Verdict::Survived) {
        let venue = Venue::scripted().start().expect("a free port");
        venue.plan_upgrade(*fault);
        let (builder, mut journal) = client_of(&venue);
        let client = builder.build().unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        let session = next_session(&venue);
        session.send_text("BTC first");
        journal.until_message("BTC first");
        client.shutdown().expect("not a thread of the engine");
        let came: &[&str] = match fault {
            UpgradeFault::MessageInTheSameSegment => &[UpgradeFault::FIRST, "BTC first"],
            _ => &["BTC first"],
        };
        assert_eq!(journal.messages(), came, "{fault:?}");
    }
}

#[test]
fn redirects_301_and_their_kin_are_errors_and_credentials_never_follow_them() {
    let elsewhere = Venue::scripted().start().expect("a free port");
    for status in [300, 301, 302, 303, 304, 307, 308] {
        let venue = Venue::scripted().tls().start().expect("a free port");
        let headers = vec![("Location".to_owned(), elsewhere.url())];
        venue.plan_upgrade(UpgradePlan::Reject { status, headers });
        let (builder, _) = client_of(&venue);
        let error = builder.build().expect_err("it was sent elsewhere");
        let told = matches!(
            &error,
            HyperSocketError::ConnectFailed(DisconnectReason::UpgradeRejected { status: told, .. }) if *told == status
        );
        assert!(told, "{error:?}");
    }
    assert_eq!(elsewhere.connections_accepted(), 0);
}

#[test]
fn tls_expired_wrong_host_self_signed_untrusted_ca_or_1_1_only_is_refused_before_a_byte_of_the_request_leaves() {
    for fault in TlsFault::ALL {
        let venue = Venue::scripted().tls_fault(*fault).start().expect("a free port");
        let (builder, _) = client_of(&venue);
        let failure = support::lines::connect_failure(builder.build());
        let fits = match fault {
            TlsFault::Silence => matches!(failure, DisconnectReason::Deadline(_)),
            TlsFault::CutShort => matches!(failure, DisconnectReason::EndOfStream | DisconnectReason::Tls(_)),
            _ => matches!(failure, DisconnectReason::Tls(_)),
        };
        assert!(fits, "{fault:?}: {failure:?}");
        assert_eq!(venue.sessions_accepted(), 0, "{fault:?}");
        // Neither a right request nor a broken one was seen.
        venue.assert_protocol_kept();
    }
}

#[test]
fn silence_in_tcp_connect_is_ended_by_the_deadline() {
    // Nobody accepts, and the queue is full: Linux drops further SYNs.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    listener.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    listener.listen(0).expect("it listens");
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().expect("it is bound");
    let _full: Vec<_> =
        (0..4).map_while(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()).collect();
    let (recorder, _) = recorder();
    let built: Result<Client> = hypersockets::builder()
        .url(format!("ws://{address}/"))
        .router(Lines, |routing| routing.default_handler(recorder))
        .reconnect_strategy(FixedDelay::new(Duration::from_millis(1), Some(0)))
        .connect_timeout(IMPATIENCE)
        .build();
    let failure = support::lines::connect_failure(built);
    assert!(matches!(failure, DisconnectReason::Deadline(_) | DisconnectReason::Connect(_)), "{failure:?}");
}
