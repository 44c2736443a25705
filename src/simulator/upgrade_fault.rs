//! Wrong and unusual answers to an upgrade request.

use super::frames::{self, Opcode};
use super::verdict::Verdict;

/// How a venue answers an upgrade request wrongly, or so that a careless client thinks so; planned with
/// [`Venue::plan_upgrade`](super::Venue::plan_upgrade). The rules are those of RFC 6455, section 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpgradeFault {
    /// A `Sec-WebSocket-Accept` for another key.
    WrongAccept,
    /// No `Sec-WebSocket-Accept`.
    NoAccept,
    /// No `Upgrade` header.
    NoUpgrade,
    /// `Upgrade: h2c`.
    OtherUpgrade,
    /// No `Connection` header.
    NoConnection,
    /// `Connection: close`.
    OtherConnection,
    /// A subprotocol that nobody asked for.
    UnaskedSubprotocol,
    /// An extension that nobody asked for.
    UnaskedExtension,
    /// HTTP/1.0.
    Http10,
    /// A web page.
    Page,
    /// A redirect, to the same host over plain `ws`.
    Redirect,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 429, without `Retry-After`.
    TooManyRequests,
    /// 503, without `Retry-After`.
    Unavailable,
    /// Headers without end.
    EndlessHead,
    /// The greeting of another protocol.
    OtherProtocol,
    /// Random bytes.
    Garbage,
    /// Half an answer and a FIN.
    CutShort,
    /// A FIN.
    NoAnswer,
    /// An RST.
    Reset,
    /// Nothing, for ever.
    Silence,
    /// A right answer, but a byte each 50 ms, and with a header that never ends.
    Drip,
    /// A right answer with `Connection: keep-alive, Upgrade`.
    TokenList,
    /// A right answer whose names and values are in unusual case and blanks.
    OddCase,
    /// A right answer in writes of one byte.
    ByteByByte,
    /// A right answer with a text message, [`UpgradeFault::FIRST`], in the same segment.
    MessageInTheSameSegment,
}

/// What follows an answer.
pub(super) enum Then {
    /// The session.
    Live,
    Fin,
    Rst,
    Nothing,
    /// These bytes, one each so many milliseconds, again and again.
    Drip(&'static [u8]),
}

impl UpgradeFault {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::WrongAccept,
        Self::NoAccept,
        Self::NoUpgrade,
        Self::OtherUpgrade,
        Self::NoConnection,
        Self::OtherConnection,
        Self::UnaskedSubprotocol,
        Self::UnaskedExtension,
        Self::Http10,
        Self::Page,
        Self::Redirect,
        Self::Unauthorized,
        Self::Forbidden,
        Self::TooManyRequests,
        Self::Unavailable,
        Self::EndlessHead,
        Self::OtherProtocol,
        Self::Garbage,
        Self::CutShort,
        Self::NoAnswer,
        Self::Reset,
        Self::Silence,
        Self::Drip,
        Self::TokenList,
        Self::OddCase,
        Self::ByteByByte,
        Self::MessageInTheSameSegment,
    ];

    /// The text that [`MessageInTheSameSegment`](Self::MessageInTheSameSegment) sends.
    pub const FIRST: &'static str = "in the same segment";

    /// What a client must make of it.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::TokenList | Self::OddCase | Self::ByteByByte | Self::MessageInTheSameSegment => Verdict::Survived,
            _ => Verdict::Refused,
        }
    }

    /// The answer, in writes of their own, and what follows it; `accept` is the right `Sec-WebSocket-Accept`.
    pub(super) fn answer(self, accept: &str) -> (Vec<Vec<u8>>, Then) {
        let accept_line = format!("Sec-WebSocket-Accept: {accept}");
        let right = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", &accept_line];
        let [status, upgrade, connection, accept_line] = right;
        let status_alone = |status: &str| (vec![head(&[status, "Connection: close", "Content-Length: 0"])], Then::Fin);
        let wrong = |lines: &[&str]| (vec![head(lines)], Then::Fin);
        match self {
            Self::WrongAccept => {
                wrong(&[status, upgrade, connection, "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="])
            }
            Self::NoAccept => wrong(&[status, upgrade, connection]),
            Self::NoUpgrade => wrong(&[status, connection, accept_line]),
            Self::OtherUpgrade => wrong(&[status, "Upgrade: h2c", connection, accept_line]),
            Self::NoConnection => wrong(&[status, upgrade, accept_line]),
            Self::OtherConnection => wrong(&[status, upgrade, "Connection: close", accept_line]),
            Self::UnaskedSubprotocol => {
                wrong(&[status, upgrade, connection, accept_line, "Sec-WebSocket-Protocol: unasked"])
            }
            Self::UnaskedExtension => {
                wrong(&[status, upgrade, connection, accept_line, "Sec-WebSocket-Extensions: permessage-deflate"])
            }
            Self::Http10 => wrong(&["HTTP/1.0 101 Switching Protocols", upgrade, connection, accept_line]),
            Self::Page => wrong(&["HTTP/1.1 200 OK", "Content-Type: text/html", "Content-Length: 0"]),
            Self::Redirect => wrong(&[
                "HTTP/1.1 301 Moved Permanently",
                "Location: ws://127.0.0.1:9/elsewhere",
                "Connection: close",
                "Content-Length: 0",
            ]),
            Self::Unauthorized => status_alone("HTTP/1.1 401 Unauthorized"),
            Self::Forbidden => status_alone("HTTP/1.1 403 Forbidden"),
            Self::TooManyRequests => status_alone("HTTP/1.1 429 Too Many Requests"),
            Self::Unavailable => status_alone("HTTP/1.1 503 Service Unavailable"),
            Self::EndlessHead => {
                let mut endless = format!("{status}\r\n").into_bytes();
                (0..20_000).for_each(|n| endless.extend_from_slice(format!("X-{n}: {n}\r\n").as_bytes()));
                (vec![endless], Then::Nothing)
            }
            Self::OtherProtocol => (vec![b"220 mail.example.com ESMTP\r\n".to_vec()], Then::Nothing),
            Self::Garbage => {
                ((0..32).map(|n: u8| n.wrapping_mul(167) ^ 0x95).map(|byte| vec![byte]).collect(), Then::Fin)
            }
            Self::CutShort => {
                let whole = head(&right);
                (vec![whole[..whole.len() / 2].to_vec()], Then::Fin)
            }
            Self::NoAnswer => (Vec::new(), Then::Fin),
            Self::Reset => (Vec::new(), Then::Rst),
            Self::Silence => (Vec::new(), Then::Nothing),
            Self::Drip => (vec![format!("{status}\r\nX-Endless: ").into_bytes()], Then::Drip(b"endless")),
            Self::TokenList => {
                (vec![head(&[status, upgrade, "Connection: keep-alive, Upgrade", accept_line])], Then::Live)
            }
            Self::OddCase => {
                let accept_line = format!("sec-websocket-ACCEPT:{accept}   ");
                (vec![head(&[status, "UPGRADE:   WebSocket", "connection: uPGRADE", &accept_line])], Then::Live)
            }
            Self::ByteByByte => (head(&right).into_iter().map(|byte| vec![byte]).collect(), Then::Live),
            Self::MessageInTheSameSegment => {
                let mut bytes = head(&right);
                frames::append(&mut bytes, Opcode::Text, Self::FIRST.as_bytes());
                (vec![bytes], Then::Live)
            }
        }
    }
}

fn head(lines: &[&str]) -> Vec<u8> {
    (lines.join("\r\n") + "\r\n\r\n").into_bytes()
}
