//! Messages of plain words: the first word is the route. A [`Recorder`] writes down all that a handler is told, and its
//! [`Journal`] is where the test reads it. Invariant: a journal holds everything in the order in which the handler saw it.
#![allow(dead_code)] // each test crate takes its own part of the support

use std::convert::Infallible;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use hypersockets::simulator::{Session, Venue};
use hypersockets::{
    Client, ConnectionEvent, Delivery, DisconnectReason, FixedDelay, HyperSocketError, MessageHandler, MessageRouter,
    Result, TlsOptions, WsMessage,
};

/// How long a test waits for what must come: only a failing one ever waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// So short that a test need not wait, so long that a venue that is down is not dialed thousands of times.
pub(crate) fn soon() -> FixedDelay {
    FixedDelay::new(Duration::from_millis(2), None)
}

/// Routes a line by its first word.
pub(crate) struct Lines;

impl MessageRouter for Lines {
    type Message = String;
    type RouteKey = String;

    fn parse(&self, message: WsMessage<'_>) -> Result<String> {
        Ok(message.as_text().ok_or("a binary message")?.to_owned())
    }

    fn route_key(&self, line: &String) -> String {
        line.split(' ').next().unwrap_or_default().to_owned()
    }
}

/// What a handler was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Message { epoch: u64, text: String },
    Event(ConnectionEvent),
    Stop,
}

/// A handler that writes everything down.
pub(crate) struct Recorder {
    journal: Sender<Seen>,
    gate: Option<Gate>,
}

/// What a recorder wrote.
pub(crate) struct Journal {
    coming: Receiver<Seen>,
    read: Vec<Seen>,
}

pub(crate) fn recorder() -> (Recorder, Journal) {
    let (journal, coming) = crossbeam_channel::unbounded();
    (Recorder { journal, gate: None }, Journal { coming, read: Vec::new() })
}

/// A recorder that stands at the gate before it writes its first message.
pub(crate) fn gated_recorder(gate: Gate) -> (Recorder, Journal) {
    let (recorder, journal) = recorder();
    (Recorder { gate: Some(gate), ..recorder }, journal)
}

impl Recorder {
    fn write(&self, seen: Seen) {
        // A test that has dropped its journal does not want to know.
        let _ = self.journal.send(seen);
    }
}

impl MessageHandler<String> for Recorder {
    fn handle(&mut self, _line: String) -> Result<()> {
        unreachable!("messages come by handle_delivery")
    }

    fn handle_delivery(&mut self, text: String, delivery: &mut Delivery<'_>) -> Result<()> {
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        self.write(Seen::Message { epoch: delivery.epoch(), text });
        Ok(())
    }

    fn on_event(&mut self, event: &ConnectionEvent) {
        self.write(Seen::Event(event.clone()));
    }

    fn on_stop(&mut self) {
        self.write(Seen::Stop);
    }
}

impl Journal {
    /// Reads up to the first entry that `is_wanted`.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, is_wanted: impl Fn(&Seen) -> bool) -> &Seen {
        loop {
            match self.coming.recv_timeout(PATIENCE) {
                Ok(seen) => self.read.push(seen),
                Err(error) => panic!("waited for {what}: {error}; the last was {:?}", self.read.last()),
            }
            if self.read.last().is_some_and(&is_wanted) {
                return self.read.last().expect("just pushed");
            }
        }
    }

    #[track_caller]
    pub(crate) fn until_message(&mut self, wanted: &str) {
        self.until(wanted, |seen| matches!(seen, Seen::Message { text, .. } if text == wanted));
    }

    #[track_caller]
    pub(crate) fn until_live(&mut self, wanted: u64) {
        self.until("Live", |seen| *seen == Seen::Event(ConnectionEvent::Live { epoch: wanted }));
    }

    /// Reads up to the end of the session; its epoch and the reason.
    #[track_caller]
    pub(crate) fn until_lost(&mut self) -> (u64, DisconnectReason) {
        let lost = self.until("Lost", |seen| matches!(seen, Seen::Event(ConnectionEvent::Lost { .. })));
        let Seen::Event(ConnectionEvent::Lost { epoch, reason, .. }) = lost else { unreachable!("just matched") };
        (*epoch, reason.clone())
    }

    #[track_caller]
    pub(crate) fn until_stop(&mut self) {
        self.until("on_stop", |seen| *seen == Seen::Stop);
    }

    /// All that was read, and all that is there to read.
    pub(crate) fn all(&mut self) -> &[Seen] {
        self.read.extend(self.coming.try_iter());
        &self.read
    }

    /// The messages among them.
    pub(crate) fn messages(&mut self) -> Vec<&str> {
        let entries = self.all().iter();
        entries
            .filter_map(|seen| match seen {
                Seen::Message { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Asserts that `on_stop` was the last call, and was made once.
    #[track_caller]
    pub(crate) fn assert_stopped_once(&mut self) {
        let all = self.all();
        assert_eq!(all.last(), Some(&Seen::Stop), "the last call must be on_stop");
        assert_eq!(all.iter().filter(|seen| **seen == Seen::Stop).count(), 1, "on_stop must be called once");
    }
}

/// Where a handler stands until the test opens.
#[derive(Clone)]
pub(crate) struct Gate(Receiver<Infallible>);

/// Opens the gate when dropped.
pub(crate) struct GateKeeper(#[allow(dead_code)] Sender<Infallible>);

pub(crate) fn gate() -> (GateKeeper, Gate) {
    let (keeper, gate) = crossbeam_channel::bounded(0);
    (GateKeeper(keeper), Gate(gate))
}

impl GateKeeper {
    pub(crate) fn open(self) {}
}

impl Gate {
    /// Returns once the gate is open; panics where nobody ever opens it.
    pub(crate) fn pass(&self) {
        if let Err(RecvTimeoutError::Timeout) = self.0.recv_timeout(PATIENCE) {
            panic!("the gate was never opened");
        }
    }
}

/// Trusts the venue, and nobody else, where it speaks TLS.
pub(crate) fn trusting(venue: &Venue) -> TlsOptions {
    match venue.root_certificate_der() {
        Some(root) => TlsOptions::new().add_root_der(root).only_added_roots(),
        None => TlsOptions::new(),
    }
}

#[track_caller]
pub(crate) fn next_session(venue: &Venue) -> Session {
    venue.next_session(PATIENCE).expect("the client dials")
}

/// Waits until the client is live, and takes the venue's end of it.
#[track_caller]
pub(crate) fn live_session(client: &Client, venue: &Venue) -> Session {
    client.wait_live(PATIENCE).expect("the venue accepts");
    next_session(venue)
}

/// The bytes that sockets of this local port have sent and the other side's kernel has not acknowledged.
pub(crate) fn unacknowledged(local_port: u16) -> usize {
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells");
    let of = |socket: &str| {
        let mut words = socket.split_whitespace().skip(1);
        let (local, state, queues) = (words.next()?, words.nth(1)?, words.next()?);
        let is_ours = local.ends_with(&format!(":{local_port:04X}")) && state == "01";
        is_ours.then(|| usize::from_str_radix(queues.split(':').next()?, 16).ok()).flatten()
    };
    sockets.lines().filter_map(of).sum()
}

/// What the client sent in this session, in order.
pub(crate) fn texts_of(venue: &Venue, session: u64) -> Vec<String> {
    venue.received().into_iter().filter(|(number, _)| *number == session).map(|(_, text)| text).collect()
}

/// Why a first dial failed.
#[track_caller]
pub(crate) fn connect_failure(built: Result<Client>) -> DisconnectReason {
    match built {
        Err(HyperSocketError::ConnectFailed(reason)) => reason,
        other => panic!("awaited a failed connect, came {other:?}"),
    }
}
