use super::*;

const LIMITS: Limits = Limits { max_message_bytes: 1 << 20, max_queued_bytes: 0 };

fn parse(bytes: &[u8], fragment_open: bool) -> Result<Option<Header>, Violation> {
    parse_header(bytes, fragment_open, 0, false, &LIMITS)
}

/// The header is lawful up to its last byte, and that byte condemns it.
fn assert_condemned_by_last_byte(bytes: &[u8], fragment_open: bool, part: &str) {
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end], fragment_open), Ok(None), "{bytes:02x?} up to {end}");
    }
    match parse(bytes, fragment_open) {
        Err(Violation::Protocol(what)) => assert!(what.contains(part), "{bytes:02x?}: {what}"),
        other => panic!("{bytes:02x?}: {other:?}"),
    }
    let mut longer = bytes.to_vec();
    longer.extend_from_slice(&[0; 300]);
    assert!(matches!(parse(&longer, fragment_open), Err(Violation::Protocol(_))));
}

#[test]
fn each_rule_is_judged_with_its_first_offending_byte() {
    for bit in [0x40, 0x20, 0x10] {
        assert_condemned_by_last_byte(&[0x81 | bit], false, "reserved bit");
        assert_condemned_by_last_byte(&[0x8A | bit], true, "reserved bit");
    }
    for opcode in (3..=7).chain(11..=15) {
        assert_condemned_by_last_byte(&[0x80 | opcode], false, "reserved opcode");
        assert_condemned_by_last_byte(&[opcode], true, "reserved opcode");
    }
    for opcode in [8, 9, 10] {
        assert_condemned_by_last_byte(&[opcode], false, "fragmented control");
        assert_condemned_by_last_byte(&[0x80 | opcode, 126], false, "125 bytes");
        assert_condemned_by_last_byte(&[0x80 | opcode, 127], true, "125 bytes");
        assert_condemned_by_last_byte(&[0x80 | opcode, 0x80], false, "masked");
    }
    for first in [0x00, 0x80] {
        assert_condemned_by_last_byte(&[first], false, "continuation of no message");
    }
    for first in [0x01, 0x02, 0x81, 0x82] {
        assert_condemned_by_last_byte(&[first], true, "new message inside");
    }
    assert_condemned_by_last_byte(&[0x81, 0x80], false, "masked");
    assert_condemned_by_last_byte(&[0x82, 0xFE], false, "masked");
    assert_condemned_by_last_byte(&[0x88, 1], false, "close code of one byte");
    assert_condemned_by_last_byte(&[0x81, 126, 0, 125], false, "shortest form");
    assert_condemned_by_last_byte(&[0x82, 127, 0, 0, 0, 0, 0, 0], false, "shortest form");
    assert_condemned_by_last_byte(&[0x82, 127, 0x80], false, "top bit");
    assert_condemned_by_last_byte(&[0x80, 127, 0xFF], true, "top bit");
}

#[test]
fn the_limit_is_judged_as_soon_as_the_length_must_cross_it() {
    let claims =
        |bytes: &[u8], fragment_bytes| match parse_header(bytes, fragment_bytes > 0, fragment_bytes, false, &LIMITS) {
            Err(Violation::TooLarge { claimed_bytes, limit_bytes }) => {
                assert_eq!(limit_bytes, 1 << 20);
                Some(claimed_bytes)
            }
            Ok(_) => None,
            Err(other) => panic!("{other:?}"),
        };
    assert_eq!(claims(&[0x82, 127, 0x7F], 0), Some(0x7F << 56));
    assert_eq!(claims(&[0x82, 127, 0, 0, 0, 0, 0, 0x10], 0), None);
    assert_eq!(claims(&[0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 0], 0), None, "exactly the limit");
    assert_eq!(claims(&[0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 1], 0), Some((1 << 20) + 1));
    assert_eq!(claims(&[0x82, 127, 0, 0, 0, 0, 0, 0x11], 0), Some(0x11_0000));
    assert_eq!(claims(&[0x80, 100], (1 << 20) - 100), None, "the fragments sum to the limit");
    assert_eq!(claims(&[0x80, 101], (1 << 20) - 100), Some((1 << 20) + 1));
    assert_eq!(claims(&[0x80, 126, 1], (1 << 20) - 100), Some((1 << 20) + 156));
    assert_eq!(claims(&[0x89, 125], (1 << 20) - 100), None, "a ping is no part of the message");
}

#[test]
fn lawful_headers_are_read_whole_or_not_at_all() {
    for (bytes, len, payload_len) in [
        (&[0x81, 0][..], 2, 0),
        (&[0x82, 125], 2, 125),
        (&[0x01, 126, 0, 126], 4, 126),
        (&[0x81, 126, 0xFF, 0xFF], 4, 0xFFFF),
        (&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 10, 0x1_0000),
        (&[0x88, 0], 2, 0),
        (&[0x89, 125], 2, 125),
    ] {
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end], false), Ok(None));
        }
        assert_eq!(parse(bytes, false), Ok(Some(Header { first: bytes[0], len, payload_len })));
    }
    assert!(parse(&[0x80, 0], true).unwrap().unwrap().is_final());
    assert!(parse(&[0x8A, 0], true).unwrap().unwrap().is_control());
}

#[test]
fn encoded_frames_unmask_to_what_was_given() {
    let payload: Vec<u8> = (0..70_000u32).map(|byte| (byte * 7) as u8).collect();
    let mut masks = Masks::default();
    for len in (0..40).chain([125, 126, 127, 65_535, 65_536, 70_000]) {
        let (mut out, mask) = (vec![0xEE; 3], masks.next());
        encode(&mut out, Opcode::Binary, false, &payload[..len], mask);
        let head = match len {
            0..=125 => 2,
            126..=0xFFFF => 4,
            _ => 10,
        };
        let frame = &mut out[3..];
        assert_eq!((frame[0], frame[1] & 0x80), (0x82, 0x80));
        assert_eq!(frame[head..head + 4], mask);
        for (index, byte) in frame[head + 4..].iter_mut().enumerate() {
            *byte ^= mask[index % 4];
        }
        assert_eq!(frame[head + 4..], payload[..len]);
        frame[1] &= 0x7F;
        let header = parse(frame, false).unwrap().unwrap();
        assert_eq!((header.len, header.payload_len), (head, len));
    }
}

#[test]
fn masks_do_not_repeat_within_or_across_connections() {
    let (mut a, mut b) = (Masks::default(), Masks::default());
    let mut seen: Vec<[u8; 4]> = (0..100).flat_map(|_| [a.next(), b.next()]).collect();
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() >= 199, "200 masks of 32 bits, {} of them distinct", seen.len());
}
