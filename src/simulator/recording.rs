//! Recorded messages. Invariant: one payload per line of the file, and one receive time per payload or none at all.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::frames::Opcode;

/// Messages to be replayed, all text or all binary, with or without the times at which they were received.
#[derive(Clone)]
pub struct Recording {
    payloads: Vec<Vec<u8>>,
    opcode: Opcode,
    received_ns: Option<Vec<u64>>,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording")
            .field("messages", &self.payloads.len())
            .field("timed", &self.received_ns.is_some())
            .finish_non_exhaustive()
    }
}

impl Recording {
    /// Reads a recording: a file whose name ends in `.b64l` holds one binary message a line, as base64; any other holds
    /// one text message a line. The times are read from the file of the same name with the extension `.recv_ns`: one
    /// Unix time in nanoseconds per line. Without that file the recording can only be played flat out.
    pub fn load(path: impl AsRef<Path>) -> io::Result<Recording> {
        let path = path.as_ref();
        let text = read(path)?;
        let is_binary = path.extension().is_some_and(|e| e == "b64l");
        let payloads = lines(&text, path, |line| {
            if line.is_empty() {
                Err("an empty line".to_owned())
            } else if is_binary {
                STANDARD.decode(line).map_err(|e| format!("no base64: {e}"))
            } else {
                Ok(line.as_bytes().to_vec())
            }
        })?;

        let times_path = path.with_extension("recv_ns");
        let received_ns = if times_path.exists() {
            let text = read(&times_path)?;
            let times: Vec<u64> = lines(&text, &times_path, |line| {
                line.trim().parse().map_err(|e| format!("no receive time {line:?}: {e}"))
            })?;
            if times.len() != payloads.len() {
                return Err(invalid(format!(
                    "{} holds {} times for the {} messages of {}",
                    times_path.display(),
                    times.len(),
                    payloads.len(),
                    path.display()
                )));
            }
            Some(times)
        } else {
            None
        };
        Ok(Recording { payloads, opcode: if is_binary { Opcode::Binary } else { Opcode::Text }, received_ns })
    }

    /// A recording of these text messages, without times.
    pub fn from_messages(messages: Vec<String>) -> Recording {
        Recording {
            payloads: messages.into_iter().map(String::into_bytes).collect(),
            opcode: Opcode::Text,
            received_ns: None,
        }
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.payloads.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    /// Whether its messages are binary.
    pub fn is_binary(&self) -> bool {
        matches!(self.opcode, Opcode::Binary)
    }

    /// The payloads, in order.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.payloads.iter().map(Vec::as_slice)
    }

    /// The receive times, in Unix nanoseconds, if it has any.
    pub fn received_ns(&self) -> Option<&[u64]> {
        self.received_ns.as_deref()
    }

    pub(super) fn opcode(&self) -> Opcode {
        self.opcode
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
