//! The user's headers for the upgrade request.

use std::collections::HashMap;

/// Header names and values.
pub type Headers = HashMap<String, String>;

/// Makes the headers of the upgrade request, anew at every dial, on a thread where it may block.
///
/// `Host`, `Upgrade`, `Connection` and `Sec-WebSocket-*` belong to the handshake (RFC 6455, section 4.1): setting them is
/// an error, as are line breaks in a value.
pub trait HeaderProvider: Send + Sync + 'static {
    /// The headers for the next dial.
    fn get_headers(&self) -> Headers;
}
