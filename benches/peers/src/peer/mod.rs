//! Who is compared. A peer is a file with a function: it connects, has every message handled, and returns the handlers'
//! tallies once the venue has closed the connection.

mod hypersockets;
mod spec_pipeline;

use crate::Result;
use crate::payload::{Parse, Shape};
use crate::tally::Tally;

/// One row of every table.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Feed) -> Result<Vec<Tally>>,
}

/// What a peer connects to, and how it is to read what comes.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    pub(crate) url: String,
    pub(crate) shape: Shape,
    pub(crate) parse: Parse,
}

/// The baseline first: all ratios are to it.
pub(crate) const PEERS: [Peer; 3] = [spec_pipeline::PEER, hypersockets::THREADED, hypersockets::INLINE];

/// The peer that the bars of this crate are about.
pub(crate) const BARRED: &str = hypersockets::THREADED.name;
