//! Records that a hostile peer could send behind an honest handshake, since it has the keys.

use std::sync::Arc;

use rustls::version::TLS13;
use rustls::{ExtractedSecrets, SupportedCipherSuite};

use super::super::tls::TlsState;
use super::super::tls::fixture::{Authority, HOST, Wire};
use super::*;
use crate::error::DisconnectReason;
use crate::tests_random::Random;
use crate::transport::TlsSession;

const GOOD: &[u8] = b"good";

/// The venue's side behind the handshake, which says whatever the test wants.
struct Peer {
    client: TlsSession,
    encrypter: Box<dyn MessageEncrypter>,
    number: u64,
}

impl Peer {
    fn new() -> Self {
        let authority = Authority::new();
        let mut config = authority.server_config(HOST, &[&TLS13], 4000);
        config.enable_secret_extraction = true;
        config.send_tls13_tickets = 0;
        let mut wire = Wire::new(&authority.connector(), HOST, &Arc::new(config));
        wire.shake_hands(usize::MAX).unwrap();
        let Some(SupportedCipherSuite::Tls13(suite)) = wire.venue.negotiated_cipher_suite() else { panic!("TLS 1.3") };
        let ExtractedSecrets { tx: (number, secrets), .. } = wire.venue.dangerous_extract_secrets().unwrap();
        Self { client: wire.client, encrypter: encrypter(suite, secrets).unwrap(), number }
    }

    fn record(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let message =
            OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload: OutboundChunks::Single(payload) };
        self.number += 1;
        self.encrypter.encrypt(message, self.number - 1).unwrap().encode()
    }

    /// What the client makes of these bytes, and the plaintext that it lets through.
    fn says(&mut self, bytes: &[u8]) -> (Result<TlsState, DisconnectReason>, Vec<u8>) {
        let (mut cipher, mut plain) = (ReceiveBuffer::default(), ReceiveBuffer::default());
        self.client.lend_tail(&mut cipher);
        cipher.append(bytes);
        let outcome = self.client.decrypt(&mut cipher, &mut plain);
        (outcome, plain.data().to_vec())
    }

    /// Says something good, something bad, and something good again, which must not come through.
    fn meets_refusal(mut self, bad: impl FnOnce(&mut Self) -> Vec<u8>, words: &str) {
        let mut all = self.record(ContentType::ApplicationData, GOOD);
        all.extend(bad(&mut self));
        all.extend(self.record(ContentType::ApplicationData, b"never"));
        let (outcome, plain) = self.says(&all);
        let Err(DisconnectReason::Tls(said)) = outcome else { panic!("{words}: {outcome:?}") };
        assert!(said.contains(words), "{said:?} should speak of {words:?}");
        assert_eq!(plain, GOOD, "{words}");
        assert!(!self.client.accepts_plaintext());
        assert_eq!(self.says(b"more").1, b"", "the failure is final");
    }
}

#[test]
fn what_breaks_a_rule_inside_a_record_ends_the_session_behind_what_was_good() {
    let key_update = u8::from(HandshakeType::KeyUpdate);
    let client_hello = u8::from(HandshakeType::ClientHello);
    let ticket = u8::from(HandshakeType::NewSessionTicket);
    for (typ, payload, words) in [
        (ContentType::Handshake, &[key_update, 0, 0, 1, 0, key_update][..], "KeyEpochWithPendingFragment"),
        (ContentType::Handshake, &[key_update, 0, 0, 1, 2], "InvalidKeyUpdate"),
        (ContentType::Handshake, &[key_update, 0, 0, 0], "InvalidKeyUpdate"),
        (ContentType::Handshake, &[client_hello, 0, 0, 0], "neither a ticket"),
        (ContentType::Handshake, &[ticket, 0, 0, 2, 1, 2], "MissingData"),
        (ContentType::Handshake, &[ticket, 1, 0, 0], "HandshakePayloadTooLarge"),
        (ContentType::Handshake, &[], "InvalidEmptyPayload"),
        (ContentType::Alert, &[FATAL], "TrailingData"),
        (ContentType::Alert, &[FATAL, 40], "HandshakeFailure"),
        (ContentType::Alert, &[WARNING, 100], "NoRenegotiation"),
        (ContentType::ChangeCipherSpec, &[1], "IllegalMiddleboxChangeCipherSpec"),
        (ContentType::Unknown(99), b"?", "neither data"),
        // Nothing but padding.
        (ContentType::Unknown(0), &[0; 20], "IllegalTlsInnerPlaintext"),
    ] {
        Peer::new().meets_refusal(|peer| peer.record(typ, payload), words);
    }
}

#[test]
fn what_is_not_encrypted_or_too_long_is_refused() {
    for (record, words) in [
        (&[20, 3, 3, 0, 1, 1][..], "not encrypted"),
        // An alert that anyone on the way could have put there ends nothing politely.
        (&[21, 3, 3, 0, 2, 1, 0], "not encrypted"),
        (&[22, 3, 3, 0, 4, 24, 0, 0, 1], "not encrypted"),
        (&[23, 3, 3, 0x41, 0x01], "MessageTooLarge"),
        (&[23, 3, 3, 0, 3, 1, 2, 3], "decrypt"),
        (&[23, 3, 3, 0, 0], "decrypt"),
    ] {
        Peer::new().meets_refusal(|_| record.to_vec(), words);
    }
}

#[test]
fn half_a_handshake_message_lets_nothing_else_in_between() {
    let mut peer = Peer::new();
    let half = peer.record(ContentType::Handshake, &[u8::from(HandshakeType::NewSessionTicket), 0, 0]);
    assert_eq!(peer.says(&half), (Ok(TlsState::Traffic), Vec::new()));
    let data = peer.record(ContentType::ApplicationData, b"never");
    let (outcome, plain) = peer.says(&data);
    assert!(format!("{outcome:?}").contains("MessageInterleaved"), "{outcome:?}");
    assert_eq!(plain, b"");
}

#[test]
fn warnings_and_key_updates_are_taken_a_few_times() {
    let mut peer = Peer::new();
    for _ in 0..MOST_WARNINGS {
        let cancelled = peer.record(ContentType::Alert, &[WARNING, AlertDescription::UserCanceled.into()]);
        assert_eq!(peer.says(&cancelled).0, Ok(TlsState::Traffic));
    }
    let cancelled = peer.record(ContentType::Alert, &[WARNING, AlertDescription::UserCanceled.into()]);
    assert!(format!("{:?}", peer.says(&cancelled).0).contains("TooManyWarning"));

    let authority = Authority::new();
    let mut wire = Wire::live(&authority.connector(), authority.server_config(HOST, &[&TLS13], 4000));
    for _ in 0..MOST_KEY_UPDATES {
        wire.venue.refresh_traffic_keys().unwrap();
    }
    let updated = wire.venue_says(b"under the last key");
    assert_eq!(wire.client_reads(&updated), Ok(TlsState::Traffic));
    assert_eq!(wire.plain.data(), b"under the last key");
    for _ in 0..=MOST_KEY_UPDATES {
        wire.venue.refresh_traffic_keys().unwrap();
    }
    let updated = wire.venue_says(b"never");
    let outcome = wire.client_reads(&updated);
    assert!(format!("{outcome:?}").contains("TooManyKeyUpdate"), "{outcome:?}");
}

/// AES-GCM protects 2^24 records; waiting for those would take minutes, so the count begins near the end.
#[test]
fn a_key_that_is_worn_out_is_replaced_ahead_of_the_next_record() {
    let authority = Authority::new();
    let mut wire = Wire::live(&authority.connector(), authority.server_config(HOST, &[&TLS13], 4000));
    let records = wire.client.records();
    records.write_number = records.suite.common.confidentiality_limit - 2;
    let mut outgoing = Vec::new();
    records.write(b"order", &mut outgoing).unwrap();
    assert_eq!(records.write_number, 1, "the first record under the new key");
    let update = 5 + usize::from(u16::from_be_bytes([outgoing[3], outgoing[4]]));
    assert!(outgoing.len() > update, "the KeyUpdate goes ahead of it");
}

#[test]
fn whatever_the_records_hold_only_what_was_said_as_data_comes_through_and_nothing_panics() {
    let mut random = Random(7);
    for _ in 0..300 {
        let mut peer = Peer::new();
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            let payload: Vec<u8> = (0..random.below(40)).map(|_| random.below(26) as u8).collect();
            let typ = match random.below(8) {
                0 => ContentType::Handshake,
                1 => ContentType::Alert,
                2 => ContentType::from(random.below(256) as u8),
                _ => ContentType::ApplicationData,
            };
            let mut record = peer.record(typ, &payload);
            if typ == ContentType::ApplicationData {
                said.extend_from_slice(&payload);
            }
            if random.one_in(20) {
                let at = random.index(record.len());
                record[at] ^= 1;
            }
            let cut = random.index(record.len());
            for piece in [&record[..cut], &record[cut..]] {
                let (outcome, plain) = peer.says(piece);
                heard.extend(plain);
                if peer.client.accepts_plaintext() {
                    peer.client.encrypt(b"order").unwrap();
                } else {
                    assert!(outcome.is_err());
                }
            }
        }
        assert!(said.starts_with(&heard));
    }
}
