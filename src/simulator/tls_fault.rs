//! Venues whose TLS a client must not trust.

/// What is wrong with a venue's TLS; see [`VenueBuilder::tls_fault`](super::VenueBuilder::tls_fault). To each, a right client
/// refuses to send a byte of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFault {
    /// The certificate's time is over.
    Expired,
    /// The certificate's time has not begun.
    NotYetValid,
    /// The certificate is for another host.
    OtherHost,
    /// The certificate is signed by itself.
    SelfSigned,
    /// The certificate is of another authority than [`Venue::root_certificate_der`](super::Venue::root_certificate_der).
    UnknownAuthority,
    /// The certificate may be used by clients only.
    ClientCertificate,
    /// TLS 1.1, and nothing later.
    OldVersion,
    /// A fatal alert in place of a handshake.
    Alert,
    /// No TLS: the venue answers in the clear.
    Plaintext,
    /// Half a ServerHello and a FIN.
    CutShort,
    /// Nothing, for ever.
    Silence,
}

impl TlsFault {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Expired,
        Self::NotYetValid,
        Self::OtherHost,
        Self::SelfSigned,
        Self::UnknownAuthority,
        Self::ClientCertificate,
        Self::OldVersion,
        Self::Alert,
        Self::Plaintext,
        Self::CutShort,
        Self::Silence,
    ];

    /// What the venue says to the ClientHello, where that is not the work of its certificate; nothing is silence.
    pub(super) fn answer(self) -> Option<Vec<u8>> {
        match self {
            Self::OldVersion => {
                // RFC 4346, section 7.4.1.3: version 3.2, 32 random bytes, no session, TLS_RSA_WITH_AES_128_CBC_SHA.
                let hello = [&[3, 2][..], &[0x5A; 32], &[0], &[0x00, 0x2F], &[0]].concat();
                let length = u8::try_from(hello.len()).expect("38 bytes");
                Some([&[22, 3, 2, 0, length + 4, 2, 0, 0, length][..], &hello].concat())
            }
            // Level 2, fatal; 40, handshake_failure.
            Self::Alert => Some(vec![21, 3, 3, 0, 2, 2, 40]),
            Self::Plaintext => Some(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()),
            Self::CutShort => Some(vec![22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3]),
            Self::Silence => Some(Vec::new()),
            Self::Expired
            | Self::NotYetValid
            | Self::OtherHost
            | Self::SelfSigned
            | Self::UnknownAuthority
            | Self::ClientCertificate => None,
        }
    }
}
