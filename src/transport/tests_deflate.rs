//! Compressed messages among others, lawful and broken: what comes out must be what went in, or the right Close.

use flate2::{Compress, FlushCompress};

use super::super::deflate::Compression;
use super::tests_reference::{compare_inflated, frame, unmasked};
use super::*;
use crate::tests_random::Random;

/// The venue's end.
struct Venue {
    stream: Compress,
    keeps_window: bool,
}

impl Venue {
    fn new(keeps_window: bool) -> Self {
        Self { stream: Compress::new(flate2::Compression::fast(), false), keeps_window }
    }

    fn deflated(&mut self, payload: &[u8]) -> Vec<u8> {
        // Fixed codes, as fast compressors use them, may take nine bits a byte.
        let mut out = Vec::with_capacity(payload.len() / 8 * 9 + 1024);
        self.stream.compress_vec(payload, &mut out, FlushCompress::Sync).expect("room for all");
        if !self.keeps_window {
            self.stream.reset();
        }
        out.truncate(out.len() - 4);
        out
    }
}

/// One client session, fed by hand.
struct Session {
    socket: WebSocket,
    input: ReceiveBuffer,
    out: WriteBuffer,
    seen: Vec<Vec<u8>>,
}

impl Session {
    fn new(keeps_window: bool, max_message_bytes: u64) -> Self {
        let answer = if keeps_window { "permessage-deflate" } else { "permessage-deflate; server_no_context_takeover" };
        let agreed = Compression::deflate().threshold_bytes(1).judge(answer).expect("a lawful answer");
        let limits = Limits { max_message_bytes, ..Limits::default() };
        let socket = WebSocket::new(limits, Some(&agreed));
        Self { socket, input: ReceiveBuffer::default(), out: WriteBuffer::default(), seen: Vec::new() }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<ReadOutcome, DisconnectReason> {
        self.input.append(bytes);
        let seen = &mut self.seen;
        self.socket.read(&mut self.input, &mut self.out, |incoming, _, _| {
            if let Incoming::Message(message) | Incoming::Inflated(message, _) = incoming {
                seen.push(message.as_bytes().to_vec());
            }
        })
    }

    #[track_caller]
    fn fails(&mut self, bytes: &[u8], code: u16) -> DisconnectReason {
        let reason = self.feed(bytes).expect_err("it is broken");
        assert_eq!(unmasked(self.out.pending()).last(), Some(&(0x88, code.to_be_bytes().to_vec())));
        reason
    }
}

const LIMIT: u64 = 1 << 20;

#[test]
fn random_messages_compressed_or_not_whole_or_in_fragments_come_out_as_they_went_in_at_any_cut() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let keeps_window = random.one_in(2);
        let (mut venue, mut session) = (Venue::new(keeps_window), Session::new(keeps_window, LIMIT));
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for number in 0..random.below(40) {
            let words = ["price", "{\"bid\":", "61000.1", ",", "é", "😀", "0000"];
            let length = if random.one_in(15) { 5_000 } else { random.below(60) };
            let text: String = (0..length).map(|_| words[random.index(words.len())]).collect();
            let text = format!("{number} {text}");
            let compressed = !random.one_in(4);
            let payload = if compressed { venue.deflated(text.as_bytes()) } else { text.clone().into_bytes() };
            let first = 0x01 | if compressed { 0x40 } else { 0 };
            let fragments = 1 + random.index(4);
            for fragment in 0..fragments {
                let (start, end) = (payload.len() * fragment / fragments, payload.len() * (fragment + 1) / fragments);
                let fin = if fragment + 1 == fragments { 0x80 } else { 0 };
                let opcode = if fragment == 0 { first } else { 0 };
                stream.extend(frame(fin | opcode, &payload[start..end]));
                if random.one_in(5) {
                    stream.extend(frame(0x89, "between"));
                }
            }
            expected.push(text.into_bytes());
        }
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at((1 + random.index(700)).min(rest.len()));
            assert_eq!(session.feed(piece), Ok(ReadOutcome::Open), "seed {seed}");
            rest = later;
        }
        assert!(session.seen == expected, "seed {seed}");
        assert!(session.input.is_empty());
    }
}

/// A few messages, nearly all lawful, and the pieces that they come in.
fn stream(random: &mut Random, keeps_window: bool) -> Vec<u8> {
    let mut venue = Venue::new(keeps_window);
    let mut stream = Vec::new();
    for _ in 0..random.below(12) {
        let length = if random.one_in(10) { random.below(2_000) } else { random.below(50) };
        let alphabet = if random.one_in(4) { 256 } else { 3 };
        let payload: Vec<u8> = (0..=length).map(|_| b'a'.wrapping_add(random.below(alphabet) as u8)).collect();
        let opcode = 1 + u8::from(random.one_in(3));
        let compressed = !random.one_in(4);
        let wire = if compressed { venue.deflated(&payload) } else { payload };
        let mut first = opcode | if compressed { 0x40 } else { 0 };
        let mut rest = wire.as_slice();
        while random.one_in(3) {
            let (part, behind) = rest.split_at(random.index(rest.len() + 1));
            stream.extend(frame(first, part));
            if random.one_in(3) {
                stream.extend(frame(0x89, "between"));
            }
            (first, rest) = (0, behind);
        }
        stream.extend(frame(0x80 | first, rest));
    }
    for _ in 0..random.below(3) * u64::from(!stream.is_empty()) {
        let at = random.index(stream.len());
        match random.below(4) {
            0 => stream[at] ^= 1 << random.below(8),
            1 => stream[at] = random.below(256) as u8,
            2 => stream.insert(at, random.below(256) as u8),
            _ => stream.truncate(at.max(1)),
        }
    }
    stream
}

fn walk(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut random = Random(seed);
        let keeps_window = random.one_in(2);
        let stream = stream(&mut random, keeps_window);
        let limit = [60, 1_000, 1 << 20][random.index(3)];
        let longest = [1, 3, 20, 500, 100_000][random.index(5)].max(stream.len() / 300);
        let (mut pieces, mut rest) = (Vec::new(), stream.as_slice());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + random.index(longest)).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        compare_inflated(&stream, &pieces, limit, keeps_window, seed);
    }
}

#[test]
fn random_streams_read_as_a_naive_walk_and_tungstenite_read_them() {
    walk(0..3_000);
}

/// Run in release: `cargo test --release --lib -- --ignored random_streams`.
#[test]
#[ignore = "a million streams: for release builds"]
fn a_million_random_streams_read_as_a_naive_walk_and_tungstenite_read_them() {
    walk(3_000..1_003_000);
}

#[test]
fn the_bit_is_a_violation_where_it_says_nothing_and_where_nothing_was_agreed() {
    let hello = Venue::new(true).deflated(b"Hello");
    let fragment = [frame(0x41, &hello[..2]), frame(0xC0, &hello[2..])].concat();
    for broken in [frame(0xC9, "ping"), frame(0xC0, &hello), fragment, frame(0xA1, "two"), frame(0xE1, &hello)] {
        let reason = Session::new(true, LIMIT).fails(&broken, 1002);
        assert!(matches!(reason, DisconnectReason::ProtocolViolation(_)), "{reason:?}");
    }
    let mut plain = WebSocket::new(Limits::default(), None);
    let mut input = ReceiveBuffer::default();
    input.append(&frame(0xC1, &hello));
    let outcome = plain.read(&mut input, &mut WriteBuffer::default(), |_, _, _| panic!("nothing is lawful"));
    assert_eq!(outcome, Err(DisconnectReason::ProtocolViolation("reserved bit set".to_owned())));
}

#[test]
fn what_came_before_a_broken_message_is_delivered_and_nothing_behind_it() {
    let mut venue = Venue::new(true);
    let before = frame(0xC1, venue.deflated(b"before"));
    let behind = frame(0x81, "behind");
    let mut session = Session::new(true, LIMIT);
    session.fails(&[before, frame(0xC1, [0xFF; 20]), behind].concat(), 1002);
    assert_eq!(session.seen, [b"before"]);
}

#[test]
fn utf_8_is_judged_once_inflated() {
    let broken = Venue::new(true).deflated(b"\xC3\x28");
    assert_eq!(Session::new(true, LIMIT).fails(&frame(0xC1, &broken), 1007), DisconnectReason::InvalidUtf8);
    let mut session = Session::new(true, LIMIT);
    let mut venue = Venue::new(true);
    let binary = frame(0xC2, venue.deflated(b"\xC3\x28"));
    assert_eq!(session.feed(&binary), Ok(ReadOutcome::Open));
    // Compressed bytes that are no UTF-8 themselves, and have not all come.
    let text = frame(0xC1, venue.deflated("é😀".repeat(50).as_bytes()));
    for byte in &text {
        assert_eq!(session.feed(&[*byte]), Ok(ReadOutcome::Open));
    }
    assert_eq!(session.seen.len(), 2);
}

#[test]
fn a_bomb_ends_at_the_limit_whole_or_in_fragments() {
    let bomb = Venue::new(true).deflated(&vec![b'a'; 64 << 20]);
    assert!((bomb.len() as u64) < LIMIT);
    let (first, second) = bomb.split_at(bomb.len() / 2);
    for frames in [frame(0xC1, &bomb), [frame(0x41, first), frame(0x80, second)].concat()] {
        let reason = Session::new(true, LIMIT).fails(&frames, 1009);
        assert_eq!(reason, DisconnectReason::TooLarge { claimed_bytes: LIMIT + 1, limit_bytes: LIMIT });
    }
}

/// zlib's fixed codes, and the stored blocks of a compressor that never has more than a hundred bytes in hand.
#[test]
fn the_limit_is_of_the_inflated_message_also_where_compression_makes_it_longer() {
    let mut random = Random(7);
    let noise: Vec<u8> = (0..LIMIT).map(|_| random.below(256) as u8).collect();
    let zlibs = Venue::new(true).deflated(&noise);
    let blocks = noise.chunks(100).flat_map(|block| {
        let length = block.len() as u16;
        [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), block].concat()
    });
    let small_blocks: Vec<u8> = blocks.chain([0]).collect();
    for longer in [zlibs, small_blocks] {
        assert!(longer.len() as u64 > LIMIT);
        let mut session = Session::new(true, LIMIT);
        assert_eq!(session.feed(&frame(0xC2, &longer)), Ok(ReadOutcome::Open));
        assert!(session.seen == [noise.as_slice()]);
        // Not so for one that is not compressed, and behind a bound it is of no use to wait for the rest.
        for header in [frame(0x82, &longer), frame(0xC2, vec![0; LIMIT as usize * 9 / 8 + 1025])] {
            let reason = Session::new(true, LIMIT).fails(&header[..10], 1009);
            assert!(matches!(reason, DisconnectReason::TooLarge { limit_bytes: LIMIT, .. }), "{reason:?}");
        }
    }
}

#[test]
fn what_we_send_is_compressed_from_the_threshold_on_and_control_frames_never() {
    let agreed = Compression::deflate().threshold_bytes(20).judge("permessage-deflate").expect("lawful");
    let mut socket = WebSocket::new(Limits::default(), Some(&agreed));
    let mut out = WriteBuffer::default();
    let mut writer = socket.writer(&mut out);
    assert!(writer.send(&WsMessage::text("short")));
    assert!(writer.send(&WsMessage::text("long enough, long enough, long enough")));
    assert!(writer.ping(&[b'p'; 100]));
    let frames = unmasked(out.pending());
    assert_eq!(frames.iter().map(|(first, _)| *first).collect::<Vec<_>>(), [0x81, 0xC1, 0x89]);
    assert!(frames[1].1.len() < 37);
    let mut session = Session::new(true, LIMIT);
    assert_eq!(session.feed(&frame(0xC1, &frames[1].1)), Ok(ReadOutcome::Open));
    assert_eq!(session.seen, [b"long enough, long enough, long enough"]);
}
