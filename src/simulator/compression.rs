//! permessage-deflate on the venue's side (RFC 7692), by a library's streams and no code of the engine's. Invariant: what tungstenite reads
//! knows of no compression: a compressed message is put before it as the frame that it would have been.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress};

use super::frames::{self, Opcode};

/// The bit of a compressed message's first frame (RFC 7692, section 6).
const COMPRESSED: u8 = 0x40;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// What a sender cuts off the end of each message (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// What a client was answered, and the two streams that follow from it.
pub(super) struct Agreed {
    /// The value of our `Sec-WebSocket-Extensions`.
    pub(super) answer: String,
    pub(super) deflating: Deflating,
    pub(super) inflating: Inflating,
}

impl Agreed {
    /// Accepts the first offer that can be kept to; `None` where there is none.
    pub(super) fn of(offers: &str) -> Option<Self> {
        offers.split(',').find_map(Self::of_one)
    }

    fn of_one(offer: &str) -> Option<Self> {
        let mut parts = offer.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
            return None;
        }
        let mut answer = "permessage-deflate".to_owned();
        let (mut server_keeps, mut client_keeps, mut bits) = (true, true, 15);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "server_no_context_takeover" => server_keeps = false,
                "client_no_context_takeover" => client_keeps = false,
                "server_max_window_bits" => {
                    bits = value.trim_matches('"').parse().ok().filter(|bits| (9..=15).contains(bits))?;
                }
                // We read any window.
                "client_max_window_bits" => continue,
                _ => return None,
            }
            answer = format!("{answer}; {part}");
        }
        let stream = Compress::new_with_window_bits(flate2::Compression::fast(), false, bits);
        let deflating = Deflating { stream, keeps_window: server_keeps, message: Vec::new() };
        let inflating = Inflating {
            stream: Decompress::new(false),
            keeps_window: client_keeps,
            bytes: Vec::new(),
            open: None,
            is_broken: false,
        };
        Some(Agreed { answer, deflating, inflating })
    }
}

/// Compresses what the venue sends.
pub(super) struct Deflating {
    stream: Compress,
    keeps_window: bool,
    message: Vec<u8>,
}

impl Deflating {
    /// Appends one whole, compressed frame.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
        self.message.clear();
        if payload.is_empty() {
            // RFC 7692, section 7.2.3.6: there is nothing that a stream could flush.
            self.message.push(0);
        }
        let mut rest = payload;
        while !payload.is_empty() {
            self.message.reserve(rest.len() / 2 + 1024);
            let taken = self.stream.total_in();
            // It can only complain of having nothing to do, when all has been flushed.
            let _ = self.stream.compress_vec(rest, &mut self.message, FlushCompress::Sync);
            rest = &rest[(self.stream.total_in() - taken) as usize..];
            if rest.is_empty() && self.message.len() < self.message.capacity() {
                break;
            }
        }
        if !self.keeps_window {
            self.stream.reset();
        }
        let first = out.len();
        frames::append(out, opcode, self.message.strip_suffix(&TAIL).unwrap_or(&self.message));
        out[first] |= COMPRESSED;
    }

    /// The same, of a frame that was encoded before.
    pub(super) fn append_frame(&mut self, out: &mut Vec<u8>, frame: &[u8]) {
        let header = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let opcode = if frame[0] & 0x0F == Opcode::Text as u8 { Opcode::Text } else { Opcode::Binary };
        self.append(out, opcode, &frame[header..]);
    }
}

/// Inflates what the client sends.
pub(super) struct Inflating {
    stream: Decompress,
    keeps_window: bool,
    /// The beginning of a frame that has not come whole.
    bytes: Vec<u8>,
    /// The opcode of the compressed message whose fragments are coming, and what they were so far.
    open: Option<(u8, Vec<u8>)>,
    /// What cannot be inflated was handed on as it was, to be blamed by whoever judges frames.
    is_broken: bool,
}

impl Inflating {
    /// Takes what the client sent, and appends to `plain` what it would have sent without compression.
    pub(super) fn translate(&mut self, bytes: &[u8], plain: &mut Vec<u8>) {
        if self.is_broken {
            return plain.extend_from_slice(bytes);
        }
        self.bytes.extend_from_slice(bytes);
        let mut waiting = std::mem::take(&mut self.bytes);
        let mut rest = waiting.as_slice();
        while let Some((frame, payload)) = whole_frame(rest) {
            rest = &rest[frame.len()..];
            let (first, is_control) = (frame[0], frame[0] & 0x08 != 0);
            let continues = first & 0x0F == 0 && self.open.is_some();
            if is_control || (first & COMPRESSED == 0 && !continues) {
                plain.extend_from_slice(frame);
                continue;
            }
            let (_, message) = self.open.get_or_insert_with(|| (first & 0x0F, Vec::new()));
            message.extend_from_slice(&payload);
            if first & FIN == 0 {
                continue;
            }
            let Some((opcode, message)) = self.open.take() else { continue };
            match self.inflated(&message) {
                Some(text) => append_masked(plain, FIN | opcode, &text),
                None => {
                    self.is_broken = true;
                    plain.extend_from_slice(frame);
                    return plain.extend_from_slice(rest);
                }
            }
        }
        waiting.drain(..waiting.len() - rest.len());
        self.bytes = waiting;
    }

    fn inflated(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(4 * message.len() + 1024);
        for mut piece in [message, &TAIL] {
            loop {
                let (taken, had) = (self.stream.total_in(), text.len());
                let status = self.stream.decompress_vec(piece, &mut text, FlushDecompress::None).ok()?;
                piece = &piece[(self.stream.total_in() - taken) as usize..];
                if status == flate2::Status::StreamEnd {
                    self.stream.reset(false);
                } else if piece.is_empty() && text.len() < text.capacity() {
                    break;
                } else if self.stream.total_in() == taken && text.len() == had && text.len() < text.capacity() {
                    return None;
                }
                text.reserve(text.len().max(1024));
            }
        }
        if !self.keeps_window {
            self.stream.reset(false);
        }
        Some(text)
    }
}

/// The frame at the front, if it is whole, and its payload without the mask. What is unmasked is left to be blamed as it is.
fn whole_frame(bytes: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let &[_, second, ref rest @ ..] = bytes else { return None };
    let (length, header) = match second & !MASKED {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let mask_len: usize = if second & MASKED == 0 { 0 } else { 4 };
    let frame = bytes.get(..(header + mask_len).checked_add(length)?)?;
    let (mask, payload) = frame[header..].split_at(mask_len);
    let unmasked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let payload = if mask.is_empty() { payload.to_vec() } else { unmasked.collect() };
    Some((frame, payload))
}

/// A whole frame as a client may send it, under a mask of zeros.
fn append_masked(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => out.push(MASKED | short),
        (_, Ok(medium)) => {
            out.push(MASKED | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}
