//! One connection's inflater and deflater. Invariants: memory follows what was inflated, and never goes beyond the limit by more than a
//! byte; buffers are reused from message to message.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Agreed, MAX_BITS};
use crate::clock;

/// Inflates the venue's messages, one at a time, piece by piece.
pub(crate) struct Inflater {
    stream: Decompress,
    keeps_window: bool,
    message: Vec<u8>,
    limit_bytes: usize,
    /// Messages in a row that needed little of the buffer.
    small: u32,
    /// What the message at hand has taken since the read at hand, where that is measured.
    took_ns: Option<u64>,
}

/// Why a message cannot be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InflateFault {
    /// It is no deflate stream (RFC 1951).
    Broken,
    /// It becomes larger than the limit.
    TooLarge {
        /// What it had become.
        inflated_bytes: u64,
    },
}

impl Inflater {
    pub(crate) fn new(agreed: &Agreed, limit_bytes: u64) -> Self {
        Self {
            // The largest window reads what any other has written.
            stream: Decompress::new_with_window_bits(false, MAX_BITS),
            keeps_window: agreed.server_keeps_window,
            message: Vec::new(),
            limit_bytes: usize::try_from(limit_bytes).unwrap_or(usize::MAX),
            small: 0,
            took_ns: None,
        }
    }

    /// From now on it is looked at the clock before and behind each piece.
    pub(crate) fn measure(&mut self) {
        self.took_ns = Some(0);
    }

    /// What comes next came with another read.
    pub(crate) fn read_begins(&mut self) {
        self.took_ns = self.took_ns.map(|_| 0);
    }

    /// A message begins.
    pub(crate) fn begin(&mut self) {
        self.message.clear();
        self.took_ns = self.took_ns.map(|_| 0);
    }

    /// Takes a piece of the message, perhaps the last one, behind which the message is whole.
    pub(crate) fn push(&mut self, piece: &[u8], is_last: bool) -> Result<(), InflateFault> {
        let began_ns = self.took_ns.map(|_| clock::stamp_ns());
        self.inflate(piece)?;
        if is_last {
            // What the sender cut off its end is put back (RFC 7692, section 7.2.2).
            self.inflate(&TAIL)?;
            if !self.keeps_window {
                self.stream.reset(false);
            }
        }
        if let (Some(took_ns), Some(began_ns)) = (&mut self.took_ns, began_ns) {
            *took_ns += clock::stamp_ns().saturating_sub(began_ns);
        }
        Ok(())
    }

    fn inflate(&mut self, mut piece: &[u8]) -> Result<(), InflateFault> {
        loop {
            if self.message.len() == self.message.capacity() {
                let room = self.message.len().clamp(LEAST_ROOM, MOST_ROOM);
                // One byte beyond the limit tells that there is more.
                self.message.reserve_exact(room.min((self.limit_bytes - self.message.len()).saturating_add(1)));
            }
            let (taken, had) = (self.stream.total_in(), self.message.len());
            let status = self.stream.decompress_vec(piece, &mut self.message, FlushDecompress::None);
            let taken = (self.stream.total_in() - taken) as usize;
            piece = &piece[taken..];
            if self.message.len() > self.limit_bytes {
                return Err(InflateFault::TooLarge { inflated_bytes: self.message.len() as u64 });
            }
            match status {
                Err(_) => return Err(InflateFault::Broken),
                // A last block ends a stream, and another may follow within the message (RFC 7692, section 7.2.3.4).
                Ok(Status::StreamEnd) => self.stream.reset(false),
                Ok(_) if taken == 0 && self.message.len() == had && !piece.is_empty() => {
                    return Err(InflateFault::Broken);
                }
                Ok(_) => {}
            }
            if piece.is_empty() && self.message.len() < self.message.capacity() {
                return Ok(());
            }
        }
    }

    /// What the message has become so far.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    /// How long it took to inflate what the read at hand brought of the message, where that is measured.
    pub(crate) fn took_ns(&self) -> Option<u64> {
        self.took_ns
    }

    /// The message was handed on: gives memory back that was needed once and has not been for long.
    pub(crate) fn handed_on(&mut self) {
        let is_small = self.message.capacity() > KEEP && self.message.len() < self.message.capacity() / 8;
        self.small = if is_small { self.small + 1 } else { 0 };
        if self.small >= PATIENCE {
            self.message = Vec::new();
            self.small = 0;
        }
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("keeps_window", &self.keeps_window).finish_non_exhaustive()
    }
}

/// Deflates our messages.
pub(crate) struct Deflater {
    /// Made for the first message that is compressed: it is large, and many clients only listen.
    stream: Option<Compress>,
    level: u32,
    window_bits: u8,
    keeps_window: bool,
    threshold_bytes: usize,
    message: Vec<u8>,
}

impl Deflater {
    /// `None` where nothing of ours can be compressed as was agreed: zlib has no window of 8 bits. What is not compressed is lawful, too.
    pub(crate) fn new(agreed: &Agreed) -> Option<Self> {
        let bits = agreed.client_window_bits;
        (bits > 8).then(|| Self {
            stream: None,
            level: agreed.level,
            window_bits: bits,
            keeps_window: agreed.client_keeps_window,
            threshold_bytes: agreed.threshold_bytes.max(1),
            message: Vec::new(),
        })
    }

    /// The payload compressed; `None` where it is to go as it is.
    pub(crate) fn deflate(&mut self, payload: &[u8]) -> Option<&[u8]> {
        if payload.len() < self.threshold_bytes {
            return None;
        }
        let (level, bits) = (flate2::Compression::new(self.level), self.window_bits);
        let stream = self.stream.get_or_insert_with(|| Compress::new_with_window_bits(level, false, bits));
        self.message.clear();
        let mut rest = payload;
        loop {
            if self.message.capacity() - self.message.len() < TAIL.len() * 2 {
                self.message.reserve(payload.len() / 2 + LEAST_ROOM);
            }
            let taken = stream.total_in();
            // It can only complain of having nothing to do, when all has been flushed.
            let _ = stream.compress_vec(rest, &mut self.message, FlushCompress::Sync);
            rest = &rest[(stream.total_in() - taken) as usize..];
            if rest.is_empty() && self.message.len() < self.message.capacity() {
                break;
            }
        }
        if !self.keeps_window {
            stream.reset();
        }
        Some(self.message.strip_suffix(&TAIL).unwrap_or(&self.message))
    }
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater").field("keeps_window", &self.keeps_window).finish_non_exhaustive()
    }
}

/// An empty block without its first bits: every message would end with it (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// Most messages of a feed fit.
const LEAST_ROOM: usize = 4 * 1024;
/// A bomb's next step: doubling would take twice what it has shown.
const MOST_ROOM: usize = 4 * 1024 * 1024;
/// Memory that is kept whatever comes.
const KEEP: usize = 256 * 1024;
/// So many small messages behind a large one make it an exception.
const PATIENCE: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::super::Compression;
    use super::*;

    fn pair(compression: &Compression, answer: &str) -> (Inflater, Deflater) {
        let agreed = compression.judge(answer).expect("a lawful answer");
        (Inflater::new(&agreed, 1 << 20), Deflater::new(&agreed).expect("a window that zlib has"))
    }

    fn inflated(inflater: &mut Inflater, pieces: &[&[u8]]) -> Result<Vec<u8>, InflateFault> {
        inflater.begin();
        for (at, piece) in pieces.iter().enumerate() {
            inflater.push(piece, at + 1 == pieces.len())?;
        }
        let whole = inflater.message().to_vec();
        inflater.handed_on();
        Ok(whole)
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7692, section 7.2.3.
        let (mut inflater, _) = pair(&Compression::deflate(), "permessage-deflate");
        let hello = Ok(b"Hello".to_vec());
        assert_eq!(inflated(&mut inflater, &[&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]]), hello);
        assert_eq!(
            inflated(&mut inflater, &[&[0xf2, 0x00, 0x11, 0x00, 0x00]]),
            hello,
            "by the window of the one before"
        );
        assert_eq!(
            inflated(&mut inflater, &[&[0xf2, 0x48, 0xcd], &[], &[0xc9, 0xc9, 0x07, 0x00]]),
            hello,
            "in fragments"
        );
        let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        assert_eq!(inflated(&mut inflater, &[&stored]), hello);
        let last_block = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        assert_eq!(inflated(&mut inflater, &[&last_block]), hello);
        let two_blocks = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(inflated(&mut inflater, &[&two_blocks]), hello);
        assert_eq!(inflated(&mut inflater, &[&[0x00]]), Ok(Vec::new()), "an empty message");
    }

    #[test]
    fn what_is_deflated_inflates_to_the_same_with_each_window_and_with_and_without_keeping_it() {
        for bits in 9..=15_u8 {
            for answer in
                ["permessage-deflate", "permessage-deflate; server_no_context_takeover; client_no_context_takeover"]
            {
                let compression = Compression::deflate().client_max_window_bits(bits).threshold_bytes(0);
                let (mut inflater, mut deflater) = pair(&compression, answer);
                for length in [1, 2, 100, 4_096, 70_000, 300, 1_000_000] {
                    let message: Vec<u8> = (0..length).map(|at: u64| (at * at % 251 / 9) as u8).collect();
                    let deflated = deflater.deflate(&message).expect("above the threshold").to_vec();
                    let cut = deflated.len() / 3;
                    let got = inflated(&mut inflater, &[&deflated[..cut], &deflated[cut..]]);
                    assert!(got.as_ref() == Ok(&message), "{bits} bits, {answer}, {length} bytes");
                }
            }
        }
    }

    #[test]
    fn a_window_of_eight_bits_is_answered_by_not_compressing() {
        let agreed = Compression::deflate().judge("permessage-deflate; client_max_window_bits=8").expect("lawful");
        assert!(Deflater::new(&agreed).is_none());
    }

    #[test]
    fn small_messages_go_as_they_are() {
        let (_, mut deflater) = pair(&Compression::deflate().threshold_bytes(100), "permessage-deflate");
        assert!(deflater.deflate(&[7; 99]).is_none() && deflater.deflate(&[7; 100]).is_some());
    }

    #[test]
    fn a_bomb_ends_at_the_limit_with_little_more_memory_than_that() {
        let (mut inflater, mut deflater) = pair(&Compression::deflate(), "permessage-deflate");
        let bomb = deflater.deflate(&vec![0; 100 << 20]).expect("above the threshold").to_vec();
        assert!(bomb.len() < 1 << 20);
        let fault = inflated(&mut inflater, &[&bomb]).expect_err("a hundred times the limit");
        assert_eq!(fault, InflateFault::TooLarge { inflated_bytes: (1 << 20) + 1 });
        assert!(inflater.message.capacity() <= (1 << 20) + 1);
    }

    #[test]
    fn a_message_of_exactly_the_limit_is_whole() {
        let (mut inflater, mut deflater) = pair(&Compression::deflate(), "permessage-deflate");
        let message = vec![7; 1 << 20];
        let deflated = deflater.deflate(&message).expect("above the threshold").to_vec();
        assert!(inflated(&mut inflater, &[&deflated]) == Ok(message));
    }

    #[test]
    fn what_is_no_deflate_stream_is_a_fault() {
        for broken in [&[0xFF; 8][..], &[0x06, 0x00], &[0x00, 0x05, 0x00, 0x00, 0x00, 1, 2, 3, 4, 5]] {
            let (mut inflater, _) = pair(&Compression::deflate(), "permessage-deflate");
            assert_eq!(inflated(&mut inflater, &[broken]), Err(InflateFault::Broken), "{broken:x?}");
        }
    }

    #[test]
    fn the_time_is_that_of_the_message_at_hand_since_the_read_at_hand_and_only_where_it_is_measured() {
        let (mut inflater, mut deflater) = pair(&Compression::deflate(), "permessage-deflate");
        let deflated = deflater.deflate(&[7; 1 << 20]).expect("above the threshold").to_vec();
        inflated(&mut inflater, &[&deflated]).expect("lawful");
        assert_eq!(inflater.took_ns(), None);
        inflater.measure();
        inflated(&mut inflater, &[&deflated]).expect("lawful");
        assert!(inflater.took_ns() > Some(0));
        inflater.read_begins();
        assert_eq!(inflater.took_ns(), Some(0));
    }

    #[test]
    fn memory_of_one_large_message_is_given_back_behind_many_small_ones() {
        let (mut inflater, mut deflater) = pair(&Compression::deflate().threshold_bytes(0), "permessage-deflate");
        for length in std::iter::once(1 << 20).chain(std::iter::repeat_n(100, PATIENCE as usize)) {
            let deflated = deflater.deflate(&vec![1; length]).expect("above the threshold").to_vec();
            inflated(&mut inflater, &[&deflated]).expect("lawful");
        }
        assert!(inflater.message.capacity() < KEEP);
    }
}
