//! Parts of the receive path by themselves, for benches. No part of the public API: it may change, or go,
//! in any release.

use std::io::Read;

use crate::config::Limits;
use crate::error::{HyperSocketError, Result};
use crate::message::WsMessage;
#[cfg(feature = "deflate")]
use crate::transport::Compression;
use crate::transport::{Incoming, ReadOutcome, ReceiveBuffer, TlsOptions, TlsSession, WebSocket, WriteBuffer};

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
            websocket: WebSocket::new(Limits::default(), None),
            buffer: ReceiveBuffer::with_capacity(capacity),
            replies: WriteBuffer::default(),
        }
    }

    /// The same, with compression as this answer of a venue has it.
    ///
    /// # Errors
    /// Where the answer does not go with what was offered.
    #[cfg(feature = "deflate")]
    pub fn inflating(capacity: usize, offered: &Compression, answer: &str) -> Result<Self> {
        let agreed = offered.judge(answer)?;
        let websocket = WebSocket::new(Limits::default(), Some(&agreed));
        Ok(Self { websocket, ..Self::new(capacity) })
    }

    /// Where a read puts its bytes.
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.spare()
    }

    /// So many bytes were read: takes every complete message; false where the session is over.
    pub fn read(&mut self, bytes: usize, mut on_message: impl FnMut(WsMessage<'_>)) -> bool {
        self.buffer.filled(bytes);
        let outcome = self.websocket.read(&mut self.buffer, &mut self.replies, |incoming, _, _| {
            if let Incoming::Message(message) | Incoming::Inflated(message, _) = incoming {
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

/// The TLS layer without the engine: from a socket's bytes to plaintext.
#[derive(Debug)]
pub struct TlsReader {
    session: TlsSession,
    cipher: ReceiveBuffer,
    plain: ReceiveBuffer,
}

impl TlsReader {
    /// Begins a handshake with `host`; reads bring at most this many bytes.
    ///
    /// # Errors
    /// Where the options or the host are no good.
    pub fn connect(options: &TlsOptions, host: &str, capacity: usize) -> Result<Self> {
        let session = TlsSession::new(&options.connector()?, host).map_err(HyperSocketError::ConnectFailed)?;
        let [cipher, plain] = [ReceiveBuffer::with_capacity(capacity), ReceiveBuffer::with_capacity(2 * capacity)];
        Ok(Self { session, cipher, plain })
    }

    /// Whether the handshake goes on.
    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Encrypts `plain`, for [`take_outgoing`](Self::take_outgoing).
    ///
    /// # Errors
    /// Where the session has failed.
    pub fn write(&mut self, plain: &[u8]) -> Result<()> {
        self.session.encrypt(plain).map_err(HyperSocketError::Closed)
    }

    /// What the peer is to hear.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        let outgoing = self.session.outgoing().to_vec();
        self.session.sent(outgoing.len());
        outgoing
    }

    /// Reads once, and decrypts what came; how many bytes that were.
    ///
    /// # Errors
    /// The source's own, and where the ciphertext breaks a rule.
    pub fn fill(&mut self, source: &mut impl Read) -> Result<usize> {
        self.session.lend_tail(&mut self.cipher);
        let read = source.read(self.cipher.spare()).inspect_err(|_| self.cipher.clear())?;
        self.cipher.filled(read);
        self.session.decrypt(&mut self.cipher, &mut self.plain).map_err(HyperSocketError::Closed)?;
        Ok(read)
    }

    /// The plaintext that waits.
    pub fn plaintext(&self) -> &[u8] {
        self.plain.data()
    }

    /// Drops so much of it.
    pub fn consume(&mut self, bytes: usize) {
        self.plain.consume(bytes);
    }
}
