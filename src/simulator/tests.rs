//! The venue against tungstenite's blocking client. Invariant: no test waits by sleeping; each awaits a report or a
//! message, under a deadline.

mod exchanges;
mod faults;
mod hyperliquid;
mod replay;
mod scripting;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tungstenite::{Message, WebSocket};

use super::Venue;
use super::certificate::provider;

const PATIENCE: Duration = Duration::from_secs(5);

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

type Client = WebSocket<Box<dyn Wire>>;

fn connect(venue: &Venue) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", venue.port())).expect("the venue listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
    stream
}

/// The client's transport: TLS if the venue has a certificate.
fn wire(venue: &Venue) -> Box<dyn Wire> {
    let stream = connect(venue);
    let Some(root) = venue.root_certificate_der() else {
        return Box::new(stream);
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root)).expect("the venue's root is a certificate");
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a valid name");
    let tls = ClientConnection::new(Arc::new(config), name).expect("a valid configuration");
    Box::new(StreamOwned::new(tls, stream))
}

fn dial(venue: &Venue) -> Client {
    let (client, _) = tungstenite::client(venue.url(), wire(venue)).expect("the venue upgrades");
    client
}

fn subscribe(client: &mut Client, channel: &str, coin: &str) {
    let request = subscription("subscribe", channel, coin);
    client.send(Message::text(request)).expect("the venue reads");
}

fn subscription(method: &str, channel: &str, coin: &str) -> String {
    format!(r#"{{"method":"{method}","subscription":{{"type":"{channel}","coin":"{coin}"}}}}"#)
}

fn next_text(client: &mut Client) -> String {
    loop {
        match client.read().expect("the venue sends") {
            Message::Text(text) => return text.as_str().to_owned(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("awaited a text message, came {other:?}"),
        }
    }
}

/// Reads to the end of the connection; the data messages on the way.
fn read_to_close(client: &mut Client) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        match client.read() {
            Ok(Message::Text(text)) => texts.push(text.as_str().to_owned()),
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return texts,
            Err(e) => panic!("awaited a Close: {e}"),
        }
    }
}

/// How the connection ended under a client that expected more.
fn read_error(client: &mut Client) -> io::ErrorKind {
    loop {
        match client.read() {
            Ok(_) => {}
            Err(tungstenite::Error::Io(e)) => return e.kind(),
            Err(tungstenite::Error::Protocol(_)) => return io::ErrorKind::UnexpectedEof,
            Err(e) => panic!("awaited an end without a Close: {e}"),
        }
    }
}
