//! Runs what may block on threads beside the loop: the user's providers and name resolution.

use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::command::{Command, CommandSender};
use crate::auth::AuthProvider;
use crate::error::{DisconnectReason, Result};
use crate::handler::ConnectionId;
use crate::headers::HeaderProvider;
use crate::message::WsMessage;
use crate::own_thread;
use crate::transport::Target;

/// Where a dial goes: a fixed URL, or one made at each dial.
pub(crate) enum UrlSource {
    Fixed(String),
    Fresh(Box<dyn Fn() -> Result<String> + Send + Sync>),
}

/// A subscription: a fixed message, or one made at each dial.
pub(crate) enum SubscriptionSource {
    Fixed(WsMessage<'static>),
    Fresh(Box<dyn Fn() -> Result<WsMessage<'static>> + Send + Sync>),
}

/// What is asked anew at every dial.
pub(crate) struct Providers {
    pub(crate) url: UrlSource,
    pub(crate) subscriptions: Vec<SubscriptionSource>,
    pub(crate) headers: Option<Box<dyn HeaderProvider>>,
    pub(crate) auth: Option<Arc<dyn AuthProvider>>,
}

/// Everything a dial needs to know.
pub(crate) struct Prepared {
    pub(crate) target: Target,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) headers: Vec<(String, String)>,
    /// The auth message of this dial, where the provider gave one.
    pub(crate) auth: Option<WsMessage<'static>>,
    pub(crate) subscriptions: Vec<WsMessage<'static>>,
}

impl Providers {
    /// Prepares without blocking where nobody has to be asked: no provider, and an address in place of a name.
    pub(crate) fn prepare_at_once(&self) -> Option<Result<Prepared, DisconnectReason>> {
        let (UrlSource::Fixed(url), None, None) = (&self.url, &self.headers, &self.auth) else { return None };
        let target = match parse(url) {
            Ok(target) => target,
            Err(reason) => return Some(Err(reason)),
        };
        let address = SocketAddr::new(target.host.parse().ok()?, target.port);
        if self.subscriptions.iter().any(|subscription| matches!(subscription, SubscriptionSource::Fresh(_))) {
            return None;
        }
        let prepared = self.subscriptions().map(|subscriptions| {
            let addresses = vec![address];
            Prepared { target, addresses, headers: Vec::new(), auth: None, subscriptions }
        });
        Some(prepared)
    }

    /// Asks the providers and resolves the name. Blocks as long as they do.
    fn prepare(&self) -> Result<Prepared, DisconnectReason> {
        let target = match &self.url {
            UrlSource::Fixed(url) => parse(url)?,
            UrlSource::Fresh(make) => parse(&make().map_err(|error| provider("URL closure", &error.to_string()))?)?,
        };
        let resolved = (target.host.as_str(), target.port).to_socket_addrs();
        let addresses = resolved.map_err(|error| DisconnectReason::Resolve(format!("{}: {error}", target.host)))?;
        let addresses = addresses.collect();
        let headers = self.headers.as_ref().map(|provider| provider.get_headers().into_iter().collect());
        let auth = match &self.auth {
            None => None,
            Some(auth) => {
                let message = auth.get_auth_message().map_err(|error| provider("auth provider", &error.to_string()))?;
                message.map(WsMessage::into_owned)
            }
        };
        let headers = headers.unwrap_or_default();
        Ok(Prepared { target, addresses, headers, auth, subscriptions: self.subscriptions()? })
    }

    fn subscriptions(&self) -> Result<Vec<WsMessage<'static>>, DisconnectReason> {
        let made = self.subscriptions.iter().map(|subscription| match subscription {
            SubscriptionSource::Fixed(message) => Ok(message.clone()),
            SubscriptionSource::Fresh(make) => {
                make().map_err(|error| provider("subscription closure", &error.to_string()))
            }
        });
        made.collect()
    }
}

fn parse(url: &str) -> Result<Target, DisconnectReason> {
    Target::parse(url).map_err(DisconnectReason::InvalidUrl)
}

fn provider(who: &str, error: &str) -> DisconnectReason {
    DisconnectReason::Provider(format!("{who}: {error}"))
}

/// One dial's question; the answer is a [`Command::Prepared`].
pub(super) struct Job {
    pub(super) providers: Arc<Providers>,
    pub(super) connection: ConnectionId,
    pub(super) attempt: u64,
    pub(super) reply: CommandSender,
}

/// Up to four threads, started when first needed. A call that never returns holds one of them; the dial that asked has a
/// deadline, and its late answer carries an attempt number that nobody waits for any more.
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
    while let Ok(Job { providers, connection, attempt, reply }) = queue.recv() {
        let outcome = catch_unwind(AssertUnwindSafe(|| providers.prepare()));
        let outcome = outcome.unwrap_or_else(|_| Err(provider("URL, header or auth provider", "panicked")));
        pending.fetch_sub(1, Ordering::AcqRel);
        // The loop may be gone by now: then nobody waits for the answer.
        let _ = reply.send(Command::Prepared { connection, attempt, outcome });
    }
}

/// Threads for calls that hang, per engine: four venues with a dead resolver each, and the fifth waits.
const MAX_THREADS: usize = 4;
