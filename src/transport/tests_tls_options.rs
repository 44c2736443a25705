use rustls::{AlertDescription, HandshakeKind};

use super::*;
use crate::transport::tls::TlsState;
use crate::transport::tls::fixture::{Authority, HOST, Wire};

fn config_fault(options: &TlsOptions) -> String {
    match options.connector() {
        Err(HyperSocketError::InvalidConfig(words)) => words,
        other => panic!("expected InvalidConfig, got {other:?}"),
    }
}

/// A client that trusts this authority alone.
fn trusting(authority: &Authority) -> TlsOptions {
    TlsOptions::new().add_root_pem(authority.pem.as_bytes()).only_added_roots()
}

/// Shakes hands with a venue of `HOST`; the connector of `options`.
fn shaken(
    options: &TlsOptions,
    host: &str,
    config: rustls::ServerConfig,
) -> (Wire, Result<TlsState, DisconnectReason>) {
    let mut wire = Wire::new(&options.connector().unwrap(), host, &Arc::new(config));
    let outcome = wire.shake_hands(usize::MAX);
    (wire, outcome)
}

#[test]
fn options_that_cannot_work_say_what_to_mend() {
    let authority = Authority::new();
    assert!(config_fault(&TlsOptions::new().only_added_roots()).contains("no root certificates"));
    assert!(config_fault(&TlsOptions::new().add_root_pem(b"no PEM at all")).contains("holds none"));
    let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    assert!(config_fault(&TlsOptions::new().add_root_pem(broken)).contains("not valid PEM"));
    let unreadable = TlsOptions::new().add_root_der(vec![1, 2, 3]).only_added_roots();
    assert!(config_fault(&unreadable).contains("cannot be read"));
    let two = format!("{0}\n{0}", authority.pem);
    assert!(TlsOptions::new().add_root_pem(two.as_bytes()).only_added_roots().connector().is_ok());
}

#[test]
fn the_callers_own_config_wins() {
    let authority = Authority::new();
    let own = authority.connector().config;
    let connector = TlsOptions::new().add_root_pem(b"ignored").client_config(Arc::clone(&own)).connector().unwrap();
    assert!(Arc::ptr_eq(&own, &connector.config));
}

#[cfg(feature = "webpki-roots")]
#[test]
fn added_roots_stand_beside_the_default_ones() {
    let authority = Authority::new();
    let roots = TlsOptions::new().add_root_pem(authority.pem.as_bytes()).roots().unwrap();
    assert!(roots.len() > webpki_roots::TLS_SERVER_ROOTS.len());
}

#[test]
fn a_reconnect_resumes_the_session_in_both_versions() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let connector = authority.connector();
        let config = Arc::new(authority.server_config(HOST, &[version], 4000));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut wire = Wire::new(&connector, HOST, &config);
            wire.shake_hands(usize::MAX).unwrap();
            assert_eq!(wire.venue.handshake_kind(), Some(expected), "{version:?}");
        }
    }
}

#[test]
fn a_session_that_proved_who_we_are_is_resumed_too() {
    let authority = Authority::new();
    let (chain, key) = authority.identity("trader");
    let connector = trusting(&authority).client_certificate_pem(chain.as_bytes(), key.as_bytes()).connector().unwrap();
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(authority.mutual_server_config(version));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut wire = Wire::new(&connector, HOST, &config);
            assert_eq!(wire.shake_hands(usize::MAX), Ok(TlsState::Traffic));
            assert_eq!(wire.venue.handshake_kind(), Some(expected), "{version:?}");
            assert_eq!(wire.venue.peer_certificates().map(<[_]>::len), Some(1));
        }
    }
}

#[test]
fn a_venue_that_wants_a_client_certificate_refuses_who_has_none() {
    let authority = Authority::new();
    let mut wire = Wire::new(&authority.connector(), HOST, &Arc::new(authority.mutual_server_config(&TLS12)));
    let refusal = loop {
        if let Err(error) = wire.venue_reads() {
            break error;
        }
        let flight = wire.venue_ciphertext();
        wire.client_reads(&flight).unwrap();
    };
    assert_eq!(refusal, rustls::Error::NoCertificatesPresented);
}

#[test]
fn a_client_certificate_that_cannot_work_says_what_to_mend() {
    let authority = Authority::new();
    let (chain, key) = authority.identity("trader");
    let (_, strange_key) = authority.identity("stranger");
    let with = |chain: &str, key: &str| {
        config_fault(&trusting(&authority).client_certificate_pem(chain.as_bytes(), key.as_bytes()))
    };
    assert!(with("no PEM", &key).contains("certificate chain was given as PEM text that holds none"));
    assert!(with(&key, &key).contains("certificate chain was given as PEM text that holds none"));
    assert!(with(&chain, &chain).contains("private key was given as PEM text that holds none"));
    assert!(with(&chain, "-----BEGIN PRIVATE KEY-----\n!!!\n-----END PRIVATE KEY-----\n").contains("not valid PEM"));
    let words = with(&chain, &strange_key);
    assert!(words.contains("cannot be used with its private key"), "{words}");
}

#[test]
fn no_debug_output_shows_a_key() {
    let authority = Authority::new();
    let (chain, key) = authority.identity("trader");
    let options = trusting(&authority).client_certificate_pem(chain.as_bytes(), key.as_bytes());
    let shown = format!("{options:?} {:?} {:?}", options.identity, options.connector().unwrap());
    assert!(shown.contains("client_certificate: true") && shown.contains("Key(hidden)"), "{shown}");
    let secret = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let bytes = format!("{:?}", &secret.secret_der()[40..60]);
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
}

#[test]
fn another_server_name_is_asked_for_and_verified() {
    let authority = Authority::new();
    let options = trusting(&authority).server_name(HOST);
    let config = || authority.server_config(HOST, &[&TLS13], 4000);
    let (wire, outcome) = shaken(&options, "127.0.0.1", config());
    assert_eq!(outcome, Ok(TlsState::Traffic));
    assert_eq!(wire.venue.server_name(), Some(HOST));

    let (_, outcome) = shaken(&trusting(&authority).server_name("elsewhere.example"), HOST, config());
    assert!(matches!(outcome, Err(DisconnectReason::Tls(_))), "{outcome:?}");
    assert!(config_fault(&trusting(&authority).server_name("no spaces.example")).contains("\"no spaces.example\""));
}

#[test]
fn a_server_name_stands_beside_a_config_of_the_callers_own() {
    let authority = Authority::new();
    let options = TlsOptions::new().client_config(authority.connector().config).server_name(HOST);
    let (_, outcome) = shaken(&options, "127.0.0.1", authority.server_config(HOST, &[&TLS13], 4000));
    assert_eq!(outcome, Ok(TlsState::Traffic));
}

#[test]
fn alpn_is_offered_as_told_and_h2_never() {
    let authority = Authority::new();
    let options = trusting(&authority).alpn(["http/1.1"]);
    let mut config = authority.server_config(HOST, &[&TLS13], 4000);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (wire, outcome) = shaken(&options, HOST, config);
    assert_eq!(outcome, Ok(TlsState::Traffic));
    assert_eq!(wire.venue.alpn_protocol(), Some(b"http/1.1".as_slice()));

    assert!(config_fault(&trusting(&authority).alpn(["h2", "http/1.1"])).contains("h2 cannot be offered"));
    assert!(config_fault(&trusting(&authority).alpn([""])).contains("1 to 255 bytes"));
}

#[test]
fn a_client_of_tls_1_3_alone_does_not_step_down() {
    let authority = Authority::new();
    let options = trusting(&authority).only_tls13();
    let (_, outcome) = shaken(&options, HOST, authority.server_config(HOST, rustls::ALL_VERSIONS, 4000));
    assert_eq!(outcome, Ok(TlsState::Traffic));

    let old = Arc::new(authority.server_config(HOST, &[&TLS12], 4000));
    let mut wire = Wire::new(&options.connector().unwrap(), HOST, &old);
    assert!(wire.venue_reads().is_err(), "the venue finds no version in common");
    let flight = wire.venue_ciphertext();
    let Err(DisconnectReason::Tls(words)) = wire.client_reads(&flight) else { panic!("no alert") };
    assert!(words.contains(&format!("{:?}", AlertDescription::ProtocolVersion)), "{words}");
}

#[test]
fn only_the_dangerous_option_accepts_a_strangers_certificate() {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let config = || stranger.server_config("elsewhere.example", rustls::ALL_VERSIONS, 2001);
    let (_, refused) = shaken(&trusting(&ours), HOST, config());
    assert!(matches!(refused, Err(DisconnectReason::Tls(_))), "{refused:?}");
    let dangerous = TlsOptions::new().only_added_roots().dangerous_accept_any_certificate();
    let (_, accepted) = shaken(&dangerous, HOST, config());
    assert_eq!(accepted, Ok(TlsState::Traffic));
    assert!(format!("{dangerous:?}").contains("judge: Nobody"));
}
