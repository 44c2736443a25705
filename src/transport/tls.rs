//! TLS without a socket: a session that turns ciphertext into plaintext and back.
//!
//! Invariant: rustls always sees all ciphertext that is not discarded yet, in one piece and from its first byte; it
//! remembers, by offset, the parts of an unfinished handshake message in it.

use std::fmt;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, WriteTraffic};

use crate::error::DisconnectReason;
use crate::transport::receive_buffer::ReceiveBuffer;
use crate::transport::tls_options::TlsConnector;

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsState {
    /// The peer is still to prove who it is: nothing of ours is encrypted yet.
    Handshaking,
    /// Application data flows both ways.
    Traffic,
    /// The peer sent close_notify: it says nothing more, and everything before has been delivered.
    PeerClosed,
}

/// One TLS connection. It holds ciphertext only, and of that only what is unfinished.
pub(crate) struct TlsSession {
    connection: UnbufferedClientConnection,
    /// Received ciphertext that is no complete record or handshake message yet: at most 64 KiB and a record.
    tail: ReceiveBuffer,
    /// Ciphertext on its way out; `sent` bytes at its front have left.
    outgoing: Vec<u8>,
    sent: usize,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Open,
    PeerClosed,
    /// Our close_notify is queued, so what still comes is dropped: where a record is bad after it, rustls would send
    /// an alert behind it (and its debug builds panic).
    Closing,
    /// rustls must not be asked to read on after an error.
    Failed(DisconnectReason),
}

impl TlsSession {
    /// Begins a handshake with `host` (a DNS name, or an IP address with or without brackets), or with the name that the
    /// options put in its place: the ClientHello waits in [`outgoing`](Self::outgoing).
    pub(crate) fn new(connector: &TlsConnector, host: &str) -> Result<Self, DisconnectReason> {
        let connection = connector.connect(host)?;
        let mut session =
            Self { connection, tail: ReceiveBuffer::default(), outgoing: Vec::new(), sent: 0, phase: Phase::Open };
        session.decrypt(&mut ReceiveBuffer::default(), &mut ReceiveBuffer::default())?;
        Ok(session)
    }

    /// Copies the unfinished ciphertext to the front of the empty `cipher`. Call it before each read into `cipher`;
    /// where the read brings nothing, clear `cipher` and forget about it.
    pub(crate) fn lend_tail(&self, cipher: &mut ReceiveBuffer) {
        debug_assert!(cipher.is_empty(), "ciphertext of another session");
        if !self.tail.is_empty() {
            cipher.append(self.tail.data());
        }
    }

    /// Takes all of `cipher` (which begins with the [lent tail](Self::lend_tail)), appends the plaintext of every
    /// complete record to `plain`, and queues the answers to handshake messages.
    ///
    /// On an error `plain` holds what came before the bad record, and the alert waits in
    /// [`outgoing`](Self::outgoing). From then on all input is dropped, and the same error returned.
    pub(crate) fn decrypt(
        &mut self,
        cipher: &mut ReceiveBuffer,
        plain: &mut ReceiveBuffer,
    ) -> Result<TlsState, DisconnectReason> {
        debug_assert!(cipher.data().starts_with(self.tail.data()), "the tail was not lent");
        self.tail.clear();
        let outcome = match &self.phase {
            Phase::Open => self.read_records(cipher, plain),
            Phase::PeerClosed => Ok(TlsState::PeerClosed),
            Phase::Closing => {
                cipher.clear();
                Ok(TlsState::Traffic)
            }
            Phase::Failed(reason) => Err(reason.clone()),
        };
        match &outcome {
            Ok(TlsState::Handshaking | TlsState::Traffic) => {
                if !cipher.is_empty() {
                    self.tail.append(cipher.data());
                }
                self.tail.shrink_if_empty(KEPT_TAIL_BYTES);
            }
            // What follows a close_notify has no meaning (RFC 8446, section 6.1).
            Ok(TlsState::PeerClosed) => self.phase = Phase::PeerClosed,
            Err(reason) => {
                self.phase = Phase::Failed(reason.clone());
                self.queue_alerts();
            }
        }
        cipher.clear();
        outcome
    }

    fn read_records(
        &mut self,
        cipher: &mut ReceiveBuffer,
        plain: &mut ReceiveBuffer,
    ) -> Result<TlsState, DisconnectReason> {
        // Ends: each turn discards a record, hands out a queued message, or returns.
        loop {
            let status = self.connection.process_tls_records(cipher.data_mut());
            let mut discard = status.discard;
            let reached = match status.state.map_err(|error| failure(&error))? {
                ConnectionState::ReadTraffic(mut records) => {
                    while let Some(record) = records.next_record() {
                        let record = record.map_err(|error| failure(&error))?;
                        plain.append(record.payload);
                        discard += record.discard;
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    append_with(&mut self.outgoing, 0, |room| Ok(message.encode(room)?))?;
                    None
                }
                // Our outgoing bytes leave in the order they were queued in, so rustls need not wait for them.
                ConnectionState::TransmitTlsData(transmit) => {
                    transmit.done();
                    None
                }
                ConnectionState::BlockedHandshake => Some(TlsState::Handshaking),
                ConnectionState::WriteTraffic(_) => Some(TlsState::Traffic),
                ConnectionState::PeerClosed | ConnectionState::Closed => Some(TlsState::PeerClosed),
                other => return Err(unexpected(&other)),
            };
            cipher.consume(discard);
            if let Some(state) = reached {
                return Ok(state);
            }
        }
    }

    /// Whether application data must still wait.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether [`encrypt`](Self::encrypt) may be called.
    pub(crate) fn accepts_plaintext(&self) -> bool {
        !self.is_handshaking() && matches!(self.phase, Phase::Open | Phase::PeerClosed)
    }

    /// Encrypts `plain` into [`outgoing`](Self::outgoing), behind a KeyUpdate where the peer asked for one.
    pub(crate) fn encrypt(&mut self, plain: &[u8]) -> Result<(), DisconnectReason> {
        let records = plain.len().div_ceil(RECORD_BYTES);
        let room = plain.len() + records * RECORD_OVERHEAD_BYTES;
        self.write_traffic(room, |traffic, room| traffic.encrypt(plain, room))
    }

    /// Queues close_notify, once; during the handshake and after a failure there is nothing to close. From then on no
    /// plaintext is taken, and what the peer still says is dropped.
    pub(crate) fn close_notify(&mut self) {
        if self.accepts_plaintext() {
            // Where both sides have said it, rustls refuses to say it again.
            let _ = self.write_traffic(0, |traffic, room| traffic.queue_close_notify(room));
            if matches!(self.phase, Phase::Open) {
                self.phase = Phase::Closing;
            }
        }
    }

    fn write_traffic(
        &mut self,
        room: usize,
        mut write: impl FnMut(&mut WriteTraffic<'_, ClientConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), DisconnectReason> {
        debug_assert!(self.accepts_plaintext(), "nothing may be encrypted now");
        loop {
            // The real tail, not an empty slice: rustls may hold offsets into it.
            let status = self.connection.process_tls_records(self.tail.data_mut());
            let discard = status.discard;
            let wrote = match status.state.map_err(|error| failure(&error))? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    append_with(&mut self.outgoing, room, |room| Ok(write(&mut traffic, room)?))?;
                    true
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    append_with(&mut self.outgoing, 0, |room| Ok(message.encode(room)?))?;
                    false
                }
                ConnectionState::TransmitTlsData(transmit) => {
                    transmit.done();
                    false
                }
                other => return Err(unexpected(&other)),
            };
            self.tail.consume(discard);
            if wrote {
                return Ok(());
            }
        }
    }

    /// Ciphertext that is to be written to the socket.
    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// Says that the first `count` bytes of [`outgoing`](Self::outgoing) were written.
    pub(crate) fn sent(&mut self, count: usize) {
        debug_assert!(count <= self.outgoing().len(), "more sent than waits");
        self.sent += count;
        if self.sent == self.outgoing.len() {
            self.outgoing.clear();
            self.sent = 0;
        }
    }

    /// Moves what rustls has ready to send into `outgoing` without letting it read: after an error it must not.
    fn queue_alerts(&mut self) {
        // rustls hands out queued messages before it looks at its input, so the empty slice is never read.
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    if append_with(&mut self.outgoing, 0, |room| Ok(message.encode(room)?)).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("phase", &self.phase)
            .field("tail_bytes", &self.tail.len())
            .field("outgoing_bytes", &self.outgoing().len())
            .finish_non_exhaustive()
    }
}

/// The most plaintext that fits one record (RFC 8446, section 5.1).
pub(crate) const RECORD_BYTES: usize = 16 * 1024;
/// Header, content type, tag and TLS 1.2's explicit nonce; a bad guess costs one retry.
const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 16 + 8;
/// Most unfinished records fit one page, which is kept between them; more is given back.
const KEPT_TAIL_BYTES: usize = 4096;

/// Why rustls wrote nothing.
enum Refusal {
    TooSmall { required: usize },
    Failed(String),
}

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(size) => Self::TooSmall { required: size.required_size },
            EncodeError::AlreadyEncoded => Self::Failed(error.to_string()),
        }
    }
}

impl From<EncryptError> for Refusal {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self::TooSmall { required: size.required_size },
            EncryptError::EncryptExhausted => Self::Failed(error.to_string()),
        }
    }
}

/// Lets `write` append to `outgoing`: first into `room` bytes, then, where that is too little, into what it asks for.
fn append_with(
    outgoing: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Refusal>,
) -> Result<(), DisconnectReason> {
    let start = outgoing.len();
    outgoing.resize(start + room, 0);
    let mut written = write(&mut outgoing[start..]);
    if let Err(Refusal::TooSmall { required }) = written {
        outgoing.resize(start + required, 0);
        written = write(&mut outgoing[start..]);
    }
    outgoing.truncate(start + *written.as_ref().unwrap_or(&0));
    match written {
        Ok(_) => Ok(()),
        Err(Refusal::TooSmall { .. }) => Err(DisconnectReason::Tls("rustls asked for more room twice".to_owned())),
        Err(Refusal::Failed(what)) => Err(DisconnectReason::Tls(what)),
    }
}

pub(super) fn failure(error: &rustls::Error) -> DisconnectReason {
    DisconnectReason::Tls(error.to_string())
}

fn unexpected<Data>(state: &ConnectionState<'_, '_, Data>) -> DisconnectReason {
    DisconnectReason::Tls(format!("unexpected state {state:?}"))
}

/// A certificate authority and its venues, for the tests of this layer.
#[cfg(test)]
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub(crate) mod fixture {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::server::{ServerConfig, ServerConnection, WebPkiClientVerifier};
    use rustls::{RootCertStore, SupportedProtocolVersion};

    use super::*;
    use crate::transport::TlsOptions;
    use crate::transport::tls_options::provider;

    pub(crate) const HOST: &str = "venue.example";

    pub(crate) struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pub(crate) pem: String,
        pub(crate) der: Vec<u8>,
    }

    impl Authority {
        pub(crate) fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).unwrap();
            Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
        }

        /// The connector of a client that trusts this authority alone.
        pub(crate) fn connector(&self) -> TlsConnector {
            TlsOptions::new().add_root_der(self.der.clone()).only_added_roots().connector().unwrap()
        }

        pub(crate) fn server_config(
            &self,
            host: &str,
            versions: &[&'static SupportedProtocolVersion],
            last_year: i32,
        ) -> ServerConfig {
            let (certificate, key) = self.leaf(host, last_year);
            ServerConfig::builder_with_provider(Arc::new(provider().unwrap()))
                .with_protocol_versions(versions)
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], pkcs8(&key))
                .unwrap()
        }

        /// A venue that takes only clients with a certificate of this authority.
        pub(crate) fn mutual_server_config(&self, version: &'static SupportedProtocolVersion) -> ServerConfig {
            let (certificate, key) = self.leaf(HOST, 4000);
            let mut roots = RootCertStore::empty();
            roots.add(self.der.clone().into()).unwrap();
            let provider = Arc::new(provider().unwrap());
            let judge = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_client_cert_verifier(judge.build().unwrap())
                .with_single_cert(vec![certificate.der().clone()], pkcs8(&key))
                .unwrap()
        }

        /// A certificate and its key, as PEM.
        pub(crate) fn identity(&self, name: &str) -> (String, String) {
            let (certificate, key) = self.leaf(name, 4000);
            (certificate.pem(), key.serialize_pem())
        }

        fn leaf(&self, name: &str, last_year: i32) -> (Certificate, KeyPair) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
            (params.signed_by(&key, &self.issuer).unwrap(), key)
        }

        pub(crate) fn server(&self, host: &str) -> ServerConnection {
            ServerConnection::new(Arc::new(self.server_config(host, rustls::ALL_VERSIONS, 4000))).unwrap()
        }
    }

    fn pkcs8(key: &KeyPair) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
    }

    /// A client session and a venue, with the wire between them in the test's hands.
    pub(crate) struct Wire {
        pub(crate) client: TlsSession,
        pub(crate) venue: ServerConnection,
        pub(crate) plain: ReceiveBuffer,
    }

    impl Wire {
        pub(crate) fn new(connector: &TlsConnector, host: &str, config: &Arc<ServerConfig>) -> Self {
            Self {
                client: TlsSession::new(connector, host).unwrap(),
                venue: ServerConnection::new(Arc::clone(config)).unwrap(),
                plain: ReceiveBuffer::default(),
            }
        }

        pub(crate) fn live(authority: &Authority, config: ServerConfig) -> Self {
            let mut wire = Self::new(&authority.connector(), HOST, &Arc::new(config));
            wire.shake_hands(usize::MAX).unwrap();
            wire
        }

        /// Flights go back and forth, `cut` bytes at a time, until both sides fall silent.
        pub(crate) fn shake_hands(&mut self, cut: usize) -> Result<TlsState, DisconnectReason> {
            loop {
                let quiet = self.client.outgoing().is_empty();
                self.venue_reads().unwrap();
                let flight = self.venue_ciphertext();
                if quiet && flight.is_empty() {
                    return self.client_reads(&[]);
                }
                for piece in flight.chunks(cut) {
                    self.client_reads(piece)?;
                }
            }
        }

        pub(crate) fn client_reads(&mut self, piece: &[u8]) -> Result<TlsState, DisconnectReason> {
            let mut cipher = ReceiveBuffer::default();
            self.client.lend_tail(&mut cipher);
            cipher.append(piece);
            let outcome = self.client.decrypt(&mut cipher, &mut self.plain);
            assert!(cipher.is_empty(), "the scratch buffer is shared with other connections");
            outcome
        }

        pub(crate) fn venue_reads(&mut self) -> Result<Vec<u8>, rustls::Error> {
            let mut bytes = self.client.outgoing();
            let mut said = Vec::new();
            while !bytes.is_empty() {
                self.venue.read_tls(&mut bytes).unwrap();
                self.venue.process_new_packets()?;
                let _ = self.venue.reader().read_to_end(&mut said);
            }
            self.client.sent(self.client.outgoing().len());
            Ok(said)
        }

        pub(crate) fn venue_says(&mut self, what: &[u8]) -> Vec<u8> {
            self.venue.writer().write_all(what).unwrap();
            self.venue_ciphertext()
        }

        pub(crate) fn venue_ciphertext(&mut self) -> Vec<u8> {
            let mut bytes = Vec::new();
            while self.venue.wants_write() {
                self.venue.write_tls(&mut bytes).unwrap();
            }
            bytes
        }
    }
}

#[cfg(test)]
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod tests {
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
        for version in [&TLS12, &TLS13] {
            let mut config = authority.server_config(HOST, &[version], 4000);
            // Splits handshake messages, the tickets after the handshake among them, over many records.
            config.max_fragment_size = Some(32);
            let config = Arc::new(config);
            for cut in [1, 2, 3, 7, 31, 33, 1_000, usize::MAX] {
                let mut wire = Wire::new(&authority.connector(), HOST, &config);
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

    #[test]
    fn sends_while_half_a_ticket_waits() {
        let authority = Authority::new();
        let mut config = authority.server_config(HOST, &[&TLS13], 4000);
        config.max_fragment_size = Some(32);
        let mut wire = Wire::new(&authority.connector(), HOST, &Arc::new(config));
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

    #[test]
    fn key_updates_are_followed_and_answered_before_the_next_send() {
        let authority = Authority::new();
        let mut wire = Wire::live(&authority, authority.server_config(HOST, &[&TLS13], 4000));
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

    #[test]
    fn close_notify_behind_data_delivers_the_data_and_ends_the_stream() {
        let authority = Authority::new();
        for version in [&TLS12, &TLS13] {
            let mut wire = Wire::live(&authority, authority.server_config(HOST, &[version], 4000));
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

    #[test]
    fn a_corrupted_record_ends_the_session_after_the_good_ones() {
        let authority = Authority::new();
        for version in [&TLS12, &TLS13] {
            let mut wire = Wire::live(&authority, authority.server_config(HOST, &[version], 4000));
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

    #[test]
    fn damage_anywhere_is_an_error_or_silence_but_never_a_panic_nor_false_data() {
        let authority = Authority::new();
        let mut config = authority.server_config(HOST, rustls::ALL_VERSIONS, 4000);
        config.max_fragment_size = Some(200);
        let config = Arc::new(config);
        // Every byte would be slow; a prime step falls on another place of each record.
        for at in (0..2_200).step_by(89) {
            let mut wire = Wire::new(&authority.connector(), HOST, &config);
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
        let mut wire = Wire::live(&authority, authority.server_config(HOST, rustls::ALL_VERSIONS, 4000));
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
        for version in [&TLS12, &TLS13] {
            let mut wire = Wire::live(&authority, authority.server_config(HOST, &[version], 4000));
            let large: Vec<u8> = (0..300_001u32).map(|i| (i % 251) as u8).collect();
            wire.client.encrypt(&large).unwrap();
            wire.client.encrypt(b"").unwrap();
            assert_eq!(wire.venue_reads().unwrap(), large);
        }
    }
}
