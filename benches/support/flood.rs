//! A venue that does nothing but send the same frames, as fast as they are taken, and a raw reader of it.
#![allow(dead_code)] // each bench takes its own part of the support

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use hypersockets::rustls::crypto::{CryptoProvider, ring};
use hypersockets::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use hypersockets::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use rcgen::{CertificateParams, KeyPair};
use socket2::{Domain, Socket, Type};

use super::by_hand::{Feed, READ_BYTES};
use super::cores;
use super::upgrade;

/// Of every receiver.
pub(crate) const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

#[derive(Clone)]
pub(crate) struct Flood {
    text_bytes: usize,
    messages: u64,
    port: u16,
    root: Option<Vec<u8>>,
}

impl Flood {
    /// Sends about so many bytes to each who dials.
    pub(crate) fn start(text_bytes: usize, bytes: usize, tls: bool) -> io::Result<Self> {
        let feed = Feed::new(text_bytes, READ_BYTES);
        let blocks = bytes.div_ceil(feed.read.len());
        let messages = (blocks * feed.frames) as u64;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let server = if tls { Some(server_config(ring::default_provider())?) } else { None };
        let (config, root) = server.map(|(config, root)| (Arc::new(config), root)).unzip();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (config, block) = (config.clone(), feed.read.clone());
                // Who goes early is no concern of ours.
                thread::spawn(move || {
                    cores::stay_on_last();
                    drop(serve(socket, config, &block, blocks));
                });
            }
        });
        Ok(Self { text_bytes, messages, port, root })
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.root.is_some() { "wss" } else { "ws" };
        format!("{scheme}://localhost:{}/", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn root(&self) -> Option<Vec<u8>> {
        self.root.clone()
    }

    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }
}

/// A server of `localhost` that speaks what `provider` does, and the certificate to trust it by.
pub(crate) fn server_config(provider: CryptoProvider) -> io::Result<(ServerConfig, Vec<u8>)> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let params = CertificateParams::new(["localhost".to_owned()]).map_err(io::Error::other)?;
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .map_err(io::Error::other)?;
    Ok((config, certificate.der().to_vec()))
}

fn serve(socket: TcpStream, config: Option<Arc<ServerConfig>>, block: &[u8], blocks: usize) -> io::Result<()> {
    socket.set_nodelay(true)?;
    match config {
        None => send(socket, block, blocks),
        Some(config) => {
            let session = ServerConnection::new(config).map_err(io::Error::other)?;
            send(StreamOwned::new(session, socket), block, blocks)
        }
    }
}

fn send(mut stream: impl Read + Write, block: &[u8], blocks: usize) -> io::Result<()> {
    upgrade::accept(&mut stream)?;
    (0..blocks).try_for_each(|_| stream.write_all(block))?;
    stream.flush()?;
    // Until the other side has had enough.
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

/// Raw reads, behind the upgrade; blocking, until told otherwise.
pub(crate) enum RawReader {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl RawReader {
    pub(crate) fn dial(port: u16, root: Option<Vec<u8>>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        let mut reader = match root {
            None => Self::Plain(socket),
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(root.into()).map_err(io::Error::other)?;
                let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
                Self::Tls(Box::new(StreamOwned::new(session, socket)))
            }
        };
        match &mut reader {
            Self::Plain(socket) => upgrade::ask(socket)?,
            Self::Tls(stream) => upgrade::ask(stream)?,
        }
        Ok(reader)
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.set_nonblocking(true),
            Self::Tls(stream) => stream.sock.set_nonblocking(true),
        }
    }
}

impl Read for RawReader {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(room),
            Self::Tls(stream) => stream.read(room),
        }
    }
}
