//! What leaves by a session's socket: the answers of inline handlers, the engine's own messages, and the account of both.

use std::io;

use super::settled::Settled;
use crate::clock;
use crate::error::{HyperSocketError, Result};
use crate::handler::Outlet;
use crate::ids::SendId;
use crate::message::WsMessage;
use crate::router::SubscriptionReply;
use crate::state::Shared;
use crate::transport::{FrameWriter, Stream, WriteBuffer};

/// What a message may bring about that most do not.
#[derive(Default)]
pub(super) struct Beside {
    /// Where handlers' answers go while this session stands beside the client's own.
    pub(super) aside: Option<Box<dyn Outlet + Send>>,
    /// Answers to subscriptions that came with the message at hand.
    pub(super) replies: Vec<SubscriptionReply>,
}

/// Queues a message of the engine's own, which has no number.
pub(super) fn send_own(message: &WsMessage<'_>, writer: &mut FrameWriter<'_>) {
    if writer.send(message) {
        writer.out().mark(None, message.as_bytes().len(), None);
    }
}

pub(super) fn account(shared: &Shared, settled: &mut Settled, stream: &Stream, out: &mut WriteBuffer) {
    while let Some(sent) = out.written(stream.written_position()) {
        shared.counters.messages_sent.add(1);
        shared.counters.bytes_sent.add(sent.payload_bytes as u64);
        if let Some(id) = sent.id {
            shared.release(sent.payload_bytes);
            settled.settle(id, true);
        }
        if let Some(tick_ns) = sent.tick_ns {
            shared.tick_to_trade.record_ns(clock::stamp_ns().saturating_sub(tick_ns));
        }
    }
}

/// The way of an inline handler's message: straight to the socket, within the read that it answers.
pub(super) struct DirectOutlet<'a, 'b> {
    pub(super) shared: &'a Shared,
    pub(super) settled: &'a mut Settled,
    pub(super) write_error: &'a mut Option<io::Error>,
    pub(super) writer: &'a mut FrameWriter<'b>,
    pub(super) stream: &'a mut Stream,
    pub(super) live: bool,
    pub(super) beside: &'a mut Beside,
}

impl Outlet for DirectOutlet<'_, '_> {
    /// The epoch is that of the read which is being answered.
    fn send(&mut self, message: WsMessage<'_>, epoch: u64, tick_ns: Option<u64>) -> Result<SendId> {
        if let Some(aside) = &mut self.beside.aside {
            return aside.send(message, epoch, tick_ns);
        }
        if !self.live || self.write_error.is_some() {
            return Err(HyperSocketError::NotConnected);
        }
        let bytes = message.as_bytes().len();
        self.shared.reserve(bytes)?;
        if !self.writer.send(&message) {
            self.shared.release(bytes);
            return Err(HyperSocketError::NotConnected);
        }
        let id = self.shared.next_send_id();
        let out = self.writer.out();
        out.mark(Some(id), bytes, tick_ns);
        if let Err(error) = self.stream.flush(out) {
            *self.write_error = Some(error);
        }
        account(self.shared, self.settled, self.stream, out);
        Ok(id)
    }

    fn subscription_replied(&mut self, reply: SubscriptionReply) {
        self.beside.replies.push(reply);
    }
}
