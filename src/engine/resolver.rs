//! Names to addresses, with a memory: where the resolver fails, the addresses of the last connect are better than none.
//! Invariant: at most one lookup of a client outlives the dial that asked for it.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::error::DisconnectReason;
use crate::sync::lock;

/// What a client knows of its venue's addresses.
pub(crate) struct Resolver {
    lookup: Box<Lookup>,
    memory: Mutex<Memory>,
}

type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

#[derive(Default)]
struct Memory {
    /// Those of the last connect.
    proven: Option<Known>,
    /// What the resolver said when nobody was waiting any more; it serves one dial.
    late: Option<Known>,
    /// A lookup has been left behind and has not answered.
    lookup_is_out: bool,
}

struct Known {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
}

/// The addresses to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) source: Source,
}

/// Where addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The resolver, just now, or the URL itself.
    Resolver,
    /// An earlier dial, since the resolver failed.
    Memory,
}

impl Resolver {
    /// Asks the system.
    pub(crate) fn system() -> Arc<Self> {
        Self::asking(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    pub(crate) fn asking(
        lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { lookup: Box::new(lookup), memory: Mutex::default() })
    }

    /// Resolves a name, in the resolver's order. Blocks: without a memory as long as the resolver likes, with one for
    /// `patience` at most.
    pub(super) fn resolve(
        self: &Arc<Self>,
        host: &str,
        port: u16,
        patience: Duration,
    ) -> Result<Resolved, DisconnectReason> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Resolved { addresses: vec![SocketAddr::new(address, port)], source: Source::Resolver });
        }
        let resolved = if lock(&self.memory).knows(host, port) {
            self.resolve_within(host, port, patience)
        } else {
            (self.lookup)(host, port).map_err(|error| error.to_string())
        };
        let failure = match resolved {
            Ok(addresses) => return Ok(Resolved { addresses, source: Source::Resolver }),
            Err(failure) => failure,
        };
        let Some(addresses) = lock(&self.memory).recall(host, port) else {
            return Err(DisconnectReason::Resolve(format!("{host}: {failure}")));
        };
        log::warn!("{host}: {failure}; dialing the addresses that are known from before");
        Ok(Resolved { addresses, source: Source::Memory })
    }

    /// Keeps the addresses among which one has just accepted.
    pub(super) fn remember(&self, host: &str, port: u16, addresses: Vec<SocketAddr>) {
        let mut memory = lock(&self.memory);
        memory.proven = Some(Known { host: host.to_owned(), port, addresses });
        memory.late = None;
    }

    /// Asks on a thread that can be left behind, or, where one is still out, not at all.
    fn resolve_within(self: &Arc<Self>, host: &str, port: u16, patience: Duration) -> Result<Vec<SocketAddr>, String> {
        if std::mem::replace(&mut lock(&self.memory).lookup_is_out, true) {
            return Err("the resolver still owes an earlier answer".to_owned());
        }
        let (reply, answer) = bounded(1);
        let (resolver, name) = (Arc::clone(self), host.to_owned());
        let started = std::thread::Builder::new()
            .name("hs-resolve".to_owned())
            .spawn(move || resolver.look_up(&name, port, &reply));
        if let Err(error) = started {
            lock(&self.memory).lookup_is_out = false;
            return Err(format!("no thread to resolve on: {error}"));
        }
        match answer.recv_timeout(patience) {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(RecvTimeoutError::Timeout) => Err(format!("no answer from the resolver within {patience:?}")),
            Err(RecvTimeoutError::Disconnected) => Err("the lookup panicked".to_owned()),
        }
    }

    fn look_up(&self, host: &str, port: u16, reply: &Sender<io::Result<Vec<SocketAddr>>>) {
        let answer = (self.lookup)(host, port);
        let mut memory = lock(&self.memory);
        memory.lookup_is_out = false;
        if let Err(unheard) = reply.send(answer)
            && let Ok(addresses) = unheard.0
            && !addresses.is_empty()
        {
            memory.late = Some(Known { host: host.to_owned(), port, addresses });
        }
    }
}

impl Memory {
    fn knows(&self, host: &str, port: u16) -> bool {
        self.proven.as_ref().is_some_and(|known| known.is(host, port))
    }

    /// What was said late is newer, but nobody has connected there yet: it is tried once.
    fn recall(&mut self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let late = self.late.take().filter(|known| known.is(host, port)).map(|known| known.addresses);
        late.or_else(|| self.proven.as_ref().filter(|known| known.is(host, port)).map(|known| known.addresses.clone()))
    }
}

impl Known {
    fn is(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crossbeam_channel::Receiver;

    use super::*;

    const HOST: &str = "venue.example";
    const LONG: Duration = Duration::from_secs(30);

    type Answer = io::Result<Vec<SocketAddr>>;

    fn addresses(last: u8) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([127, 0, 0, last], 443)), SocketAddr::from(([127, 0, 1, last], 443))]
    }

    /// A resolver that answers when the test does.
    fn resolver() -> (Arc<Resolver>, Sender<Answer>) {
        let (answers, coming): (_, Receiver<Answer>) = crossbeam_channel::unbounded();
        let lookup = move |_: &str, _| coming.recv_timeout(LONG).expect("the test answers");
        (Resolver::asking(lookup), answers)
    }

    fn failure() -> Answer {
        Err(io::Error::other("no server could be reached"))
    }

    fn recalled(last: u8) -> Result<Resolved, DisconnectReason> {
        Ok(Resolved { addresses: addresses(last), source: Source::Memory })
    }

    /// Waits until the lookup that was left behind has ended.
    fn await_late_answer(resolver: &Resolver) {
        let give_up = std::time::Instant::now() + LONG;
        while lock(&resolver.memory).lookup_is_out {
            assert!(std::time::Instant::now() < give_up, "the lookup never ends");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_failed_lookup_falls_back_on_the_addresses_of_the_last_connect() {
        let (resolver, answers) = resolver();
        answers.send(Ok(addresses(1))).unwrap();
        let first = resolver.resolve(HOST, 443, LONG).unwrap();
        assert_eq!(first, Resolved { addresses: addresses(1), source: Source::Resolver });
        resolver.remember(HOST, 443, first.addresses);

        answers.send(failure()).unwrap();
        assert_eq!(resolver.resolve(HOST, 443, LONG), recalled(1));
        answers.send(Ok(addresses(2))).unwrap();
        let back = resolver.resolve(HOST, 443, LONG).unwrap();
        assert_eq!(back, Resolved { addresses: addresses(2), source: Source::Resolver }, "the resolver comes first");
    }

    #[test]
    fn addresses_that_nobody_connected_to_are_not_remembered() {
        let (resolver, answers) = resolver();
        answers.send(Ok(addresses(1))).unwrap();
        resolver.resolve(HOST, 443, LONG).unwrap();
        answers.send(failure()).unwrap();
        let failed = resolver.resolve(HOST, 443, LONG);
        let Err(DisconnectReason::Resolve(words)) = failed else { panic!("{failed:?}") };
        assert!(words.contains(HOST) && words.contains("no server could be reached"), "{words}");
    }

    #[test]
    fn another_host_or_port_has_no_part_in_the_memory() {
        let (resolver, answers) = resolver();
        resolver.remember(HOST, 443, addresses(1));
        for (host, port) in [("elsewhere.example", 443), (HOST, 8443)] {
            answers.send(failure()).unwrap();
            let failed = resolver.resolve(host, port, LONG);
            assert!(matches!(failed, Err(DisconnectReason::Resolve(_))), "{failed:?}");
        }
    }

    #[test]
    fn a_resolver_that_hangs_is_left_behind_and_not_asked_again_until_it_has_answered() {
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, coming): (Sender<Answer>, Receiver<Answer>) = crossbeam_channel::unbounded();
        let count = Arc::clone(&asked);
        let resolver = Resolver::asking(move |_, _| {
            count.fetch_add(1, Ordering::AcqRel);
            coming.recv_timeout(LONG).expect("the test answers")
        });
        resolver.remember(HOST, 443, addresses(1));
        assert_eq!(resolver.resolve(HOST, 443, Duration::ZERO), recalled(1));
        assert_eq!(resolver.resolve(HOST, 443, LONG), recalled(1), "at once: the lookup is still out");

        answers.send(Ok(addresses(2))).unwrap();
        await_late_answer(&resolver);
        assert_eq!(asked.load(Ordering::Acquire), 1);
        assert!(lock(&resolver.memory).late.is_some());
    }

    #[test]
    fn a_late_answer_serves_the_next_dial_that_has_to_fall_back() {
        let (resolver, answers) = resolver();
        resolver.remember(HOST, 443, addresses(1));
        assert_eq!(resolver.resolve(HOST, 443, Duration::ZERO), recalled(1));
        answers.send(Ok(addresses(2))).unwrap();
        await_late_answer(&resolver);

        answers.send(failure()).unwrap();
        assert_eq!(resolver.resolve(HOST, 443, LONG), recalled(2));
        answers.send(failure()).unwrap();
        assert_eq!(resolver.resolve(HOST, 443, LONG), recalled(1), "nobody has connected there");
    }

    #[test]
    fn an_address_is_nobody_to_ask_about() {
        let resolver = Resolver::asking(|_, _| panic!("asked"));
        for host in ["127.0.0.1", "::1"] {
            let resolved = resolver.resolve(host, 80, LONG).unwrap();
            assert_eq!(resolved.addresses, [SocketAddr::new(host.parse().unwrap(), 80)]);
        }
    }
}
