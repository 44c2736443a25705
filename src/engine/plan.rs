//! What a client brings to its loop, and what a dial brings to its connection: plain data.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::resolver::{Resolved, Resolver};
use crate::auth::AuthProvider;
use crate::config::Settings;
use crate::error::Result;
use crate::headers::HeaderProvider;
use crate::lifecycle::FirstDial;
use crate::limits::ConnectionLimit;
use crate::message::WsMessage;
use crate::metrics::PipelineStats;
use crate::passive_ping::PassivePingDetector;
use crate::pipeline::{OutletMaker, Pipeline};
use crate::reconnect::ReconnectionStrategy;
use crate::requests::RequestId;
use crate::state::Shared;
use crate::subscriptions::Batches;
use crate::transport::{Compression, Dialer, SocketOptions, Target, TlsConnector};

/// A client on its way to a loop.
pub(crate) struct NewConnection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) settings: Settings,
    pub(crate) strategy: Arc<dyn ReconnectionStrategy>,
    pub(crate) first_dial: FirstDial,
    pub(crate) pipeline: Box<dyn Pipeline>,
    pub(crate) stats: Arc<PipelineStats>,
    /// How many parse sites the pipeline has.
    pub(crate) sites: usize,
    /// Which line of its feed it is.
    pub(crate) line: u8,
    /// Other clients are lines of the same feed.
    pub(crate) in_feed: bool,
    pub(crate) plan: Plan,
    pub(crate) shutdown_flag: Option<Arc<AtomicBool>>,
}

/// What stays the same over all dials of a client.
pub(crate) struct Plan {
    pub(crate) providers: Arc<Providers>,
    pub(crate) tls: Option<TlsConnector>,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) compression: Vec<Compression>,
    pub(crate) heartbeat: Option<WsMessage<'static>>,
    pub(crate) passive_ping: Option<Box<dyn PassivePingDetector>>,
    /// Off for clients that did not ask for pings: a histogram is larger than all else that an idle connection holds.
    pub(crate) measure_round_trips: bool,
    pub(crate) measure_latency: bool,
    /// Makes a way to the client's socket for whoever is not there.
    pub(crate) outlet: OutletMaker,
    pub(crate) rotation: RotationPlan,
    pub(crate) batches: Option<Batches>,
    pub(crate) connection_limit: Option<ConnectionLimit>,
    pub(crate) reply_id: Option<ReplyId>,
}

/// Finds the id in a raw message that is a reply.
pub(crate) type ReplyId = Box<dyn Fn(&WsMessage<'_>) -> Option<RequestId> + Send + Sync>;

/// When a client moves to a new connection by itself.
#[derive(Default)]
pub(crate) struct RotationPlan {
    /// At this age of a session.
    pub(crate) max_age: Option<Duration>,
    /// At a message that says so.
    pub(crate) notice: Option<Notice>,
    /// So often, where the closure says so.
    pub(crate) check: Option<(Duration, Check)>,
}

/// Whether this is the connection to replace now.
pub(crate) type Check = Box<dyn Fn(Instant) -> bool + Send + Sync>;

/// Whether a raw message announces that the venue will end the connection.
pub(crate) type Notice = Box<dyn Fn(&WsMessage<'_>) -> bool + Send + Sync>;

/// Where a dial goes: a fixed URL, or one made at each dial.
pub(crate) enum UrlSource {
    Fixed(String),
    Fresh(Box<dyn Fn() -> Result<String> + Send + Sync>),
}

/// What is asked anew at every dial, and how the socket is to be.
pub(crate) struct Providers {
    pub(crate) url: UrlSource,
    /// Of whose client this asks what is desired.
    pub(crate) shared: Arc<Shared>,
    pub(crate) headers: Option<Box<dyn HeaderProvider>>,
    pub(crate) auth: Option<Arc<dyn AuthProvider>>,
    /// Credentials may go over `ws` to other hosts.
    pub(crate) plain_text_credentials: bool,
    pub(crate) dialer: Option<Dialer>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) socket: Arc<SocketOptions>,
}

/// Everything a dial needs to know.
pub(crate) struct Prepared {
    pub(crate) target: Target,
    pub(crate) way: Way,
    pub(crate) headers: Vec<(String, String)>,
    /// The auth message of this dial, where the provider gave one.
    pub(crate) auth: Option<WsMessage<'static>>,
    /// Subscriptions that are made at each dial, by their numbers.
    pub(crate) subscriptions: BTreeMap<u64, WsMessage<'static>>,
}

/// How to get to the venue.
pub(crate) enum Way {
    /// One of these addresses is to be connected to.
    Addresses(Resolved),
    /// The dialer has connected: a socket that does not block, set as told.
    Connected(TcpStream),
}
