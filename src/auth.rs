//! The user's authentication: a message at every dial, and a verdict on what the venue answers.

use crate::error::Result;
use crate::message::WsMessage;

/// Authenticates each session, before any subscription leaves.
///
/// [`get_auth_message`](Self::get_auth_message) is called anew at every dial, on a thread where it may block; the judging
/// methods are called on the loop and must not.
pub trait AuthProvider: Send + Sync + 'static {
    /// The first message of the session; `None` where this session needs no authentication.
    ///
    /// # Errors
    /// Any; the dial counts as failed and is tried again by the reconnection strategy.
    fn get_auth_message(&self) -> Result<Option<WsMessage<'_>>>;

    /// Whether `response` accepts us: `Ok(true)` it does, `Ok(false)` it is no answer to the auth message and goes on to
    /// the router.
    ///
    /// # Errors
    /// Any: the venue rejected us, or answered what nobody understands. The session ends.
    fn validate_auth_response(&self, response: &WsMessage<'_>) -> Result<bool>;

    /// Judges one message that came before acceptance. Implement it in place of
    /// [`validate_auth_response`](Self::validate_auth_response) where the venue asks back.
    fn judge_auth_response(&self, response: &WsMessage<'_>) -> AuthVerdict {
        match self.validate_auth_response(response) {
            Ok(true) => AuthVerdict::Accepted,
            Ok(false) => AuthVerdict::Unrelated,
            Err(error) => AuthVerdict::Rejected(error.to_string()),
        }
    }
}

/// What a message means that came while authenticating.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthVerdict {
    /// We are authenticated: the session is live.
    Accepted,
    /// It is no answer to the auth message: it goes on to the router, in order.
    Unrelated,
    /// The venue refused us; the words must not hold a secret.
    Rejected(String),
    /// The venue asks back: send this, and wait on.
    Reply(WsMessage<'static>),
}
