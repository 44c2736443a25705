//! One WebSocket session over bytes that others read and write; the only file that names tungstenite.
//!
//! Whole, unfragmented data frames are lent from the receive buffer. All else goes to tungstenite over memory, one
//! complete and lawful frame at a time. Invariants: tungstenite never waits for the rest of a frame, is never read again
//! after an error or a Close, and no frame of ours follows our Close.

use std::io::{self, Read, Write};

use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, error::CapacityError};

use super::deflate::{Agreed, Deflater, InflateFault, Inflater};
use super::frame::{Header, Masks, NotUtf8, Opcode, TextCheck, Violation, encode, parse_header, says_compressed};
use super::receive_buffer::ReceiveBuffer;
use super::write_buffer::WriteBuffer;
use crate::config::Limits;
use crate::error::DisconnectReason;
use crate::message::WsMessage;

pub(crate) use tungstenite::handshake::{client::generate_key, derive_accept_key};

/// What a venue sent, lent for the length of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Incoming<'a> {
    /// A data message, fragments joined.
    Message(&'a WsMessage<'a>),
    /// One that came compressed, and how long it took to inflate what this read brought of it, where that is measured.
    Inflated(&'a WsMessage<'a>, Option<u64>),
    /// A ping; its pong is queued already, or coalesced where the peer does not read.
    Ping,
    /// A pong, with the payload that it carries back.
    Pong(&'a [u8]),
}

/// How a [`read`](WebSocket::read) that met no violation left the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// More may come.
    Open,
    /// The venue sent its Close; our reply is queued, unless ours came first. Nothing more will be delivered.
    PeerClosed { code: Option<u16>, reason: String },
}

/// The protocol state of one connection after the upgrade.
#[derive(Debug)]
pub(crate) struct WebSocket {
    limits: Limits,
    encoder: Encoder,
    text: TextCheck,
    fragments: Option<Fragments>,
    /// Where compression was agreed.
    inflater: Option<Box<Inflater>>,
    /// Set once, by a violation or the peer's Close: the answer of every `read` from then on.
    ended: Option<Result<ReadOutcome, DisconnectReason>>,
    context: WebSocketContext,
    /// tungstenite holds pongs that `out` had no room for.
    pong_waits: bool,
}

/// The message whose fragments are still coming.
#[derive(Debug, Clone, Copy)]
struct Fragments {
    text: bool,
    /// They are ours to put together, and tungstenite has none of them.
    compressed: bool,
    bytes: u64,
}

impl WebSocket {
    pub(crate) fn new(limits: Limits, compression: Option<&Agreed>) -> Self {
        // Half the address space, so that a header's length plus a payload's never overflows.
        let max_message_bytes = limits.max_message_bytes.min(isize::MAX as u64 / 2);
        let max = max_message_bytes as usize;
        let config = WebSocketConfig::default()
            // Control frames don't count against the user's limit, however small that is.
            .max_frame_size(Some(max.max(MAX_CONTROL_BYTES)))
            .max_message_size(Some(max))
            .read_buffer_size(256)
            .write_buffer_size(0)
            .max_write_buffer_size(HELD_PONG_BYTES);
        Self {
            limits: Limits { max_message_bytes, ..limits },
            encoder: Encoder { deflater: compression.and_then(Deflater::new).map(Box::new), ..Encoder::default() },
            text: TextCheck::default(),
            fragments: None,
            inflater: compression.map(|agreed| Box::new(Inflater::new(agreed, max_message_bytes))),
            ended: None,
            context: WebSocketContext::new(Role::Client, Some(config)),
            pong_waits: false,
        }
    }

    /// From now on [`Incoming::Inflated`] says how long it took.
    pub(crate) fn measure_inflating(&mut self) {
        if let Some(inflater) = &mut self.inflater {
            inflater.measure();
        }
    }

    /// Takes every complete frame from `input`, in order, and queues the replies in `out`, each right after its frame.
    ///
    /// `input` may be another buffer at each call, as long as it begins with what the last call left over. At a violation
    /// everything before it was delivered, and the Close is queued. `on_frame` hears whether `input` ends with the frame. After an error or the peer's Close, `input` is
    /// discarded and the same answer comes again. `on_frame` must not unwind: what it was given would come again.
    #[inline]
    pub(crate) fn read(
        &mut self,
        input: &mut ReceiveBuffer,
        out: &mut WriteBuffer,
        on_frame: impl FnMut(Incoming<'_>, bool, &mut FrameWriter<'_>),
    ) -> Result<ReadOutcome, DisconnectReason> {
        self.flush_pongs(out);
        if let Some(inflater) = &mut self.inflater {
            inflater.read_begins();
        }
        if self.ended.is_none() {
            let taken = self.read_frames(input.data(), out, on_frame);
            if self.ended.is_none() {
                input.consume(taken);
                return Ok(ReadOutcome::Open);
            }
        }
        input.clear();
        self.ended.clone().unwrap_or(Ok(ReadOutcome::Open))
    }

    /// Takes the complete frames at the front of `data`, until the session ends; returns how many bytes they held.
    #[inline]
    fn read_frames(
        &mut self,
        data: &[u8],
        out: &mut WriteBuffer,
        mut on_frame: impl FnMut(Incoming<'_>, bool, &mut FrameWriter<'_>),
    ) -> usize {
        let mut rest = data;
        while !rest.is_empty() {
            let header = match self.header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(violation) => {
                    self.fail(violation.into(), out);
                    break;
                }
            };
            let end = header.len + header.payload_len;
            let Some(payload) = rest.get(header.len..end) else {
                if self.unfinished(&header, &rest[header.len..]).is_err() {
                    self.fail(DisconnectReason::InvalidUtf8, out);
                }
                break;
            };
            let is_last = end == rest.len();
            let whole = if header.is_single_text() {
                let Ok(text) = simdutf8::basic::from_utf8(payload) else {
                    self.fail(DisconnectReason::InvalidUtf8, out);
                    break;
                };
                Some(WsMessage::text(text))
            } else {
                header.is_single_binary().then(|| WsMessage::binary(payload))
            };
            // The one place where whole messages are handed out, so that the compiler puts the receiver here.
            if let Some(message) = whole {
                on_frame(Incoming::Message(&message), is_last, &mut self.writer(out));
            } else {
                let mut on_frame = |incoming: Incoming<'_>, writer: &mut FrameWriter<'_>| {
                    on_frame(incoming, is_last, writer);
                };
                if self.is_compressed(&header) {
                    self.read_compressed(&header, payload, out, &mut on_frame);
                } else {
                    self.read_rare(&header, &rest[..end], payload, out, &mut on_frame);
                }
                if self.ended.is_some() {
                    break;
                }
            }
            self.text.frame_ended();
            rest = &rest[end..];
        }
        data.len() - rest.len()
    }

    #[inline]
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, Violation> {
        if self.inflater.is_some() {
            return self.header_with_compression(bytes);
        }
        let fragment_bytes = self.fragments.map_or(0, |open| open.bytes);
        parse_header(bytes, self.fragments.is_some(), fragment_bytes, false, &self.limits)
    }

    /// The limit is of the message as it is inflated; what cannot be compressed grows a little.
    fn header_with_compression(&self, bytes: &[u8]) -> Result<Option<Header>, Violation> {
        let open = self.fragments.as_ref();
        let is_compressed =
            open.map_or_else(|| bytes.first().is_some_and(|&first| says_compressed(first)), |open| open.compressed);
        let limit_bytes = self.limits.max_message_bytes;
        let growth_bytes = if is_compressed { limit_bytes / 8 + MOST_GROWTH_BYTES } else { 0 };
        let limits = Limits { max_message_bytes: limit_bytes + growth_bytes, ..self.limits };
        let header = parse_header(bytes, open.is_some(), open.map_or(0, |open| open.bytes), true, &limits);
        header.map_err(|violation| match violation {
            Violation::TooLarge { claimed_bytes, .. } => Violation::TooLarge { claimed_bytes, limit_bytes },
            protocol @ Violation::Protocol(_) => protocol,
        })
    }

    /// Queues our Close, with as much of `reason` as fits; only the first call does anything.
    pub(crate) fn close(&mut self, code: u16, reason: &str, out: &mut WriteBuffer) {
        if self.encoder.close_sent {
            return;
        }
        let fits =
            (0..=reason.len().min(MAX_CONTROL_BYTES - 2)).rev().find(|&end| reason.is_char_boundary(end)).unwrap_or(0);
        self.flush_closing(out);
        let frame = CloseFrame { code: code.into(), reason: reason[..fits].into() };
        // The stream takes all that it is given, so there is no error to meet.
        let _ = self.context.close(&mut Loopback::closing(out), Some(frame));
        self.encoder.close_sent = true;
    }

    /// Queues the pongs that waited for room. Call it when the stream has taken bytes of `out`; it is cheap.
    #[inline]
    pub(crate) fn flush_pongs(&mut self, out: &mut WriteBuffer) {
        if self.pong_waits && !self.encoder.close_sent && out.accepts_control() {
            self.flush(out);
        }
    }

    /// What sends may be queued with between reads.
    pub(crate) fn writer<'a>(&'a mut self, out: &'a mut WriteBuffer) -> FrameWriter<'a> {
        FrameWriter { encoder: &mut self.encoder, out }
    }

    /// The rest of the frame is still to come: only its text can be judged.
    #[cold]
    fn unfinished(&mut self, header: &Header, payload: &[u8]) -> Result<(), NotUtf8> {
        // What is compressed can be judged when it has been inflated.
        let is_judged = self.is_text(header) && !self.is_compressed(header);
        if is_judged { self.text.arrived(header.starts_text(), payload) } else { Ok(()) }
    }

    /// It belongs to a compressed message; control frames between its fragments do not.
    #[inline]
    fn is_compressed(&self, header: &Header) -> bool {
        let continues = || !header.is_control() && self.fragments.is_some_and(|open| open.compressed);
        self.inflater.is_some() && (header.starts_compressed() || continues())
    }

    fn is_text(&self, header: &Header) -> bool {
        let continues_text = || self.fragments.is_some_and(|open| open.text);
        !header.is_control() && (header.starts_text() || continues_text())
    }

    /// Control frames and fragments: tungstenite's.
    #[cold]
    #[inline(never)]
    fn read_rare(
        &mut self,
        header: &Header,
        frame: &[u8],
        payload: &[u8],
        out: &mut WriteBuffer,
        on_frame: &mut dyn FnMut(Incoming<'_>, &mut FrameWriter<'_>),
    ) {
        if self.unfinished(header, payload).is_err() {
            return self.fail(DisconnectReason::InvalidUtf8, out);
        }
        if !header.is_control() {
            let bytes = self.fragments.map_or(0, |open| open.bytes) + payload.len() as u64;
            let open = Fragments { text: self.is_text(header), compressed: false, bytes };
            self.fragments = (!header.is_final()).then_some(open);
        }
        let answer = self.context.read(&mut Loopback { input: frame, out, closing: false });
        match answer {
            Ok(Message::Text(text)) => {
                let message = WsMessage::text(text.as_str());
                on_frame(Incoming::Message(&message), &mut self.writer(out));
            }
            Ok(Message::Binary(bytes)) => {
                let message = WsMessage::binary(bytes.as_ref());
                on_frame(Incoming::Message(&message), &mut self.writer(out));
            }
            Ok(Message::Ping(_)) => {
                self.flush(out);
                on_frame(Incoming::Ping, &mut self.writer(out));
            }
            Ok(Message::Pong(bytes)) => {
                on_frame(Incoming::Pong(bytes.as_ref()), &mut self.writer(out));
            }
            Ok(Message::Close(close)) => self.peer_closed(close, payload, out),
            Ok(Message::Frame(_)) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.fail(reason_of(&error), out),
        }
    }

    /// A compressed message, or a fragment of one: ours from end to end, since tungstenite does not know the extension.
    fn read_compressed(
        &mut self,
        header: &Header,
        payload: &[u8],
        out: &mut WriteBuffer,
        on_frame: &mut dyn FnMut(Incoming<'_>, &mut FrameWriter<'_>),
    ) {
        let text = self.is_text(header);
        let bytes = self.fragments.map_or(0, |open| open.bytes) + payload.len() as u64;
        self.fragments = (!header.is_final()).then_some(Fragments { text, compressed: true, bytes });
        let Some(inflater) = &mut self.inflater else { return };
        if header.starts_message() {
            inflater.begin();
        }
        if let Err(fault) = inflater.push(payload, header.is_final()) {
            return self.fail_inflating(&fault, out);
        }
        if !header.is_final() {
            return;
        }
        let (whole, took_ns) = (inflater.message(), inflater.took_ns());
        let message = match text {
            true => simdutf8::basic::from_utf8(whole).map(WsMessage::text),
            false => Ok(WsMessage::binary(whole)),
        };
        let Ok(message) = message else { return self.fail(DisconnectReason::InvalidUtf8, out) };
        on_frame(Incoming::Inflated(&message, took_ns), &mut FrameWriter { encoder: &mut self.encoder, out });
        inflater.handed_on();
    }

    #[cold]
    fn fail_inflating(&mut self, fault: &InflateFault, out: &mut WriteBuffer) {
        let reason = match *fault {
            InflateFault::Broken => {
                DisconnectReason::ProtocolViolation("a compressed message that cannot be inflated".to_owned())
            }
            InflateFault::TooLarge { inflated_bytes } => {
                DisconnectReason::TooLarge { claimed_bytes: inflated_bytes, limit_bytes: self.limits.max_message_bytes }
            }
        };
        self.fail(reason, out);
    }

    fn peer_closed(&mut self, close: Option<CloseFrame>, payload: &[u8], out: &mut WriteBuffer) {
        if !self.encoder.close_sent {
            self.flush_closing(out);
            self.encoder.close_sent = true;
        }
        let code = close.as_ref().map(|close| u16::from(close.code));
        let sent = payload.first_chunk().map(|&code| u16::from_be_bytes(code));
        // tungstenite answers a code that must not be sent with 1002, and shows that code instead.
        self.ended = Some(if code == sent {
            let reason = close.map(|close| close.reason.to_string()).unwrap_or_default();
            Ok(ReadOutcome::PeerClosed { code, reason })
        } else {
            let what = format!("close code {} must not be sent", sent.unwrap_or_default());
            Err(DisconnectReason::ProtocolViolation(what))
        });
    }

    #[cold]
    fn fail(&mut self, reason: DisconnectReason, out: &mut WriteBuffer) {
        let code = match reason {
            DisconnectReason::InvalidUtf8 => 1007,
            DisconnectReason::TooLarge { .. } => 1009,
            _ => 1002,
        };
        self.close(code, "", out);
        self.ended = Some(Err(reason));
    }

    /// Moves what tungstenite holds into `out`, as far as there is room.
    fn flush(&mut self, out: &mut WriteBuffer) {
        self.flush_into(&mut Loopback { input: &[], out, closing: false });
    }

    /// Moves all of it, however full `out` is: a pong that stayed behind would follow our Close.
    fn flush_closing(&mut self, out: &mut WriteBuffer) {
        self.flush_into(&mut Loopback::closing(out));
    }

    fn flush_into(&mut self, stream: &mut Loopback<'_>) {
        // The first empties tungstenite's buffer, the second moves the frame that had no room in it. The stream's only
        // error is that `out` has none.
        let flushed = self.context.flush(stream).and_then(|()| self.context.flush(stream));
        self.pong_waits = flushed.is_err();
    }
}

/// What a frame's receiver may write while the frame is lent to it.
#[derive(Debug)]
pub(crate) struct FrameWriter<'a> {
    encoder: &'a mut Encoder,
    out: &'a mut WriteBuffer,
}

impl FrameWriter<'_> {
    /// Queues `message` as one frame; false, and nothing queued, once our Close is.
    pub(crate) fn send(&mut self, message: &WsMessage<'_>) -> bool {
        let opcode = match message {
            WsMessage::Text(_) => Opcode::Text,
            WsMessage::Binary(_) => Opcode::Binary,
        };
        self.encoder.frame(opcode, message.as_bytes(), self.out)
    }

    /// Queues a ping of at most 125 bytes; false, and nothing queued, once our Close is.
    pub(crate) fn ping(&mut self, payload: &[u8]) -> bool {
        debug_assert!(payload.len() <= MAX_CONTROL_BYTES, "ping payload over 125 bytes");
        let payload = &payload[..payload.len().min(MAX_CONTROL_BYTES)];
        self.encoder.frame(Opcode::Ping, payload, self.out)
    }

    /// The buffer behind it, to mark sends in.
    pub(crate) fn out(&mut self) -> &mut WriteBuffer {
        self.out
    }
}

#[derive(Debug, Default)]
struct Encoder {
    masks: Masks,
    /// Where compression was agreed, and is possible.
    deflater: Option<Box<Deflater>>,
    close_sent: bool,
}

impl Encoder {
    fn frame(&mut self, opcode: Opcode, payload: &[u8], out: &mut WriteBuffer) -> bool {
        if self.close_sent {
            return false;
        }
        let deflater = self.deflater.as_mut().filter(|_| opcode != Opcode::Ping);
        let (compressed, payload) = match deflater.and_then(|deflater| deflater.deflate(payload)) {
            Some(deflated) => (true, deflated),
            None => (false, payload),
        };
        encode(out.tail(), opcode, compressed, payload, self.masks.next());
        true
    }
}

/// The stream that tungstenite sees: one frame to read, and our write buffer.
struct Loopback<'a> {
    input: &'a [u8],
    out: &'a mut WriteBuffer,
    /// A Close goes out, with all before it, however full `out` is.
    closing: bool,
}

impl<'a> Loopback<'a> {
    fn closing(out: &'a mut WriteBuffer) -> Self {
        Self { input: &[], out, closing: true }
    }
}

impl Read for Loopback<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        // `Ok(0)` would mean the end of the stream, and end the session.
        if self.input.is_empty() { Err(WOULD_BLOCK.into()) } else { self.input.read(room) }
    }
}

impl Write for Loopback<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.closing && !self.out.accepts_control() {
            return Err(WOULD_BLOCK.into());
        }
        self.out.tail().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<Violation> for DisconnectReason {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Protocol(what) => Self::ProtocolViolation(what.to_owned()),
            Violation::TooLarge { claimed_bytes, limit_bytes } => Self::TooLarge { claimed_bytes, limit_bytes },
        }
    }
}

fn reason_of(error: &Error) -> DisconnectReason {
    match error {
        Error::Utf8(_) => DisconnectReason::InvalidUtf8,
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            DisconnectReason::TooLarge { claimed_bytes: *size as u64, limit_bytes: *max_size as u64 }
        }
        other => DisconnectReason::ProtocolViolation(other.to_string()),
    }
}

const WOULD_BLOCK: io::ErrorKind = io::ErrorKind::WouldBlock;
/// The largest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL_BYTES: usize = 125;
/// Beside an eighth: what cannot be compressed costs 5 bytes in each block (RFC 1951, section 3.2.4), and in fixed codes, 9 bits a byte at
/// most (section 3.2.6).
const MOST_GROWTH_BYTES: u64 = 1024;
/// Pongs that tungstenite holds for a peer that does not read; then only the newest is kept.
const HELD_PONG_BYTES: usize = 8 * 1024;

#[cfg(test)]
#[path = "tests_websocket.rs"]
mod tests;
#[cfg(all(test, feature = "deflate"))]
#[path = "tests_deflate.rs"]
mod tests_deflate;
#[cfg(test)]
#[path = "tests_differential.rs"]
mod tests_differential;
#[cfg(any(test, fuzzing))]
#[path = "tests_reference.rs"]
pub(super) mod tests_reference;
