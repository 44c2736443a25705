//! What a venue says in one session: lawful and broken, rolled by the seed, with what must come of it.

use flate2::{Compress, FlushCompress};

use super::{MAX_MESSAGE_BYTES, ROUTES};
use crate::tests_random::Random;

/// All that a venue says in one session, rolled at its beginning.
pub(super) struct Venue {
    pub(super) wire: Vec<u8>,
    pub(super) given: usize,
    /// The messages that the user is to see: where each ends, its route and its number.
    pub(super) lawful: Vec<(usize, usize, u64)>,
    /// Where the first byte is that must not be acted on.
    pub(super) fault_at: usize,
    /// It is a login's refusal.
    pub(super) fault_is_refusal: bool,
    pub(super) ends_by_fin: bool,
    deflating: Option<Deflating>,
}

/// Where compression is offered and the venue accepts.
struct Deflating {
    stream: Compress,
    keeps_window: bool,
}

impl Venue {
    pub(super) fn new(
        random: &mut Random,
        mut acceptance: Vec<u8>,
        compression: bool,
        authenticates: bool,
        next: &mut [u64],
    ) -> Self {
        let deflating = (compression && !random.one_in(4)).then(|| Deflating::agree(random, &mut acceptance));
        let mut venue = Self {
            wire: acceptance,
            deflating,
            given: 0,
            lawful: Vec::new(),
            fault_at: usize::MAX,
            fault_is_refusal: false,
            ends_by_fin: random.one_in(2),
        };
        if random.one_in(12) {
            // Another answer to the upgrade, or a broken one.
            let at = random.index(venue.wire.len());
            match random.below(3) {
                0 => venue.wire = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n\r\n".to_vec(),
                1 => venue.wire[at] ^= 0x20 | 1 << random.below(8),
                _ => venue.wire.truncate(at),
            }
            // The flipped bit may be harmless: then nothing follows that could be handled.
            venue.fault_at = 0;
            return venue;
        }
        let items = random.below(40);
        let login_at = if authenticates { random.below(items + 3) } else { u64::MAX };
        for item in 0..items {
            if item == login_at {
                let refused = random.one_in(6);
                venue.message(random, 0x81, if refused { b"login refused" } else { b"login ok" });
                if refused {
                    venue.fault_at = venue.wire.len();
                    venue.fault_is_refusal = true;
                }
            }
            if !venue.fault_is_refusal {
                venue.item(random, next);
            }
            if venue.fault_at != usize::MAX {
                // What lies behind looks lawful.
                venue.frame(0x81, b"0 999999");
                venue.lawful.push((venue.wire.len(), 0, 999_999));
                break;
            }
        }
        if random.one_in(3) {
            // Half a frame.
            venue.wire.extend_from_slice(&[0x81, 100, b'0', b' ', b'7']);
        }
        venue
    }

    fn item(&mut self, random: &mut Random, next: &mut [u64]) {
        match random.below(100) {
            0..55 => {
                let route = random.index(ROUTES);
                let number = &mut next[route];
                *number += 1;
                let mut text = format!("{route} {number}");
                if random.one_in(8) {
                    text += &" padding".repeat(random.index(100));
                }
                self.message(random, 0x81, text.as_bytes());
                self.lawful.push((self.wire.len(), route, *number));
            }
            55..65 => self.frame(0x89, &vec![b'p'; random.index(126)]),
            65..70 => self.frame(0x8A, &random.below(9).to_be_bytes()),
            70..75 => self.message(random, 0x81, b"ping"),
            75..80 => self.message(random, 0x81, b"9 1"),
            80..85 => self.message(random, 0x81, b""),
            85..90 => self.message(random, 0x82, b"\x00\xff"),
            90..96 => {}
            _ => {
                self.fault_at = self.wire.len();
                match random.below(if self.deflating.is_some() { 13 } else { 9 }) {
                    0 => self.wire.extend_from_slice(&[0x81, 0x83, 0, 0, 0, 0, b'0', b' ', b'1']),
                    1 => self.frame(0xC1, b"0 1"),
                    2 => self.frame(0x83, b"0 1"),
                    3 => self.frame(0x80, b"0 1"),
                    4 => self.frame(0x81, b"0 1\xff"),
                    5 => self.frame(0x09, b"?"),
                    6 => self.frame(0x81, &vec![b'0'; 1 + usize::try_from(MAX_MESSAGE_BYTES).expect("it is small")]),
                    7 => self.wire.extend_from_slice(&[0x81, 127, 0x7F, 0, 0, 0, 0, 0, 0, 0]),
                    9 => self.message_compressed(random, 0xC1, b"0 1\xff"),
                    10 => self.message_compressed(random, 0xC1, &[b'0'; 100_000]),
                    11 => self.frame(0xC1, &[0xFF; 9]),
                    12 => self.frame(0xC9, b"a ping"),
                    _ => {
                        let code: u16 = [1000, 1001, 1008, 1012, 1013, 4001][random.index(6)];
                        self.frame(0x88, &code.to_be_bytes());
                    }
                }
            }
        }
    }

    /// Whole or in fragments, compressed or not.
    fn message(&mut self, random: &mut Random, first: u8, payload: &[u8]) {
        if self.deflating.is_some() && !random.one_in(4) {
            self.message_compressed(random, first | 0x40, payload);
        } else if random.one_in(5) {
            self.fragmented(random, first, payload);
        } else {
            self.frame(first, payload);
        }
    }

    fn message_compressed(&mut self, random: &mut Random, first: u8, payload: &[u8]) {
        let Some(deflating) = &mut self.deflating else { return };
        let deflated = deflating.deflated(payload);
        if random.one_in(5) { self.fragmented(random, first, &deflated) } else { self.frame(first, &deflated) }
    }

    fn fragmented(&mut self, random: &mut Random, whole: u8, mut rest: &[u8]) {
        let mut first = whole & !0x80;
        while random.one_in(2) && !rest.is_empty() {
            let cut = random.index(rest.len());
            self.frame(first, &rest[..cut]);
            (first, rest) = (0x00, &rest[cut..]);
            if random.one_in(3) {
                self.frame(0x89, b"between");
            }
        }
        self.frame(0x80 | first, rest);
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        self.wire.push(first);
        match u8::try_from(payload.len()) {
            Ok(short) if short < 126 => self.wire.push(short),
            _ => {
                self.wire.push(126);
                self.wire.extend_from_slice(&u16::try_from(payload.len()).expect("it is small").to_be_bytes());
            }
        }
        self.wire.extend_from_slice(payload);
    }
}

impl Deflating {
    /// Accepts, behind the other headers.
    fn agree(random: &mut Random, acceptance: &mut Vec<u8>) -> Self {
        let keeps_window = random.one_in(2);
        let parameter = if keeps_window { "" } else { "; server_no_context_takeover" };
        acceptance.truncate(acceptance.len() - 2);
        let answer = format!("Sec-WebSocket-Extensions: permessage-deflate{parameter}\r\n\r\n");
        acceptance.extend_from_slice(answer.as_bytes());
        Self { stream: Compress::new(flate2::Compression::fast(), false), keeps_window }
    }

    fn deflated(&mut self, payload: &[u8]) -> Vec<u8> {
        if payload.is_empty() {
            // RFC 7692, section 7.2.3.6.
            return vec![0];
        }
        let mut deflated = Vec::with_capacity(payload.len() / 8 * 9 + 100);
        self.stream.compress_vec(payload, &mut deflated, FlushCompress::Sync).expect("there is room");
        if !self.keeps_window {
            self.stream.reset();
        }
        // RFC 7692, section 7.2.1.
        deflated.truncate(deflated.len() - 4);
        deflated
    }
}
