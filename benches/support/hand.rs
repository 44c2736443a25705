//! A venue in the bench's own hands: it accepts by itself, and what it says is written by the thread that measures, between its
//! measurements.
#![allow(dead_code)] // each bench takes its own part of the support

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use hypersockets::rustls::crypto::{CryptoProvider, ring};
use hypersockets::rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedCipherSuite};
use hypersockets::{Client, ClientState, EventLoop, Result};

use super::flood;
use super::upgrade;

pub(crate) struct Hand {
    port: u16,
    root: Option<Vec<u8>>,
    accepted: Receiver<End>,
}

/// The venue's end of a connection.
pub(crate) enum End {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Hand {
    pub(crate) fn start(tls: bool) -> io::Result<Self> {
        let server = if tls { Some(flood::server_config(ring::default_provider())?) } else { None };
        Self::serve(server)
    }

    /// Over TLS 1.3 with this cipher.
    pub(crate) fn with_suite(suite: SupportedCipherSuite) -> io::Result<Self> {
        let provider = CryptoProvider { cipher_suites: vec![suite], ..ring::default_provider() };
        Self::serve(Some(flood::server_config(provider)?))
    }

    fn serve(server: Option<(ServerConfig, Vec<u8>)>) -> io::Result<Self> {
        let (config, root) = server.map(|(config, root)| (Arc::new(config), root)).unzip();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (ends, accepted) = unbounded();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(io::Result::ok) {
                // A client that was not let in says so itself; once nobody takes ends any more, nobody dials.
                let _ = End::accept(socket, config.clone()).map(|end| ends.send(end));
            }
        });
        Ok(Self { port, root, accepted })
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.root.is_some() { "wss" } else { "ws" };
        format!("{scheme}://localhost:{}/", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The venue's end of the next who was let in.
    pub(crate) fn accepted(&self) -> Result<End> {
        self.accepted.recv_timeout(PATIENCE).map_err(|_| "nobody came".into())
    }

    pub(crate) fn root(&self) -> Option<Vec<u8>> {
        self.root.clone()
    }

    /// Turns the loop until all its clients are live; their ends, in no order.
    pub(crate) fn meet(&self, event_loop: &mut EventLoop, clients: &[Client]) -> Result<Vec<End>> {
        let begin = Instant::now();
        while !clients.iter().all(|client| client.state() == ClientState::Live) {
            event_loop.turn();
            event_loop.wait(Duration::from_millis(1));
            if begin.elapsed() > PATIENCE {
                return Err("not all clients came to be live".into());
            }
        }
        clients.iter().map(|_| self.accepted()).collect()
    }
}

impl End {
    fn accept(socket: TcpStream, config: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let mut end = match config {
            None => Self::Plain(socket),
            Some(config) => {
                let session = ServerConnection::new(config).map_err(io::Error::other)?;
                Self::Tls(Box::new(StreamOwned::new(session, socket)))
            }
        };
        match &mut end {
            Self::Plain(socket) => upgrade::accept(socket)?,
            Self::Tls(stream) => upgrade::accept(stream)?,
        }
        match &end {
            Self::Plain(socket) => socket.set_nonblocking(true)?,
            Self::Tls(stream) => stream.sock.set_nonblocking(true)?,
        }
        Ok(end)
    }

    /// Writes `bytes` from where it left off, as far as the kernel takes them; over TLS with at most `record_bytes` a record.
    pub(crate) fn pour(&mut self, bytes: &[u8], written: &mut usize, record_bytes: usize) -> io::Result<()> {
        self.flush()?;
        while *written < bytes.len() {
            let rest = &bytes[*written..];
            let taken = match self {
                Self::Plain(socket) => socket.write(rest),
                Self::Tls(stream) => stream.write(&rest[..rest.len().min(record_bytes)]),
            };
            match taken {
                Ok(count) => *written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            self.flush()?;
        }
        Ok(())
    }

    /// What the socket has no room for waits in the session.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => match stream.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
                flushed => flushed,
            },
        }
    }
}

/// What fits one record.
pub(crate) const RECORD_BYTES: usize = 16 * 1024;
/// For what must come; a bench that hangs should say so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
