//! Bytes to frames and back: TCP, TLS, the upgrade, and WebSocket framing. Nothing here knows routes or lifecycles.

mod dial;
mod frame;
mod receive_buffer;
mod stream;
mod target;
mod tls;
mod upgrade;
mod websocket;
mod write_buffer;

pub(crate) use dial::{Dial, Progress};
pub(crate) use receive_buffer::ReceiveBuffer;
pub(crate) use stream::Stream;
pub(crate) use target::Target;
pub use tls::TlsOptions;
pub(crate) use tls::{TlsConnector, TlsSession};
pub(crate) use upgrade::Upgrade;
pub(crate) use websocket::{FrameWriter, Incoming, ReadOutcome, WebSocket};
pub(crate) use write_buffer::WriteBuffer;
