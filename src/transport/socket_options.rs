//! How a client's sockets are set, before they connect. Invariant: what was asked for is set, or the dial fails; the one
//! exception is a busy poll that the process has no right to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::error::{DisconnectReason, HyperSocketError};

/// How the sockets of a client are set. All is optional; TCP_NODELAY is always on.
///
/// Set before the connect, so that the first SYN leaves as told. An option that the system refuses makes the dial fail with
/// [`SocketOption`](DisconnectReason::SocketOption), which names it; what can be seen to be wrong beforehand makes building
/// the client err. The methods marked "Linux" make building err elsewhere.
///
/// ```
/// use std::time::Duration;
/// use hypersockets::SocketOptions;
///
/// let options = SocketOptions::new()
///     .source_address("127.0.0.2".parse().expect("an address"))
///     .keepalive(Duration::from_secs(10), Duration::from_secs(2), 3)
///     .receive_buffer_bytes(4 << 20);
/// # drop(options);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketOptions {
    source_address: Option<IpAddr>,
    interface: Option<String>,
    busy_poll_us: Option<u32>,
    acks: Acks,
    kernel_timestamps: bool,
    keepalive: Option<Keepalive>,
    user_timeout: Option<Duration>,
    receive_buffer_bytes: Option<usize>,
    send_buffer_bytes: Option<usize>,
    tos: Option<u8>,
}

/// When the kernel acknowledges what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Acks {
    /// As it sees fit: with the next data, or up to 40 ms later.
    #[default]
    Delayed,
    /// At once; the kernel forgets this now and then, so it is told again after each read.
    Quick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Keepalive {
    idle: Duration,
    interval: Duration,
    count: u32,
}

/// Why there is no socket for an address.
#[derive(Debug)]
pub(super) enum Refusal {
    /// This address cannot be dialed; another may do.
    Address(String),
    /// An option was refused, which no other address would mend.
    Option(DisconnectReason),
}

impl SocketOptions {
    /// The system's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Dials from this address of the host, port chosen by the system. Addresses of the other family are not dialed then.
    #[must_use]
    pub fn source_address(mut self, address: IpAddr) -> Self {
        self.source_address = Some(address);
        self
    }

    /// Where sockets are bound to, where that was asked for.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        self.source_address
    }

    /// Linux: dials through this interface alone (SO_BINDTODEVICE), whatever the routes say.
    #[must_use]
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.interface = Some(name.into());
        self
    }

    /// Linux: lets a read, or a poll, of the kernel's look into the network card's queue for up to so many microseconds
    /// (SO_BUSY_POLL). More than the system's `net.core.busy_read` needs CAP_NET_ADMIN; without it a warning is logged and
    /// the dial goes on, since the option changes what a message costs and never what comes.
    #[must_use]
    pub fn busy_poll_us(mut self, microseconds: u32) -> Self {
        self.busy_poll_us = Some(microseconds);
        self
    }

    /// Linux: acknowledges at once what comes (TCP_QUICKACK), for a venue whose sending waits for our ACKs. Told to the
    /// kernel again after each read, which costs a system call.
    #[must_use]
    pub fn quick_ack(mut self) -> Self {
        self.acks = Acks::Quick;
        self
    }

    /// Linux: has the kernel stamp what it receives (SO_TIMESTAMPING, software stamps), which
    /// [`Stamps::kernel_to_read`](crate::Stamps::kernel_to_read) shows. Adds up to half a microsecond to each read; the
    /// first stamps come some milliseconds after the connect.
    #[must_use]
    pub fn kernel_timestamps(mut self) -> Self {
        self.kernel_timestamps = true;
        self
    }

    /// Has the kernel probe a connection that was silent for `idle`, every `interval`, and break it after `count` probes
    /// without an answer. In whole seconds, at least one; the rest is cut off. The client's own pings see more: this is for
    /// the firewall in between that forgets quiet connections.
    #[must_use]
    pub fn keepalive(mut self, idle: Duration, interval: Duration, count: u32) -> Self {
        self.keepalive = Some(Keepalive { idle, interval, count });
        self
    }

    /// Linux: breaks the connection where what was sent stays unacknowledged for this long (TCP_USER_TIMEOUT), in place of
    /// the quarter of an hour that retransmissions take.
    #[must_use]
    pub fn user_timeout(mut self, timeout: Duration) -> Self {
        self.user_timeout = Some(timeout);
        self
    }

    /// The kernel's receive buffer (SO_RCVBUF). The system may give less (Linux: `net.core.rmem_max`) without a word, counts
    /// its own overhead in, and ends its own tuning of the size: set it where a measurement says so.
    #[must_use]
    pub fn receive_buffer_bytes(mut self, bytes: usize) -> Self {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    /// The kernel's send buffer (SO_SNDBUF); as for [`receive_buffer_bytes`](Self::receive_buffer_bytes), with `wmem_max`.
    #[must_use]
    pub fn send_buffer_bytes(mut self, bytes: usize) -> Self {
        self.send_buffer_bytes = Some(bytes);
        self
    }

    /// The type of service (IPv4) or traffic class (IPv6) of all packets: the DSCP in the upper six bits. The kernel may
    /// keep the lower two (ECN) for itself.
    #[must_use]
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = Some(tos);
        self
    }

    /// Errs where a dial could not succeed with these.
    pub(crate) fn check(&self) -> Result<(), HyperSocketError> {
        let invalid = |what: String| Err(HyperSocketError::InvalidConfig(what));
        let linux_only = [
            ("interface", self.interface.is_some()),
            ("busy_poll_us", self.busy_poll_us.is_some()),
            ("quick_ack", self.acks == Acks::Quick),
            ("kernel_timestamps", self.kernel_timestamps),
            ("user_timeout", self.user_timeout.is_some()),
        ];
        if !cfg!(target_os = "linux")
            && let Some((method, _)) = linux_only.iter().find(|(_, asked)| *asked)
        {
            return invalid(format!("SocketOptions::{method} is there on Linux only"));
        }
        if let Some(name) = &self.interface
            && (name.is_empty() || name.len() > MAX_INTERFACE_BYTES || name.contains(['/', '\0', ' ']))
        {
            return invalid(format!("{name:?} cannot be the name of an interface"));
        }
        if let Some(Keepalive { idle, interval, count }) = self.keepalive
            && (idle.as_secs() == 0 || interval.as_secs() == 0 || count == 0)
        {
            return invalid("keepalive needs an idle time and an interval of at least 1 s, and a probe".to_owned());
        }
        if self.user_timeout.is_some_and(|timeout| timeout.as_millis() == 0) {
            return invalid("a user timeout of 0 ms".to_owned());
        }
        if self.receive_buffer_bytes == Some(0) || self.send_buffer_bytes == Some(0) {
            return invalid("a socket buffer of 0 bytes".to_owned());
        }
        Ok(())
    }

    /// The option, if any, that only a socket of our own making can have.
    pub(crate) fn needs_own_socket(&self) -> Option<&'static str> {
        let bound = self.source_address.map(|_| "source_address");
        bound.or(self.interface.as_ref().map(|_| "interface"))
    }

    pub(crate) fn acks(&self) -> Acks {
        self.acks
    }

    pub(crate) fn has_kernel_timestamps(&self) -> bool {
        self.kernel_timestamps
    }

    /// A non-blocking socket, set as told, that is to be connected to `address`.
    pub(super) fn open(&self, address: SocketAddr) -> Result<Socket, Refusal> {
        let on_address = |error: std::io::Error| Refusal::Address(error.to_string());
        if let Some(source) = self.source_address
            && source.is_ipv4() != address.is_ipv4()
        {
            return Err(Refusal::Address(format!("not of the family of the source address {source}")));
        }
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).map_err(on_address)?;
        socket.set_nonblocking(true).map_err(on_address)?;
        self.apply(&SockRef::from(&socket), address).map_err(Refusal::Option)?;
        if let Some(source) = self.source_address {
            let bound = socket.bind(&SocketAddr::new(source, 0).into());
            taken(format!("source_address({source})"), bound).map_err(Refusal::Option)?;
        }
        Ok(socket)
    }

    /// Sets all that can be set on a socket of anyone's making, connected to `peer` or to be.
    pub(crate) fn apply(&self, socket: &SockRef<'_>, peer: SocketAddr) -> Result<(), DisconnectReason> {
        taken("TCP_NODELAY", socket.set_tcp_nodelay(true))?;
        if let Some(bytes) = self.receive_buffer_bytes {
            taken(format!("receive_buffer_bytes({bytes})"), socket.set_recv_buffer_size(bytes))?;
        }
        if let Some(bytes) = self.send_buffer_bytes {
            taken(format!("send_buffer_bytes({bytes})"), socket.set_send_buffer_size(bytes))?;
        }
        if let Some(Keepalive { idle, interval, count }) = self.keepalive {
            let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count);
            taken(format!("keepalive({idle:?}, {interval:?}, {count})"), socket.set_tcp_keepalive(&keepalive))?;
        }
        if let Some(tos) = self.tos {
            let set = match peer {
                SocketAddr::V4(_) => socket.set_tos_v4(tos.into()),
                SocketAddr::V6(_) => socket.set_tclass_v6(tos.into()),
            };
            taken(format!("tos({tos:#04x})"), set)?;
        }
        self.apply_linux(socket)
    }

    #[cfg(target_os = "linux")]
    fn apply_linux(&self, socket: &SockRef<'_>) -> Result<(), DisconnectReason> {
        if let Some(name) = &self.interface {
            taken(format!("interface({name:?})"), socket.bind_device(Some(name.as_bytes())))?;
        }
        if let Some(timeout) = self.user_timeout {
            taken(format!("user_timeout({timeout:?})"), socket.set_tcp_user_timeout(Some(timeout)))?;
        }
        if self.acks == Acks::Quick {
            taken("quick_ack", socket.set_tcp_quickack(true))?;
        }
        if self.kernel_timestamps {
            taken("kernel_timestamps", super::kernel_time::enable(&**socket))?;
        }
        match self.busy_poll_us.map(|us| (us, socket.set_busy_poll(us))) {
            Some((us, Err(error))) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                log::warn!(
                    "busy_poll_us({us}) is refused, and the socket goes without: {error} (it needs CAP_NET_ADMIN)"
                );
                Ok(())
            }
            Some((us, set)) => taken(format!("busy_poll_us({us})"), set),
            None => Ok(()),
        }
    }

    /// [`check`](Self::check) has refused what would have to be done here.
    #[cfg(not(target_os = "linux"))]
    fn apply_linux(&self, _socket: &SockRef<'_>) -> Result<(), DisconnectReason> {
        Ok(())
    }
}

impl Acks {
    /// Tells the kernel again; a refusal would be that of a socket that is broken, and the next read says so.
    pub(super) fn rearm(self, socket: &TcpStream) {
        #[cfg(target_os = "linux")]
        if self == Self::Quick {
            let _ = SockRef::from(socket).set_tcp_quickack(true);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (self, socket);
    }
}

fn taken(option: impl Into<String>, set: std::io::Result<()>) -> Result<(), DisconnectReason> {
    set.map_err(|error| DisconnectReason::SocketOption { option: option.into(), error: error.to_string() })
}

/// IFNAMSIZ without its NUL.
const MAX_INTERFACE_BYTES: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    const V4: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
    const V6: SocketAddr = SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 9);

    fn opened(options: &SocketOptions, address: SocketAddr) -> Socket {
        options.check().unwrap();
        options.open(address).unwrap()
    }

    fn refused_option(options: &SocketOptions) -> (String, String) {
        match options.open(V4) {
            Err(Refusal::Option(DisconnectReason::SocketOption { option, error })) => (option, error),
            other => panic!("expected a refused option, got {other:?}"),
        }
    }

    fn config_fault(options: &SocketOptions) -> String {
        match options.check() {
            Err(HyperSocketError::InvalidConfig(words)) => words,
            other => panic!("expected InvalidConfig, got {other:?}"),
        }
    }

    #[test]
    fn every_option_reaches_the_socket_of_either_family() {
        let options = SocketOptions::new()
            .keepalive(Duration::from_secs(11), Duration::from_secs(3), 4)
            .receive_buffer_bytes(70_000)
            .send_buffer_bytes(50_000)
            .tos(0xB8);
        for address in [V4, V6] {
            let socket = opened(&options, address);
            assert!(socket.tcp_nodelay().unwrap() && socket.nonblocking().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(11));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(3));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
            // Linux tells twice what was asked for: its overhead is counted in.
            assert!([70_000, 140_000].contains(&socket.recv_buffer_size().unwrap()));
            assert!([50_000, 100_000].contains(&socket.send_buffer_size().unwrap()));
            let tos = if address.is_ipv4() { socket.tos_v4() } else { socket.tclass_v6() };
            assert_eq!(tos.unwrap(), 0xB8);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_options_of_linux_reach_the_socket() {
        let options = SocketOptions::new().interface("lo").quick_ack().user_timeout(Duration::from_millis(7_500));
        let socket = opened(&options, V4);
        assert_eq!(socket.device().unwrap().as_deref(), Some(b"lo".as_slice()));
        assert!(socket.tcp_quickack().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(7_500)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_busy_poll_is_set_or_harmlessly_refused() {
        let socket = opened(&SocketOptions::new().busy_poll_us(50), V4);
        let plain = opened(&SocketOptions::new(), V4);
        let got = socket.busy_poll().unwrap();
        assert!(got == 50 || got == plain.busy_poll().unwrap(), "{got}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_refused_option_is_named_with_its_error() {
        let (option, error) = refused_option(&SocketOptions::new().interface("nosuch0"));
        assert_eq!(option, "interface(\"nosuch0\")");
        assert!(error.contains("No such device"), "{error}");
    }

    #[test]
    fn a_source_address_is_bound_and_one_of_somebody_else_is_refused() {
        let socket = opened(&SocketOptions::new().source_address(V4.ip()), V4);
        assert_eq!(socket.local_addr().unwrap().as_socket().unwrap().ip(), V4.ip());

        // TEST-NET-1, which no host has.
        let (option, error) = refused_option(&SocketOptions::new().source_address([192, 0, 2, 1].into()));
        assert_eq!(option, "source_address(192.0.2.1)");
        assert!(!error.is_empty());
    }

    #[test]
    fn an_address_of_the_other_family_than_the_source_is_passed_over() {
        let refused = SocketOptions::new().source_address(V4.ip()).open(V6);
        let Err(Refusal::Address(words)) = refused else { panic!("{refused:?}") };
        assert!(words.contains("family"), "{words}");
    }

    #[test]
    fn options_that_cannot_work_say_what_to_mend() {
        let second = Duration::from_secs(1);
        assert!(config_fault(&SocketOptions::new().keepalive(second / 2, second, 1)).contains("keepalive"));
        assert!(config_fault(&SocketOptions::new().keepalive(second, second, 0)).contains("a probe"));
        assert!(config_fault(&SocketOptions::new().receive_buffer_bytes(0)).contains("0 bytes"));
        assert!(SocketOptions::new().check().is_ok());
        if cfg!(target_os = "linux") {
            assert!(config_fault(&SocketOptions::new().interface("a name with spaces")).contains("interface"));
            assert!(config_fault(&SocketOptions::new().user_timeout(Duration::ZERO)).contains("0 ms"));
        } else {
            assert!(config_fault(&SocketOptions::new().quick_ack()).contains("Linux only"));
            assert!(config_fault(&SocketOptions::new().interface("en0")).contains("Linux only"));
        }
    }
}
