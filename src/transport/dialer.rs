//! What a dialer of the caller's own is asked, and what becomes of its socket before the loop sees it.

use std::fmt;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::clock;
use crate::error::{DisconnectReason, Result};
use crate::transport::socket_options::SocketOptions;

/// Where a dialer is to connect to; see [`ClientBuilder::dialer`](crate::ClientBuilder::dialer).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialRequest {
    host: String,
    port: u16,
    deadline: Instant,
}

/// A caller's way to a connected socket.
pub(crate) struct Dialer(Box<Dial>);

type Dial = dyn Fn(&DialRequest) -> Result<TcpStream> + Send + Sync;

impl DialRequest {
    /// The URL's host: a name, or an address (IPv6 without its brackets). It is not resolved.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The URL's port, or that of its scheme.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// When the dial is over, TLS and upgrade included: a socket that comes later is closed.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is left until then, for read timeouts and the like: at least a millisecond, since a socket takes no timeout of
    /// zero.
    pub fn timeout(&self) -> Duration {
        self.deadline.saturating_duration_since(clock::now()).max(Duration::from_millis(1))
    }
}

impl Dialer {
    pub(crate) fn new(dial: impl Fn(&DialRequest) -> Result<TcpStream> + Send + Sync + 'static) -> Self {
        Self(Box::new(dial))
    }

    /// Asks for a socket and makes it ready for a loop. Blocks as long as the closure does.
    pub(crate) fn dial(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
        options: &SocketOptions,
    ) -> Result<TcpStream, DisconnectReason> {
        let failed = |what: &dyn fmt::Display| DisconnectReason::Connect(format!("the dialer: {what}"));
        let request = DialRequest { host: host.to_owned(), port, deadline };
        let socket = match catch_unwind(AssertUnwindSafe(|| (self.0)(&request))) {
            Ok(dialed) => dialed.map_err(|error| failed(&error))?,
            Err(_) => return Err(failed(&"panicked")),
        };
        let peer = socket.peer_addr().map_err(|error| failed(&format_args!("gave an unconnected socket: {error}")))?;
        socket.set_nonblocking(true).map_err(|error| failed(&error))?;
        options.apply(&SockRef::from(&socket), peer)?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn dialed(dialer: &Dialer, options: &SocketOptions) -> Result<TcpStream, DisconnectReason> {
        dialer.dial("venue.example", 443, Instant::now() + Duration::from_secs(10), options)
    }

    fn words(outcome: Result<TcpStream, DisconnectReason>) -> String {
        match outcome {
            Err(DisconnectReason::Connect(words)) => words,
            other => panic!("expected a failed connect, got {other:?}"),
        }
    }

    #[test]
    fn the_socket_comes_ready_for_a_loop() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dialer = Dialer::new(move |request| {
            assert_eq!((request.host(), request.port()), ("venue.example", 443));
            assert!(request.timeout() <= Duration::from_secs(10) && request.deadline() > Instant::now());
            Ok(TcpStream::connect(address)?)
        });
        let socket = dialed(&dialer, &SocketOptions::new().send_buffer_bytes(50_000)).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap() && socket.nonblocking().unwrap());
        assert!([50_000, 100_000].contains(&socket.send_buffer_size().unwrap()));
    }

    #[test]
    fn an_error_and_a_panic_are_reasons() {
        let refused = dialed(&Dialer::new(|_| Err("407 from the proxy".into())), &SocketOptions::new());
        assert_eq!(words(refused), "the dialer: 407 from the proxy");
        let panicked = dialed(&Dialer::new(|_| panic!("on purpose")), &SocketOptions::new());
        assert_eq!(words(panicked), "the dialer: panicked");
    }

    #[test]
    fn a_socket_that_is_not_connected_is_refused() {
        let dialer = Dialer::new(|_| {
            let domain = socket2::Domain::IPV4;
            Ok(socket2::Socket::new(domain, socket2::Type::STREAM, None)?.into())
        });
        assert!(words(dialed(&dialer, &SocketOptions::new())).contains("unconnected"));
    }

    #[test]
    fn there_is_always_a_timeout_that_a_socket_takes() {
        let request = DialRequest { host: String::new(), port: 1, deadline: Instant::now() };
        assert_eq!(request.timeout(), Duration::from_millis(1));
    }
}
