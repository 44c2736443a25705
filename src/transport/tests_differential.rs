//! Random streams, lawful and broken, against tungstenite alone.

use super::tests::close_frame;
use super::tests_reference::{compare, frame};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) >> 16) as usize % bound
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn text(&mut self, len: usize) -> Vec<u8> {
        let pieces = ["a", "~", "é", "€", "😀", "\u{7ff}", "\u{ffff}", "{\"price\":\"1.5\"}"];
        (0..len).flat_map(|_| pieces[self.below(pieces.len())].bytes()).collect()
    }

    fn payload(&mut self, text: bool) -> Vec<u8> {
        let len = match self.below(20) {
            0 => 0,
            1 => 126 + self.below(200),
            2 if self.one_in(20) => 65_500 + self.below(100),
            2 => self.below(1_500),
            _ => self.below(40),
        };
        if text { self.text(len) } else { (0..len).map(|_| self.below(256) as u8).collect() }
    }

    /// A few frames, nearly all lawful.
    fn stream(&mut self) -> Vec<u8> {
        let mut stream = Vec::new();
        for _ in 0..self.below(12) {
            match self.below(10) {
                0 => stream.extend(frame(0x89, self.text(5))),
                1 => stream.extend(frame(0x8A, self.text(3))),
                2 if self.one_in(3) => {
                    let codes = [1000, 1001, 1005, 1006, 1012, 1016, 3000, 4999, 5000, 999, 1002];
                    stream.extend(match self.below(8) {
                        0 => frame(0x88, []),
                        1 => frame(0x88, [3]),
                        2 => frame(0x88, b"\x03\xE8\xFF"),
                        _ => close_frame(codes[self.below(codes.len())], "bye"),
                    });
                }
                2..=4 => {
                    let text = self.one_in(2);
                    let whole = self.payload(text);
                    let mut first = if text { 1 } else { 2 };
                    let mut rest = &whole[..];
                    for _ in 0..self.below(4) {
                        // Anywhere, so also in the middle of a character.
                        let (part, after) = rest.split_at(self.below(rest.len() + 1));
                        stream.extend(frame(first, part));
                        if self.one_in(3) {
                            stream.extend(frame(0x89, self.text(2)));
                        }
                        (first, rest) = (0, after);
                    }
                    stream.extend(frame(0x80 | first, rest));
                }
                5..=7 => stream.extend(frame(0x81, self.payload(true))),
                _ => stream.extend(frame(0x82, self.payload(false))),
            }
        }
        if self.one_in(2) && !stream.is_empty() {
            for _ in 0..1 + self.below(3) {
                let at = self.below(stream.len());
                match self.below(4) {
                    0 => stream[at] ^= 1 << self.below(8),
                    1 => stream[at] = self.below(256) as u8,
                    2 => stream.insert(at, self.below(256) as u8),
                    _ => stream.truncate(at.max(1)),
                }
            }
        }
        stream
    }

    fn cuts<'a>(&mut self, mut stream: &'a [u8]) -> Vec<&'a [u8]> {
        // Byte by byte only where that is quick.
        let longest = [1, 3, 20, 500, 100_000][self.below(5)].max(stream.len() / 300);
        let mut pieces = Vec::new();
        while !stream.is_empty() {
            let (piece, rest) = stream.split_at((1 + self.below(longest)).min(stream.len()));
            pieces.push(piece);
            stream = rest;
        }
        pieces
    }
}

fn walk(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut random = Random(seed.wrapping_mul(0x0100_0000_01B3));
        let stream = random.stream();
        let limit = [60, 1_000, 1 << 20][random.below(3)];
        let pieces = random.cuts(&stream);
        compare(&stream, &pieces, limit, seed);
    }
}

#[test]
fn random_streams_read_as_tungstenite_alone_reads_them() {
    walk(0..3_000);
}

/// Run in release: `cargo test --release --lib -- --ignored random_streams`, half a minute.
#[test]
#[ignore = "a million streams: for release builds"]
fn a_million_random_streams_read_as_tungstenite_alone_reads_them() {
    walk(3_000..1_003_000);
}
