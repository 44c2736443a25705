//! The receive path without a socket, for benches that count its instructions. No part of the public API: it may change, or go,
//! in any release.

use crate::config::Limits;
use crate::message::WsMessage;
use crate::transport::{Incoming, ReadOutcome, ReceiveBuffer, WebSocket, WriteBuffer};

/// One session behind its upgrade.
#[derive(Debug)]
pub struct Receiver {
    websocket: WebSocket,
    buffer: ReceiveBuffer,
    replies: WriteBuffer,
}

impl Receiver {
    /// With a buffer of this many bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            websocket: WebSocket::new(Limits::default()),
            buffer: ReceiveBuffer::with_capacity(capacity),
            replies: WriteBuffer::default(),
        }
    }

    /// Where a read puts its bytes.
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.spare()
    }

    /// So many bytes were read: takes every complete message; false where the session is over.
    pub fn read(&mut self, bytes: usize, mut on_message: impl FnMut(WsMessage<'_>)) -> bool {
        self.buffer.filled(bytes);
        let outcome = self.websocket.read(&mut self.buffer, &mut self.replies, |incoming, _, _| {
            if let Incoming::Message(message) = incoming {
                on_message(message.borrowed());
            }
        });
        // As the connection does: what is moved out of an arm costs nothing in the others.
        match outcome {
            Ok(ReadOutcome::Open) => true,
            Ok(ReadOutcome::PeerClosed { reason, .. }) => {
                drop(reason);
                false
            }
            Err(reason) => {
                drop(reason);
                false
            }
        }
    }
}
