//! Many clients under one roof: a name each, one halted flag, one shutdown. It has no thread: clients tell of themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Select;

use crate::client::{Client, Events, ShutdownReport};
use crate::clock;
use crate::error::{HyperSocketError, Result};
use crate::event::ClientEvent;
use crate::ids::SendId;
use crate::message::WsMessage;
use crate::own_thread;
use crate::state::ClientState;
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
}

impl ClientManager {
    /// A manager without clients. [`shutdown`](Self::shutdown) sets `shutdown_flag` to false; clients built with it stop
    /// when anybody does.
    pub fn new(shutdown_flag: Arc<AtomicBool>) -> Self {
        let halted_flag = Arc::new(AtomicBool::new(false));
        Self { roof: Arc::new(Roof { shutdown_flag, halted_flag, clients: Mutex::default() }) }
    }

    /// True while any client that holds this flag, or was added, should be live and is not. For
    /// [`ClientBuilder::halted_flag`](crate::ClientBuilder::halted_flag), so that a client counts from its first dial on;
    /// one that was built without it counts from [`add_client`](Self::add_client) on.
    pub fn halted_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.roof.halted_flag)
    }

    /// Takes a client in under a name.
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
        clients.insert(id, client);
        Ok(())
    }

    /// Gives a client back. It goes on as it is, but no longer counts for [`halted_flag`](Self::halted_flag).
    ///
    /// # Errors
    /// [`UnknownClient`](HyperSocketError::UnknownClient).
    pub fn remove_client(&self, id: &str) -> Result<Client> {
        let removed = lock(&self.roof.clients).remove(id);
        let client = removed.ok_or_else(|| HyperSocketError::UnknownClient(id.to_owned()))?;
        client.leave_halted_flag(&self.roof.halted_flag);
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

    /// Whether any client should be live and is not.
    pub fn is_halted(&self) -> bool {
        self.roof.halted_flag.load(Ordering::Acquire)
    }

    /// The clients that should be live and are not, by name.
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

    /// The events of all clients. They wait in the clients' own queues: whoever takes them here takes them from
    /// [`Client::events`], too.
    pub fn events(&self) -> ManagerEvents {
        ManagerEvents { manager: self.clone() }
    }

    /// Sets the shutdown flag to false and shuts all clients down, side by side, within one deadline of 30 s. The clients
    /// stay, closed, until they are removed.
    ///
    /// # Errors
    /// [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread of an engine.
    pub fn shutdown(&self) -> Result<Vec<(String, ShutdownReport)>> {
        own_thread::refuse("ClientManager::shutdown")?;
        self.roof.shutdown_flag.store(false, Ordering::Release);
        let clients: Vec<_> =
            lock(&self.roof.clients).iter().map(|(id, client)| (id.clone(), client.clone())).collect();
        for (_, client) in &clients {
            client.request_shutdown();
        }
        let deadline = clock::after(SHUTDOWN_TIMEOUT);
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
    manager: ClientManager,
}

impl ManagerEvents {
    /// The next event of any client that is there at the call, with its name, waiting for it at most this long.
    pub fn next_timeout(&self, timeout: Duration) -> Option<(String, ClientEvent)> {
        let deadline = clock::after(timeout);
        let clients = lock(&self.manager.roof.clients);
        let queues: Vec<_> = clients.iter().map(|(id, client)| (id.clone(), client.events())).collect();
        drop(clients);
        let mut select = Select::new();
        for (_, Events { queue }) in &queues {
            select.recv(queue);
        }
        loop {
            let ready = select.ready_deadline(deadline).ok()?;
            let (id, events) = &queues[ready];
            // Somebody else may have been faster.
            if let Some(event) = events.try_next() {
                return Some((id.clone(), event));
            }
        }
    }
}

/// What a manager's shutdown gives the handlers of all its clients together.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
