//! Recorded messages. Invariant: one receive time per message, or none at all.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::frames::Opcode;
use super::recording_file::{self, Cut, Recorded};

/// Messages to be replayed, with or without the times at which they were received.
#[derive(Clone)]
pub struct Recording {
    messages: Vec<(Opcode, Vec<u8>)>,
    received_ns: Option<Vec<u64>>,
    gaps: Vec<usize>,
    cut: Option<Cut>,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording")
            .field("messages", &self.messages.len())
            .field("timed", &self.received_ns.is_some())
            .finish_non_exhaustive()
    }
}

impl Recording {
    /// Reads a recording: a file of [`RecordingWriter`](super::RecordingWriter), known by its first bytes; or one whose
    /// name ends in `.b64l`, which holds one binary message a line, as base64; any other holds one text message a line. For
    /// the latter two the times are read from the file of the same name with the extension `.recv_ns`: one Unix time in
    /// nanoseconds per line. Without that file the recording can only be played flat out.
    ///
    /// A file of the first kind that was cut, anywhere, holds all that was written before; [`cut`](Self::cut) tells.
    ///
    /// # Errors
    /// What the file system says; [`InvalidData`](io::ErrorKind::InvalidData), with the line, where it makes no sense.
    pub fn load(path: impl AsRef<Path>) -> io::Result<Recording> {
        let path = path.as_ref();
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let bytes = fs::read(path).map_err(named)?;
        if let Some(recorded) = recording_file::parse(&bytes).map_err(named)? {
            return Ok(recorded.into());
        }
        let text = String::from_utf8(bytes).map_err(|e| invalid(format!("{}: {e}", path.display())))?;
        let is_binary = path.extension().is_some_and(|e| e == "b64l");
        let messages = lines(&text, path, |line| {
            if line.is_empty() {
                Err("an empty line".to_owned())
            } else if is_binary {
                let payload = STANDARD.decode(line).map_err(|e| format!("no base64: {e}"))?;
                Ok((Opcode::Binary, payload))
            } else {
                Ok((Opcode::Text, line.as_bytes().to_vec()))
            }
        })?;

        let times_path = path.with_extension("recv_ns");
        let received_ns = if times_path.exists() {
            let text = read(&times_path)?;
            let times: Vec<u64> = lines(&text, &times_path, |line| {
                line.trim().parse().map_err(|e| format!("no receive time {line:?}: {e}"))
            })?;
            if times.len() != messages.len() {
                return Err(invalid(format!(
                    "{} holds {} times for the {} messages of {}",
                    times_path.display(),
                    times.len(),
                    messages.len(),
                    path.display()
                )));
            }
            Some(times)
        } else {
            None
        };
        Ok(Recording { messages, received_ns, gaps: Vec::new(), cut: None })
    }

    /// Reads what a [`RecordingWriter`](super::RecordingWriter) has written, as [`load`](Self::load) does.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData) where these bytes are of another format, or of another version of it.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Recording> {
        recording_file::parse(bytes)?.map(Into::into).ok_or_else(|| invalid("no recording of this format".to_owned()))
    }

    /// A recording of these text messages, without times.
    pub fn from_messages(messages: Vec<String>) -> Recording {
        let messages = messages.into_iter().map(|text| (Opcode::Text, text.into_bytes())).collect();
        Recording { messages, received_ns: None, gaps: Vec::new(), cut: None }
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether any of its messages is binary.
    pub fn is_binary(&self) -> bool {
        self.messages.iter().any(|(opcode, _)| matches!(opcode, Opcode::Binary))
    }

    /// The payloads, in order.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.messages.iter().map(|(_, payload)| payload.as_slice())
    }

    /// The receive times, in Unix nanoseconds, if it has any.
    pub fn received_ns(&self) -> Option<&[u64]> {
        self.received_ns.as_deref()
    }

    /// Where the connection was lost while it was recorded: the index of the first message of each later session. What the
    /// venue sent meanwhile is not in it.
    pub fn gaps(&self) -> &[usize] {
        &self.gaps
    }

    /// Where its file was cut, if it was.
    pub fn cut(&self) -> Option<Cut> {
        self.cut
    }

    pub(super) fn frames(&self) -> impl Iterator<Item = (Opcode, &[u8])> {
        self.messages.iter().map(|(opcode, payload)| (*opcode, payload.as_slice()))
    }
}

impl From<Recorded> for Recording {
    fn from(recorded: Recorded) -> Self {
        let (messages, times) = recorded.messages.into_iter().unzip();
        Self { messages, received_ns: Some(times), gaps: recorded.gaps, cut: recorded.cut }
    }
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

fn lines<T>(text: &str, path: &Path, parse: impl Fn(&str) -> Result<T, String>) -> io::Result<Vec<T>> {
    text.lines()
        .enumerate()
        .map(|(index, line)| parse(line).map_err(|e| invalid(format!("{}:{}: {e}", path.display(), index + 1))))
        .collect()
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
