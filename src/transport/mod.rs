//! Bytes to frames and back: TCP, TLS, the upgrade, and WebSocket framing. Nothing here knows routes or lifecycles.

#[cfg(feature = "deflate")]
mod deflate;
#[cfg(not(feature = "deflate"))]
#[path = "no_deflate.rs"]
mod deflate;
mod dial;
mod dialer;
mod frame;
#[cfg(target_os = "linux")]
mod kernel_time;
mod receive_buffer;
mod records;
mod socket_options;
mod stream;
mod target;
mod tls;
mod tls_options;
mod upgrade;
mod websocket;
mod write_buffer;

#[cfg(not(feature = "deflate"))]
pub(crate) use deflate::Compression;
#[cfg(feature = "deflate")]
pub use deflate::Compression;
pub(crate) use dial::{Dial, DialTokens, Progress};
pub use dialer::DialRequest;
pub(crate) use dialer::Dialer;
pub(crate) use receive_buffer::ReceiveBuffer;
pub use socket_options::SocketOptions;
pub(crate) use stream::{BOTH, Stream};
pub(crate) use target::Target;
pub(crate) use tls::TlsSession;
pub(crate) use tls_options::TlsConnector;
pub use tls_options::TlsOptions;
pub(crate) use upgrade::{Upgrade, judge_subprotocols};
pub(crate) use websocket::{FrameWriter, Incoming, ReadOutcome, WebSocket};
pub(crate) use write_buffer::WriteBuffer;

#[cfg(any(test, fuzzing))]
pub(crate) use upgrade::tests_answers::judge_fuzzed;
#[cfg(any(test, fuzzing))]
pub(crate) use websocket::tests_reference::compare_fuzzed;
#[cfg(all(any(test, fuzzing), feature = "deflate"))]
pub(crate) use websocket::tests_reference::compare_inflated_fuzzed;
