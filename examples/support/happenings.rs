//! Tells on stderr what happens to connections, as it happens, and keeps what is still to be told at the end.

use hypersockets::{Client, ClientEvent, ConnectionEvent, Events};

use super::demo::words;

/// What happens to some clients.
#[derive(Debug)]
pub(crate) struct Happenings {
    /// Each by its name.
    clients: Vec<(&'static str, Events)>,
    /// What the venue refused, for good or for this session.
    refused: Vec<String>,
    is_over: bool,
}

impl Happenings {
    pub(crate) fn new(clients: &[(&'static str, &Client)]) -> Self {
        let clients = clients.iter().map(|(name, client)| (*name, client.events())).collect();
        Self { clients, refused: Vec::new(), is_over: false }
    }

    /// Tells what is new.
    pub(crate) fn tell(&mut self) {
        for (name, events) in &self.clients {
            while let Some(event) = events.try_next() {
                let is_first = matches!(event, ClientEvent::Connection(ConnectionEvent::Live { epoch: 1 }));
                let Some(told) = words(&event).filter(|_| !is_first) else { continue };
                eprintln!("{name}: {told}");
                self.is_over |= matches!(event, ClientEvent::Closed { .. });
                if matches!(event, ClientEvent::Closed { .. } | ClientEvent::SubscriptionFailed { .. }) {
                    self.refused.push(format!("{name}: {told}"));
                }
            }
        }
    }

    /// Whether a client has given up.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn into_refused(self) -> Vec<String> {
        self.refused
    }
}
