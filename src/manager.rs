//! Many clients under one roof: a name each, one halted flag, one shutdown. It has no thread: clients tell of themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::client::{Client, ShutdownReport};
use crate::clock;
use crate::error::{HyperSocketError, Result};
use crate::event::ClientEvent;
use crate::ids::SendId;
use crate::message::WsMessage;
use crate::own_thread;
use crate::state::{ClientState, NamedEvent, Tap};
use crate::sync::lock;

/// Holds clients by name, knows which are down, and shuts all of them down together. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct ClientManager {
    roof: Arc<Roof>,
}

struct Roof {
    shutdown_flag: Arc<AtomicBool>,
    halted_flag: Arc<AtomicBool>,
    clients: Mutex<BTreeMap<String, Client>>,
    events: (Sender<NamedEvent>, Receiver<NamedEvent>),
}

impl ClientManager {
    /// A manager without clients. [`shutdown`](Self::shutdown) sets `shutdown_flag` to false; clients built with it stop
    /// when anybody does.
    pub fn new(shutdown_flag: Arc<AtomicBool>) -> Self {
        let halted_flag = Arc::new(AtomicBool::new(false));
        Self { roof: Arc::new(Roof { shutdown_flag, halted_flag, clients: Mutex::default(), events: unbounded() }) }
    }

    /// True while any client that holds this flag, or was added, should be live and is not, or has a stale route. For
    /// [`ClientBuilder::halted_flag`](crate::ClientBuilder::halted_flag), so that a client counts from its first dial on;
    /// one that was built without it counts from [`add_client`](Self::add_client) on.
    pub fn halted_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.roof.halted_flag)
    }

    /// Takes a client in under a name. From now on it counts for the halted flag, and its events come to
    /// [`events`](Self::events), those first that nobody has taken yet. A client has one manager at a time.
    ///
    /// # Errors
    /// [`DuplicateClient`](HyperSocketError::DuplicateClient): the name is taken, and the client was not added.
    pub fn add_client(&self, id: impl Into<String>, client: Client) -> Result<()> {
        let id = id.into();
        let mut clients = lock(&self.roof.clients);
        if clients.contains_key(&id) {
            return Err(HyperSocketError::DuplicateClient(id));
        }
        client.join_halted_flag(&self.roof.halted_flag);
        client.tap_events(Tap { name: id.as_str().into(), queue: self.roof.events.0.clone() });
        clients.insert(id, client);
        Ok(())
    }

    /// Gives a client back. It goes on as it is, but no longer counts for [`halted_flag`](Self::halted_flag), and keeps its
    /// events for [`Client::events`] again.
    ///
    /// # Errors
    /// [`UnknownClient`](HyperSocketError::UnknownClient).
    pub fn remove_client(&self, id: &str) -> Result<Client> {
        let removed = lock(&self.roof.clients).remove(id);
        let client = removed.ok_or_else(|| HyperSocketError::UnknownClient(id.to_owned()))?;
        client.leave_halted_flag(&self.roof.halted_flag);
        client.untap_events();
        Ok(client)
    }

    /// Sends to one client; see [`Client::send`].
    ///
    /// # Errors
    /// [`UnknownClient`](HyperSocketError::UnknownClient), and those of [`Client::send`].
    pub fn send_to<'a>(&self, id: &str, message: impl Into<WsMessage<'a>>) -> Result<SendId> {
        match lock(&self.roof.clients).get(id) {
            Some(client) => client.send(message),
            None => Err(HyperSocketError::UnknownClient(id.to_owned())),
        }
    }

    /// Sends to every client, and says for each what became of it.
    ///
    /// # Errors
    /// [`NotConnected`](HyperSocketError::NotConnected) where not a single client took it.
    pub fn broadcast<'a>(&self, message: impl Into<WsMessage<'a>>) -> Result<Vec<(String, Result<SendId>)>> {
        let message = message.into();
        let clients = lock(&self.roof.clients);
        let sent: Vec<_> = clients.iter().map(|(id, client)| (id.clone(), client.send(message.borrowed()))).collect();
        if sent.iter().any(|(_, outcome)| outcome.is_ok()) { Ok(sent) } else { Err(HyperSocketError::NotConnected) }
    }

    /// Whether any client should be live and is not, or has a stale route.
    pub fn is_halted(&self) -> bool {
        self.roof.halted_flag.load(Ordering::Acquire)
    }

    /// The clients that should be live and are not, by name; one that has only a stale route is not among them.
    pub fn get_disconnected_clients(&self) -> Vec<String> {
        let states = self.states().into_iter();
        states.filter(|(_, state)| state.is_down()).map(|(id, _)| id).collect()
    }

    /// How many clients should be live and are not.
    pub fn disconnected_count(&self) -> usize {
        self.get_disconnected_clients().len()
    }

    /// Where each client stands, by name.
    pub fn states(&self) -> Vec<(String, ClientState)> {
        lock(&self.roof.clients).iter().map(|(id, client)| (id.clone(), client.state())).collect()
    }

    /// The events of all clients, of those that are added later, too, in one queue that all its readers share. What nobody
    /// takes in time is dropped and counted in the client's `events_dropped`.
    pub fn events(&self) -> ManagerEvents {
        ManagerEvents { queue: self.roof.events.1.clone() }
    }

    /// Sets the shutdown flag to false and shuts all clients down, side by side, within one deadline of 30 s. The clients
    /// stay, closed, until they are removed.
    ///
    /// # Errors
    /// [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread of an engine.
    pub fn shutdown(&self) -> Result<Vec<(String, ShutdownReport)>> {
        self.shutdown_within(SHUTDOWN_TIMEOUT)
    }

    /// Like [`shutdown`](Self::shutdown), with a deadline of the caller's for all of them together.
    ///
    /// # Errors
    /// As for [`shutdown`](Self::shutdown).
    pub fn shutdown_within(&self, timeout: Duration) -> Result<Vec<(String, ShutdownReport)>> {
        own_thread::refuse("ClientManager::shutdown")?;
        self.roof.shutdown_flag.store(false, Ordering::Release);
        let clients: Vec<_> =
            lock(&self.roof.clients).iter().map(|(id, client)| (id.clone(), client.clone())).collect();
        for (_, client) in &clients {
            client.request_shutdown();
        }
        let deadline = clock::after(timeout);
        let reports = clients.into_iter().map(|(id, client)| {
            let left = deadline.saturating_duration_since(clock::now());
            client.shutdown_within(left).map(|report| (id, report))
        });
        reports.collect()
    }
}

impl fmt::Debug for ClientManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientManager").field("clients", &self.states()).finish_non_exhaustive()
    }
}

/// The events of a manager's clients; see [`ClientManager::events`].
#[derive(Debug, Clone)]
pub struct ManagerEvents {
    queue: Receiver<NamedEvent>,
}

impl ManagerEvents {
    /// The next event of any client, with its name, where there is one.
    pub fn try_next(&self) -> Option<(String, ClientEvent)> {
        self.queue.try_recv().ok().map(owned)
    }

    /// The next event of any client, with its name, waiting for it at most this long.
    pub fn next_timeout(&self, timeout: Duration) -> Option<(String, ClientEvent)> {
        self.queue.recv_timeout(timeout).ok().map(owned)
    }
}

fn owned((name, event): NamedEvent) -> (String, ClientEvent) {
    (name.to_string(), event)
}

/// What a manager's shutdown gives the handlers of all its clients together.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
