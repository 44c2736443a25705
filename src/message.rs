//! The message that crosses the public API: text or binary, borrowed from the receive buffer or owned.

use std::borrow::Cow;

/// A complete data message of RFC 6455 (section 5.6): one text or binary message, fragments joined.
///
/// On its way in it borrows from the receive buffer, so reading it costs no copy and no allocation; keep it with
/// [`into_owned`](Self::into_owned). On its way out it may borrow or own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WsMessage<'a> {
    /// A text message. It is valid UTF-8: the engine has checked it.
    Text(Cow<'a, str>),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
}

impl<'a> WsMessage<'a> {
    /// A text message.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// A binary message.
    pub fn binary(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self::Binary(bytes.into())
    }

    /// The text, or `None` for a binary message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload's bytes, of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The same message, owning its payload: one copy where it was borrowed.
    pub fn into_owned(self) -> WsMessage<'static> {
        match self {
            Self::Text(text) => WsMessage::Text(Cow::Owned(text.into_owned())),
            Self::Binary(bytes) => WsMessage::Binary(Cow::Owned(bytes.into_owned())),
        }
    }

    /// The same message, borrowed from this one.
    pub fn borrowed(&self) -> WsMessage<'_> {
        match self {
            Self::Text(text) => WsMessage::Text(Cow::Borrowed(text)),
            Self::Binary(bytes) => WsMessage::Binary(Cow::Borrowed(bytes)),
        }
    }
}

impl<'a> From<&'a str> for WsMessage<'a> {
    fn from(text: &'a str) -> Self {
        Self::text(text)
    }
}

impl From<String> for WsMessage<'_> {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl<'a> From<&'a [u8]> for WsMessage<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::binary(bytes)
    }
}

impl From<Vec<u8>> for WsMessage<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}
