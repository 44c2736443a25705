//! Whom a client trusts and as whom it comes: options, and the one config that they build. Invariant: anything weaker than
//! verified certificates and TLS 1.2 needs a method with `dangerous` in its name, or a config of the caller's own.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::WantsClientCert,
};

use crate::error::{DisconnectReason, HyperSocketError};

/// Whom a `wss://` client trusts, and as whom it comes.
///
/// Certificates and host names are always verified, and TLS 1.2 is the least that is spoken; only
/// [`dangerous_accept_any_certificate`](Self::dangerous_accept_any_certificate), or a
/// [`client_config`](Self::client_config) of the caller's own, could say otherwise. Reconnects resume the session of the
/// connection before, where the venue lets them. The default roots follow the crate's features:
///
/// | features | the judge |
/// | --- | --- |
/// | `webpki-roots` (default) | Mozilla's roots, compiled in, and the added ones |
/// | `native-roots` | the host's roots, read when the client is built, beside those |
/// | `platform-verifier` | the platform's own verifier alone, with the added roots: what the platform distrusts stays distrusted, so `webpki-roots` and `native-roots` are not consulted |
///
/// ```
/// # fn roots(exchange_ca: &[u8]) -> hypersockets::TlsOptions {
/// // A venue with a certificate authority of its own, and nobody else.
/// hypersockets::TlsOptions::new().add_root_pem(exchange_ca).only_added_roots()
/// # }
/// ```
#[derive(Clone, Default)]
pub struct TlsOptions {
    added: Vec<CertificateDer<'static>>,
    only_added: bool,
    identity: Option<Arc<Identity>>,
    server_name: Option<String>,
    alpn: Vec<Vec<u8>>,
    versions: Versions,
    judge: Judge,
    config: Option<Arc<ClientConfig>>,
    /// The first thing that could not be read; told when the client is built, so that the methods chain.
    fault: Option<String>,
}

/// What a client shows where the venue asks who it is.
#[derive(Debug)]
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Key,
}

/// A private key that no log shows.
struct Key(PrivateKeyDer<'static>);

/// The versions that may be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Versions {
    #[default]
    Tls12AndTls13,
    OnlyTls13,
}

/// Who says whether a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Judge {
    #[default]
    Roots,
    Nobody,
}

impl TlsOptions {
    /// The default roots of the features that are on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts every certificate in `pem` too. Text that holds none, or a broken one, makes building the client err.
    #[must_use]
    pub fn add_root_pem(mut self, pem: &[u8]) -> Self {
        match certificates(pem, "a root certificate") {
            Ok(certificates) => self.added.extend(certificates),
            Err(fault) => return self.with_fault(fault),
        }
        self
    }

    /// Trusts this X.509 certificate too. One that cannot be read makes building the client err.
    #[must_use]
    pub fn add_root_der(mut self, der: Vec<u8>) -> Self {
        self.added.push(CertificateDer::from(der));
        self
    }

    /// Trusts the added roots and nobody else, whatever the features say.
    #[must_use]
    pub fn only_added_roots(mut self) -> Self {
        self.only_added = true;
        self
    }

    /// Shows this certificate where the venue asks for one (mutual TLS): the chain, our own certificate first, and its
    /// private key (PKCS#8, PKCS#1 or SEC1). Text that holds none of it, or a key of another certificate, makes building the
    /// client err.
    #[must_use]
    pub fn client_certificate_pem(mut self, chain_pem: &[u8], key_pem: &[u8]) -> Self {
        let chain = match certificates(chain_pem, "the client's certificate chain") {
            Ok(chain) => chain,
            Err(fault) => return self.with_fault(fault),
        };
        let key = match PrivateKeyDer::from_pem_slice(key_pem) {
            Ok(key) => Key(key),
            Err(pem::Error::NoItemsFound) => {
                return self.with_fault(
                    "the client's private key was given as PEM text that holds none (PKCS#8, PKCS#1 or SEC1, and not \
                     encrypted)"
                        .to_owned(),
                );
            }
            // Its words say which line is broken, never what it holds.
            Err(error) => return self.with_fault(format!("the client's private key is not valid PEM: {error}")),
        };
        self.identity = Some(Arc::new(Identity { chain, key }));
        self
    }

    /// Asks for this name (SNI), and verifies the venue's certificate against it, in place of the URL's host: for a URL with
    /// an address, or a venue behind a name that is not its own. A DNS name or an IP address (which goes without SNI); any
    /// other makes building the client err.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Offers these application protocols (ALPN), the preferred one first; by default none. `http/1.1` is the one that fits:
    /// a WebSocket upgrade is HTTP/1.1, so `h2` makes building the client err, as an empty name does.
    #[must_use]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        if self.alpn.iter().any(|protocol| protocol.is_empty() || protocol.len() > MAX_ALPN_BYTES) {
            return self.with_fault("an ALPN protocol's name has 1 to 255 bytes".to_owned());
        }
        if self.alpn.iter().any(|protocol| protocol == b"h2") {
            return self.with_fault("ALPN h2 cannot be offered: a WebSocket upgrade is HTTP/1.1".to_owned());
        }
        self
    }

    /// Speaks TLS 1.3 and nothing older. By default TLS 1.2 will do where the venue has no better.
    #[must_use]
    pub fn only_tls13(mut self) -> Self {
        self.versions = Versions::OnlyTls13;
        self
    }

    /// For tests only: believes any certificate, of anyone, for any name, expired or not. Whoever sits on the wire can then
    /// read and change everything, your credentials first. Building such a client logs a warning. To test against a venue
    /// with a certificate of its own, [`add_root_pem`](Self::add_root_pem) is the honest way.
    #[must_use]
    pub fn dangerous_accept_any_certificate(mut self) -> Self {
        self.judge = Judge::Nobody;
        self
    }

    /// Uses this config as it is (other roots, another provider, a verifier of your own); all else set here is ignored, but
    /// for the [`server_name`](Self::server_name), which is no part of a config.
    ///
    /// Leave `alpn_protocols` empty or at `http/1.1`: a WebSocket upgrade is HTTP/1.1.
    #[must_use]
    pub fn client_config(mut self, config: Arc<ClientConfig>) -> Self {
        self.config = Some(config);
        self
    }

    /// Builds the config, once per client: the session tickets in it shorten the handshakes of its reconnects.
    pub(crate) fn connector(&self) -> Result<TlsConnector, HyperSocketError> {
        let config = match (&self.config, &self.fault) {
            (Some(config), _) => Arc::clone(config),
            (None, Some(fault)) => return Err(HyperSocketError::InvalidConfig(fault.clone())),
            (None, None) => Arc::new(self.build_config()?),
        };
        let server_name = self.server_name.as_deref().map(|name| {
            named(name).ok_or_else(|| {
                HyperSocketError::InvalidConfig(format!(
                    "the TLS server name {name:?} is neither a DNS name nor an address"
                ))
            })
        });
        Ok(TlsConnector { config, server_name: server_name.transpose()? })
    }

    fn build_config(&self) -> Result<ClientConfig, HyperSocketError> {
        let builder = self.judged(Arc::new(provider()?))?;
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key.0.clone_key())
                .map_err(|error| invalid("the client's certificate cannot be used with its private key", &error))?,
        };
        config.alpn_protocols.clone_from(&self.alpn);
        // Within the process, from rustls to the code that reads the records in its place.
        config.enable_secret_extraction = cfg!(feature = "tls-in-place");
        Ok(config)
    }

    fn judged(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<rustls::ConfigBuilder<ClientConfig, WantsClientCert>, HyperSocketError> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions.allowed())
            .map_err(|error| invalid("TLS versions", &error))?;
        if self.judge == Judge::Nobody {
            log::warn!("TLS: any certificate is accepted, so nothing is known of who is at the other end");
            let verifier = Arc::new(AcceptsAny { provider });
            return Ok(builder.dangerous().with_custom_certificate_verifier(verifier));
        }
        #[cfg(feature = "platform-verifier")]
        if !self.only_added {
            let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(self.added.clone(), provider)
                .map_err(|error| {
                    HyperSocketError::InvalidConfig(format!(
                        "the platform's certificate verifier cannot be used: {error}; \
                         install the system's CA certificates, or use only_added_roots()"
                    ))
                })?;
            // "Dangerous" is rustls's word for any verifier but its own; this one is stricter.
            return Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)));
        }
        Ok(builder.with_root_certificates(self.roots()?))
    }

    fn roots(&self) -> Result<RootCertStore, HyperSocketError> {
        let mut roots = RootCertStore::empty();
        for root in &self.added {
            roots.add(root.clone()).map_err(|error| invalid("an added root certificate cannot be read", &error))?;
        }
        #[cfg(feature = "webpki-roots")]
        if !self.only_added {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        #[cfg(feature = "native-roots")]
        let why = if self.only_added { String::new() } else { add_native_roots(&mut roots) };
        #[cfg(not(feature = "native-roots"))]
        let why = "";
        if roots.is_empty() {
            return Err(HyperSocketError::InvalidConfig(format!(
                "no root certificates to trust: switch on the feature `webpki-roots`, `native-roots` or \
                 `platform-verifier`, or add roots to TlsOptions{why}"
            )));
        }
        Ok(roots)
    }

    fn with_fault(mut self, fault: String) -> Self {
        self.fault.get_or_insert(fault);
        self
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("added_roots", &self.added.len())
            .field("only_added_roots", &self.only_added)
            .field("client_certificate", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .field("versions", &self.versions)
            .field("judge", &self.judge)
            .field("client_config", &self.config.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}

impl Versions {
    fn allowed(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Tls12AndTls13 => vec![&TLS13, &TLS12],
            Self::OnlyTls13 => vec![&TLS13],
        }
    }
}

/// The config of one client, shared by all its sessions.
#[derive(Debug, Clone)]
pub(crate) struct TlsConnector {
    config: Arc<ClientConfig>,
    /// In place of the URL's host.
    server_name: Option<ServerName<'static>>,
}

impl TlsConnector {
    /// Whether rustls may leave the records to us: the feature is asked for, and the config lets it give its secrets away.
    pub(super) fn gives_secrets(&self) -> bool {
        cfg!(feature = "tls-in-place") && self.config.enable_secret_extraction
    }

    /// Begins a session with `host`.
    pub(super) fn connect(&self, host: &str) -> Result<UnbufferedClientConnection, DisconnectReason> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => named(host)
                .ok_or_else(|| DisconnectReason::InvalidUrl(format!("{host:?} cannot be named in a certificate")))?,
        };
        UnbufferedClientConnection::new(Arc::clone(&self.config), name)
            .map_err(|error| DisconnectReason::Tls(error.to_string()))
    }
}

/// Believes everything but a signature that does not fit the key: who sends a certificate must at least own it.
#[derive(Debug)]
struct AcceptsAny {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptsAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Every certificate in `pem`, at least one; `what` they are begins the words of the fault.
fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("{what} was given as PEM text that holds none")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{what} is not valid PEM: {error}")),
    }
}

/// A DNS name, or an IP address with or without brackets.
fn named(host: &str) -> Option<ServerName<'static>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).ok()
}

fn invalid(what: &str, error: &rustls::Error) -> HyperSocketError {
    HyperSocketError::InvalidConfig(format!("{what}: {error}"))
}

#[cfg(feature = "aws-lc-rs")]
pub(super) fn provider() -> Result<CryptoProvider, HyperSocketError> {
    Ok(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
pub(super) fn provider() -> Result<CryptoProvider, HyperSocketError> {
    Ok(rustls::crypto::ring::default_provider())
}

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
pub(super) fn provider() -> Result<CryptoProvider, HyperSocketError> {
    Err(HyperSocketError::InvalidConfig(
        "wss:// needs TLS cryptography: switch on the feature `ring` or `aws-lc-rs`, or give a \
         TlsOptions::client_config() with a provider of its own"
            .to_owned(),
    ))
}

/// Adds the host's roots and returns, in words, what could not be read of them.
#[cfg(feature = "native-roots")]
fn add_native_roots(roots: &mut RootCertStore) -> String {
    // One unreadable certificate among the host's hundred must not end all trading.
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    native.errors.iter().map(|error| format!("; {error}")).collect()
}

/// The length of a name takes one byte (RFC 7301, section 3.1).
const MAX_ALPN_BYTES: usize = 255;

#[cfg(test)]
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#[path = "tests_tls_options.rs"]
mod tests;
