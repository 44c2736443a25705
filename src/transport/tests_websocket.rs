use super::tests_reference::{frame, unmasked};
use super::*;

/// One client session, fed by hand; what it delivers is kept as text.
struct Session {
    socket: WebSocket,
    input: ReceiveBuffer,
    out: WriteBuffer,
    seen: Vec<String>,
}

impl Session {
    fn with_limit(max_message_bytes: u64) -> Self {
        Self {
            socket: WebSocket::new(Limits { max_message_bytes, ..Limits::default() }, None),
            input: ReceiveBuffer::default(),
            out: WriteBuffer::default(),
            seen: Vec::new(),
        }
    }

    fn new() -> Self {
        Self::with_limit(Limits::default().max_message_bytes)
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<ReadOutcome, DisconnectReason> {
        self.input.append(bytes);
        let seen = &mut self.seen;
        self.socket.read(&mut self.input, &mut self.out, |incoming, _, _| {
            seen.push(shown(&incoming));
        })
    }

    #[track_caller]
    fn open(&mut self, bytes: &[u8]) {
        assert_eq!(self.feed(bytes), Ok(ReadOutcome::Open));
    }

    /// The venue sees these frames of ours, and nothing else is queued.
    #[track_caller]
    fn venue_sees(&mut self, frames: &[(u8, &[u8])]) {
        let expected: Vec<_> = frames.iter().map(|&(first, body)| (first, body.to_vec())).collect();
        assert_eq!(unmasked(self.out.pending()), expected);
        self.out.take(self.out.pending().len());
    }

    #[track_caller]
    fn saw(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.seen), expected);
    }
}

fn shown(incoming: &Incoming<'_>) -> String {
    match incoming {
        Incoming::Inflated(..) => panic!("nothing was compressed"),
        Incoming::Message(WsMessage::Text(text)) => format!("text {text}"),
        Incoming::Message(WsMessage::Binary(bytes)) => format!("binary {bytes:?}"),
        Incoming::Ping => "ping".into(),
        Incoming::Pong(bytes) => format!("pong {}", String::from_utf8_lossy(bytes)),
    }
}

pub(super) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(0x88, [&code.to_be_bytes(), reason.as_bytes()].concat())
}

const CLOSE_1002: (u8, &[u8]) = (0x88, &[0x03, 0xEA]);
const CLOSE_1007: (u8, &[u8]) = (0x88, &[0x03, 0xEF]);
const CLOSE_1009: (u8, &[u8]) = (0x88, &[0x03, 0xF1]);

#[test]
fn whole_messages_are_delivered_in_order_at_any_cut() {
    let large = "é".repeat(40_000);
    let stream = [
        frame(0x81, "one"),
        frame(0x82, [1, 2]),
        frame(0x81, ""),
        frame(0x8A, "answer"),
        frame(0x81, &large),
        frame(0x81, "last"),
    ]
    .concat();
    let large = format!("text {large}");
    let expected = ["text one", "binary [1, 2]", "text ", "pong answer", &large, "text last"];
    for piece in [1, 2, 3, 7, 1_000, 65_536, stream.len()] {
        let mut session = Session::new();
        for bytes in stream.chunks(piece) {
            session.open(bytes);
        }
        session.saw(&expected);
        session.venue_sees(&[]);
        assert!(session.input.is_empty());
    }
}

#[test]
fn messages_are_lent_from_the_receive_buffer() {
    let mut input = ReceiveBuffer::default();
    input.append(&frame(0x81, "lent"));
    let expected = input.data()[2..].as_ptr();
    let mut socket = WebSocket::new(Limits::default(), None);
    let outcome = socket.read(&mut input, &mut WriteBuffer::default(), |incoming, _, _| {
        let Incoming::Message(message) = incoming else { panic!("{incoming:?}") };
        assert_eq!(message.as_bytes().as_ptr(), expected);
    });
    assert_eq!(outcome, Ok(ReadOutcome::Open));
}

#[test]
fn fragments_are_joined_around_control_frames() {
    let mut session = Session::new();
    session.open(&frame(0x01, "a"));
    session.open(&[frame(0x89, "p"), frame(0x00, "b"), frame(0x8A, "q")].concat());
    session.saw(&["ping", "pong q"]);
    session.venue_sees(&[(0x8A, b"p")]);
    session.open(&[frame(0x80, "c"), frame(0x81, "next")].concat());
    session.saw(&["text abc", "text next"]);
    session.open(&[frame(0x02, [1]), frame(0x00, []), frame(0x80, [0xFF])].concat());
    session.saw(&["binary [1, 255]"]);
    session.venue_sees(&[]);
}

#[test]
fn a_ping_and_then_a_violation_get_the_pong_and_then_the_close() {
    let mut session = Session::new();
    let stream = [frame(0x81, "good"), frame(0x89, "p"), vec![0xC1], frame(0x81, "bad")].concat();
    let reason = session.feed(&stream).unwrap_err();
    assert_eq!(reason, DisconnectReason::ProtocolViolation("reserved bit set".into()));
    session.saw(&["text good", "ping"]);
    session.venue_sees(&[(0x8A, b"p"), CLOSE_1002]);
    assert!(session.input.is_empty(), "the rest is discarded");
    assert_eq!(session.feed(&frame(0x81, "more")).unwrap_err(), reason, "and so is what follows");
    session.saw(&[]);
    session.venue_sees(&[]);
}

#[test]
fn each_kind_of_violation_has_its_close_code() {
    let rows = [
        (vec![0x83], CLOSE_1002),
        (frame(0x80, "x"), CLOSE_1002),
        (vec![0x88, 1], CLOSE_1002),
        (close_frame(1005, ""), CLOSE_1002),
        (close_frame(999, "no"), CLOSE_1002),
        (frame(0x88, b"\x03\xE8\xFF"), CLOSE_1007),
        (frame(0x81, b"\xFF"), CLOSE_1007),
        (vec![0x82, 126, 0x40, 0], CLOSE_1009),
    ];
    for (stream, close) in rows {
        let mut session = Session::with_limit(10_000);
        let reason = session.feed(&stream).unwrap_err();
        let sent = unmasked(session.out.pending());
        assert_eq!((sent.len(), sent[0].0), (1, 0x88), "{stream:02x?}: {reason}");
        assert_eq!(sent[0].1[..2], close.1[..2], "{stream:02x?}: {reason}");
        assert_eq!(session.seen, [""; 0]);
    }
}

#[test]
fn text_that_is_not_utf8_fails_at_the_byte_that_shows_it() {
    let bad: &[&[u8]] = &[b"ok\xFF", b"\xC0", b"\xE0\x80", b"\xED\xA0", b"\xF4\x90", b"\xF0\x9F\x98x", b"\x80"];
    for text in bad {
        let (lawful, last) = text.split_at(text.len() - 1);
        // An unfinished single frame, an unfinished fragment, and a whole fragment.
        for (begin, len) in [(0x81, 99), (0x01, 99), (0x01, text.len() as u8)] {
            let mut session = Session::new();
            session.open(&[begin, len]);
            session.open(lawful);
            assert_eq!(session.feed(last), Err(DisconnectReason::InvalidUtf8), "{text:02x?}");
            session.venue_sees(&[CLOSE_1007]);
        }
        // Split over fragments, with a ping in between.
        let mut session = Session::new();
        session.open(&[frame(0x01, lawful), frame(0x89, b"\xFF"), vec![0x80, 99]].concat());
        assert_eq!(session.feed(last), Err(DisconnectReason::InvalidUtf8), "{text:02x?}");
        session.venue_sees(&[(0x8A, b"\xFF"), CLOSE_1007]);
    }
}

#[test]
fn characters_may_be_cut_anywhere_but_at_the_end_of_a_message() {
    let text = "aé€😀";
    for cut in 0..=text.len() {
        let (head, tail) = text.as_bytes().split_at(cut);
        let stream = [frame(0x01, head), frame(0x00, []), frame(0x80, tail)].concat();
        for piece in [1, 2, stream.len()] {
            let mut session = Session::new();
            for bytes in stream.chunks(piece) {
                session.open(bytes);
            }
            session.open(&frame(0x81, "é"));
            session.saw(&["text aé€😀", "text é"]);
        }
    }
    for stream in [frame(0x81, b"a\xC3"), [frame(0x01, b"a"), frame(0x80, b"\xC3")].concat()] {
        for piece in [1, stream.len()] {
            let mut session = Session::new();
            let verdict = stream.chunks(piece).map(|bytes| session.feed(bytes)).last();
            assert_eq!(verdict, Some(Err(DisconnectReason::InvalidUtf8)));
            session.venue_sees(&[CLOSE_1007]);
        }
    }
}

#[test]
fn the_unfinished_frame_may_move_to_another_buffer() {
    let text = "€".repeat(5_000);
    let stream = [frame(0x81, "before"), frame(0x81, &text), frame(0x82, [9])].concat();
    let (mut socket, mut out) = (WebSocket::new(Limits::default(), None), WriteBuffer::default());
    let (mut kept, mut seen) = (Vec::new(), Vec::new());
    for piece in stream.chunks(1_001) {
        let mut hot = ReceiveBuffer::with_capacity(0);
        hot.append(&kept);
        hot.append(piece);
        let outcome = socket.read(&mut hot, &mut out, |incoming, _, _| {
            seen.push(shown(&incoming));
        });
        assert_eq!(outcome, Ok(ReadOutcome::Open));
        kept = hot.data().to_vec();
    }
    assert_eq!(seen, ["text before".into(), format!("text {text}"), "binary [9]".into()]);
}

#[test]
fn the_peers_close_is_echoed_and_ends_the_reading() {
    let mut session = Session::new();
    let stream = [frame(0x81, "last"), close_frame(1012, "restart"), frame(0x81, "late"), vec![0xFF]];
    let closed = ReadOutcome::PeerClosed { code: Some(1012), reason: "restart".into() };
    assert_eq!(session.feed(&stream.concat()), Ok(closed.clone()));
    session.saw(&["text last"]);
    session.venue_sees(&[(0x88, b"\x03\xF4restart")]);
    assert_eq!(session.feed(&frame(0x81, "later")), Ok(closed));
    assert!(session.input.is_empty() && session.seen.is_empty());
    assert!(!session.socket.writer(&mut session.out).send(&WsMessage::text("order")));
    session.socket.close(1000, "", &mut session.out);
    session.venue_sees(&[]);

    let mut session = Session::new();
    let closed = ReadOutcome::PeerClosed { code: None, reason: String::new() };
    assert_eq!(session.feed(&frame(0x88, "")), Ok(closed));
    session.venue_sees(&[(0x88, b"")]);
}

#[test]
fn nothing_follows_our_close_but_reading_goes_on() {
    let mut session = Session::new();
    assert!(session.socket.writer(&mut session.out).send(&WsMessage::text("order")));
    assert!(session.socket.writer(&mut session.out).ping(b"hi"));
    session.socket.close(1000, &"é".repeat(70), &mut session.out);
    session.socket.close(1001, "again", &mut session.out);
    assert!(!session.socket.writer(&mut session.out).send(&WsMessage::binary(&[1][..])));
    assert!(!session.socket.writer(&mut session.out).ping(b"hi"));
    let close = [b"\x03\xE8", "é".repeat(61).as_bytes()].concat();
    session.venue_sees(&[(0x81, b"order"), (0x89, b"hi"), (0x88, &close)]);
    session.open(&[frame(0x81, "still"), frame(0x89, "p"), frame(0x8A, "q")].concat());
    session.saw(&["text still", "ping", "pong q"]);
    let closed = ReadOutcome::PeerClosed { code: Some(1000), reason: String::new() };
    assert_eq!(session.feed(&close_frame(1000, "")), Ok(closed));
    session.venue_sees(&[]);

    let mut session = Session::new();
    session.socket.close(1000, "", &mut session.out);
    session.feed(&[0xFF]).unwrap_err();
    session.venue_sees(&[(0x88, b"\x03\xE8")]);
}

#[test]
fn a_message_can_be_answered_while_it_is_lent() {
    let mut session = Session::new();
    session.input.append(&[frame(0x81, "tick"), frame(0x89, "p"), frame(0x81, "tock")].concat());
    let outcome = session.socket.read(&mut session.input, &mut session.out, |incoming, _, writer| {
        if let Incoming::Message(message) = incoming {
            assert!(writer.send(message));
            assert!(writer.ping(b""));
            assert!(!writer.out().is_empty());
        }
    });
    assert_eq!(outcome, Ok(ReadOutcome::Open));
    let (tick, tock) = ((0x81, &b"tick"[..]), (0x81, &b"tock"[..]));
    session.venue_sees(&[tick, (0x89, b""), (0x8A, b"p"), tock, (0x89, b"")]);
}

#[test]
fn a_length_bomb_costs_nothing() {
    for bomb in [&[0x82, 127, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF][..], &[0x01, 126, 0xFF, 0xFF]] {
        let mut session = Session::new();
        session.open(bomb);
        session.open(b"a few bytes of it");
        assert!(session.input.capacity() <= 4096, "{}", session.input.capacity());
    }
    let mut session = Session::new();
    let reason = session.feed(&[0x82, 127, 0x7F]).unwrap_err();
    assert!(matches!(reason, DisconnectReason::TooLarge { limit_bytes: 0x100_0000, .. }));
    session.venue_sees(&[CLOSE_1009]);
}

#[test]
fn fragments_are_refused_at_the_header_that_crosses_the_limit() {
    let mut session = Session::with_limit(100);
    session.open(&[frame(0x01, [b'a'; 60]), frame(0x00, []), frame(0x89, [0; 125])].concat());
    session.open(&[frame(0x80, [b'a'; 40]), frame(0x82, [7; 100]), frame(0x02, [7; 60])].concat());
    assert_eq!(session.seen.len(), 3);
    let reason = session.feed(&[0x00, 41]).unwrap_err();
    assert_eq!(reason, DisconnectReason::TooLarge { claimed_bytes: 101, limit_bytes: 100 });
    session.venue_sees(&[(0x8A, &[0; 125]), CLOSE_1009]);
}

#[test]
fn pongs_coalesce_to_the_newest_where_the_peer_does_not_read() {
    let mut session = Session::new();
    let flood = 2_000u32;
    for number in 0..flood {
        session.open(&frame(0x89, format!("{number:0125}")));
    }
    session.open(&frame(0x81, "the feed goes on"));
    assert_eq!(session.seen.len(), flood as usize + 1);
    assert!(session.out.pending().len() < 66_000, "{}", session.out.pending().len());
    session.out.take(session.out.pending().len());
    session.open(&frame(0x81, "room again"));
    let pongs = unmasked(session.out.pending());
    assert!(pongs.len() < 70, "{}", pongs.len());
    let newest = pongs.last().unwrap();
    assert_eq!(newest.1, format!("{:0125}", flood - 1).into_bytes());
}

#[test]
fn the_close_leaves_whole_and_last_however_full_we_are() {
    for violates in [false, true] {
        let mut session = Session::new();
        for number in 0..1_000u32 {
            session.open(&frame(0x89, format!("{number:0125}")));
        }
        if violates {
            session.feed(&[0xFF]).unwrap_err();
        } else {
            session.feed(&close_frame(1001, "")).unwrap();
        }
        let frames = unmasked(session.out.pending());
        let [.., pong, close] = &frames[..] else { panic!("{} frames", frames.len()) };
        assert_eq!(pong.0, 0x8A);
        if violates {
            assert_eq!(pong.1, format!("{:0125}", 999).into_bytes());
        }
        let code = if violates { 1002u16 } else { 1001 };
        assert_eq!((close.0, &close.1[..]), (0x88, &code.to_be_bytes()[..]));
        assert_eq!(frames.iter().filter(|frame| frame.0 == 0x88).count(), 1);
    }
}
