//! What a venue lends to every connection. Invariant: it outlives them all, and restarts of the venue too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;
use rustls::ServerConfig;

use super::program::Program;
use super::session::Session;
use super::tally::Tally;
use super::upgrade::UpgradePlan;

/// What the connections of a venue have in common.
pub(super) struct Shared {
    pub(super) program: Program,
    pub(super) tally: Tally,
    pub(super) plans: Mutex<VecDeque<UpgradePlan>>,
    pub(super) sessions: Sender<Session>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Said to a ClientHello in place of a handshake; nothing is silence.
    pub(super) answer_to_hello: Option<Vec<u8>>,
    pub(super) ignores_close: bool,
    /// Whether compression is accepted where it is offered.
    pub(super) deflates: bool,
}
