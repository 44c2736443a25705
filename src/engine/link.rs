//! What stands between a client and its venue: nothing, a dial, or a socket and what is spoken over it.

use std::net::SocketAddr;

use mio::Registry;

use super::linger::{AFTER_PEER_CLOSE, AFTER_VIOLATION, Linger};
use super::session::{ReadTime, Session};
use crate::config::Limits;
use crate::error::DisconnectReason;
use crate::lifecycle::{Action, Input, Phase};
use crate::sync::lock;
use crate::transport::{Dial, ReadOutcome, ReceiveBuffer, Stream, Target, Upgrade, WebSocket, WriteBuffer};

/// What stands between us and the venue.
pub(super) enum Link {
    /// Nothing, and nothing on its way.
    Down,
    /// The offload thread is to say where to dial.
    Preparing,
    /// TCP is connecting to the target of this dial.
    Dialing(Box<Dialing>),
    /// A socket.
    Open(Box<Open>),
}

/// A dial on its way, with what is needed once it has arrived.
pub(super) struct Dialing {
    pub(super) dial: Dial,
    /// All that it tries, to be remembered if one accepts.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) attempt: u64,
    pub(super) target: Target,
    pub(super) upgrade: Upgrade,
}

pub(super) struct Open {
    pub(super) stream: Stream,
    pub(super) protocol: Protocol,
}

/// What is spoken over the socket.
pub(super) enum Protocol {
    /// The upgrade request waits for the TLS handshake, or is out.
    Upgrading(Upgrade),
    /// Frames.
    WebSocket(Box<WebSocket>),
}

/// The end of a connection, as found while reading.
pub(super) struct Ending {
    pub(super) reason: DisconnectReason,
    pub(super) farewell: Option<Linger>,
}

/// Closes a socket, with close_notify where the kernel has room for it.
pub(super) fn forget(mut stream: Stream, registry: &Registry) {
    stream.start_close();
    if let Err(error) = stream.flush(&mut WriteBuffer::default()) {
        log::debug!("could not say goodbye: {error}");
    }
    if let Err(error) = stream.deregister(registry) {
        log::debug!("could not deregister a socket: {error}");
    }
}

impl Link {
    pub(super) fn websocket(&mut self) -> Option<&mut WebSocket> {
        match self {
            Link::Open(open) => match &mut open.protocol {
                Protocol::WebSocket(websocket) => Some(websocket),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Open {
    pub(super) fn send_upgrade(&mut self, out: &mut WriteBuffer) {
        if let Protocol::Upgrading(upgrade) = &self.protocol {
            out.tail().extend_from_slice(upgrade.request());
        }
    }

    /// Takes what `buffer` holds as far as it goes, phase after phase.
    pub(super) fn advance(
        &mut self,
        session: &mut Session,
        out: &mut WriteBuffer,
        buffer: &mut ReceiveBuffer,
        limits: Limits,
        time: &mut ReadTime,
    ) -> Result<(), Ending> {
        if matches!(session.lifecycle.phase(), Phase::TlsHandshake { .. }) {
            if self.stream.is_handshaking() {
                return Ok(());
            }
            session.lifecycle.handle_input(time.returned, Input::Encrypted);
            if session.lifecycle.poll_action() == Some(Action::SendUpgrade) {
                session.pipeline.coming();
                self.send_upgrade(out);
            }
        }
        if let Protocol::Upgrading(upgrade) = &mut self.protocol {
            let Some(accepted) = upgrade.response(buffer).map_err(Ending::without_farewell)? else { return Ok(()) };
            *lock(&session.shared.subprotocol) = accepted.subprotocol;
            let mut websocket = Box::new(WebSocket::new(limits, accepted.compression.as_ref()));
            if session.plan.measure_latency {
                websocket.measure_inflating();
            }
            let authenticate = session.auth_message.is_some();
            session.lifecycle.handle_input(time.returned, Input::Upgraded { authenticate });
            session.perform_writing(time.returned, &mut websocket.writer(out));
            self.protocol = Protocol::WebSocket(websocket);
        }
        let Protocol::WebSocket(websocket) = &mut self.protocol else { return Ok(()) };
        let stream = &mut self.stream;
        let outcome = websocket.read(buffer, out, |incoming, is_last, writer| {
            session.on_frame(incoming, is_last, writer, stream, time);
        });
        if std::mem::take(&mut session.data_came) {
            session.lifecycle.handle_input(time.returned, Input::Data);
        }
        match outcome {
            Ok(ReadOutcome::Open) => match session.verdict.take() {
                None => Ok(()),
                Some(reason) => {
                    websocket.close(NORMAL_CLOSURE, "", out);
                    Err(Ending { reason, farewell: Some(AFTER_VIOLATION) })
                }
            },
            Ok(ReadOutcome::PeerClosed { code, reason }) => {
                // Where it answers ours, both have said goodbye, and nobody needs to wait.
                let answered = matches!(session.lifecycle.phase(), Phase::Closing { .. });
                let farewell = (!answered).then_some(AFTER_PEER_CLOSE);
                Err(Ending { reason: DisconnectReason::ClosedByPeer { code, reason }, farewell })
            }
            Err(reason) => Err(Ending { reason, farewell: Some(AFTER_VIOLATION) }),
        }
    }
}

impl Ending {
    pub(super) fn without_farewell(reason: DisconnectReason) -> Self {
        Self { reason, farewell: None }
    }
}

/// RFC 6455, section 7.4.1.
pub(super) const NORMAL_CLOSURE: u16 = 1000;
