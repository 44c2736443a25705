//! A TCP connect that never blocks, over every address in turn. Invariant: at most one socket exists at a time, and
//! it is registered.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Registry, Token};

use crate::error::DisconnectReason;
use crate::transport::stream::BOTH;

/// One dial. Call [`start`](Self::start) once, then [`on_writable`](Self::on_writable) and
/// [`handle_timeout`](Self::handle_timeout) until the progress is not pending.
#[derive(Debug)]
pub(crate) struct Dial {
    untried: VecDeque<SocketAddr>,
    deadline: Instant,
    attempt: Option<Attempt>,
    /// Each address that failed, with its error in words.
    failures: Vec<String>,
}

/// The connect that is under way.
#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    socket: TcpStream,
    /// When the next address gets its turn.
    until: Instant,
}

/// How a dial stands.
#[derive(Debug)]
pub(crate) enum Progress {
    /// A connect is under way: wait for writability or for [`Dial::poll_timeout`].
    Pending,
    /// Connected, TCP_NODELAY set, and still registered for reading and writing under the same token. The edge that
    /// said so is used up: flush and fill once without waiting for another.
    Connected(TcpStream),
    /// No address accepted. Says [`Connect`](DisconnectReason::Connect) with each address and its error, or
    /// [`Resolve`](DisconnectReason::Resolve) where there was no address.
    Failed(DisconnectReason),
}

impl Dial {
    /// A dial that tries `addresses` in their order and has failed at `deadline`.
    pub(crate) fn new(addresses: Vec<SocketAddr>, deadline: Instant) -> Self {
        Self { untried: addresses.into(), deadline, attempt: None, failures: Vec::new() }
    }

    /// Begins with the first address.
    pub(crate) fn start(&mut self, registry: &Registry, token: Token, now: Instant) -> Progress {
        debug_assert!(self.attempt.is_none(), "a dial starts once");
        if self.untried.is_empty() {
            return Progress::Failed(DisconnectReason::Resolve("the name has no address".to_owned()));
        }
        self.begin_next(registry, token, now)
    }

    /// Looks at how the connect went, after any readiness of the socket; a spurious call does no harm.
    pub(crate) fn on_writable(&mut self, registry: &Registry, token: Token, now: Instant) -> Progress {
        let Some(attempt) = self.attempt.take() else { return Progress::Pending };
        match attempt.socket.take_error() {
            Ok(Some(error)) | Err(error) => {
                self.give_up(attempt, registry, &error.to_string());
                self.begin_next(registry, token, now)
            }
            Ok(None) if attempt.socket.peer_addr().is_ok() => Progress::Connected(attempt.socket),
            // Readiness of an earlier address's socket can arrive under the same token.
            Ok(None) => {
                self.attempt = Some(attempt);
                Progress::Pending
            }
        }
    }

    /// Goes on to the next address where the current one has had its share of the time.
    pub(crate) fn handle_timeout(&mut self, registry: &Registry, token: Token, now: Instant) -> Progress {
        match self.attempt.take_if(|attempt| now >= attempt.until) {
            Some(attempt) => {
                self.give_up(attempt, registry, "no answer in time");
                self.begin_next(registry, token, now)
            }
            None => Progress::Pending,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.attempt.as_ref().map_or(self.deadline, |attempt| attempt.until)
    }

    /// Ends the dial, whatever it has come to.
    pub(crate) fn cancel(mut self, registry: &Registry) {
        if let Some(attempt) = self.attempt.take() {
            self.give_up(attempt, registry, "cancelled");
        }
    }

    fn begin_next(&mut self, registry: &Registry, token: Token, now: Instant) -> Progress {
        while let Some(address) = self.untried.pop_front() {
            let left = self.deadline.saturating_duration_since(now);
            if left.is_zero() {
                self.failures.push(format!("{address}: not tried, no time left"));
                continue;
            }
            let sharers = u32::try_from(self.untried.len() + 1).unwrap_or(u32::MAX);
            match connect(address, registry, token) {
                Ok(socket) => {
                    self.attempt = Some(Attempt { address, socket, until: now + left / sharers });
                    return Progress::Pending;
                }
                Err(error) => self.failures.push(format!("{address}: {error}")),
            }
        }
        Progress::Failed(DisconnectReason::Connect(self.failures.join("; ")))
    }

    fn give_up(&mut self, mut attempt: Attempt, registry: &Registry, why: &str) {
        self.failures.push(format!("{}: {why}", attempt.address));
        // It can only fail where the socket is not registered, which is what is wanted.
        let _ = registry.deregister(&mut attempt.socket);
    }
}

fn connect(address: SocketAddr, registry: &Registry, token: Token) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    registry.register(&mut socket, token, BOTH)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use mio::{Events, Poll};
    use socket2::{Domain, Socket, Type};

    use super::*;

    const TOKEN: Token = Token(7);

    /// Drives a dial by real readiness until it has come to something.
    fn drive(poll: &mut Poll, dial: &mut Dial, mut progress: Progress, now: Instant) -> Progress {
        let give_up = Instant::now() + Duration::from_secs(10);
        let mut events = Events::with_capacity(8);
        while matches!(progress, Progress::Pending) {
            let left = give_up.checked_duration_since(Instant::now()).expect("the dial hangs");
            poll.poll(&mut events, Some(left)).unwrap();
            for event in &events {
                assert_eq!(event.token(), TOKEN);
                if matches!(progress, Progress::Pending) {
                    progress = dial.on_writable(poll.registry(), TOKEN, now);
                }
            }
        }
        progress
    }

    /// An address where nobody listens.
    fn refusing() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    /// An address that answers no SYN, for its queue is full; it lives as long as the sockets do.
    fn silent() -> (SocketAddr, Vec<Socket>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        for _ in 0..8 {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&address);
            sockets.push(filler);
        }
        (address.as_socket().unwrap(), sockets)
    }

    #[test]
    fn a_dead_first_address_gives_way_to_a_good_one() {
        let mut poll = Poll::new().unwrap();
        let now = Instant::now();
        let venue = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = venue.local_addr().unwrap();
        let mut dial = Dial::new(vec![refusing(), good], now + Duration::from_secs(10));
        let started = dial.start(poll.registry(), TOKEN, now);
        let Progress::Connected(socket) = drive(&mut poll, &mut dial, started, now) else { panic!("not connected") };
        assert_eq!(socket.peer_addr().unwrap(), good);
        assert!(socket.nodelay().unwrap());
    }

    #[test]
    fn all_dead_names_every_address() {
        let mut poll = Poll::new().unwrap();
        let now = Instant::now();
        let dead = [refusing(), refusing()];
        let mut dial = Dial::new(dead.to_vec(), now + Duration::from_secs(10));
        let started = dial.start(poll.registry(), TOKEN, now);
        let progress = drive(&mut poll, &mut dial, started, now);
        let Progress::Failed(DisconnectReason::Connect(words)) = progress else { panic!("{progress:?}") };
        for address in dead {
            assert!(words.contains(&format!("{address}: ")), "{words}");
        }
        assert_eq!(words.matches("refused").count(), 2, "{words}");
    }

    #[test]
    fn no_address_is_a_failure_to_resolve() {
        let poll = Poll::new().unwrap();
        let now = Instant::now();
        let progress = Dial::new(Vec::new(), now).start(poll.registry(), TOKEN, now);
        assert!(matches!(progress, Progress::Failed(DisconnectReason::Resolve(_))));
    }

    #[test]
    fn a_silent_address_gets_its_share_of_the_time_and_no_more() {
        let mut poll = Poll::new().unwrap();
        let now = Instant::now();
        let (silent, _sockets) = silent();
        let venue = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut dial = Dial::new(vec![silent, venue.local_addr().unwrap()], now + Duration::from_secs(10));
        assert!(matches!(dial.start(poll.registry(), TOKEN, now), Progress::Pending));
        assert_eq!(dial.poll_timeout(), now + Duration::from_secs(5));

        let early = now + Duration::from_millis(4_999);
        assert!(matches!(dial.handle_timeout(poll.registry(), TOKEN, early), Progress::Pending));
        assert!(matches!(dial.on_writable(poll.registry(), TOKEN, early), Progress::Pending), "a spurious call");
        assert_eq!(dial.poll_timeout(), now + Duration::from_secs(5));

        let later = now + Duration::from_secs(6);
        let next = dial.handle_timeout(poll.registry(), TOKEN, later);
        assert!(matches!(next, Progress::Pending));
        assert_eq!(dial.poll_timeout(), now + Duration::from_secs(10), "the last address has all that is left");
        assert!(matches!(drive(&mut poll, &mut dial, next, later), Progress::Connected(_)));
    }

    #[test]
    fn the_deadline_ends_the_dial_whatever_is_untried() {
        let poll = Poll::new().unwrap();
        let now = Instant::now();
        let (silent, _sockets) = silent();
        let mut dial = Dial::new(vec![silent, refusing()], now + Duration::from_secs(10));
        assert!(matches!(dial.start(poll.registry(), TOKEN, now), Progress::Pending));
        let progress = dial.handle_timeout(poll.registry(), TOKEN, now + Duration::from_secs(11));
        let Progress::Failed(DisconnectReason::Connect(words)) = progress else { panic!("{progress:?}") };
        assert!(words.contains("no answer in time") && words.contains("not tried"), "{words}");
    }

    #[test]
    fn a_cancelled_dial_leaves_nothing_registered() {
        let mut poll = Poll::new().unwrap();
        let now = Instant::now();
        let venue = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut dial = Dial::new(vec![venue.local_addr().unwrap()], now + Duration::from_secs(10));
        assert!(matches!(dial.start(poll.registry(), TOKEN, now), Progress::Pending));
        dial.cancel(poll.registry());
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
    }
}
