//! Who is compared. A peer is a file with a function: it connects, has every message handled, and returns the handlers'
//! tallies once the venue has closed the connection.

mod boomnet;
mod fastwebsockets;
mod hypersockets;
mod raw;
mod sockudo_ws;
mod spec_pipeline;
mod tokio_tungstenite;
mod tokio_websockets;
mod yawc;

use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::payload::{Parse, Shape, glance};
use crate::tally::Tally;

/// One row of every table.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Feed) -> Result<Vec<Tally>>,
}

/// What a peer connects to, and how it is to read what comes.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    pub(crate) port: u16,
    pub(crate) shape: Shape,
    /// `None`: not at all.
    pub(crate) parse: Option<Parse>,
    pub(crate) messages: u64,
}

/// Peers that do the same work, each in its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Field {
    /// From the socket to the handlers of four routes, nothing pinned.
    Pipelines,
    /// One thread, pinned to the first core, which reads a connection and handles what comes itself.
    Clients,
}

impl Field {
    pub(crate) fn peers(self) -> &'static [Peer] {
        const PIPELINES: &[Peer] = &[
            spec_pipeline::PEER,
            spec_pipeline::OF_VALUES,
            hypersockets::THREADED,
            hypersockets::INLINE,
            raw::BLOCKING,
        ];
        const CLIENTS: &[Peer] = &[
            raw::BUSY,
            raw::BLOCKING,
            hypersockets::BUSY,
            hypersockets::INLINE,
            boomnet::PEER,
            tokio_tungstenite::PEER,
            tokio_websockets::PEER,
            fastwebsockets::PEER,
            sockudo_ws::PEER,
            yawc::PEER,
        ];
        match self {
            Self::Pipelines => PIPELINES,
            Self::Clients => CLIENTS,
        }
    }

    /// The row of this library that all are held against.
    pub(crate) fn ours(self) -> &'static str {
        match self {
            Self::Pipelines => hypersockets::THREADED.name,
            Self::Clients => hypersockets::BUSY.name,
        }
    }

    /// The row that does only what cannot be left out.
    pub(crate) fn limit(self) -> &'static str {
        match self {
            Self::Pipelines => raw::BLOCKING.name,
            Self::Clients => raw::BUSY.name,
        }
    }
}

/// Rows that bars name.
pub(crate) const SPEC_PIPELINE: &str = spec_pipeline::PEER.name;
pub(crate) const SPEC_PIPELINE_OF_VALUES: &str = spec_pipeline::OF_VALUES.name;
pub(crate) const OURS_INLINE: &str = hypersockets::INLINE.name;
pub(crate) const BOOMNET: &str = boomnet::PEER.name;
pub(crate) const TOKIO_TUNGSTENITE: &str = tokio_tungstenite::PEER.name;

impl Feed {
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.address())
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A connected socket, the same for all: no Nagle, and a receive buffer that does not grow, or its growth would decide.
    fn dial(&self) -> Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.set_tcp_nodelay(true)?;
        socket.connect(&self.address().into())?;
        Ok(socket.into())
    }

    /// The same socket, as Tokio wants it.
    fn dial_async(&self) -> Result<tokio::net::TcpStream> {
        let socket = self.dial()?;
        socket.set_nonblocking(true)?;
        Ok(tokio::net::TcpStream::from_std(socket)?)
    }

    /// One text, read and handled.
    fn handle(&self, text: &[u8], tally: &mut Tally) -> Result<()> {
        match self.parse {
            Some(parse) => tally.record(&parse.read(text, self.shape)?),
            None => tally.count(glance(text)),
        }
        Ok(())
    }
}

const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

/// Tokio where it costs least for one connection: all on this thread.
fn on_this_thread(reading: impl Future<Output = Result<Tally>>) -> Result<Vec<Tally>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(vec![runtime.block_on(reading)?])
}
