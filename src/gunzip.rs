//! Gzip in binary messages, as some venues send it (HTX): RFC 1952, over memory that is used again. Invariant: nothing beyond the limit is
//! inflated, and what the checksum does not cover is not handed out.

use std::fmt::{self, Debug};

use flate2::{Crc, Decompress, FlushDecompress, Status};

use crate::error::{HyperSocketError, Result};

/// Inflates gzip messages one after the other (RFC 1952; feature `deflate`), without an allocation a message once it has grown to a feed's
/// size. Routers have one in their [`Scratch`](crate::Scratch::gunzip); this is for whoever needs one elsewhere, such as a
/// [`PassivePingDetector`](crate::PassivePingDetector).
///
/// ```
/// let hello = [
///     0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0,
/// ];
/// let mut gunzip = hypersockets::Gunzip::default();
/// assert_eq!(gunzip.inflate(&hello, 1024)?, b"hello");
/// # Ok::<(), hypersockets::HyperSocketError>(())
/// ```
pub struct Gunzip {
    stream: Decompress,
    inflated: Vec<u8>,
}

impl Default for Gunzip {
    fn default() -> Self {
        Self { stream: Decompress::new(false), inflated: Vec::new() }
    }
}

impl Gunzip {
    /// The message in `gzip`, which must be one gzip member and nothing else.
    ///
    /// # Errors
    /// [`Parse`](HyperSocketError::Parse) where it is none, is cut, fails its checksum, or would become larger than `limit_bytes`.
    pub fn inflate(&mut self, gzip: &[u8], limit_bytes: usize) -> Result<&[u8]> {
        let mut rest = body(gzip)?;
        self.stream.reset(false);
        self.inflated.clear();
        loop {
            if self.inflated.len() == self.inflated.capacity() {
                let room = self.inflated.len().max(LEAST_ROOM);
                // One byte beyond the limit tells that there is more.
                self.inflated.reserve_exact(room.min((limit_bytes - self.inflated.len()).saturating_add(1)));
            }
            let (taken, had) = (self.stream.total_in(), self.inflated.len());
            let status = self.stream.decompress_vec(rest, &mut self.inflated, FlushDecompress::None);
            let taken = (self.stream.total_in() - taken) as usize;
            rest = &rest[taken..];
            if self.inflated.len() > limit_bytes {
                return refuse("it becomes larger than the limit");
            }
            match status {
                Ok(Status::StreamEnd) => break,
                Ok(_) if taken > 0 || self.inflated.len() > had => {}
                Ok(_) => return refuse("it is cut"),
                Err(_) => return refuse("it is no deflate stream"),
            }
        }
        let Ok(trailer) = <[u8; 8]>::try_from(rest) else { return refuse("it is cut, or something follows") };
        let [a, b, c, d, length @ ..] = trailer;
        let mut crc = Crc::new();
        crc.update(&self.inflated);
        let is_whole = crc.sum() == u32::from_le_bytes([a, b, c, d]) && crc.amount() == u32::from_le_bytes(length);
        if is_whole { Ok(&self.inflated) } else { refuse("its checksum is another") }
    }
}

impl Debug for Gunzip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gunzip").field("bytes", &self.inflated.capacity()).finish_non_exhaustive()
    }
}

/// What lies behind the header: RFC 1952, section 2.3.
fn body(gzip: &[u8]) -> Result<&[u8]> {
    let &[0x1F, 0x8B, 8, flags, _, _, _, _, _, _, ref rest @ ..] = gzip else {
        return refuse("it does not begin like one");
    };
    let mut rest = rest;
    if flags & EXTRA != 0 {
        let length = rest.first_chunk().map(|&length| usize::from(u16::from_le_bytes(length)));
        rest = length.and_then(|length| rest.get(2 + length..)).unwrap_or_default();
    }
    for named in [NAME, COMMENT] {
        if flags & named != 0 {
            let end = rest.iter().position(|&byte| byte == 0);
            rest = end.map(|end| &rest[end + 1..]).unwrap_or_default();
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..).unwrap_or_default();
    }
    if flags & RESERVED != 0 { refuse("its header has a flag that there is not") } else { Ok(rest) }
}

fn refuse<T>(what: &str) -> Result<T> {
    Err(HyperSocketError::Parse(format!("a gzip message: {what}")))
}

const HEADER_CRC: u8 = 0x02;
const EXTRA: u8 = 0x04;
const NAME: u8 = 0x08;
const COMMENT: u8 = 0x10;
const RESERVED: u8 = 0xE0;
/// Most messages of a feed fit.
const LEAST_ROOM: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};

    use super::*;

    fn gzip(builder: GzBuilder, text: &[u8]) -> Vec<u8> {
        let mut encoder = builder.write(Vec::new(), Compression::fast());
        encoder.write_all(text).and_then(|()| encoder.finish()).expect("into memory")
    }

    #[test]
    fn messages_with_any_header_come_out_one_after_the_other() {
        let mut gunzip = Gunzip::default();
        let large: Vec<u8> = (0..300_000_u64).map(|at| (at * at % 251) as u8).collect();
        let texts: [&[u8]; 4] = [b"", b"{\"ping\":1}", &large, b"behind a large one"];
        for text in texts {
            let builders = [
                GzBuilder::new(),
                GzBuilder::new().filename("name").comment("comment").mtime(7),
                GzBuilder::new().extra(vec![1, 2, 3]).filename(""),
            ];
            for builder in builders {
                assert_eq!(gunzip.inflate(&gzip(builder, text), 1 << 20).expect("lawful"), text);
            }
        }
    }

    #[test]
    fn what_is_cut_damaged_or_too_large_is_an_error_and_leaves_no_trace() {
        let mut gunzip = Gunzip::default();
        let whole = gzip(GzBuilder::new().filename("n"), b"a message, a message, a message");
        for cut in 0..whole.len() {
            assert!(gunzip.inflate(&whole[..cut], 1 << 20).is_err(), "cut at {cut}");
        }
        for at in (0..whole.len()).filter(|at| !(4..12).contains(at)) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            assert!(gunzip.inflate(&damaged, 1 << 20).is_err(), "damaged at {at}");
        }
        assert!(gunzip.inflate(&[whole.clone(), vec![0]].concat(), 1 << 20).is_err(), "something follows");
        assert!(gunzip.inflate(&whole, 30).is_err() && gunzip.inflate(&whole, 31).is_ok());
        let bomb = gzip(GzBuilder::new(), &vec![0; 50 << 20]);
        assert!(Gunzip::default().inflate(&bomb, 1 << 16).is_err());
    }
}
