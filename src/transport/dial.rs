//! A TCP connect that never blocks, over every address of a host (RFC 8305, in small): IPv6 and IPv4 take turns, a quarter
//! of a second apart, and the first to connect wins. Invariant: every socket of an attempt is registered under the dial's
//! token, and at the end of a dial none is but the winner's, under the connection's.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Registry, Token};
use nix::errno::Errno;

use crate::error::DisconnectReason;
use crate::transport::socket_options::{Refusal, SocketOptions};
use crate::transport::stream::BOTH;

/// One dial. Call [`start`](Self::start) once, then [`on_ready`](Self::on_ready) and
/// [`handle_timeout`](Self::handle_timeout) until the progress is not pending.
#[derive(Debug)]
pub(crate) struct Dial {
    untried: VecDeque<SocketAddr>,
    deadline: Instant,
    options: Arc<SocketOptions>,
    tokens: DialTokens,
    /// The connects that are under way, oldest first.
    attempts: Vec<Attempt>,
    /// When the next address has its turn, if none of those has failed by then.
    next_start: Instant,
    /// Each address that failed, with its error in words.
    failures: Vec<String>,
}

/// Who hears of a dial's sockets. Two tokens, since what an outrun socket still reports must not be taken for news of the
/// winner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DialTokens {
    /// All attempts share it: a readiness says to look at each of them.
    pub(crate) attempts: Token,
    /// The connection's own, from the moment it is one.
    pub(crate) connected: Token,
}

/// A connect that is under way.
#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    socket: TcpStream,
}

/// How an attempt stands.
enum Standing {
    Pending,
    Connected,
    Failed(io::Error),
}

/// How a dial stands.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Connects are under way: wait for readiness or for [`Dial::poll_timeout`].
    Pending,
    /// Connected, set as told, and registered for reading and writing under the connection's token: writability comes as
    /// an edge of its own, but a flush need not wait for it.
    Connected(TcpStream),
    /// No address accepted. Says [`Connect`](DisconnectReason::Connect) with each address and its error,
    /// [`Resolve`](DisconnectReason::Resolve) where there was no address, or
    /// [`SocketOption`](DisconnectReason::SocketOption) where the system refused one.
    Failed(DisconnectReason),
}

impl Dial {
    /// A dial that tries `addresses`, both families in turn, and has failed at `deadline`.
    pub(crate) fn new(
        addresses: &[SocketAddr],
        deadline: Instant,
        options: Arc<SocketOptions>,
        tokens: DialTokens,
    ) -> Self {
        let untried = interleaved(addresses);
        Self { untried, deadline, options, tokens, attempts: Vec::new(), next_start: deadline, failures: Vec::new() }
    }

    /// Begins with the first address.
    pub(crate) fn start(&mut self, registry: &Registry, now: Instant) -> Progress {
        debug_assert!(self.attempts.is_empty(), "a dial starts once");
        if self.untried.is_empty() {
            return Progress::Failed(DisconnectReason::Resolve("the name has no address".to_owned()));
        }
        self.begin_next(registry, now)
    }

    /// Looks at how the connects went, after any readiness of the dial's token; a spurious call does no harm.
    pub(crate) fn on_ready(&mut self, registry: &Registry, now: Instant) -> Progress {
        let failed_before = self.failures.len();
        // From the oldest, so that of two that connected within one look the earlier address has it.
        let mut waiting = std::mem::take(&mut self.attempts).into_iter();
        while let Some(mut attempt) = waiting.next() {
            match attempt.standing() {
                Standing::Pending => self.attempts.push(attempt),
                Standing::Failed(error) => self.give_up(attempt, registry, &error.to_string()),
                Standing::Connected => match registry.reregister(&mut attempt.socket, self.tokens.connected, BOTH) {
                    Ok(()) => {
                        log::debug!("connected to {}", attempt.address);
                        self.attempts.extend(waiting);
                        self.give_up_all(registry, "another was quicker");
                        return Progress::Connected(attempt.socket);
                    }
                    Err(error) => self.give_up(attempt, registry, &error.to_string()),
                },
            }
        }
        if self.failures.len() > failed_before { self.begin_next(registry, now) } else { Progress::Pending }
    }

    /// Gives the next address its turn where that has come, and ends the dial at its deadline.
    pub(crate) fn handle_timeout(&mut self, registry: &Registry, now: Instant) -> Progress {
        if now >= self.deadline {
            self.give_up_all(registry, "no answer in time");
            let untried = self.untried.drain(..);
            self.failures.extend(untried.map(|address| format!("{address}: not tried, no time left")));
            return self.failed();
        }
        if now >= self.next_start && !self.untried.is_empty() {
            return self.begin_next(registry, now);
        }
        Progress::Pending
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Instant {
        if self.untried.is_empty() { self.deadline } else { self.next_start.min(self.deadline) }
    }

    /// Ends the dial, whatever it has come to.
    pub(crate) fn cancel(mut self, registry: &Registry) {
        self.give_up_all(registry, "cancelled");
    }

    /// Starts with the next address that lets itself be started with.
    fn begin_next(&mut self, registry: &Registry, now: Instant) -> Progress {
        while let Some(address) = self.untried.pop_front() {
            match self.connect(address, registry) {
                Ok(attempt) => {
                    if self.attempts.len() == MAX_ATTEMPTS {
                        let oldest = self.attempts.remove(0);
                        self.give_up(oldest, registry, "no answer in time");
                    }
                    self.attempts.push(attempt);
                    // Where the time is short, or the addresses are many, each still gets its turn.
                    let left = self.deadline.saturating_duration_since(now);
                    let sharers = u32::try_from(self.untried.len() + 1).unwrap_or(u32::MAX);
                    self.next_start = now + STAGGER.min(left / sharers);
                    return Progress::Pending;
                }
                Err(Refusal::Address(why)) => self.failures.push(format!("{address}: {why}")),
                Err(Refusal::Option(reason)) => {
                    self.give_up_all(registry, "cancelled");
                    return Progress::Failed(reason);
                }
            }
        }
        if self.attempts.is_empty() { self.failed() } else { Progress::Pending }
    }

    fn connect(&self, address: SocketAddr, registry: &Registry) -> Result<Attempt, Refusal> {
        let on_address = |error: io::Error| Refusal::Address(error.to_string());
        let socket = self.options.open(address)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            // Interrupted or not, the connect goes on in the kernel.
            Err(error) if [Errno::EINPROGRESS, Errno::EINTR].contains(&errno(&error)) => {}
            Err(error) => return Err(on_address(error)),
        }
        let mut socket = TcpStream::from_std(socket.into());
        registry.register(&mut socket, self.tokens.attempts, BOTH).map_err(on_address)?;
        Ok(Attempt { address, socket })
    }

    fn failed(&mut self) -> Progress {
        Progress::Failed(DisconnectReason::Connect(self.failures.join("; ")))
    }

    fn give_up(&mut self, mut attempt: Attempt, registry: &Registry, why: &str) {
        self.failures.push(format!("{}: {why}", attempt.address));
        // It can only fail where the socket is not registered, which is what is wanted.
        let _ = registry.deregister(&mut attempt.socket);
    }

    fn give_up_all(&mut self, registry: &Registry, why: &str) {
        for attempt in std::mem::take(&mut self.attempts) {
            self.give_up(attempt, registry, why);
        }
    }
}

impl Attempt {
    fn standing(&self) -> Standing {
        match self.socket.take_error() {
            Ok(Some(error)) | Err(error) => Standing::Failed(error),
            Ok(None) if self.socket.peer_addr().is_ok() => Standing::Connected,
            Ok(None) => Standing::Pending,
        }
    }
}

/// IPv6 first, then the families in turn, each in the order of the resolver.
fn interleaved(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(SocketAddr::is_ipv6);
    let pairs = v6.len().max(v4.len());
    (0..pairs).flat_map(|turn| [v6.get(turn), v4.get(turn)]).flatten().copied().collect()
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// RFC 8305, section 8, recommends it: most connects are done by then, and few users would notice.
const STAGGER: Duration = Duration::from_millis(250);
/// At the usual distance, four seconds for each address before it makes room; and a bound on descriptors where a resolver
/// answers with hundreds.
const MAX_ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mio::{Events, Poll};
    use socket2::{Domain, Socket, Type};

    use super::*;

    const TOKENS: DialTokens = DialTokens { attempts: Token(7), connected: Token(8) };
    const LONG: Duration = Duration::from_secs(10);

    fn dial_with(addresses: &[SocketAddr], now: Instant, options: SocketOptions) -> Dial {
        Dial::new(addresses, now + LONG, Arc::new(options), TOKENS)
    }

    fn dial(addresses: &[SocketAddr], now: Instant) -> Dial {
        dial_with(addresses, now, SocketOptions::new())
    }

    /// Drives a dial by real readiness until it has come to something; its own time stands still.
    fn drive(poll: &mut Poll, dial: &mut Dial, mut progress: Progress, now: Instant) -> Progress {
        let give_up = Instant::now() + LONG;
        let mut events = Events::with_capacity(8);
        while matches!(progress, Progress::Pending) {
            let left = give_up.checked_duration_since(Instant::now()).expect("the dial hangs");
            poll.poll(&mut events, Some(left)).unwrap();
            for event in &events {
                assert_eq!(event.token(), TOKENS.attempts);
                if matches!(progress, Progress::Pending) {
                    progress = dial.on_ready(poll.registry(), now);
                }
            }
        }
        progress
    }

    /// Asserts that of all the dial's sockets only the winner's is heard of, under the connection's token.
    fn assert_alone(poll: &mut Poll, winner: &TcpStream, address: SocketAddr) {
        assert_eq!(winner.peer_addr().unwrap(), address);
        assert!(winner.nodelay().unwrap());
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(LONG)).unwrap();
        assert!(events.iter().next().is_some(), "the new registration raises an edge");
        assert!(events.iter().all(|event| event.token() == TOKENS.connected && event.is_writable()));
    }

    fn words(progress: Progress) -> String {
        match progress {
            Progress::Failed(DisconnectReason::Connect(words)) => words,
            other => panic!("expected a failed connect, got {other:?}"),
        }
    }

    fn listening() -> (SocketAddr, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap(), listener)
    }

    /// An address where nobody listens: bound, so that no other test gets it.
    fn refusing() -> (SocketAddr, Socket) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        (socket.local_addr().unwrap().as_socket().unwrap(), socket)
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
    fn a_dead_first_address_gives_way_to_a_good_one_at_once() {
        let mut poll = Poll::new().unwrap();
        let now = Instant::now();
        let ((dead, _bound), (good, _venue)) = (refusing(), listening());
        let mut dial = dial(&[dead, good], now);
        let started = dial.start(poll.registry(), now);
        // Time stands still here, so it was not the stagger that gave the second its turn.
        let Progress::Connected(socket) = drive(&mut poll, &mut dial, started, now) else { panic!("not connected") };
        assert_alone(&mut poll, &socket, good);
    }

    #[test]
    fn all_dead_names_every_address() {
        let mut poll = Poll::new().unwrap();
        let now = Instant::now();
        let ((first, _a), (second, _b)) = (refusing(), refusing());
        let mut dial = dial(&[first, second], now);
        let started = dial.start(poll.registry(), now);
        let words = words(drive(&mut poll, &mut dial, started, now));
        for address in [first, second] {
            assert!(words.contains(&format!("{address}: ")), "{words}");
        }
        assert_eq!(words.matches("refused").count(), 2, "{words}");
    }

    #[test]
    fn no_address_is_a_failure_to_resolve() {
        let poll = Poll::new().unwrap();
        let now = Instant::now();
        let progress = dial(&[], now).start(poll.registry(), now);
        assert!(matches!(progress, Progress::Failed(DisconnectReason::Resolve(_))));
    }

    #[test]
    fn the_next_address_starts_a_quarter_of_a_second_behind_a_silent_one_and_wins() {
        let mut poll = Poll::new().unwrap();
        let now = Instant::now();
        let ((silent, _sockets), (good, _venue)) = (silent(), listening());
        let mut dial = dial(&[silent, good], now);
        assert!(matches!(dial.start(poll.registry(), now), Progress::Pending));
        assert_eq!(dial.poll_timeout(), now + Duration::from_millis(250));

        let early = now + Duration::from_millis(249);
        assert!(matches!(dial.handle_timeout(poll.registry(), early), Progress::Pending));
        assert!(matches!(dial.on_ready(poll.registry(), early), Progress::Pending), "a spurious call");
        assert_eq!(dial.attempts.len(), 1);

        let later = now + Duration::from_millis(250);
        let next = dial.handle_timeout(poll.registry(), later);
        assert_eq!(dial.attempts.len(), 2, "the silent one is not given up");
        assert_eq!(dial.poll_timeout(), now + LONG, "nobody is left to wait for their turn");
        let Progress::Connected(socket) = drive(&mut poll, &mut dial, next, later) else { panic!("not connected") };
        assert!(dial.attempts.is_empty());
        assert_alone(&mut poll, &socket, good);
    }

    #[test]
    fn a_dead_ipv6_gives_way_to_ipv4_and_a_living_one_is_preferred() {
        let now = Instant::now();
        let (v4, _venue) = listening();
        let v6 = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        if v6.bind(&"[::1]:0".parse::<SocketAddr>().unwrap().into()).is_err() {
            return println!("not tested: no IPv6 here");
        }
        let address = v6.local_addr().unwrap().as_socket().unwrap();
        for (living, expected) in [(false, v4), (true, address)] {
            if living {
                v6.listen(1).unwrap();
            }
            let mut poll = Poll::new().unwrap();
            let mut dial = dial(&[v4, address], now);
            let started = dial.start(poll.registry(), now);
            let Progress::Connected(socket) = drive(&mut poll, &mut dial, started, now) else {
                panic!("not connected")
            };
            assert_alone(&mut poll, &socket, expected);
        }
    }

    #[test]
    fn a_slow_first_address_still_wins_where_the_others_are_dead() {
        let mut poll = Poll::new().unwrap();
        let now = Instant::now();
        let ((good, _venue), (silent, _sockets)) = (listening(), silent());
        let mut dial = dial(&[good, silent], now);
        // Nobody looks at the first before the second has started.
        dial.start(poll.registry(), now);
        let next = dial.handle_timeout(poll.registry(), now + STAGGER);
        assert_eq!(dial.attempts.len(), 2);
        let Progress::Connected(socket) = drive(&mut poll, &mut dial, next, now + STAGGER) else { panic!() };
        assert_alone(&mut poll, &socket, good);
    }

    #[test]
    fn the_deadline_ends_the_dial_whatever_is_untried() {
        let poll = Poll::new().unwrap();
        let now = Instant::now();
        let ((silent, _sockets), (dead, _bound)) = (silent(), refusing());
        let mut dial = dial(&[silent, dead], now);
        assert!(matches!(dial.start(poll.registry(), now), Progress::Pending));
        let words = words(dial.handle_timeout(poll.registry(), now + LONG));
        assert!(words.contains(&format!("{silent}: no answer in time")), "{words}");
        assert!(words.contains(&format!("{dead}: not tried")), "{words}");
    }

    #[test]
    fn every_address_gets_a_turn_where_the_time_is_short() {
        let poll = Poll::new().unwrap();
        let mut now = Instant::now();
        let (silent, _sockets) = silent();
        let deadline = now + Duration::from_millis(200);
        let mut dial = Dial::new(&[silent; 40], deadline, Arc::default(), TOKENS);
        let mut progress = dial.start(poll.registry(), now);
        while matches!(progress, Progress::Pending) {
            assert!(dial.attempts.len() <= MAX_ATTEMPTS, "descriptors are bounded");
            now = dial.poll_timeout();
            progress = dial.handle_timeout(poll.registry(), now);
        }
        assert_eq!(now, deadline);
        let words = words(progress);
        assert_eq!(words.matches("no answer in time").count(), 40, "{words}");
    }

    #[test]
    fn the_families_take_turns_and_ipv6_begins() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let resolved = ["1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1", "[::a]:1", "[::b]:1"].map(address);
        let dialed = ["[::a]:1", "1.1.1.1:1", "[::b]:1", "2.2.2.2:1", "3.3.3.3:1"].map(address);
        assert_eq!(interleaved(&resolved), dialed);
    }

    #[test]
    fn a_refused_option_ends_the_dial_before_any_other_address() {
        let poll = Poll::new().unwrap();
        let now = Instant::now();
        let ((first, _a), (second, _b)) = (listening(), listening());
        let strange = SocketOptions::new().source_address([192, 0, 2, 1].into());
        let progress = dial_with(&[first, second], now, strange).start(poll.registry(), now);
        let Progress::Failed(DisconnectReason::SocketOption { option, .. }) = progress else { panic!("{progress:?}") };
        assert_eq!(option, "source_address(192.0.2.1)");
    }

    #[test]
    fn a_source_address_passes_over_the_other_family() {
        let mut poll = Poll::new().unwrap();
        let now = Instant::now();
        let (good, venue) = listening();
        let options = SocketOptions::new().source_address([127, 0, 0, 2].into());
        let mut dial = dial_with(&["[::1]:9".parse().unwrap(), good], now, options);
        let started = dial.start(poll.registry(), now);
        assert!(matches!(drive(&mut poll, &mut dial, started, now), Progress::Connected(_)));
        assert_eq!(venue.accept().unwrap().1.ip().to_string(), "127.0.0.2");
    }

    #[test]
    fn a_cancelled_dial_leaves_nothing_registered() {
        let mut poll = Poll::new().unwrap();
        let now = Instant::now();
        let ((first, _a), (second, _b)) = (listening(), listening());
        let mut dial = dial(&[first, second], now);
        dial.start(poll.registry(), now);
        dial.handle_timeout(poll.registry(), now + STAGGER);
        dial.cancel(poll.registry());
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
    }
}
