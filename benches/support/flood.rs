//! A venue that does nothing but send the same frames, as fast as they are taken, and a raw reader of it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use hypersockets::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use hypersockets::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use rcgen::{CertificateParams, KeyPair};
use socket2::{Domain, Socket, Type};
use tungstenite::handshake::derive_accept_key;

use super::by_hand::{Feed, READ_BYTES};

/// Of every receiver.
pub(crate) const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

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
        let (config, root) =
            if tls { server_config().map(|(config, root)| (Some(config), Some(root)))? } else { (None, None) };
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (config, block) = (config.clone(), feed.read.clone());
                // Who goes early is no concern of ours.
                thread::spawn(move || drop(serve(socket, config, &block, blocks)));
            }
        });
        Ok(Self { text_bytes, messages, port, root })
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.root.is_some() { "wss" } else { "ws" };
        format!("{scheme}://localhost:{}/", self.port)
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

fn server_config() -> io::Result<(Arc<ServerConfig>, Vec<u8>)> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let params = CertificateParams::new(["localhost".to_owned()]).map_err(io::Error::other)?;
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .map_err(io::Error::other)?;
    Ok((Arc::new(config), certificate.der().to_vec()))
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
    let head = read_head(&mut stream)?;
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes())?;
    (0..blocks).try_for_each(|_| stream.write_all(block))?;
    stream.flush()?;
    // Until the other side has had enough.
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

/// Blocking reads, behind the upgrade.
pub(crate) enum RawReader {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl RawReader {
    pub(crate) fn dial(flood: &Flood) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, flood.port)).into())?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        let mut reader = match flood.root() {
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
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        match &mut reader {
            Self::Plain(socket) => socket.write_all(request.as_bytes())?,
            Self::Tls(stream) => stream.write_all(request.as_bytes())?,
        }
        read_head(&mut reader)?;
        Ok(reader)
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
