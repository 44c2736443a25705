//! A certificate authority and its venues, for the tests of this layer.

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ServerConfig, ServerConnection, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

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

    /// That, and one whose config keeps rustls's secrets: the records stay rustls's.
    pub(crate) fn connectors(&self) -> [TlsConnector; 2] {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone().into()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider().unwrap()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        [self.connector(), TlsOptions::new().client_config(Arc::new(config)).connector().unwrap()]
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

    pub(crate) fn live(connector: &TlsConnector, config: ServerConfig) -> Self {
        let mut wire = Self::new(connector, HOST, &Arc::new(config));
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
