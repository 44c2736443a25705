//! What a loop lends to the connection whose turn it is.

use std::time::Instant;

use mio::Registry;

use super::command::CommandSender;
use super::linger::LingerList;
use super::offload::Offload;
use crate::clock;
use crate::transport::ReceiveBuffer;

/// See the module. One per loop.
pub(super) struct Desk {
    /// The time of this turn.
    pub(super) now: Instant,
    /// The same as a stamp, where a client measures.
    pub(super) now_ns: u64,
    /// A client of the loop measures latency.
    pub(super) measures: bool,
    pub(super) registry: Registry,
    /// The receive buffer of all connections; empty between reads.
    pub(super) hot: ReceiveBuffer,
    /// Scratch for ciphertext; empty between reads.
    pub(super) cipher: ReceiveBuffer,
    pub(super) offload: Offload,
    /// The way back to this loop, for answers from elsewhere.
    pub(super) commands: CommandSender,
    pub(super) lingering: LingerList,
}

impl Desk {
    /// Reads the clock.
    pub(super) fn tick(&mut self) {
        self.now = clock::now();
        if self.measures {
            self.now_ns = clock::stamp_ns();
        }
    }

    pub(super) fn turn_lingering(&mut self) {
        self.lingering.turn(&self.registry, self.now, &mut self.hot, &mut self.cipher);
    }
}
