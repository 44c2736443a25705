//! The venue's port. Invariant: from the first start to the end of the venue the port stays bound, listening or not, so
//! that no other socket of the machine can take it while the venue is down (a client that redials a free port in the
//! ephemeral range may even be connected to itself).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::TcpListener;
use socket2::{Domain, Socket, Type};

/// Room for a whole fleet of clients that dials at once.
const BACKLOG: i32 = 1024;

/// A port that refuses connections.
pub(super) struct Reserved {
    v4: Socket,
    /// For clients that try `::1` first when dialing `localhost`; `None` where the machine has no IPv6.
    v6: Option<Socket>,
    pub(super) port: u16,
}

/// A port that takes connections.
pub(super) struct Listening {
    pub(super) v4: TcpListener,
    pub(super) v6: Option<TcpListener>,
}

impl Reserved {
    /// Reserves this port, or any if it is 0.
    pub(super) fn bind(port: u16) -> io::Result<Self> {
        let v4 = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let port = v4.local_addr()?.as_socket().map_or(port, |address| address.port());
        Ok(Reserved { v6: bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).ok(), v4, port })
    }

    pub(super) fn listen(self) -> io::Result<Listening> {
        let v6 = self.v6.and_then(|socket| listen(socket).ok());
        Ok(Listening { v4: listen(self.v4)?, v6 })
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}
