//! TLS without a socket: a session that turns ciphertext into plaintext and back.
//!
//! rustls shakes hands and reads the records. With the feature `tls-in-place` it leaves those of TLS 1.3 to [`Records`] as soon as
//! the handshake is over. Invariant: rustls always sees all ciphertext that is not discarded yet, in one piece and from its first
//! byte; it remembers, by offset, the parts of an unfinished handshake message in it.

use std::fmt;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, WriteTraffic};

use crate::error::DisconnectReason;
use crate::transport::receive_buffer::ReceiveBuffer;
use crate::transport::records::{RECORD_BYTES, Records};
use crate::transport::tls_options::TlsConnector;

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsState {
    /// The peer is still to prove who it is: nothing of ours is encrypted yet.
    Handshaking,
    /// Application data flows both ways.
    Traffic,
    /// The peer sent close_notify: it says nothing more, and everything before has been delivered.
    PeerClosed,
}

/// One TLS connection. It holds ciphertext only, and of that only what is unfinished.
pub(crate) struct TlsSession {
    layer: Layer,
    /// rustls may leave the records to us.
    gives_secrets: bool,
    /// Received ciphertext that is no complete record or handshake message yet: at most 64 KiB and a record.
    tail: ReceiveBuffer,
    /// Ciphertext on its way out; `sent` bytes at its front have left.
    outgoing: Vec<u8>,
    sent: usize,
    phase: Phase,
}

/// Who reads and writes the records.
enum Layer {
    Rustls(Box<UnbufferedClientConnection>),
    Records(Box<Records>),
    /// rustls did not let go of the session, which has failed with it.
    Nobody,
}

#[derive(Debug)]
enum Phase {
    Open,
    PeerClosed,
    /// Our close_notify is queued, so what still comes is dropped: where a record is bad after it, rustls would send
    /// an alert behind it (and its debug builds panic).
    Closing,
    /// rustls must not be asked to read on after an error.
    Failed(DisconnectReason),
}

impl TlsSession {
    /// Begins a handshake with `host` (a DNS name, or an IP address with or without brackets), or with the name that the
    /// options put in its place: the ClientHello waits in [`outgoing`](Self::outgoing).
    pub(crate) fn new(connector: &TlsConnector, host: &str) -> Result<Self, DisconnectReason> {
        let layer = Layer::Rustls(Box::new(connector.connect(host)?));
        let mut session = Self {
            layer,
            gives_secrets: connector.gives_secrets(),
            tail: ReceiveBuffer::default(),
            outgoing: Vec::new(),
            sent: 0,
            phase: Phase::Open,
        };
        session.decrypt(&mut ReceiveBuffer::default(), &mut ReceiveBuffer::default())?;
        Ok(session)
    }

    /// Copies the unfinished ciphertext to the front of the empty `cipher`. Call it before each read into `cipher`;
    /// where the read brings nothing, clear `cipher` and forget about it.
    pub(crate) fn lend_tail(&self, cipher: &mut ReceiveBuffer) {
        debug_assert!(cipher.is_empty(), "ciphertext of another session");
        if !self.tail.is_empty() {
            cipher.append(self.tail.data());
        }
    }

    /// Whether part of a record waits for its rest.
    pub(crate) fn holds_part_of_record(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Takes all of `cipher` (which begins with the [lent tail](Self::lend_tail)), appends the plaintext of every
    /// complete record to `plain`, and queues the answers to handshake messages.
    ///
    /// On an error `plain` holds what came before the bad record, and the alert waits in
    /// [`outgoing`](Self::outgoing). From then on all input is dropped, and the same error returned.
    pub(crate) fn decrypt(
        &mut self,
        cipher: &mut ReceiveBuffer,
        plain: &mut ReceiveBuffer,
    ) -> Result<TlsState, DisconnectReason> {
        debug_assert!(cipher.data().starts_with(self.tail.data()), "the tail was not lent");
        self.tail.clear();
        let outcome = match &self.phase {
            Phase::Open => self.read_open(cipher, plain),
            Phase::PeerClosed => Ok(TlsState::PeerClosed),
            Phase::Closing => {
                cipher.clear();
                Ok(TlsState::Traffic)
            }
            Phase::Failed(reason) => Err(reason.clone()),
        };
        match &outcome {
            Ok(TlsState::Handshaking | TlsState::Traffic) => {
                if !cipher.is_empty() {
                    self.tail.append(cipher.data());
                }
                self.tail.shrink_if_empty(KEPT_TAIL_BYTES);
            }
            // What follows a close_notify has no meaning (RFC 8446, section 6.1).
            Ok(TlsState::PeerClosed) => self.phase = Phase::PeerClosed,
            Err(reason) => {
                self.phase = Phase::Failed(reason.clone());
                self.queue_alerts();
            }
        }
        cipher.clear();
        outcome
    }

    fn read_open(
        &mut self,
        cipher: &mut ReceiveBuffer,
        plain: &mut ReceiveBuffer,
    ) -> Result<TlsState, DisconnectReason> {
        match &mut self.layer {
            Layer::Rustls(connection) => {
                let reached = read_records(connection, cipher, plain, &mut self.outgoing)?;
                if reached == TlsState::Traffic && cipher.is_empty() {
                    self.take_over()?;
                }
                Ok(reached)
            }
            Layer::Records(records) => {
                let closed = records.read(cipher, plain, &mut self.outgoing).map_err(|error| told(&error))?;
                Ok(if closed { TlsState::PeerClosed } else { TlsState::Traffic })
            }
            Layer::Nobody => Ok(TlsState::Traffic),
        }
    }

    /// Leaves the records to [`Records`], where that can be. Nothing may wait on either side: rustls remembers no part of a message
    /// then, and has handed out all that it had to say.
    fn take_over(&mut self) -> Result<(), DisconnectReason> {
        let is_ready = |connection: &UnbufferedClientConnection| {
            connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) && !connection.wants_write()
        };
        if !self.gives_secrets || !matches!(&self.layer, Layer::Rustls(connection) if is_ready(connection)) {
            return Ok(());
        }
        if let Layer::Rustls(connection) = std::mem::replace(&mut self.layer, Layer::Nobody) {
            self.layer = Layer::Records(Box::new(Records::take_over(*connection).map_err(|error| told(&error))?));
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn records(&mut self) -> &mut Records {
        let Layer::Records(records) = &mut self.layer else { panic!("the records are rustls's") };
        records
    }

    /// Whether application data must still wait.
    pub(crate) fn is_handshaking(&self) -> bool {
        match &self.layer {
            Layer::Rustls(connection) => connection.is_handshaking(),
            Layer::Records(_) | Layer::Nobody => false,
        }
    }

    /// Whether [`encrypt`](Self::encrypt) may be called.
    pub(crate) fn accepts_plaintext(&self) -> bool {
        !self.is_handshaking() && matches!(self.phase, Phase::Open | Phase::PeerClosed)
    }

    /// Encrypts `plain` into [`outgoing`](Self::outgoing), behind a KeyUpdate where the peer asked for one.
    pub(crate) fn encrypt(&mut self, plain: &[u8]) -> Result<(), DisconnectReason> {
        debug_assert!(self.accepts_plaintext(), "nothing may be encrypted now");
        match &mut self.layer {
            Layer::Rustls(connection) => {
                let records = plain.len().div_ceil(RECORD_BYTES);
                let room = plain.len() + records * RECORD_OVERHEAD_BYTES;
                let write = |traffic: &mut WriteTraffic<'_, _>, room: &mut [u8]| traffic.encrypt(plain, room);
                write_traffic(connection, &mut self.tail, &mut self.outgoing, room, write)
            }
            Layer::Records(records) => records.write(plain, &mut self.outgoing).map_err(|error| told(&error)),
            Layer::Nobody => Ok(()),
        }
    }

    /// Queues close_notify, once; during the handshake and after a failure there is nothing to close. From then on no
    /// plaintext is taken, and what the peer still says is dropped.
    pub(crate) fn close_notify(&mut self) {
        if self.accepts_plaintext() {
            // It is said once; where it cannot be, the end of the stream says it.
            let _ = match &mut self.layer {
                Layer::Rustls(connection) => {
                    let write = |traffic: &mut WriteTraffic<'_, _>, room: &mut [u8]| traffic.queue_close_notify(room);
                    write_traffic(connection, &mut self.tail, &mut self.outgoing, 0, write)
                }
                Layer::Records(records) => records.close_notify(&mut self.outgoing).map_err(|error| told(&error)),
                Layer::Nobody => Ok(()),
            };
            if matches!(self.phase, Phase::Open) {
                self.phase = Phase::Closing;
            }
        }
    }

    /// Ciphertext that is to be written to the socket.
    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// Says that the first `count` bytes of [`outgoing`](Self::outgoing) were written.
    pub(crate) fn sent(&mut self, count: usize) {
        debug_assert!(count <= self.outgoing().len(), "more sent than waits");
        self.sent += count;
        if self.sent == self.outgoing.len() {
            self.outgoing.clear();
            self.sent = 0;
        }
    }

    /// Moves what rustls has ready to send into `outgoing` without letting it read: after an error it must not.
    fn queue_alerts(&mut self) {
        let Layer::Rustls(connection) = &mut self.layer else { return };
        // rustls hands out queued messages before it looks at its input, so the empty slice is never read.
        while connection.wants_write() {
            match connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    if append_with(&mut self.outgoing, 0, |room| Ok(message.encode(room)?)).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("phase", &self.phase)
            .field("tail_bytes", &self.tail.len())
            .field("outgoing_bytes", &self.outgoing().len())
            .finish_non_exhaustive()
    }
}

/// Takes what `cipher` holds as far as it is complete.
fn read_records(
    connection: &mut UnbufferedClientConnection,
    cipher: &mut ReceiveBuffer,
    plain: &mut ReceiveBuffer,
    outgoing: &mut Vec<u8>,
) -> Result<TlsState, DisconnectReason> {
    // Ends: each turn discards a record, hands out a queued message, or returns.
    loop {
        let status = connection.process_tls_records(cipher.data_mut());
        let mut discard = status.discard;
        let reached = match status.state.map_err(|error| told(&error))? {
            ConnectionState::ReadTraffic(mut records) => {
                while let Some(record) = records.next_record() {
                    let record = record.map_err(|error| told(&error))?;
                    plain.append(record.payload);
                    discard += record.discard;
                }
                None
            }
            ConnectionState::EncodeTlsData(mut message) => {
                append_with(outgoing, 0, |room| Ok(message.encode(room)?))?;
                None
            }
            // Our outgoing bytes leave in the order they were queued in, so rustls need not wait for them.
            ConnectionState::TransmitTlsData(transmit) => {
                transmit.done();
                None
            }
            ConnectionState::BlockedHandshake => Some(TlsState::Handshaking),
            ConnectionState::WriteTraffic(_) => Some(TlsState::Traffic),
            ConnectionState::PeerClosed | ConnectionState::Closed => Some(TlsState::PeerClosed),
            other => return Err(unexpected(&other)),
        };
        cipher.consume(discard);
        if let Some(state) = reached {
            return Ok(state);
        }
    }
}

/// Lets `write` append to `outgoing`, behind whatever rustls has to say first.
fn write_traffic(
    connection: &mut UnbufferedClientConnection,
    tail: &mut ReceiveBuffer,
    outgoing: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut WriteTraffic<'_, ClientConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), DisconnectReason> {
    loop {
        // The real tail, not an empty slice: rustls may hold offsets into it.
        let status = connection.process_tls_records(tail.data_mut());
        let discard = status.discard;
        let wrote = match status.state.map_err(|error| told(&error))? {
            ConnectionState::WriteTraffic(mut traffic) => {
                append_with(outgoing, room, |room| Ok(write(&mut traffic, room)?))?;
                true
            }
            ConnectionState::EncodeTlsData(mut message) => {
                append_with(outgoing, 0, |room| Ok(message.encode(room)?))?;
                false
            }
            ConnectionState::TransmitTlsData(transmit) => {
                transmit.done();
                false
            }
            other => return Err(unexpected(&other)),
        };
        tail.consume(discard);
        if wrote {
            return Ok(());
        }
    }
}

/// What rustls says of an error, as the reason that the session ended for.
fn told(error: &rustls::Error) -> DisconnectReason {
    DisconnectReason::Tls(error.to_string())
}

/// Header, content type, tag and TLS 1.2's explicit nonce; a bad guess costs one retry.
const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 16 + 8;
/// Most unfinished records fit one page, which is kept between them; more is given back.
const KEPT_TAIL_BYTES: usize = 4096;

/// Why rustls wrote nothing.
enum Refusal {
    TooSmall { required: usize },
    Failed(String),
}

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(size) => Self::TooSmall { required: size.required_size },
            EncodeError::AlreadyEncoded => Self::Failed(error.to_string()),
        }
    }
}

impl From<EncryptError> for Refusal {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self::TooSmall { required: size.required_size },
            EncryptError::EncryptExhausted => Self::Failed(error.to_string()),
        }
    }
}

/// Lets `write` append to `outgoing`: first into `room` bytes, then, where that is too little, into what it asks for.
fn append_with(
    outgoing: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Refusal>,
) -> Result<(), DisconnectReason> {
    let start = outgoing.len();
    outgoing.resize(start + room, 0);
    let mut written = write(&mut outgoing[start..]);
    if let Err(Refusal::TooSmall { required }) = written {
        outgoing.resize(start + required, 0);
        written = write(&mut outgoing[start..]);
    }
    outgoing.truncate(start + *written.as_ref().unwrap_or(&0));
    match written {
        Ok(_) => Ok(()),
        Err(Refusal::TooSmall { .. }) => Err(DisconnectReason::Tls("rustls asked for more room twice".to_owned())),
        Err(Refusal::Failed(what)) => Err(DisconnectReason::Tls(what)),
    }
}

fn unexpected<Data>(state: &ConnectionState<'_, '_, Data>) -> DisconnectReason {
    DisconnectReason::Tls(format!("unexpected state {state:?}"))
}

#[cfg(test)]
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#[path = "tests_tls_fixture.rs"]
pub(crate) mod fixture;
#[cfg(test)]
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#[path = "tests_tls.rs"]
mod tests;
