//! What tungstenite alone makes of a stream: the same messages, replies and verdict must come out of ours.
//!
//! Where we are stricter by design (headers and unfinished text are judged before the frame is complete, lengths must be in
//! their shortest form), a naive walk over the frames says what must come out.

use std::fmt::Debug;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Open,
    Closed(Option<u16>, String),
    Protocol,
    Utf8,
    TooLarge,
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    delivered: Vec<(u8, Vec<u8>)>,
    replies: Vec<(u8, Vec<u8>)>,
    verdict: Verdict,
}

fn ours(pieces: &[&[u8]], limit: u64, compression: Option<&Agreed>) -> Outcome {
    let mut socket = WebSocket::new(Limits { max_message_bytes: limit, ..Limits::default() }, compression);
    let (mut out, mut kept, mut delivered) = (WriteBuffer::default(), Vec::new(), Vec::new());
    let mut verdict = Verdict::Open;
    for piece in pieces {
        // Each time another buffer, as where one hot buffer serves many connections.
        let mut input = ReceiveBuffer::default();
        input.append(&kept);
        input.append(piece);
        let answer = socket.read(&mut input, &mut out, |incoming, _, _| {
            delivered.push(match incoming {
                Incoming::Message(message) | Incoming::Inflated(message, _) => match message {
                    WsMessage::Text(text) => (1, text.as_bytes().to_vec()),
                    WsMessage::Binary(bytes) => (2, bytes.to_vec()),
                },
                Incoming::Ping => (9, Vec::new()),
                Incoming::Pong(bytes) => (10, bytes.to_vec()),
            });
        });
        kept = input.data().to_vec();
        verdict = match answer {
            Ok(ReadOutcome::Open) => Verdict::Open,
            Ok(ReadOutcome::PeerClosed { code, reason }) => Verdict::Closed(code, reason),
            Err(DisconnectReason::InvalidUtf8) => Verdict::Utf8,
            Err(DisconnectReason::TooLarge { .. }) => Verdict::TooLarge,
            Err(_) => Verdict::Protocol,
        };
    }
    Outcome { delivered, replies: unmasked(out.pending()), verdict }
}

struct Wire<'a>(&'a [u8], Vec<u8>);

impl Read for Wire<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(WOULD_BLOCK.into()) } else { self.0.read(room) }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// tungstenite alone, over the whole stream at once; `fault` is answered behind it, as a user of it would.
fn reference(stream: &[u8], limit: u64, fault: Option<Verdict>) -> Outcome {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_frame_size(Some((limit as usize).max(125)))
        .max_message_size(Some(limit as usize));
    let mut context = WebSocketContext::new(Role::Client, Some(config));
    let (mut wire, mut delivered) = (Wire(stream, Vec::new()), Vec::new());
    let verdict = loop {
        let answer = context.read(&mut wire);
        context.flush(&mut wire).expect("its wire takes all");
        match answer {
            Ok(Message::Text(text)) => delivered.push((1, text.as_bytes().to_vec())),
            Ok(Message::Binary(bytes)) => delivered.push((2, bytes.to_vec())),
            Ok(Message::Ping(_)) => delivered.push((9, Vec::new())),
            Ok(Message::Pong(bytes)) => delivered.push((10, bytes.to_vec())),
            Ok(Message::Close(close)) => {
                let reason = close.as_ref().map(|close| close.reason.to_string());
                let code = close.map(|close| u16::from(close.code));
                break Verdict::Closed(code, reason.unwrap_or_default());
            }
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(Error::Io(error)) if error.kind() == WOULD_BLOCK => {
                break fault.unwrap_or(Verdict::Open);
            }
            Err(Error::Utf8(_)) => break Verdict::Utf8,
            Err(Error::Capacity(_)) => break Verdict::TooLarge,
            Err(Error::Protocol(_)) => break Verdict::Protocol,
            Err(other) => panic!("{other}"),
        }
    };
    let code: Option<u16> = match verdict {
        Verdict::Open | Verdict::Closed(..) => None,
        Verdict::Protocol => Some(1002),
        Verdict::Utf8 => Some(1007),
        Verdict::TooLarge => Some(1009),
    };
    if let Some(code) = code {
        let close = CloseFrame { code: code.into(), reason: "".into() };
        context.close(&mut wire, Some(close)).expect("its wire takes all");
    }
    Outcome { delivered, replies: unmasked(&wire.1), verdict }
}

/// Walks the frames without cleverness: where the first fault is that tungstenite does not see, or not yet.
fn first_fault(stream: &[u8], limit: u64) -> Option<(usize, Verdict)> {
    let (mut at, mut open) = (0, None::<(bool, Vec<u8>)>);
    loop {
        let rest = &stream[at..];
        let (first, second) = (*rest.first()?, rest.get(1).copied());
        let (opcode, control) = (first & 15, first & 8 != 0);
        let broken = first & 0x70 != 0
            || matches!(opcode, 3..=7 | 11..)
            || control && first & 0x80 == 0
            || opcode == 0 && open.is_none()
            || matches!(opcode, 1 | 2) && open.is_some()
            || second.is_some_and(|second| second & 0x80 != 0 || control && second > 125 || opcode == 8 && second == 1);
        if broken {
            return Some((at, Verdict::Protocol));
        }
        let held = open.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
        let (head, len) = match length_of(rest, if control { 0 } else { held }, limit.max(125 * u64::from(control))) {
            Ok(length) => length?,
            Err(verdict) => return Some((at, verdict)),
        };
        let end = rest.len().min(head + len as usize);
        if !control {
            let text = opcode == 1 || open.as_ref().is_some_and(|(text, _)| *text);
            let mut bytes = open.take().map(|(_, bytes)| bytes).unwrap_or_default();
            bytes.extend_from_slice(&rest[head..end]);
            if text && std::str::from_utf8(&bytes).is_err_and(|error| error.error_len().is_some()) {
                return Some((at, Verdict::Utf8));
            }
            open = (first & 0x80 == 0).then_some((text, bytes));
        }
        if end < head + len as usize {
            return None;
        }
        let sent = rest[head..end].first_chunk().map(|&code| u16::from_be_bytes(code));
        match (opcode, sent) {
            (8, Some(code)) if !matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999) => {
                // Told apart from a lawful 1002 by the walk; its answer is tungstenite's.
                let lawful = std::str::from_utf8(&rest[head + 2..end]).is_ok();
                return lawful.then_some((at + end, Verdict::Protocol));
            }
            (8, _) => return None,
            _ => at += end,
        }
    }
}

/// How long the header at the front is, and the payload behind it; `None` where that is still to come, and lawful so far.
fn length_of(frame: &[u8], held: u64, limit: u64) -> Result<Option<(usize, u64)>, Verdict> {
    let width = match frame.get(1) {
        None => return Ok(None),
        Some(126) => 2,
        Some(127) => 8,
        Some(short) if u64::from(*short) + held > limit => return Err(Verdict::TooLarge),
        Some(short) => return Ok(Some((2, u64::from(*short)))),
    };
    let seen = &frame[2..frame.len().min(2 + width)];
    let bound = |fill: u8| {
        let byte = |index: usize| seen.get(index).copied().unwrap_or(fill);
        (0..width).fold(0u64, |sum, index| sum << 8 | u64::from(byte(index)))
    };
    if !seen.is_empty() && (bound(0) >> 63 != 0 || bound(255) < [126, 65_536][width / 8]) {
        return Err(Verdict::Protocol);
    }
    if bound(0).saturating_add(held) > limit {
        return Err(Verdict::TooLarge);
    }
    Ok((seen.len() == width).then(|| (2 + width, bound(0))))
}

pub(super) fn compare(stream: &[u8], pieces: &[&[u8]], limit: u64, seed: impl Debug) {
    let ours = ours(pieces, limit, None);
    let expected = expected(stream, limit);
    assert!(ours == expected, "seed {seed:?}\nstream {stream:02x?}\n{ours:?}\n{expected:?}");
}

fn expected(stream: &[u8], limit: u64) -> Outcome {
    match first_fault(stream, limit) {
        None => reference(stream, limit, None),
        Some((at, verdict)) => {
            let mut expected = reference(&stream[..at], limit, Some(verdict.clone()));
            // tungstenite shows its own 1002 for a close code that must not be sent.
            if matches!(expected.verdict, Verdict::Closed(..)) {
                expected.verdict = verdict;
            }
            expected
        }
    }
}

/// A frame as a venue sends it.
pub(super) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(len as u8),
        len @ 126..=0xFFFF => {
            bytes.push(126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// The frames that we wrote, as first byte and payload; each must be masked and whole.
pub(super) fn unmasked(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[1] & 0x80, 0x80, "unmasked frame of ours");
        let (head, len) = match bytes[1] & 0x7F {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            127 => panic!("no test writes so much"),
            len => (2, usize::from(len)),
        };
        let mask = &bytes[head..head + 4];
        let payload = &bytes[head + 4..head + 4 + len];
        let clear = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        frames.push((bytes[0], clear.collect()));
        bytes = &bytes[head + 4 + len..];
    }
    frames
}

/// A stream and its cuts, from bytes that a fuzzer makes: limit, number of cuts, their lengths, and the stream.
pub(crate) fn compare_fuzzed(bytes: &[u8]) {
    let [limit, cuts, rest @ ..] = bytes else { return };
    let limit = [60, 1_000, 1 << 20][usize::from(limit % 3)];
    let (cuts, stream) = rest.split_at(rest.len().min(usize::from(cuts % 8)));
    compare(stream, &pieces(stream, cuts), limit, "of a fuzzer");
}

/// The stream in pieces of these lengths, and what is left.
pub(in crate::transport) fn pieces<'a>(mut stream: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, behind) = stream.split_at(stream.len().min(usize::from(*cut)));
        pieces.push(piece);
        stream = behind;
    }
    pieces.push(stream);
    pieces
}

/// Compressed messages, by a walk without cleverness: each is put before tungstenite as the frame that it would have been.
#[cfg(feature = "deflate")]
mod inflating {
    use flate2::{Decompress, FlushDecompress, Status};

    use super::*;
    use crate::transport::Compression;

    /// A stream and its cuts, from bytes that a fuzzer makes: limit and windows, number of cuts, their lengths, and the stream.
    pub(crate) fn compare_fuzzed(bytes: &[u8]) {
        let [ways, cuts, rest @ ..] = bytes else { return };
        let limit = [60, 1_000, 1 << 20][usize::from(ways % 3)];
        let keeps_window = ways & 0x80 == 0;
        let (cuts, stream) = rest.split_at(rest.len().min(usize::from(cuts % 8)));
        compare(stream, &pieces(stream, cuts), limit, keeps_window, "of a fuzzer");
    }

    pub(in crate::transport) fn compare(
        stream: &[u8],
        pieces: &[&[u8]],
        limit: u64,
        keeps_window: bool,
        seed: impl Debug,
    ) {
        let answer = if keeps_window { "permessage-deflate" } else { "permessage-deflate; server_no_context_takeover" };
        let agreed = Compression::deflate().judge(answer).expect("a lawful answer");
        let ours = ours(pieces, limit, Some(&agreed));
        let (plain, fault) = translated(stream, limit, keeps_window);
        let expected = match fault {
            Some(verdict) if first_fault(&plain, limit).is_none() => {
                let mut expected = reference(&plain, limit, Some(verdict.clone()));
                if expected.verdict == Verdict::Open {
                    expected.verdict = verdict;
                }
                expected
            }
            _ => expected(&plain, limit),
        };
        assert!(ours == expected, "seed {seed:?}\nstream {stream:02x?}\n{ours:?}\n{expected:?}");
    }

    /// The stream without compression, up to the first fault that is one of compression.
    fn translated(stream: &[u8], limit: u64, keeps_window: bool) -> (Vec<u8>, Option<Verdict>) {
        // RFC 1951, section 3.2.6: nine bits a byte at most; and some for the blocks.
        let most = limit + limit / 8 + 1024;
        let (mut plain, mut rest) = (Vec::new(), stream);
        let mut inflater = Decompress::new(false);
        // Opcode, bytes so far, and what they were before inflating; of a message that is not compressed, nothing.
        let mut open: Option<Option<(u8, Vec<u8>, u64)>> = None;
        while let &[first, ..] = rest {
            let is_control = first & 8 != 0;
            if !is_control && first & 15 != 0 && matches!(open, Some(Some(_))) {
                // Where the fragments would be that are not put before tungstenite.
                return (plain, Some(Verdict::Protocol));
            }
            let starts = !is_control && matches!(first & 15, 1 | 2) && open.is_none();
            let is_compressed = if starts {
                first & 0x40 != 0
            } else {
                !is_control && first & 15 == 0 && first & 0x40 == 0 && matches!(open, Some(Some(_)))
            };
            if !is_compressed {
                let limit = limit.max(125);
                let Ok(Some((head, len))) = length_of(rest, 0, limit) else { break };
                let Some(end) = usize::try_from(len).ok().map(|len| head + len).filter(|end| *end <= rest.len()) else {
                    break;
                };
                if first & 0x70 != 0 || rest[1] & 0x80 != 0 {
                    break;
                }
                plain.extend_from_slice(&rest[..end]);
                if !is_control {
                    open = (first & 0x80 == 0).then_some(None);
                }
                rest = &rest[end..];
                continue;
            }
            if first & 0x30 != 0 || rest.get(1).is_some_and(|second| second & 0x80 != 0) {
                return (plain, Some(Verdict::Protocol));
            }
            let (opcode, mut message, held) = open.take().flatten().unwrap_or((first & 15, Vec::new(), 0));
            let (head, len) = match length_of(rest, held, most) {
                Ok(Some(length)) => length,
                Ok(None) => return (plain, None),
                Err(verdict) => return (plain, Some(verdict)),
            };
            let end = head + len as usize;
            let Some(payload) = rest.get(head..end) else { return (plain, None) };
            let is_final = first & 0x80 != 0;
            let tail: &[u8] = if is_final { &[0, 0, 0xFF, 0xFF] } else { &[] };
            for piece in [payload, tail] {
                if let Err(verdict) = inflate(&mut inflater, piece, &mut message, limit as usize) {
                    return (plain, Some(verdict));
                }
            }
            if !is_final {
                open = Some(Some((opcode, message, held + len)));
            } else {
                if !keeps_window {
                    inflater.reset(false);
                }
                if opcode == 1 && std::str::from_utf8(&message).is_err() {
                    return (plain, Some(Verdict::Utf8));
                }
                plain.extend(frame(0x80 | opcode, &message));
            }
            rest = &rest[end..];
        }
        plain.extend_from_slice(rest);
        (plain, None)
    }

    fn inflate(stream: &mut Decompress, mut piece: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Verdict> {
        let mut room = vec![0; limit + 1];
        loop {
            let (taken, given) = (stream.total_in(), stream.total_out());
            let status = stream.decompress(piece, &mut room[..limit + 1 - out.len()], FlushDecompress::None);
            let (taken, given) = ((stream.total_in() - taken) as usize, (stream.total_out() - given) as usize);
            out.extend_from_slice(&room[..given]);
            piece = &piece[taken..];
            match status {
                _ if out.len() > limit => return Err(Verdict::TooLarge),
                Err(_) => return Err(Verdict::Protocol),
                Ok(Status::StreamEnd) => stream.reset(false),
                Ok(_) if piece.is_empty() => return Ok(()),
                Ok(_) if taken + given == 0 => return Err(Verdict::Protocol),
                Ok(_) => {}
            }
        }
    }
}

#[cfg(all(test, feature = "deflate"))]
pub(in crate::transport) use inflating::compare as compare_inflated;
#[cfg(feature = "deflate")]
pub(crate) use inflating::compare_fuzzed as compare_inflated_fuzzed;
