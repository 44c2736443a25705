//! TLS sessions against rustls's server, in memory.

use std::io::Write;
use std::sync::Arc;

use rustls::AlertDescription;
use rustls::version::{TLS12, TLS13};

use super::fixture::{Authority, HOST, Wire};
use super::*;

fn tls_words(outcome: Result<TlsState, DisconnectReason>) -> String {
    match outcome {
        Err(DisconnectReason::Tls(words)) => words,
        other => panic!("expected a TLS error, got {other:?}"),
    }
}

#[test]
fn handshake_and_traffic_survive_any_cut_in_both_versions() {
    let authority = Authority::new();
    for connector in &authority.connectors() {
        for version in [&TLS12, &TLS13] {
            let mut config = authority.server_config(HOST, &[version], 4000);
            // Splits handshake messages, the tickets after the handshake among them, over many records.
            config.max_fragment_size = Some(32);
            let config = Arc::new(config);
            for cut in [1, 2, 3, 7, 31, 33, 1_000, usize::MAX] {
                let mut wire = Wire::new(connector, HOST, &config);
                assert!(wire.client.is_handshaking());
                assert_eq!(wire.shake_hands(cut), Ok(TlsState::Traffic), "cut every {cut}");
                assert_eq!(wire.venue.protocol_version(), Some(version.version));
                let ciphertext: Vec<u8> =
                    (0..20u8).flat_map(|message| wire.venue_says(&vec![message; message as usize * 9])).collect();
                for piece in ciphertext.chunks(cut) {
                    assert_eq!(wire.client_reads(piece), Ok(TlsState::Traffic));
                }
                let expected: Vec<u8> = (0..20u8).flat_map(|message| vec![message; message as usize * 9]).collect();
                assert_eq!(wire.plain.data(), expected);
                assert_eq!(wire.client.tail.len(), 0);
            }
        }
    }
}

#[test]
fn sends_while_half_a_ticket_waits() {
    let authority = Authority::new();
    for connector in &authority.connectors() {
        let mut config = authority.server_config(HOST, &[&TLS13], 4000);
        config.max_fragment_size = Some(32);
        let mut wire = Wire::new(connector, HOST, &Arc::new(config));
        while wire.client.is_handshaking() {
            wire.venue_reads().unwrap();
            let flight = wire.venue_ciphertext();
            wire.client_reads(&flight).unwrap();
        }
        wire.venue_reads().unwrap();
        let tickets = wire.venue_ciphertext();
        assert!(tickets.len() > 200, "the venue should have sent tickets");
        let mut sent = 0;
        for byte in &tickets {
            assert_eq!(wire.client_reads(std::slice::from_ref(byte)), Ok(TlsState::Traffic));
            wire.client.encrypt(b"order").unwrap();
            sent += 1;
        }
        assert_eq!(wire.venue_reads().unwrap(), b"order".repeat(sent));
    }
}

#[test]
fn key_updates_are_followed_and_answered_before_the_next_send() {
    let authority = Authority::new();
    for connector in &authority.connectors() {
        let mut wire = Wire::live(connector, authority.server_config(HOST, &[&TLS13], 4000));
        for round in 0..3 {
            wire.venue.refresh_traffic_keys().unwrap();
            let ciphertext = wire.venue_says(b"under new keys");
            assert_eq!(wire.client_reads(&ciphertext), Ok(TlsState::Traffic), "round {round}");
            wire.client.encrypt(b"reply").unwrap();
            let first_record = 5 + u16::from_be_bytes([wire.client.outgoing()[3], wire.client.outgoing()[4]]) as usize;
            assert!(wire.client.outgoing().len() > first_record, "the KeyUpdate goes ahead of the reply");
            assert_eq!(wire.venue_reads().unwrap(), b"reply");
        }
        assert_eq!(wire.plain.data(), b"under new keys".repeat(3));
    }
}

#[test]
fn close_notify_behind_data_delivers_the_data_and_ends_the_stream() {
    let authority = Authority::new();
    for connector in &authority.connectors() {
        for version in [&TLS12, &TLS13] {
            let mut wire = Wire::live(connector, authority.server_config(HOST, &[version], 4000));
            let mut ciphertext = wire.venue_says(b"the last trade");
            wire.venue.send_close_notify();
            ciphertext.extend(wire.venue_ciphertext());
            ciphertext.extend(b"bytes without meaning");
            assert_eq!(wire.client_reads(&ciphertext), Ok(TlsState::PeerClosed));
            assert_eq!(wire.client_reads(b"more of them"), Ok(TlsState::PeerClosed));
            assert_eq!(wire.plain.data(), b"the last trade");

            wire.client.encrypt(b"our last word").unwrap();
            wire.client.close_notify();
            wire.client.close_notify();
            assert_eq!(wire.venue_reads().unwrap(), b"our last word");
            assert!(wire.venue.process_new_packets().unwrap().peer_has_closed());
        }
    }
}

#[test]
fn a_corrupted_record_ends_the_session_after_the_good_ones() {
    let authority = Authority::new();
    for connector in &authority.connectors() {
        for version in [&TLS12, &TLS13] {
            let mut wire = Wire::live(connector, authority.server_config(HOST, &[version], 4000));
            let mut ciphertext = wire.venue_says(b"good, ");
            ciphertext.extend(wire.venue_says(b"also good"));
            ciphertext.extend(wire.venue_says(b"bad"));
            *ciphertext.last_mut().unwrap() ^= 1;
            ciphertext.extend(wire.venue_says(b"after it"));
            let words = tls_words(wire.client_reads(&ciphertext));
            assert_eq!(wire.plain.data(), b"good, also good");
            assert!(!wire.client.accepts_plaintext());

            let later = wire.venue_says(b"later");
            assert_eq!(tls_words(wire.client_reads(&later)), words, "the failure is final");
            assert_eq!(wire.plain.data(), b"good, also good");
            let heard = wire.venue_reads();
            assert_eq!(heard, Err(rustls::Error::AlertReceived(AlertDescription::BadRecordMac)));
        }
    }
}

#[test]
fn damage_anywhere_is_an_error_or_silence_but_never_a_panic_nor_false_data() {
    let authority = Authority::new();
    let mut config = authority.server_config(HOST, rustls::ALL_VERSIONS, 4000);
    config.max_fragment_size = Some(200);
    let config = Arc::new(config);
    // Every byte would be slow; a prime step falls on another place of each record.
    // New connectors each time: a session that is resumed is shorter.
    for (at, connector) in (0..2_200).step_by(89).flat_map(|at| authority.connectors().map(|connector| (at, connector)))
    {
        let mut wire = Wire::new(&connector, HOST, &config);
        let mut passed = 0;
        let mut damaged = false;
        for _ in 0..6 {
            let _ = wire.venue_reads();
            if !wire.venue.is_handshaking() {
                // It refuses once our alert has told it of the damage.
                let _ = wire.venue.writer().write_all(&[b'x'; 300]);
            }
            let mut flight = wire.venue_ciphertext();
            if let Some(byte) = (at as usize).checked_sub(passed).and_then(|at| flight.get_mut(at)) {
                *byte ^= 0x55;
                damaged = true;
            }
            passed += flight.len();
            for piece in flight.chunks(97) {
                let _ = wire.client_reads(piece);
                if wire.client.accepts_plaintext() {
                    wire.client.encrypt(b"order").unwrap();
                }
            }
        }
        assert!(damaged, "the walk went past the end");
        assert!(wire.plain.data().iter().all(|byte| *byte == b'x'), "damaged at {at}");
    }
}

#[test]
fn what_comes_after_our_close_notify_is_dropped_unread() {
    let authority = Authority::new();
    for connector in &authority.connectors() {
        let mut wire = Wire::live(connector, authority.server_config(HOST, rustls::ALL_VERSIONS, 4000));
        wire.client.close_notify();
        assert!(!wire.client.accepts_plaintext());
        let mut ciphertext = wire.venue_says(b"too late");
        ciphertext.extend([23, 3, 3, 0, 20]);
        ciphertext.extend([9; 20]);
        assert_eq!(wire.client_reads(&ciphertext), Ok(TlsState::Traffic));
        assert!(wire.plain.is_empty());
        wire.venue_reads().unwrap();
        assert!(wire.venue.process_new_packets().unwrap().peer_has_closed());
    }
}

#[test]
fn garbage_in_place_of_a_handshake_is_an_error() {
    let authority = Authority::new();
    for garbage in [b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), &[0; 64], &[0x16, 3, 3, 0xff, 0xff, 0, 0]] {
        let mut session = TlsSession::new(&authority.connector(), HOST).unwrap();
        let mut cipher = ReceiveBuffer::default();
        cipher.append(garbage);
        tls_words(session.decrypt(&mut cipher, &mut ReceiveBuffer::default()));
    }
}

#[test]
fn wrong_host_unknown_authority_and_expiry_are_refused_before_any_data() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let cases = [
        ("unknown authority", stranger.server_config(HOST, rustls::ALL_VERSIONS, 4000), HOST),
        ("other host", authority.server_config("elsewhere.example", rustls::ALL_VERSIONS, 4000), HOST),
        ("expired", authority.server_config(HOST, rustls::ALL_VERSIONS, 2001), HOST),
        ("name for an address", authority.server_config(HOST, rustls::ALL_VERSIONS, 4000), "127.0.0.1"),
    ];
    for (case, config, host) in cases {
        let mut wire = Wire::new(&authority.connector(), host, &Arc::new(config));
        let words = tls_words(wire.shake_hands(usize::MAX));
        assert!(words.contains("certificate"), "{case}: {words}");
        assert!(!wire.client.accepts_plaintext(), "{case}");
        assert!(matches!(wire.venue_reads(), Err(rustls::Error::AlertReceived(_))), "{case}: the alert says why");
    }
}

#[test]
fn addresses_are_verified_as_addresses() {
    let authority = Authority::new();
    for (host, name) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("::1", "::1")] {
        let config = authority.server_config(name, rustls::ALL_VERSIONS, 4000);
        let mut wire = Wire::new(&authority.connector(), host, &Arc::new(config));
        assert_eq!(wire.shake_hands(usize::MAX), Ok(TlsState::Traffic), "{host}");
    }
    let unnameable = TlsSession::new(&authority.connector(), "no spaces.example");
    assert!(matches!(unnameable, Err(DisconnectReason::InvalidUrl(_))));
}

#[test]
fn large_writes_arrive_whole() {
    let authority = Authority::new();
    for connector in &authority.connectors() {
        for version in [&TLS12, &TLS13] {
            let mut wire = Wire::live(connector, authority.server_config(HOST, &[version], 4000));
            let large: Vec<u8> = (0..300_001u32).map(|i| (i % 251) as u8).collect();
            wire.client.encrypt(&large).unwrap();
            wire.client.encrypt(b"").unwrap();
            assert_eq!(wire.venue_reads().unwrap(), large);
        }
    }
}
