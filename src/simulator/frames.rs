//! WebSocket frames: written by hand, so that a script can cut them anywhere; read by tungstenite, so that what the
//! client sends is judged by a library nobody here wrote. Invariant: tungstenite never writes to the wire.

use std::io::{self, Read, Write};

use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

#[derive(Clone, Copy)]
pub(super) enum Opcode {
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

/// Appends one whole unmasked frame.
pub(super) fn append(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.push(0x80 | opcode as u8);
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// The payload of a Close frame; a reason that would make the frame illegal is cut at 123 bytes.
pub(super) fn close_payload(code: Option<u16>, reason: &str) -> Vec<u8> {
    let Some(code) = code else { return Vec::new() };
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    payload
}

/// Makes messages of the client's bytes.
pub(super) struct FrameReader {
    reading: Reading,
    bytes: Inbound,
}

enum Reading {
    Open(Box<WebSocketContext>),
    /// A Close came or the protocol was broken: nothing behind it is a frame.
    Over,
}

impl FrameReader {
    pub(super) fn new() -> Self {
        let config = WebSocketConfig::default().read_buffer_size(16 * 1024);
        FrameReader {
            reading: Reading::Open(Box::new(WebSocketContext::new(Role::Server, Some(config)))),
            bytes: Inbound { bytes: Vec::new(), read: 0 },
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if matches!(self.reading, Reading::Open(_)) {
            self.bytes.bytes.extend_from_slice(bytes);
        }
    }

    /// The next message, `None` when more bytes are needed, an error once when the client broke the protocol.
    pub(super) fn next(&mut self) -> Option<Result<Message, String>> {
        let Reading::Open(protocol) = &mut self.reading else {
            return None;
        };
        match protocol.read(&mut self.bytes) {
            Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => None,
            Ok(message) => {
                if message.is_close() {
                    self.reading = Reading::Over;
                }
                Some(Ok(message))
            }
            Err(e) => {
                self.reading = Reading::Over;
                Some(Err(e.to_string()))
            }
        }
    }
}

/// What tungstenite takes for the socket. Its automatic answers are swallowed: the connection gives its own, in order
/// with everything else it sends.
struct Inbound {
    bytes: Vec<u8>,
    read: usize,
}

impl Read for Inbound {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let ready = &self.bytes[self.read..];
        if ready.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = ready.len().min(into.len());
        into[..taken].copy_from_slice(&ready[..taken]);
        self.read += taken;
        if self.read == self.bytes.len() {
            self.bytes.clear();
            self.read = 0;
        }
        Ok(taken)
    }
}

impl Write for Inbound {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
