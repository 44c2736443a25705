//! Pings that a venue sends as data messages: the trait that knows them, and its built-ins.

use std::cell::RefCell;

use simd_json::prelude::ValueAsScalar;

use crate::message::WsMessage;
use crate::scratch::Scratch;

/// Recognises the venue's pings among the data messages, before anything is parsed.
///
/// A ping is answered by the loop at once, and neither the router nor a handler sees it.
pub trait PassivePingDetector: Send + Sync + 'static {
    /// Whether this message is a ping. Called for every message, so it must be cheap for those that are none.
    fn is_ping(&self, message: &WsMessage<'_>) -> bool;

    /// The answer to a ping.
    fn get_pong_response(&self) -> WsMessage<'_>;

    /// The answer to this ping, for venues that want something of it back. By default
    /// [`get_pong_response`](Self::get_pong_response).
    fn pong_for(&self, _ping: &WsMessage<'_>) -> WsMessage<'_> {
        self.get_pong_response()
    }
}

/// A ping that is one exact text.
#[derive(Debug, Clone)]
pub struct TextPassivePing {
    ping: String,
    pong: WsMessage<'static>,
}

impl TextPassivePing {
    /// Takes the text message `ping` for a ping and answers `pong`.
    pub fn new(ping: impl Into<String>, pong: WsMessage<'static>) -> Self {
        Self { ping: ping.into(), pong }
    }
}

impl PassivePingDetector for TextPassivePing {
    fn is_ping(&self, message: &WsMessage<'_>) -> bool {
        message.as_text() == Some(self.ping.as_str())
    }

    fn get_pong_response(&self) -> WsMessage<'_> {
        self.pong.borrowed()
    }
}

/// A ping that is a JSON object with a certain string in a certain field of its top level.
///
/// Text and binary messages count alike. The same words deeper in the object are no ping; where a key stands twice, its
/// last value counts, as it does for most parsers.
#[derive(Debug, Clone)]
pub struct JsonPassivePing {
    field: String,
    value: String,
    pong: WsMessage<'static>,
}

impl JsonPassivePing {
    /// Takes an object whose top-level `field` is the string `value` for a ping and answers `pong`.
    pub fn new(field: impl Into<String>, value: impl Into<String>, pong: WsMessage<'static>) -> Self {
        Self { field: field.into(), value: value.into(), pong }
    }

    /// Whether parsing is worth it: both words are there, or might be there as escapes.
    fn is_candidate(&self, bytes: &[u8]) -> bool {
        let holds = |word: &str| memchr::memmem::find(bytes, word.as_bytes()).is_some();
        (holds(&self.value) && holds(&self.field)) || memchr::memchr(b'\\', bytes).is_some()
    }
}

impl PassivePingDetector for JsonPassivePing {
    fn is_ping(&self, message: &WsMessage<'_>) -> bool {
        let bytes = message.as_bytes();
        if !self.is_candidate(bytes) {
            return false;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let is_ping = scratch.tape(bytes, |value| {
                let last =
                    value.as_object().and_then(|object| object.iter().filter(|(key, _)| *key == self.field).last());
                Ok(last.is_some_and(|(_, value)| value.as_str() == Some(self.value.as_str())))
            });
            is_ping.unwrap_or(false)
        })
    }

    fn get_pong_response(&self) -> WsMessage<'_> {
        self.pong.borrowed()
    }
}

thread_local! {
    /// A detector is asked through `&self`; the memory that parsing needs belongs to the asking thread.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> JsonPassivePing {
        JsonPassivePing::new("type", "ping", WsMessage::text(r#"{"type":"pong"}"#))
    }

    #[test]
    fn an_exact_text_is_a_ping_and_nothing_else_is() {
        let detector = TextPassivePing::new("ping", WsMessage::text("pong"));
        assert!(detector.is_ping(&"ping".into()));
        assert_eq!(detector.pong_for(&"ping".into()), WsMessage::text("pong"));
        for other in ["ping ", "Ping", "", "{\"ping\":1}"] {
            assert!(!detector.is_ping(&other.into()), "{other}");
        }
        assert!(!detector.is_ping(&WsMessage::binary(b"ping".as_slice())));
    }

    #[test]
    fn json_pings_are_known_in_any_dress() {
        for ping in [
            r#"{"type":"ping"}"#,
            " { \"id\" : [1,{\"a\":2}] ,\n \"type\"\t: \"ping\" } ",
            r#"{"t\u0079pe":"p\u0069ng"}"#,
            r#"{"type":"pong","type":"ping"}"#,
        ] {
            assert!(json().is_ping(&ping.into()), "{ping}");
            assert!(json().is_ping(&WsMessage::binary(ping.as_bytes())), "{ping} as binary");
        }
    }

    #[test]
    fn look_alikes_are_no_pings() {
        for other in [
            r#"{"data":{"type":"ping"}}"#,
            r#"[{"type":"ping"}]"#,
            r#"{"type":"ping2"}"#,
            r#"{"type":"ping","type":"pong"}"#,
            r#"{"kind":"ping","type":1}"#,
            r#"{"note":"\"type\":\"ping\""}"#,
            r#"{"type":"ping""#,
            r#""type ping""#,
            "",
        ] {
            assert!(!json().is_ping(&other.into()), "{other}");
        }
    }
}
