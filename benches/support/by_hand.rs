//! Frames for the benches, and the parser written by hand that others are held against.
#![allow(dead_code)] // each bench takes its own part of the support

use std::io::{self, Read};

/// What one read brings at most.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// What each read brings: whole frames of texts of this length, in JSON's letters.
pub(crate) struct Feed {
    pub(crate) read: Vec<u8>,
    pub(crate) frames: usize,
}

impl Feed {
    /// As many frames a read as fit into so many bytes, and at least one.
    pub(crate) fn new(text_bytes: usize, read_bytes: usize) -> Self {
        let text: Vec<u8> =
            br#"{"s":"BTC","b":"95123.10","B":"3.20"},"#.iter().copied().cycle().take(text_bytes).collect();
        let mut frame = vec![0x81];
        match u8::try_from(text_bytes) {
            Ok(short) if short < 126 => frame.push(short),
            _ => {
                frame.push(126);
                frame.extend_from_slice(&u16::try_from(text_bytes).expect("a bench's message is short").to_be_bytes());
            }
        }
        frame.extend_from_slice(&text);
        let frames = (read_bytes / frame.len()).max(1);
        Self { read: frame.repeat(frames), frames }
    }
}

/// What a raw reader has read and not yet taken.
pub(crate) struct Intake {
    buffer: Vec<u8>,
    filled: usize,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; 2 * READ_BYTES], filled: 0 }
    }

    /// Reads once, and takes what is whole; false where there is nothing to read now.
    pub(crate) fn read(&mut self, source: &mut impl Read, on_text: impl FnMut(&str)) -> io::Result<bool> {
        match source.read(&mut self.buffer[self.filled..self.filled + READ_BYTES]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        let taken = take_frames(&self.buffer[..self.filled], on_text);
        self.buffer.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        Ok(true)
    }
}

/// Gives every whole text frame of up to 64 KiB at the front of `bytes` to `on_text`, with all that cannot be left out: the header, the
/// bounds, and whether it is UTF-8. How many bytes they were.
pub(crate) fn take_frames(bytes: &[u8], mut on_text: impl FnMut(&str)) -> usize {
    let mut rest = bytes;
    while let [0x81, length, behind @ ..] = rest {
        let (length, behind) = match (length, behind) {
            (0..=125, _) => (usize::from(*length), behind),
            (126, [high, low, behind @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), behind),
            _ => break,
        };
        let Some((payload, behind)) = behind.split_at_checked(length) else { break };
        on_text(simdutf8::basic::from_utf8(payload).expect("it is JSON"));
        rest = behind;
    }
    bytes.len() - rest.len()
}
