//! The file that a session is recorded in. Invariant: what was flushed can be read back wherever the file is cut behind
//! it, and what was not written whole is never taken for a message.
//!
//! | bytes | what                                                                      |
//! |-------|---------------------------------------------------------------------------|
//! | 8     | the magic: `HSREC`, two zero bytes, and the version of the format, 1      |
//! | then, for each record: |                                                          |
//! | 1     | its kind: 1 text, 2 binary, 3 a gap: a new session begins, and what the venue sent meanwhile is not here |
//! | 8     | when it was received, in nanoseconds since 1970, little endian            |
//! | 4     | the length of the payload, little endian                                  |
//! | …     | the payload, as the venue sent it, fragments joined                       |
//! | 4     | CRC-32 (ISO-HDLC) of all of the record before it, little endian           |

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::frames::Opcode;

const MAGIC: [u8; 8] = *b"HSREC\0\0\x01";
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const GAP: u8 = 3;
/// Kind, time and length.
const HEAD_BYTES: usize = 13;
const CRC_BYTES: usize = 4;

/// Writes messages into a file that [`Recording::load`](super::Recording::load) reads. What it has been given is in the file after
/// [`flush`](Self::flush); a file that ends early, by a crash or a full disk, is read up to there.
pub struct RecordingWriter {
    out: BufWriter<File>,
    record: Vec<u8>,
    messages: u64,
}

impl std::fmt::Debug for RecordingWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingWriter").field("messages", &self.messages).finish_non_exhaustive()
    }
}

impl RecordingWriter {
    /// Begins a new file.
    ///
    /// # Errors
    /// Where the file cannot be made; [`AlreadyExists`](io::ErrorKind::AlreadyExists) where it is there: no recording is
    /// ever written over.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::create_new(path)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        out.write_all(&MAGIC)?;
        out.flush()?;
        Ok(Self { out, record: Vec::new(), messages: 0 })
    }

    /// Adds a text message, received at this time in nanoseconds since 1970.
    ///
    /// # Errors
    /// Those of the file; [`InvalidInput`](io::ErrorKind::InvalidInput) for 4 GiB or more.
    pub fn text(&mut self, received_unix_ns: u64, text: &str) -> io::Result<()> {
        self.write(TEXT, received_unix_ns, text.as_bytes())
    }

    /// Adds a binary message, as [`text`](Self::text) does.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn binary(&mut self, received_unix_ns: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(BINARY, received_unix_ns, bytes)
    }

    /// Notes that a new session begins at this time, and that messages may be missing before it.
    ///
    /// # Errors
    /// Those of the file.
    pub fn gap(&mut self, began_unix_ns: u64) -> io::Result<()> {
        self.write(GAP, began_unix_ns, &[])
    }

    /// How many messages it has been given.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Hands all to the operating system: from here on it survives us.
    ///
    /// # Errors
    /// Those of the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The same, and waits until the disk has it: from here on it survives the host.
    ///
    /// # Errors
    /// Those of the file.
    pub fn sync(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()
    }

    fn write(&mut self, kind: u8, unix_ns: u64, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a message of 4 GiB or more"))?;
        // In one piece, so that a full buffer is written out between records wherever it can be.
        self.record.clear();
        self.record.push(kind);
        self.record.extend_from_slice(&unix_ns.to_le_bytes());
        self.record.extend_from_slice(&length.to_le_bytes());
        self.record.extend_from_slice(payload);
        let crc = crc32fast::hash(&self.record);
        self.record.extend_from_slice(&crc.to_le_bytes());
        self.out.write_all(&self.record)?;
        self.messages += u64::from(kind != GAP);
        Ok(())
    }
}

const BUFFER_BYTES: usize = 256 * 1024;

/// What a file holds.
#[derive(Default)]
pub(super) struct Recorded {
    /// With the times at which they were received.
    pub(super) messages: Vec<((Opcode, Vec<u8>), u64)>,
    /// The index of the first message behind each gap.
    pub(super) gaps: Vec<usize>,
    pub(super) cut: Option<Cut>,
}

/// Where a file that was not written to its end stops making sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// The file is sound before this byte.
    pub at_byte: u64,
    /// So many bytes from there on belong to no whole record, and are not replayed.
    pub bytes_behind: u64,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at_byte, bytes_behind } = self;
        write!(f, "cut or damaged at byte {at_byte}: the {bytes_behind} bytes behind it hold no whole record")
    }
}

/// What these bytes hold; `None` where they are of another format. A file that was cut within its magic is one of
/// this format, and an empty file is not.
pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<Recorded>> {
    let shared = bytes.len().min(MAGIC.len());
    let (known, version) = (&MAGIC[..shared.min(MAGIC.len() - 1)], MAGIC.len() - 1);
    if shared == 0 || !bytes.starts_with(known) {
        return Ok(None);
    }
    match bytes.get(version) {
        Some(&wrong) if wrong != MAGIC[version] => {
            let what =
                format!("version {wrong} of the recording format: this program reads version {}", MAGIC[version]);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        _ => {}
    }
    let mut recorded = Recorded::default();
    let mut rest = bytes.get(MAGIC.len()..).unwrap_or_default();
    while let Some((record, behind)) = split_record(rest) {
        match record.kind {
            GAP => recorded.gaps.push(recorded.messages.len()),
            kind => {
                let opcode = if kind == TEXT { Opcode::Text } else { Opcode::Binary };
                recorded.messages.push(((opcode, record.payload.to_vec()), record.unix_ns));
            }
        }
        rest = behind;
    }
    if !rest.is_empty() || shared < MAGIC.len() {
        recorded.cut = Some(Cut { at_byte: (bytes.len() - rest.len()) as u64, bytes_behind: rest.len() as u64 });
    }
    Ok(Some(recorded))
}

struct Record<'a> {
    kind: u8,
    unix_ns: u64,
    payload: &'a [u8],
}

/// The first record, if it is whole and sound, and what lies behind it.
fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (head, body) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let (time, length) = head[1..].split_first_chunk::<8>()?;
    let length = u32::from_le_bytes(*length.first_chunk::<4>()?) as usize;
    let payload = body.get(..length)?;
    let (crc, behind) = body[length..].split_first_chunk::<CRC_BYTES>()?;
    let (kind, written) = (head[0], u32::from_le_bytes(*crc));
    let is_text = || std::str::from_utf8(payload).is_ok();
    let is_sound = crc32fast::hash(&bytes[..HEAD_BYTES + length]) == written
        && match kind {
            TEXT => is_text(),
            BINARY => true,
            GAP => length == 0,
            _ => false,
        };
    is_sound.then_some((Record { kind, unix_ns: u64::from_le_bytes(*time), payload }, behind))
}
