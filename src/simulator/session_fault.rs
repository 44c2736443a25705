//! Faults within a session: broken frames, ends, stalls and floods.

use super::frames::{self, Opcode};
use super::verdict::Verdict;

/// How a venue goes wrong in a session, or so that a careless client thinks so; committed with
/// [`Session::commit`](super::Session::commit). The rules are those of RFC 6455, sections 5, 7 and 8.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionFault {
    /// A frame with a mask.
    MaskedFrame,
    /// The first reserved bit, as of an extension that nobody asked for.
    ReservedBit1,
    /// The second reserved bit.
    ReservedBit2,
    /// The third reserved bit.
    ReservedBit3,
    /// Opcode 3.
    ReservedDataOpcode,
    /// Opcode 11.
    ReservedControlOpcode,
    /// A ping without the final bit.
    FragmentedPing,
    /// A Close without the final bit.
    FragmentedClose,
    /// A ping of 126 bytes.
    OverlongPing,
    /// A Close of 126 bytes.
    OverlongClose,
    /// A continuation of nothing.
    UnexpectedContinuation,
    /// A new text within a fragmented one.
    TextWithinFragments,
    /// A length of 2^62 bytes.
    LengthBomb,
    /// A length with the highest bit set.
    NegativeLength,
    /// A violation in a header whose payload never comes.
    HeaderAlone,
    /// A ping, and in the same segment a masked frame.
    PingThenMaskedFrame,
    /// A Close with a payload of one byte.
    CloseOfOneByte,
    /// A Close with code 0.
    CloseCode0,
    /// A Close with code 999.
    CloseCode999,
    /// A Close with code 1005, which is for no wire.
    CloseCode1005,
    /// A Close with code 1006, which is for no wire.
    CloseCode1006,
    /// A Close with code 5000.
    CloseCode5000,
    /// A text that is not UTF-8.
    InvalidUtf8,
    /// A text whose second fragment makes it no UTF-8.
    InvalidUtf8AcrossFragments,
    /// A text that ends within a character.
    CutUtf8,
    /// The first bytes of a long text, not UTF-8 already.
    InvalidUtf8InUnfinishedFrame,
    /// A Close whose reason is not UTF-8.
    InvalidUtf8InClose,
    /// The header of a message of 1 GiB.
    OversizeFrame,
    /// A message of 20 MiB, in fragments of 64 KiB: above the default limit of a client, [1009](Verdict::Violation) for it.
    OversizeMessage,
    /// FIN, without a Close frame.
    Fin,
    /// RST.
    Rst,
    /// Half a header and a FIN.
    CutHeader,
    /// Half a payload and a FIN.
    CutPayload,
    /// Close 1000.
    NormalClose,
    /// Close 1001.
    GoingAway,
    /// Close 1012.
    ServiceRestart,
    /// Close 1013.
    TryAgainLater,
    /// Close 1008.
    PolicyViolation,
    /// Close 4001.
    ApplicationClose,
    /// A Close without a code.
    EmptyClose,
    /// A Close, and in the same segment a text.
    TextBehindClose,
    /// Nothing more, and nothing read: the socket stays open.
    Stall,
    /// The same, within a frame.
    StallWithinFrame,
    /// 20,000 pings.
    PingFlood,
    /// 20,000 texts of no bytes.
    EmptyTexts,
    /// One text of 20,000 fragments of no bytes.
    EmptyFragments,
    /// A text in writes of one byte.
    ByteByByte,
    /// A text in fragments, with pings between them and within a character.
    PingsBetweenFragments,
    /// A length that would have fitted in fewer bytes.
    LongFormLength,
}

/// How a fault ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    Stays,
    Fin,
    Rst,
    Stall,
}

impl SessionFault {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::MaskedFrame,
        Self::ReservedBit1,
        Self::ReservedBit2,
        Self::ReservedBit3,
        Self::ReservedDataOpcode,
        Self::ReservedControlOpcode,
        Self::FragmentedPing,
        Self::FragmentedClose,
        Self::OverlongPing,
        Self::OverlongClose,
        Self::UnexpectedContinuation,
        Self::TextWithinFragments,
        Self::LengthBomb,
        Self::NegativeLength,
        Self::HeaderAlone,
        Self::PingThenMaskedFrame,
        Self::CloseOfOneByte,
        Self::CloseCode0,
        Self::CloseCode999,
        Self::CloseCode1005,
        Self::CloseCode1006,
        Self::CloseCode5000,
        Self::InvalidUtf8,
        Self::InvalidUtf8AcrossFragments,
        Self::CutUtf8,
        Self::InvalidUtf8InUnfinishedFrame,
        Self::InvalidUtf8InClose,
        Self::OversizeFrame,
        Self::OversizeMessage,
        Self::Fin,
        Self::Rst,
        Self::CutHeader,
        Self::CutPayload,
        Self::NormalClose,
        Self::GoingAway,
        Self::ServiceRestart,
        Self::TryAgainLater,
        Self::PolicyViolation,
        Self::ApplicationClose,
        Self::EmptyClose,
        Self::TextBehindClose,
        Self::Stall,
        Self::StallWithinFrame,
        Self::PingFlood,
        Self::EmptyTexts,
        Self::EmptyFragments,
        Self::ByteByByte,
        Self::PingsBetweenFragments,
        Self::LongFormLength,
    ];

    /// The text that follows a [violation](Verdict::Violation) in the same segment, and that nobody may see.
    pub const POISON: &'static str = "behind the fault";

    /// What a client must make of it. What it takes for [`Lost`](Verdict::Lost) where nothing is said any more
    /// ([`Stall`](Self::Stall), [`StallWithinFrame`](Self::StallWithinFrame)), only its own timers tell it.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::InvalidUtf8
            | Self::InvalidUtf8AcrossFragments
            | Self::CutUtf8
            | Self::InvalidUtf8InUnfinishedFrame
            | Self::InvalidUtf8InClose => Verdict::Violation(1007),
            Self::OversizeFrame | Self::OversizeMessage | Self::LengthBomb => Verdict::Violation(1009),
            Self::Fin
            | Self::Rst
            | Self::CutHeader
            | Self::CutPayload
            | Self::NormalClose
            | Self::GoingAway
            | Self::ServiceRestart
            | Self::TryAgainLater
            | Self::PolicyViolation
            | Self::ApplicationClose
            | Self::EmptyClose
            | Self::TextBehindClose
            | Self::Stall
            | Self::StallWithinFrame => Verdict::Lost,
            Self::PingFlood
            | Self::EmptyTexts
            | Self::EmptyFragments
            | Self::ByteByByte
            | Self::PingsBetweenFragments => Verdict::Survived,
            _ => Verdict::Violation(1002),
        }
    }

    /// Its bytes, in writes of their own, and how it ends.
    pub(super) fn acts(self) -> (Vec<Vec<u8>>, Finish) {
        let stays = |bytes: Vec<u8>| (vec![bytes], Finish::Stays);
        // The poison in the same write.
        let violation = |mut bytes: Vec<u8>| {
            frames::append(&mut bytes, Opcode::Text, Self::POISON.as_bytes());
            stays(bytes)
        };
        let text = |payload: &[u8]| frame(0x81, payload);
        let close = |code: u16| frame(0x88, &code.to_be_bytes());
        match self {
            Self::MaskedFrame => violation(masked()),
            Self::ReservedBit1 => violation(frame(0xC1, b"rsv")),
            Self::ReservedBit2 => violation(frame(0xA1, b"rsv")),
            Self::ReservedBit3 => violation(frame(0x91, b"rsv")),
            Self::ReservedDataOpcode => violation(frame(0x83, b"?")),
            Self::ReservedControlOpcode => violation(frame(0x8B, b"?")),
            Self::FragmentedPing => violation(frame(0x09, b"?")),
            Self::FragmentedClose => violation(frame(0x08, &1000_u16.to_be_bytes())),
            Self::OverlongPing => violation(frame(0x89, &[b'x'; 126])),
            Self::OverlongClose => violation(frame(0x88, &[&1000_u16.to_be_bytes()[..], &[b'x'; 124]].concat())),
            Self::UnexpectedContinuation => violation(frame(0x80, b"of what?")),
            Self::TextWithinFragments => violation([frame(0x01, b"first"), text(b"another")].concat()),
            Self::LengthBomb => violation([&[0x82, 127][..], &(1_u64 << 62).to_be_bytes()].concat()),
            Self::NegativeLength => violation([&[0x82, 127][..], &(1_u64 << 63 | 5).to_be_bytes(), b"hello"].concat()),
            Self::HeaderAlone => stays(vec![0x83]),
            Self::PingThenMaskedFrame => violation([frame(0x89, b"first"), masked()].concat()),
            Self::CloseOfOneByte => violation(frame(0x88, &[3])),
            Self::CloseCode0 => violation(close(0)),
            Self::CloseCode999 => violation(close(999)),
            Self::CloseCode1005 => violation(close(1005)),
            Self::CloseCode1006 => violation(close(1006)),
            Self::CloseCode5000 => violation(close(5000)),
            Self::InvalidUtf8 => violation(text(b"BTC \xff")),
            Self::InvalidUtf8AcrossFragments => {
                violation([frame(0x01, b"BTC \xf0\x9f"), frame(0x80, b"\x98X")].concat())
            }
            Self::CutUtf8 => violation(text(b"BTC \xf0\x9f\x98")),
            // What follows is within the frame.
            Self::InvalidUtf8InUnfinishedFrame => {
                violation([&[0x81, 126, 0x40, 0x00][..], b"BTC \xed\xa0\x80"].concat())
            }
            Self::InvalidUtf8InClose => violation(frame(0x88, &[&1000_u16.to_be_bytes()[..], b"\xff"].concat())),
            Self::OversizeFrame => stays([&[0x81, 127][..], &(1_u64 << 30).to_be_bytes(), b"BTC"].concat()),
            Self::OversizeMessage => {
                let piece = [b'x'; 64 << 10];
                let mut acts = vec![frame(0x01, &piece)];
                acts.extend((2..320).map(|_| frame(0x00, &piece)));
                acts.push(frame(0x80, &piece));
                (acts, Finish::Stays)
            }
            Self::Fin => (Vec::new(), Finish::Fin),
            Self::Rst => (Vec::new(), Finish::Rst),
            Self::CutHeader => (vec![vec![0x81]], Finish::Fin),
            Self::CutPayload => (vec![[&[0x81, 20][..], b"BTC half"].concat()], Finish::Fin),
            Self::NormalClose => (vec![close(1000)], Finish::Fin),
            Self::GoingAway => (vec![close(1001)], Finish::Fin),
            Self::ServiceRestart => (vec![close(1012)], Finish::Fin),
            Self::TryAgainLater => (vec![close(1013)], Finish::Fin),
            Self::PolicyViolation => (vec![close(1008)], Finish::Fin),
            Self::ApplicationClose => (vec![close(4001)], Finish::Fin),
            Self::EmptyClose => (vec![frame(0x88, b"")], Finish::Fin),
            Self::TextBehindClose => (vec![[close(1000), text(Self::POISON.as_bytes())].concat()], Finish::Fin),
            Self::Stall => (Vec::new(), Finish::Stall),
            Self::StallWithinFrame => (vec![[&[0x81, 20][..], b"BTC half"].concat()], Finish::Stall),
            Self::PingFlood => stays((0..FLOOD).flat_map(|n| frame(0x89, n.to_string().as_bytes())).collect()),
            Self::EmptyTexts => stays((0..FLOOD).flat_map(|_| text(b"")).collect()),
            Self::EmptyFragments => {
                let mut flood = frame(0x01, b"");
                (2..FLOOD).for_each(|_| flood.extend(frame(0x00, b"")));
                flood.extend(frame(0x80, b""));
                stays(flood)
            }
            Self::ByteByByte => {
                (text("BTC byte by byte ✓".as_bytes()).into_iter().map(|byte| vec![byte]).collect(), Finish::Stays)
            }
            Self::PingsBetweenFragments => stays(
                [
                    frame(0x01, b"BTC \xe2\x9c"),
                    frame(0x89, b"1"),
                    frame(0x00, b"\x93 "),
                    frame(0x89, b"2"),
                    frame(0x80, b"ok"),
                ]
                .concat(),
            ),
            Self::LongFormLength => violation([&[0x81, 126, 0, 5][..], b"BTC 1"].concat()),
        }
    }
}

/// Of frames.
const FLOOD: usize = 20_000;

/// A frame with this first byte, its length in the short or the 16 bit form, or for long ones the 64 bit form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(payload.len() + 10);
    frames::append(&mut whole, Opcode::Text, payload);
    whole[0] = first;
    whole
}

/// A text under a mask of zeros: the bits are right, the mask is not.
fn masked() -> Vec<u8> {
    [&[0x81, 0x85, 0, 0, 0, 0][..], b"BTC 1"].concat()
}
