//! Tells on stderr what happens to connections, as it happens, and keeps what is still to be told at the end.

use hypersockets::{Client, ClientEvent, ConnectionEvent, DisconnectReason, Events};

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
                let Some(told) = in_words(&event) else { continue };
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

/// `None` where nothing is the matter.
fn in_words(event: &ClientEvent) -> Option<String> {
    Some(match event {
        ClientEvent::Connection(ConnectionEvent::Live { epoch }) if *epoch > 1 => "connected again".to_owned(),
        ClientEvent::Connection(ConnectionEvent::Lost { reason, .. }) if *reason != DisconnectReason::Shutdown => {
            format!("connection lost: {reason}")
        }
        ClientEvent::DialFailed { attempt, reason, retry_in } => {
            format!("dial {attempt} failed: {reason}; the next in {retry_in:?}")
        }
        ClientEvent::HeldBack { retry_in } => format!("the next dial is held back for {retry_in:?}"),
        ClientEvent::Closed { reason } if *reason != DisconnectReason::Shutdown => format!("given up: {reason}"),
        ClientEvent::ParseFailed { error } => format!("a message was not understood: {error}"),
        ClientEvent::HandlerFailed { route, error } => format!("{route}: {error}"),
        ClientEvent::SubscriptionFailed { name, why } => format!("the venue refuses {name}: {why}"),
        ClientEvent::Unrouted { route } => format!("nobody handles {route}"),
        _ => return None,
    })
}
