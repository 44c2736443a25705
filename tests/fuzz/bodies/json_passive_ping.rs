//! JSON pings against serde_json: a message is a ping exactly where its top-level field, the last of that name, says so.

use hypersockets::{JsonPassivePing, PassivePingDetector, WsMessage};
use serde_json::Value;

pub(crate) fn run(bytes: &[u8]) {
    let detector = JsonPassivePing::new("op", "ping", WsMessage::text("pong"));
    let is_ping = detector.is_ping(&WsMessage::binary(bytes));
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => assert_eq!(is_ping, value["op"] == "ping", "{value}"),
        // What the one cannot read, by its depth or a number's size, the other may.
        Err(error) if is_ping => {
            let words = error.to_string();
            assert!(words.contains("recursion limit") || words.contains("number out of range"), "{words}");
        }
        Err(_) => {}
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(detector.is_ping(&WsMessage::text(text)), is_ping, "text or binary is the same");
    }
}
