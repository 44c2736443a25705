use super::*;

const GOOD: [&str; 4] =
    ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: {accept}"];

fn upgrade(subprotocols: &[&str]) -> Upgrade {
    let target = Target::parse("wss://venue.example:8443/ws?key=1").unwrap();
    let subprotocols: Vec<String> = subprotocols.iter().map(|&name| name.into()).collect();
    Upgrade::new(&target, &[], &subprotocols, &[]).unwrap()
}

/// Answers `upgrade` with these lines, `{accept}` filled in, and two bytes of the first frame behind them.
fn answer(upgrade: &mut Upgrade, lines: &[&str]) -> (Result<Option<Accepted>, DisconnectReason>, Vec<u8>) {
    let head = lines.join("\r\n").replace("{accept}", &upgrade.accept) + "\r\n\r\n";
    let mut input = ReceiveBuffer::default();
    input.append(head.as_bytes());
    input.append(&[0x81, 0x00]);
    let verdict = upgrade.response(&mut input);
    (verdict, input.data().to_vec())
}

#[track_caller]
fn accepted(subprotocols: &[&str], lines: &[&str]) -> Option<String> {
    let (verdict, left) = answer(&mut upgrade(subprotocols), lines);
    assert_eq!(left, [0x81, 0x00], "exactly the head is consumed");
    verdict.unwrap().expect("the head is complete").subprotocol
}

#[track_caller]
fn refused(subprotocols: &[&str], lines: &[&str], part: &str) {
    match answer(&mut upgrade(subprotocols), lines).0 {
        Err(DisconnectReason::UpgradeInvalid(what)) => assert!(what.contains(part), "{what}"),
        other => panic!("{other:?}"),
    }
}

fn with<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    [&GOOD[..], extra].concat()
}

/// `GOOD` with its line `index` replaced, or removed by an empty `line`.
fn replacing(index: usize, line: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = GOOD.to_vec();
    lines[index] = line;
    lines.retain(|line| !line.is_empty());
    lines
}

#[test]
fn the_request_is_what_the_rfc_asks_for() {
    let target = Target::parse("ws://[::1]:9001?q=1").unwrap();
    let headers = [("X-Key".into(), "a\tb=".into()), ("Cookie".into(), String::new())];
    let upgrade = Upgrade::new(&target, &headers, &["v2".into(), "v1".into()], &[]).unwrap();
    let request = String::from_utf8(upgrade.request().to_vec()).unwrap();
    let (before, rest) = request.split_once("Sec-WebSocket-Key: ").unwrap();
    let (key, after) = rest.split_once("\r\n").unwrap();
    assert_eq!(
        before,
        "GET /?q=1 HTTP/1.1\r\nHost: [::1]:9001\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    );
    assert_eq!((key.len(), &key[22..]), (24, "=="));
    assert_eq!(after, "Sec-WebSocket-Protocol: v2, v1\r\nX-Key: a\tb=\r\nCookie: \r\n\r\n");
    assert_eq!(upgrade.accept, derive_accept_key(key.as_bytes()));
}

#[test]
fn each_request_has_a_key_of_its_own() {
    assert_ne!(upgrade(&[]).request(), upgrade(&[]).request());
}

#[test]
fn headers_that_would_break_the_request_are_refused_without_their_value() {
    let target = Target::parse("ws://venue.example").unwrap();
    let rows = [
        ("X-Key", "secret\r\nX-Evil: 1", "control character"),
        ("X-Key", "secret\n", "control character"),
        ("X-Key", "secret\r", "control character"),
        ("X-Key", "secret\0", "control character"),
        ("X-Key", "secret\u{1b}[2J", "control character"),
        ("X-Key", "secret\u{7f}", "control character"),
        ("", "secret", "a name"),
        ("X Key", "secret", "a name"),
        ("X-Key:", "secret", "a name"),
        ("X-Key\r\nX-Evil", "secret", "a name"),
        ("X-Clé", "secret", "a name"),
        ("Host", "secret", "handshake"),
        ("UPGRADE", "secret", "handshake"),
        ("connection", "secret", "handshake"),
        ("Sec-WebSocket-Key", "secret", "handshake"),
        ("sec-websocket-extensions", "secret", "handshake"),
        ("Sec-WebSocket-Protocol", "secret", "subprotocol"),
        ("Content-Length", "secret", "body"),
        ("Transfer-Encoding", "secret", "body"),
    ];
    for (name, value, part) in rows {
        match Upgrade::new(&target, &[(name.into(), value.into())], &[], &[]) {
            Err(HyperSocketError::InvalidHeader(what)) => {
                assert!(what.contains(part) && !what.contains("secret"), "{name:?}: {what}");
            }
            other => panic!("{name:?}: {other:?}"),
        }
    }
    for subprotocols in [&["a b"][..], &[""], &["a,b"], &["a", "a"], &["a\r\n"]] {
        let subprotocols: Vec<String> = subprotocols.iter().map(|&name| name.into()).collect();
        let refusal = Upgrade::new(&target, &[], &subprotocols, &[]).unwrap_err();
        assert!(matches!(refusal, HyperSocketError::InvalidConfig(_)), "{subprotocols:?}");
    }
}

#[test]
fn lawful_answers_are_accepted() {
    assert_eq!(accepted(&[], &GOOD), None);
    assert_eq!(accepted(&[], &replacing(0, "HTTP/1.1 101")), None);
    assert_eq!(accepted(&[], &replacing(1, "upgrade:   WebSocket  ")), None);
    assert_eq!(accepted(&[], &replacing(2, "Connection: keep-alive, Upgrade")), None);
    assert_eq!(accepted(&[], &replacing(2, "CONNECTION: close,\tupgrade ,")), None);
    let split = with(&["Connection: keep-alive"]);
    assert_eq!(accepted(&[], &split), None, "the list may be split over headers");
    assert_eq!(accepted(&[], &with(&["Server: x", "Date: \u{e9}", "X-Empty:"])), None);
}

#[test]
fn unlawful_answers_are_refused() {
    refused(&[], &replacing(1, ""), "Upgrade");
    refused(&[], &replacing(1, "Upgrade: h2c"), "Upgrade");
    refused(&[], &replacing(1, "Upgrade: websocket, h2c"), "Upgrade");
    refused(&[], &replacing(2, ""), "Connection");
    refused(&[], &replacing(2, "Connection: keep-alive"), "Connection");
    refused(&[], &replacing(2, "Connection: upgraded"), "Connection");
    refused(&[], &replacing(3, ""), "Accept");
    refused(&[], &replacing(3, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "Accept");
    refused(&[], &replacing(3, "Sec-WebSocket-Accept: {accept}, {accept}"), "Accept");
    refused(&[], &with(&["Sec-WebSocket-Accept: {accept}"]), "Accept");
    refused(&[], &with(&["Sec-WebSocket-Extensions: permessage-deflate"]), "extension");
    refused(&[], &with(&["Sec-WebSocket-Extensions:"]), "extension");
    refused(&[], &replacing(0, "HTTP/1.0 101 Switching Protocols"), "version");
    refused(&[], &replacing(0, "HTTP/2 101 Switching Protocols"), "HTTP/1.1");
    refused(&[], &replacing(0, "ICY 101 OK"), "HTTP/1.1");
    refused(&[], &replacing(0, "HTTP/1.1 1o1 Switching"), "parsed");
    refused(&[], &with(&["Bad Name: x"]), "parsed");
    refused(&[], &with(&["Nameless"]), "parsed");
    refused(&[], &with(&["X: a\n\nY: b"]), "CRLF");
    refused(&[], &with(&vec!["X: y"; 200]), "parsed");
}

#[test]
fn the_accept_key_is_compared_by_case() {
    let mut upgrade = upgrade(&[]);
    let swapped: String = upgrade
        .accept
        .chars()
        .map(|letter| match letter {
            upper if upper.is_ascii_uppercase() => upper.to_ascii_lowercase(),
            other => other.to_ascii_uppercase(),
        })
        .collect();
    let line = format!("Sec-WebSocket-Accept: {swapped}");
    assert!(answer(&mut upgrade, &replacing(3, &line)).0.is_err());
}

#[test]
fn only_one_subprotocol_that_was_asked_for_is_accepted() {
    let chosen = with(&["Sec-WebSocket-Protocol: v1"]);
    assert_eq!(accepted(&["v2", "v1"], &chosen), Some("v1".into()));
    assert_eq!(accepted(&["v2", "v1"], &GOOD), None, "the venue may choose none");
    refused(&[], &chosen, "subprotocol");
    refused(&["v2"], &chosen, "subprotocol");
    refused(&["V1"], &chosen, "subprotocol");
    refused(&["v1", "v2"], &with(&["Sec-WebSocket-Protocol: v1, v2"]), "subprotocol");
    refused(&["v1", "v2"], &with(&["Sec-WebSocket-Protocol:"]), "subprotocol");
    let twice = with(&["Sec-WebSocket-Protocol: v1", "Sec-WebSocket-Protocol: v1"]);
    refused(&["v1"], &twice, "subprotocol");
}

#[test]
fn other_statuses_are_told_with_their_retry_after() {
    let rows = [
        ("HTTP/1.1 200 OK", "X: y", 200, None),
        ("HTTP/1.1 301 Moved", "Location: ws://elsewhere.example", 301, None),
        ("HTTP/1.1 401 Unauthorized", "X: y", 401, None),
        ("HTTP/1.1 429 Too Many", "retry-after: 7 ", 429, Some(7)),
        ("HTTP/1.1 503 Busy", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT", 503, None),
        ("HTTP/1.1 503 Busy", "Retry-After: -1", 503, None),
        ("HTTP/1.0 503 Busy", "Retry-After: 120", 503, Some(120)),
    ];
    for (first, header, status, seconds) in rows {
        let verdict = answer(&mut upgrade(&[]), &[first, header, "Content-Length: 2"]).0;
        let retry_after = seconds.map(Duration::from_secs);
        assert_eq!(verdict, Err(DisconnectReason::UpgradeRejected { status, retry_after }));
    }
}

#[test]
fn the_answer_may_come_byte_by_byte_and_from_other_buffers() {
    let mut upgrade = upgrade(&[]);
    let head = GOOD.join("\r\n").replace("{accept}", &upgrade.accept) + "\r\n\r\n";
    for end in 1..head.len() {
        let mut input = ReceiveBuffer::default();
        input.append(&head.as_bytes()[..end]);
        assert_eq!(upgrade.response(&mut input), Ok(None), "{end}");
        assert_eq!(input.len(), end, "nothing is consumed early");
    }
    let mut input = ReceiveBuffer::default();
    input.append(head.as_bytes());
    input.append(b"\x81\x02hi");
    assert_eq!(upgrade.response(&mut input), Ok(Some(Accepted { subprotocol: None, compression: None })));
    assert_eq!(input.data(), b"\x81\x02hi");
}

#[test]
fn an_endless_head_ends_at_16_kib_and_another_protocol_at_its_first_byte() {
    let (mut endless, mut input) = (upgrade(&[]), ReceiveBuffer::default());
    input.append(b"HTTP/1.1 101 Switching Protocols\r\nX: ");
    let verdict = loop {
        input.append(b"y");
        match endless.response(&mut input) {
            Ok(None) => {}
            verdict => break verdict,
        }
    };
    assert!(matches!(verdict, Err(DisconnectReason::UpgradeInvalid(what)) if what.contains("16")));
    assert_eq!(input.len(), 16 * 1024);

    let filler = format!("X: {}", "y".repeat(16 * 1024));
    refused(&[], &with(&[&filler]), "16 KiB");
    let filler = format!("X: {}", "y".repeat(15 * 1024));
    assert_eq!(accepted(&[], &with(&[&filler])), None);

    let (mut other, mut input) = (upgrade(&[]), ReceiveBuffer::default());
    input.append(b"S");
    assert!(matches!(other.response(&mut input), Err(DisconnectReason::UpgradeInvalid(_))));
}

#[test]
fn debug_shows_neither_key_nor_headers() {
    let target = Target::parse("ws://venue.example/?token=hunter2").unwrap();
    let upgrade = Upgrade::new(&target, &[("X-Key".into(), "hunter3".into())], &[], &[]).unwrap();
    assert_eq!(format!("{upgrade:?}"), "Upgrade { searched: 0, .. }");
}

impl Upgrade {
    /// The answer of a venue that accepts.
    pub(crate) fn acceptance(&self) -> Vec<u8> {
        (GOOD.join("\r\n").replace("{accept}", &self.accept) + "\r\n\r\n").into_bytes()
    }
}
