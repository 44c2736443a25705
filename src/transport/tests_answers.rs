//! Any answer to an upgrade, in any pieces: one verdict, and exactly the head consumed.

use super::*;
use crate::transport::websocket::tests_reference::pieces;

/// An answer and its cuts, from bytes that a fuzzer makes: number of cuts, their lengths, and the answer, in which `{accept}`
/// stands for the right Sec-WebSocket-Accept.
pub(crate) fn judge_fuzzed(bytes: &[u8]) {
    let [cuts, rest @ ..] = bytes else { return };
    let (cuts, answer) = rest.split_at(rest.len().min(usize::from(cuts % 8)));
    let target = Target::parse("wss://venue.example/ws").expect("it is right");
    let mut upgrade = Upgrade::new(&target, &[], &["v1".to_owned()], &[]).expect("it is right");
    let answer = replace(answer, b"{accept}", upgrade.accept.as_bytes());

    let at_once = judge(&mut upgrade, &[&answer]);
    upgrade.searched = 0;
    assert_eq!(judge(&mut upgrade, &pieces(&answer, cuts)), at_once, "cut {cuts:?}");
    let (verdict, left) = at_once;
    if let Ok(Some(accepted)) = verdict {
        let head = &answer[..answer.len() - left.len()];
        assert!(head.ends_with(b"\r\n\r\n") && head.starts_with(b"HTTP/1.1 101"), "no head was accepted");
        assert!(contains(head, upgrade.accept.as_bytes()), "accepted by whoever does not know the key");
        assert!(accepted.subprotocol.is_none_or(|name| name == "v1"), "nobody asked for that");
    }
}

/// The verdict, and what is left behind the head; of one that is refused, nothing is.
fn judge(upgrade: &mut Upgrade, pieces: &[&[u8]]) -> (Result<Option<Accepted>, DisconnectReason>, Vec<u8>) {
    let mut input = ReceiveBuffer::default();
    let mut verdict = Ok(None);
    for piece in pieces {
        input.append(piece);
        if matches!(verdict, Ok(None)) {
            verdict = upgrade.response(&mut input);
        }
    }
    let left = if verdict.is_ok() { input.data().to_vec() } else { Vec::new() };
    (verdict, left)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn replace(bytes: &[u8], placeholder: &[u8], by: &[u8]) -> Vec<u8> {
    let Some(at) = bytes.windows(placeholder.len()).position(|window| window == placeholder) else {
        return bytes.to_vec();
    };
    [&bytes[..at], by, &bytes[at + placeholder.len()..]].concat()
}
