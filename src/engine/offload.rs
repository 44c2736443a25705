//! Runs what may block on threads beside the loop: the user's providers, name resolution, and the user's dialer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::command::{Command, CommandSender};
use super::plan::{Prepared, Providers, UrlSource, Way};
use super::resolver::{Resolved, Source};
use crate::clock;
use crate::error::{DisconnectReason, Result};
use crate::ids::ConnectionId;
use crate::message::WsMessage;
use crate::own_thread;
use crate::sync::lock;
use crate::transport::Target;

impl Providers {
    /// Prepares without blocking where nobody has to be asked: no provider, no dialer, and an address in place of a name.
    pub(crate) fn prepare_at_once(&self) -> Option<Result<Prepared, DisconnectReason>> {
        if self.dialer.is_some() {
            return None;
        }
        let (UrlSource::Fixed(url), None, None) = (&self.url, &self.headers, &self.auth) else { return None };
        let target = match parse(url) {
            Ok(target) => target,
            Err(reason) => return Some(Err(reason)),
        };
        let address = SocketAddr::new(target.host.parse().ok()?, target.port);
        if !lock(&self.shared.subscriptions).fresh().is_empty() {
            return None;
        }
        let way = Way::Addresses(Resolved { addresses: vec![address], source: Source::Resolver });
        Some(Ok(Prepared { target, way, headers: Vec::new(), auth: None, subscriptions: BTreeMap::new() }))
    }

    /// Asks the providers, and resolves the name or has the dialer connect. Blocks as long as they do.
    fn prepare(&self, deadline: Instant) -> Result<Prepared, DisconnectReason> {
        let target = match &self.url {
            UrlSource::Fixed(url) => parse(url)?,
            UrlSource::Fresh(make) => parse(&make().map_err(|error| provider("URL closure", &error.to_string()))?)?,
        };
        let way = match &self.dialer {
            Some(dialer) => Way::Connected(dialer.dial(&target.host, target.port, deadline, &self.socket)?),
            None => {
                let patience = RESOLVE_PATIENCE.min(deadline.saturating_duration_since(clock::now()) / 2);
                Way::Addresses(self.resolver.resolve(&target.host, target.port, patience)?)
            }
        };
        let headers = self.headers.as_ref().map(|provider| provider.get_headers().into_iter().collect());
        let auth = match &self.auth {
            None => None,
            Some(auth) => {
                let message = auth.get_auth_message().map_err(|error| provider("auth provider", &error.to_string()))?;
                message.map(WsMessage::into_owned)
            }
        };
        let headers: Vec<(String, String)> = headers.unwrap_or_default();
        let has_secrets = auth.is_some() || headers.iter().any(|(name, _)| may_be_secret(name));
        if has_secrets && target.is_exposed() && !self.plain_text_credentials {
            return Err(DisconnectReason::InvalidUrl(EXPOSED.into()));
        }
        Ok(Prepared { target, way, headers, auth, subscriptions: self.subscriptions()? })
    }

    fn subscriptions(&self) -> Result<BTreeMap<u64, WsMessage<'static>>, DisconnectReason> {
        let fresh = lock(&self.shared.subscriptions).fresh();
        let made = fresh.into_iter().map(|(id, source)| match source.make() {
            Ok(message) => Ok((id, message)),
            Err(error) => Err(provider("subscription closure", &error.to_string())),
        });
        made.collect()
    }
}

/// Anything that is not known to tell nothing.
fn may_be_secret(header: &str) -> bool {
    !["accept", "accept-encoding", "accept-language", "cache-control", "origin", "pragma", "user-agent"]
        .iter()
        .any(|public| header.eq_ignore_ascii_case(public))
}

const EXPOSED: &str = "it is plain ws:// to another host, and the auth message or headers for it may be secret; use wss://, \
                       or ask for dangerous_plain_text_credentials";

fn parse(url: &str) -> Result<Target, DisconnectReason> {
    Target::parse(url).map_err(DisconnectReason::InvalidUrl)
}

fn provider(who: &str, error: &str) -> DisconnectReason {
    DisconnectReason::Provider(format!("{who}: {error}"))
}

/// One dial's question; the answer, which always comes, is a [`Command::Prepared`].
pub(super) struct Job {
    pub(super) providers: Arc<Providers>,
    pub(super) connection: ConnectionId,
    pub(super) attempt: u64,
    /// When the dial that asks is over.
    pub(super) deadline: Instant,
    pub(super) reply: CommandSender,
}

/// Up to four threads, started when first needed. A call that never returns holds one of them, and its client asks for no
/// other; the dial that asked has a deadline, and its late answer carries an attempt number that nobody waits for any more.
#[derive(Default)]
pub(super) struct Offload {
    queue: Option<(Sender<Job>, Receiver<Job>)>,
    threads: usize,
    /// Jobs queued or running.
    pending: Arc<AtomicUsize>,
}

impl Offload {
    /// Queues a job, starting another thread where all are busy and there may be one more.
    ///
    /// # Errors
    /// Where not a single thread can be started.
    pub(super) fn submit(&mut self, job: Job) -> Result<(), DisconnectReason> {
        let (jobs, queue) = self.queue.get_or_insert_with(unbounded);
        let pending = self.pending.fetch_add(1, Ordering::AcqRel) + 1;
        if pending > self.threads && self.threads < MAX_THREADS {
            let (queue, pending) = (queue.clone(), Arc::clone(&self.pending));
            let started =
                std::thread::Builder::new().name("hs-offload".to_owned()).spawn(move || run(&queue, &pending));
            match started {
                Ok(_) => self.threads += 1,
                Err(error) if self.threads == 0 => {
                    self.pending.fetch_sub(1, Ordering::AcqRel);
                    return Err(DisconnectReason::Provider(format!("offload thread: {error}")));
                }
                Err(error) => log::warn!("could not start another offload thread: {error}"),
            }
        }
        // The receiver lives in `self.queue`, so the send cannot fail.
        let _ = jobs.send(job);
        Ok(())
    }
}

fn run(queue: &Receiver<Job>, pending: &AtomicUsize) {
    own_thread::mark();
    while let Ok(Job { providers, connection, attempt, deadline, reply }) = queue.recv() {
        // One that waited behind calls that hang is over by now: asking would open sockets that nobody waits for.
        let outcome = if clock::now() >= deadline {
            Err(DisconnectReason::Deadline("waiting for an offload thread"))
        } else {
            let outcome = catch_unwind(AssertUnwindSafe(|| providers.prepare(deadline)));
            outcome.unwrap_or_else(|_| Err(provider("URL, header or auth provider", "panicked")))
        };
        pending.fetch_sub(1, Ordering::AcqRel);
        // The loop may be gone by now: then nobody waits for the answer.
        let _ = reply.send(Command::Prepared { connection, attempt, outcome });
    }
}

/// Threads for calls that hang, per engine: four venues with a dead resolver each, and the fifth waits.
const MAX_THREADS: usize = 4;
/// A resolver that works answers in milliseconds, and one whose first server is down after 5 s, by default; a client that
/// has addresses from before does not wait for that.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::TcpStream;

    use mio::{Poll, Token, Waker};

    use super::super::command::{CommandReceiver, command_queue};
    use super::super::resolver::Resolver;
    use super::*;
    use crate::state::Shared;
    use crate::transport::Dialer;

    const URL: &str = "ws://venue.example:8080/ws";

    fn providers(resolver: Arc<Resolver>, dialer: Option<Dialer>) -> Providers {
        let url = UrlSource::Fixed(URL.to_owned());
        Providers {
            url,
            shared: Shared::new(),
            headers: None,
            plain_text_credentials: false,
            auth: None,
            dialer,
            resolver,
            socket: Arc::default(),
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn no_server() -> Arc<Resolver> {
        Resolver::asking(|_, _| Err(io::Error::other("no server could be reached")))
    }

    /// Runs the jobs on this thread until there are no more, and returns the answers.
    fn run_all(jobs: impl IntoIterator<Item = (Arc<Providers>, Instant)>) -> CommandReceiver {
        let poll = Poll::new().unwrap();
        let (reply, answers) = command_queue(Waker::new(poll.registry(), Token(0)).unwrap());
        let (queue, waiting) = unbounded();
        let connection = Shared::new().id;
        for (attempt, (providers, deadline)) in jobs.into_iter().enumerate() {
            let job = Job { providers, connection, attempt: attempt as u64, deadline, reply: reply.clone() };
            queue.send(job).unwrap();
        }
        let pending = AtomicUsize::new(waiting.len());
        drop(queue);
        std::thread::scope(|scope| scope.spawn(|| run(&waiting, &pending)).join().unwrap());
        assert_eq!(pending.into_inner(), 0);
        answers
    }

    #[test]
    fn a_dial_goes_on_with_the_last_good_addresses_where_the_resolver_fails() {
        let providers = providers(no_server(), None);
        assert!(matches!(providers.prepare(soon()), Err(DisconnectReason::Resolve(_))));
        let good = SocketAddr::from(([127, 0, 0, 1], 8080));
        providers.resolver.remember("venue.example", 8080, vec![good]);
        let Ok(Prepared { way: Way::Addresses(resolved), .. }) = providers.prepare(soon()) else {
            panic!("no addresses")
        };
        assert_eq!(resolved, Resolved { addresses: vec![good], source: Source::Memory });
    }

    #[test]
    fn with_a_dialer_nobody_is_asked_for_addresses() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dialer = Dialer::new(move |request| {
            assert_eq!((request.host(), request.port()), ("venue.example", 8080));
            Ok(TcpStream::connect(address)?)
        });
        let providers = providers(Resolver::asking(|_, _| panic!("asked")), Some(dialer));
        assert!(providers.prepare_at_once().is_none());
        let Ok(Prepared { way: Way::Connected(socket), .. }) = providers.prepare(soon()) else { panic!("no socket") };
        assert_eq!(socket.peer_addr().unwrap(), address);
    }

    #[test]
    fn a_job_whose_dial_is_over_is_not_begun() {
        let over = Arc::new(providers(Resolver::asking(|_, _| panic!("asked")), None));
        let current = Arc::new(providers(no_server(), None));
        let answers = run_all([(over, Instant::now()), (current, soon())]);
        let answer = |number| match answers.try_recv() {
            Some(Command::Prepared { attempt, outcome, .. }) if attempt == number => outcome.err(),
            _ => panic!("no answer to {number}"),
        };
        assert!(matches!(answer(0), Some(DisconnectReason::Deadline(_))), "but it is answered all the same");
        assert!(matches!(answer(1), Some(DisconnectReason::Resolve(_))));
    }
}
