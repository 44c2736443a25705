//! What a call can answer ([`HyperSocketError`]) and why a connection ended ([`DisconnectReason`]); the two don't mix.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// The result of every fallible call of this crate, and of the user's parsers and handlers.
pub type Result<T, E = HyperSocketError> = std::result::Result<T, E>;

/// Why a call failed: who is at fault, and what can be done.
#[derive(Debug)]
#[non_exhaustive]
pub enum HyperSocketError {
    /// A router could not read a message. Returned by routers; counted in `parse_errors`.
    Parse(String),
    /// A router passes over a message on purpose. Counted in `skipped`; costs no allocation and is no error.
    Skip,
    /// An error of the user's own code, in words.
    Custom(Cow<'static, str>),
    /// An error of the user's own code, as it came.
    Boxed(Box<dyn Error + Send + Sync>),
    /// The operating system refused something.
    Io(io::Error),
    /// The URL cannot be dialed as written. Fix the URL.
    InvalidUrl(String),
    /// The configuration contradicts itself or asks for something that is not there. Fix the configuration.
    InvalidConfig(String),
    /// A header that would break the upgrade request, or one that the handshake sets itself. Fix the provider.
    InvalidHeader(String),
    /// The client is not live, so nothing was queued. Wait for `Live`, then decide whether the message still holds.
    NotConnected,
    /// The session that the message was meant for is over; nothing was queued.
    EpochChanged {
        /// The epoch that is current now.
        current: u64,
    },
    /// The peer reads slower than we write: nothing was queued. Retry after it has caught up, or raise the limit.
    WriteBufferFull {
        /// Bytes queued and not yet taken by the kernel.
        queued_bytes: usize,
        /// The limit that the message would have crossed, in bytes.
        limit_bytes: usize,
    },
    /// The venue's [`MessageLimit`](crate::MessageLimit) lets no message through now: nothing was queued.
    RateLimited {
        /// When it will let the next one through.
        retry_in: Duration,
    },
    /// The venue allows no more subscriptions on one connection.
    TooManySubscriptions {
        /// So many are allowed.
        limit: usize,
    },
    /// The session of this epoch ended before the reply: the venue may have acted on the request all the same. It is not sent again.
    RequestLost {
        /// The epoch of the session that the request was made in.
        epoch: u64,
    },
    /// A request with this id waits for its reply already.
    DuplicateRequest(String),
    /// The first dial failed; see the reason. Nothing is left running.
    ConnectFailed(DisconnectReason),
    /// What was waited for did not happen in time.
    TimedOut(Duration),
    /// The client is closed: shut down, or failed for good with this reason.
    Closed(DisconnectReason),
    /// The feed cannot be put together from several connections, and why. Fix the router, or do without.
    NotSpliced(String),
    /// The client has no subscription of this name.
    UnknownSubscription(String),
    /// The client has a subscription of this name already.
    DuplicateSubscription(String),
    /// No client of the manager has this name.
    UnknownClient(String),
    /// A client of the manager has this name already.
    DuplicateClient(String),
    /// A blocking call was made on one of the engine's own threads, where it could never return.
    WouldDeadlock(&'static str),
    /// The core does not exist, or is outside the process's affinity mask.
    CoreUnavailable {
        /// The core that was asked for.
        core: usize,
        /// The cores that the process may use.
        allowed: Vec<usize>,
    },
}

impl fmt::Display for HyperSocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(what) => write!(f, "message could not be parsed: {what}"),
            Self::Skip => f.write_str("message skipped by the router"),
            Self::Custom(what) => f.write_str(what),
            Self::Boxed(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::InvalidUrl(what) => write!(f, "invalid WebSocket URL: {what}"),
            Self::InvalidConfig(what) => write!(f, "invalid configuration: {what}"),
            Self::InvalidHeader(what) => write!(f, "invalid header from the header provider: {what}"),
            Self::NotConnected => f.write_str("not connected: nothing was queued"),
            Self::EpochChanged { current } => {
                write!(f, "the session changed (epoch {current} now): nothing was queued")
            }
            Self::WriteBufferFull { queued_bytes, limit_bytes } => {
                write!(f, "write buffer full ({queued_bytes} of {limit_bytes} bytes queued): the peer reads too slowly")
            }
            Self::RateLimited { retry_in } => {
                write!(f, "over the message limit: nothing was queued; retry in {retry_in:?}")
            }
            Self::TooManySubscriptions { limit } => {
                write!(f, "the limit of {limit} subscriptions on one connection is reached: take another client")
            }
            Self::RequestLost { epoch } => {
                write!(
                    f,
                    "the session (epoch {epoch}) ended before the reply came; what became of the request is unknown"
                )
            }
            Self::DuplicateRequest(id) => write!(f, "a request with the id {id} waits for its reply already"),
            Self::ConnectFailed(reason) => write!(f, "could not connect: {reason}"),
            Self::TimedOut(after) => write!(f, "did not happen within {after:?}"),
            Self::Closed(reason) => write!(f, "the client is closed: {reason}"),
            Self::NotSpliced(why) => write!(f, "the feed cannot be put together from several connections: {why}"),
            Self::UnknownSubscription(name) => write!(f, "there is no subscription {name:?}"),
            Self::DuplicateSubscription(name) => write!(f, "there is a subscription {name:?} already"),
            Self::UnknownClient(id) => write!(f, "there is no client {id:?}"),
            Self::DuplicateClient(id) => write!(f, "there is a client {id:?} already"),
            Self::WouldDeadlock(call) => {
                write!(f, "{call} called on one of the engine's own threads would wait for itself")
            }
            Self::CoreUnavailable { core, allowed } => {
                write!(f, "core {core} is not available to this process (allowed: {allowed:?})")
            }
        }
    }
}

impl Error for HyperSocketError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Boxed(error) => Some(error.as_ref()),
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<&'static str> for HyperSocketError {
    fn from(what: &'static str) -> Self {
        Self::Custom(Cow::Borrowed(what))
    }
}

impl From<String> for HyperSocketError {
    fn from(what: String) -> Self {
        Self::Custom(Cow::Owned(what))
    }
}

impl From<io::Error> for HyperSocketError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(feature = "serde_json")]
impl From<serde_json::Error> for HyperSocketError {
    fn from(error: serde_json::Error) -> Self {
        Self::Parse(error.to_string())
    }
}

impl From<std::time::SystemTimeError> for HyperSocketError {
    fn from(error: std::time::SystemTimeError) -> Self {
        Self::Boxed(Box::new(error))
    }
}

impl From<std::env::VarError> for HyperSocketError {
    fn from(error: std::env::VarError) -> Self {
        Self::Boxed(Box::new(error))
    }
}

impl From<Box<dyn Error + Send + Sync>> for HyperSocketError {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        Self::Boxed(error)
    }
}

/// Why a dial failed or a live connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The URL cannot be dialed as written. Fatal: trying again cannot mend it.
    InvalidUrl(String),
    /// A URL or subscription closure, header provider or auth provider returned an error.
    Provider(String),
    /// The header provider made a header that would break the upgrade request, or one that the handshake sets itself. Not a
    /// byte was sent.
    InvalidHeader(String),
    /// The host name could not be resolved.
    Resolve(String),
    /// No address accepted a TCP connection; each is named with its error. Or the dialer gave no socket.
    Connect(String),
    /// The system refused an option of the [`SocketOptions`](crate::SocketOptions).
    SocketOption {
        /// The method, and what it was given.
        option: String,
        /// The system's error, in words.
        error: String,
    },
    /// TLS failed: the certificate, the version, or a record that does not verify.
    Tls(String),
    /// The venue answered the upgrade with another status than 101.
    UpgradeRejected {
        /// The HTTP status.
        status: u16,
        /// `Retry-After` of the answer, where it held one in seconds.
        retry_after: Option<Duration>,
    },
    /// The venue's answer to the upgrade breaks RFC 6455, section 4.1.
    UpgradeInvalid(String),
    /// The venue rejected the authentication.
    AuthRejected(String),
    /// The dial would have had to wait this long for its turn under a [`ConnectionLimit`](crate::ConnectionLimit), or for the host's
    /// `Retry-After`.
    HeldBack(Duration),
    /// A phase did not end before its deadline.
    Deadline(&'static str),
    /// The venue sent a Close frame (RFC 6455, section 5.5.1).
    ClosedByPeer {
        /// The close code, where there was one.
        code: Option<u16>,
        /// The close reason; empty where there was none.
        reason: String,
    },
    /// The connection ended without a Close frame: FIN, or TLS close_notify.
    EndOfStream,
    /// The connection broke while reading or writing.
    Broken(String),
    /// The venue broke the WebSocket protocol; it was sent Close 1002.
    ProtocolViolation(String),
    /// A text message was not UTF-8; the venue was sent Close 1007.
    InvalidUtf8,
    /// A frame or message crossed the limit; the venue was sent Close 1009.
    TooLarge {
        /// What the header, or the sum of the fragments, claims, in bytes.
        claimed_bytes: u64,
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// No pong, and no other sign of life where that would have done, came in time after our ping.
    PongTimeout,
    /// No data message came for the data-idle timeout.
    DataIdle,
    /// The queue of a route was full, and its policy is to disconnect.
    QueueFull {
        /// The route, as its `Debug` prints it.
        route: String,
    },
    /// The feed cannot be put together from several connections, and why.
    NotSpliced(String),
    /// This line of a feed was closed by us, to be dialed anew while others bring the feed.
    Replaced,
    /// We shut the connection down.
    Shutdown,
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidUrl(what) => write!(f, "invalid URL: {what}"),
            Self::Provider(what) => write!(f, "provider failed: {what}"),
            Self::InvalidHeader(what) => write!(f, "invalid header from the header provider: {what}"),
            Self::Resolve(what) => write!(f, "name resolution failed: {what}"),
            Self::Connect(what) => write!(f, "TCP connect failed: {what}"),
            Self::SocketOption { option, error } => write!(f, "socket option {option} was refused: {error}"),
            Self::Tls(what) => write!(f, "TLS failed: {what}"),
            Self::UpgradeRejected { status, .. } => write!(f, "upgrade rejected with HTTP status {status}"),
            Self::UpgradeInvalid(what) => write!(f, "invalid upgrade response: {what}"),
            Self::AuthRejected(what) => write!(f, "authentication rejected: {what}"),
            Self::HeldBack(wait) => write!(f, "held back: the next dial's turn is in {wait:?}"),
            Self::Deadline(phase) => write!(f, "no answer in time while {phase}"),
            // The reason is the venue's: it must not be able to write lines of its own into a log.
            Self::ClosedByPeer { code: Some(code), reason } => {
                write!(f, "closed by the venue: {code} {}", reason.escape_debug())
            }
            Self::ClosedByPeer { code: None, .. } => f.write_str("closed by the venue without a code"),
            Self::EndOfStream => f.write_str("connection ended without a Close frame"),
            Self::Broken(what) => write!(f, "connection broke: {what}"),
            Self::ProtocolViolation(what) => write!(f, "the venue broke the WebSocket protocol: {what}"),
            Self::InvalidUtf8 => f.write_str("the venue sent text that is not UTF-8"),
            Self::TooLarge { claimed_bytes, limit_bytes } => {
                write!(f, "message of {claimed_bytes} bytes or more is over the limit of {limit_bytes}")
            }
            Self::PongTimeout => f.write_str("no pong in time"),
            Self::DataIdle => f.write_str("no data for too long"),
            Self::QueueFull { route } => write!(f, "the queue of route {route} is full: its handler does not keep up"),
            Self::NotSpliced(why) => write!(f, "the feed cannot be put together from several connections: {why}"),
            Self::Replaced => f.write_str("replaced by a new connection"),
            Self::Shutdown => f.write_str("shut down"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_venues_close_reason_cannot_break_the_line_it_is_logged_in() {
        let reason = DisconnectReason::ClosedByPeer { code: Some(1000), reason: "bye\nERROR all is lost".into() };
        assert_eq!(reason.to_string(), "closed by the venue: 1000 bye\\nERROR all is lost");
    }
}
