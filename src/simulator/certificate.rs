//! The venue's own certificate authority, made at start and kept over restarts. Invariant: the crypto provider is always
//! passed explicitly, never taken from the process.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::tls_fault::TlsFault;

pub(super) struct Certificate {
    pub(super) root_der: Vec<u8>,
    pub(super) root_pem: String,
    pub(super) config: Arc<ServerConfig>,
}

/// The one place that names the cryptography behind the venue's TLS.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Certificate {
    /// A root, and under it a leaf for localhost by name and by both addresses; or one that is wrong in this way.
    pub(super) fn generate(fault: Option<TlsFault>) -> io::Result<Self> {
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::CommonName, "Loopback venue root");
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_key = KeyPair::generate().map_err(io::Error::other)?;
        let root_certificate = root.self_signed(&root_key).map_err(io::Error::other)?;

        let names = match fault {
            Some(TlsFault::OtherHost) => vec!["venue.example".to_owned()],
            _ => ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into(),
        };
        let mut leaf = CertificateParams::new(names).map_err(io::Error::other)?;
        leaf.distinguished_name.push(DnType::CommonName, "localhost");
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![match fault {
            Some(TlsFault::ClientCertificate) => ExtendedKeyUsagePurpose::ClientAuth,
            _ => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        match fault {
            Some(TlsFault::Expired) => leaf.not_after = date_time_ymd(2020, 1, 1),
            Some(TlsFault::NotYetValid) => leaf.not_before = date_time_ymd(4000, 1, 1),
            _ => {}
        }
        let leaf_key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer_key = match fault {
            Some(TlsFault::UnknownAuthority) => KeyPair::generate().map_err(io::Error::other)?,
            _ => root_key,
        };
        let leaf_certificate = match fault {
            Some(TlsFault::SelfSigned) => leaf.self_signed(&leaf_key),
            _ => leaf.signed_by(&leaf_key, &Issuer::new(root, issuer_key)),
        }
        .map_err(io::Error::other)?;

        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf_certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der())),
            )
            .map_err(io::Error::other)?;
        Ok(Certificate {
            root_der: root_certificate.der().to_vec(),
            root_pem: root_certificate.pem(),
            config: Arc::new(config),
        })
    }
}
