//! Frame headers and unfinished text judged, client frames written (RFC 6455, section 5).
//!
//! Invariant: a rule is judged with the first byte that can break it, so a peer cannot stall a violation, and a length is
//! only ever compared, never allocated for.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::config::Limits;

/// A complete and lawful frame header, as a server may send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// FIN, the reserved bits (zero, but for that of compression where that was agreed) and the opcode.
    first: u8,
    /// Bytes of the header itself.
    pub(crate) len: usize,
    /// Bytes of the payload; within the limit.
    pub(crate) payload_len: usize,
}

impl Header {
    /// A whole text message in one frame.
    #[inline]
    pub(crate) fn is_single_text(&self) -> bool {
        self.first == FIN | TEXT
    }

    /// A whole binary message in one frame.
    #[inline]
    pub(crate) fn is_single_binary(&self) -> bool {
        self.first == FIN | BINARY
    }

    /// The first frame of a compressed message (RFC 7692, section 6).
    pub(crate) fn starts_compressed(&self) -> bool {
        says_compressed(self.first)
    }

    /// The first frame of a message, or the whole of it; else it goes on with one.
    pub(crate) fn starts_message(&self) -> bool {
        !self.is_control() && self.first & OPCODE != CONTINUATION
    }

    pub(crate) fn is_final(&self) -> bool {
        self.first & FIN != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.first & CONTROL != 0
    }

    /// The first frame of a text message, fragmented or not.
    pub(crate) fn starts_text(&self) -> bool {
        self.first & OPCODE == TEXT
    }
}

/// What is wrong with a frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The header breaks RFC 6455. The venue gets Close 1002.
    Protocol(&'static str),
    /// The frame, or the fragments with this one, cross the limit. The venue gets Close 1009.
    TooLarge { claimed_bytes: u64, limit_bytes: u64 },
}

/// What a header's first byte says, where compression was agreed (RFC 7692, section 6).
pub(crate) fn says_compressed(first: u8) -> bool {
    first & COMPRESSED != 0
}

/// Reads the header at the front of `bytes`; `None` where it is incomplete and lawful so far.
///
/// `fragment_bytes` is what the fragments of the open message hold already; zero where none is open. `compression` says that data
/// frames may be compressed.
#[inline]
pub(crate) fn parse_header(
    bytes: &[u8],
    fragment_open: bool,
    fragment_bytes: u64,
    compression: bool,
    limits: &Limits,
) -> Result<Option<Header>, Violation> {
    let &[first, second, ref rest @ ..] = bytes else {
        return match bytes.first() {
            Some(&first) => judge_first(first, fragment_open, compression).map(|()| None),
            None => Ok(None),
        };
    };
    // One test lets through what nearly all frames are.
    if fragment_open || (first != FIN | TEXT && first != FIN | BINARY) {
        judge_first(first, fragment_open, compression)?;
        judge_control(first, second)?;
    }
    let (len, payload_len) = match second {
        0..=125 => (2, u64::from(second)),
        126 => match rest.first_chunk() {
            Some(&length) => (4, u64::from(u16::from_be_bytes(length))),
            None => return judge_part(rest, 2, fragment_bytes, limits),
        },
        127 => match rest.first_chunk() {
            Some(&length) => (10, u64::from_be_bytes(length)),
            None => return judge_part(rest, 8, fragment_bytes, limits),
        },
        128.. => return Err(Violation::Protocol("masked frame from the server")),
    };
    if second > 125 {
        judge_length(payload_len, payload_len, len - 2)?;
    }
    // Control frames are small by rule, and belong to no message.
    if payload_len > limits.max_message_bytes.saturating_sub(fragment_bytes) && first & CONTROL == 0 {
        return Err(too_large(payload_len, fragment_bytes, limits));
    }
    Ok(Some(Header { first, len, payload_len: payload_len as usize }))
}

fn judge_first(first: u8, fragment_open: bool, compression: bool) -> Result<(), Violation> {
    // The bit says something of a whole message, so only a data frame that begins one has it (RFC 7692, section 6).
    let may_be_compressed = compression && matches!(first & OPCODE, TEXT | BINARY);
    let reserved = if may_be_compressed { RESERVED_BITS & !COMPRESSED } else { RESERVED_BITS };
    let broken = match first & OPCODE {
        _ if first & reserved != 0 => "reserved bit set",
        CONTINUATION if !fragment_open => "continuation of no message",
        TEXT | BINARY if fragment_open => "new message inside a fragmented one",
        3..=7 | 11.. => "reserved opcode",
        opcode if opcode & CONTROL != 0 && first & FIN == 0 => "fragmented control frame",
        _ => return Ok(()),
    };
    Err(Violation::Protocol(broken))
}

fn judge_control(first: u8, second: u8) -> Result<(), Violation> {
    let broken = match second & !MASKED {
        _ if first & CONTROL == 0 => return Ok(()),
        126.. => "control frame of more than 125 bytes",
        1 if first & OPCODE == CLOSE => "close code of one byte",
        _ => return Ok(()),
    };
    Err(Violation::Protocol(broken))
}

/// Judges a length of which only the leading bytes have come, by the least and the most it can still become.
#[cold]
fn judge_part(part: &[u8], width: usize, fragment_bytes: u64, limits: &Limits) -> Result<Option<Header>, Violation> {
    let (mut least, mut most) = (0, 0);
    for index in 0..width {
        let byte = part.get(index).copied();
        least = least << 8 | u64::from(byte.unwrap_or(0));
        most = most << 8 | u64::from(byte.unwrap_or(0xFF));
    }
    if !part.is_empty() {
        judge_length(least, most, width)?;
    }
    if least > limits.max_message_bytes.saturating_sub(fragment_bytes) {
        return Err(too_large(least, fragment_bytes, limits));
    }
    Ok(None)
}

#[inline]
fn judge_length(least: u64, most: u64, width: usize) -> Result<(), Violation> {
    let shortest = if width == 2 { 126 } else { 1 << 16 };
    if least >> 63 != 0 {
        return Err(Violation::Protocol("length with the top bit set"));
    }
    if most < shortest {
        return Err(Violation::Protocol("length not in its shortest form"));
    }
    Ok(())
}

#[cold]
fn too_large(payload_len: u64, fragment_bytes: u64, limits: &Limits) -> Violation {
    Violation::TooLarge {
        claimed_bytes: payload_len.saturating_add(fragment_bytes),
        limit_bytes: limits.max_message_bytes,
    }
}

/// UTF-8 judged as it comes, each byte once, over the pieces of a frame and the fragments of a message.
#[derive(Debug, Default)]
pub(crate) struct TextCheck {
    /// Bytes of the current frame's payload that were judged.
    checked: usize,
    /// The beginning of a character that is not complete yet.
    carry: [u8; 4],
    carried: usize,
}

#[derive(Debug)]
pub(crate) struct NotUtf8;

impl TextCheck {
    /// Judges what came since the last call; `payload` is all that came of the current frame.
    pub(crate) fn arrived(&mut self, starts_message: bool, payload: &[u8]) -> Result<(), NotUtf8> {
        if starts_message && self.checked == 0 {
            self.carried = 0;
        }
        let mut new = payload.get(self.checked..).unwrap_or_default();
        self.checked = payload.len();
        while self.carried > 0 {
            let Some((&byte, rest)) = new.split_first() else {
                return Ok(());
            };
            self.carry[self.carried] = byte;
            self.carried += 1;
            new = rest;
            match std::str::from_utf8(&self.carry[..self.carried]) {
                Ok(_) => self.carried = 0,
                Err(error) if error.error_len().is_some() => return Err(NotUtf8),
                Err(_) => {}
            }
        }
        if let Err(error) = simdutf8::compat::from_utf8(new) {
            if error.error_len().is_some() {
                return Err(NotUtf8);
            }
            let begun = &new[error.valid_up_to()..];
            self.carry[..begun.len()].copy_from_slice(begun);
            self.carried = begun.len();
        }
        Ok(())
    }

    /// The next frame begins; a character may go on in it.
    #[inline]
    pub(crate) fn frame_ended(&mut self) {
        self.checked = 0;
    }
}

/// The frames that we write ourselves; pongs and Closes are tungstenite's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opcode {
    Text = TEXT,
    Binary = BINARY,
    Ping = PING,
}

/// Appends one whole, masked frame to `out`.
pub(crate) fn encode(out: &mut Vec<u8>, opcode: Opcode, compressed: bool, payload: &[u8], mask: [u8; 4]) {
    let first = FIN | opcode as u8 | if compressed { COMPRESSED } else { 0 };
    out.reserve(MAX_HEADER_BYTES + payload.len());
    match payload.len() {
        len @ 0..=125 => out.extend_from_slice(&[first, MASKED | len as u8]),
        len @ 126..=0xFFFF => {
            let [high, low] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[first, MASKED | 126, high, low]);
        }
        len => {
            out.extend_from_slice(&[first, MASKED | 127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// By words of eight bytes; the mask's period divides eight, so the rest begins with the mask's first byte again.
fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Masks that nobody can predict from those before (RFC 6455, section 5.3).
///
/// SipHash, a keyed pseudo-random function, of a counter, under a key from the operating system that never leaves the
/// process. Two masks a hash, no system call.
#[derive(Debug, Default)]
pub(crate) struct Masks {
    key: RandomState,
    count: u64,
    hash: u64,
}

impl Masks {
    #[inline]
    pub(crate) fn next(&mut self) -> [u8; 4] {
        if self.count & 1 == 0 {
            self.hash = self.key.hash_one(self.count);
        } else {
            self.hash >>= 32;
        }
        self.count = self.count.wrapping_add(1);
        (self.hash as u32).to_ne_bytes()
    }
}

const FIN: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
/// The first of them (RFC 7692, section 6).
const COMPRESSED: u8 = 0x40;
const OPCODE: u8 = 0x0F;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// Two bytes, a 64-bit length and a mask.
const MAX_HEADER_BYTES: usize = 14;

#[cfg(test)]
#[path = "tests_frame.rs"]
mod tests;
