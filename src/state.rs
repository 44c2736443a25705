//! What a client's loop and its handles share. The loop writes the state; anyone reads it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::clock;
use crate::config::Limits;
use crate::error::{DisconnectReason, HyperSocketError, Result};
use crate::event::ClientEvent;
use crate::halted::HaltedMember;
use crate::ids::{ConnectionId, SendId};
use crate::limits::Gauge;
use crate::metrics::{ConnectionCounters, LatencyRecorder};
use crate::requests::Requests;
use crate::subscriptions::Desired;
use crate::sync::lock;

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientState {
    /// Not built yet, or its first dial waits for its turn: see [`ConnectionLimit`](crate::ConnectionLimit).
    NeverConnected,
    /// Dialing, in the TLS handshake, upgrading or authenticating.
    Connecting,
    /// Messages flow.
    Live,
    /// Waiting for the next dial.
    BackingOff,
    /// Saying goodbye.
    Closing,
    /// Shut down.
    Closed,
    /// Gave up for good.
    Failed,
}

impl ClientState {
    /// Whether the client should be live and is not.
    pub(crate) fn is_down(self) -> bool {
        matches!(self, Self::NeverConnected | Self::Connecting | Self::BackingOff | Self::Failed)
    }
}

/// A queue for the events of many clients, and what this one is called there.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) name: Arc<str>,
    pub(crate) queue: Sender<NamedEvent>,
}

/// An event with the name of the client that it is of.
pub(crate) type NamedEvent = (Arc<str>, ClientEvent);

/// See the module. One per client, over all its connections.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: ConnectionId,
    /// State in the low bits, epoch above: read together, so that a send is judged by one look.
    state: AtomicU64,
    /// Payload bytes queued and not yet taken by the kernel.
    queued_bytes: AtomicUsize,
    /// The most that may be queued for writing, in payload bytes; set before the client is built.
    pub(crate) max_queued_bytes: AtomicUsize,
    /// Why the client closed; set before the state says so.
    ending: Mutex<Option<DisconnectReason>>,
    changed: Condvar,
    /// The last id given. Held while queueing: ids must be in the order of the queue, or `written_through` would lie.
    pub(crate) last_send: Mutex<u64>,
    pub(crate) counters: ConnectionCounters,
    /// From our pings to their pongs.
    pub(crate) round_trips: LatencyRecorder,
    /// From the reads that brought messages to the writing of what answered them.
    pub(crate) tick_to_trade: LatencyRecorder,
    /// Bounded by its senders, and only nearly, should several tell of something at once: a channel with a bound of its own holds
    /// memory for as many events as might come.
    events: (Sender<ClientEvent>, Receiver<ClientEvent>),
    /// Where events go instead, under a manager's roof.
    tap: Mutex<Option<Tap>>,
    pub(crate) halted: Mutex<Vec<HaltedMember>>,
    /// A route is stale; changed under the lock of `halted`.
    stale: AtomicBool,
    /// What waits for a reply.
    pub(crate) requests: Arc<Requests>,
    /// Replies are told apart: set before the client is built.
    pub(crate) knows_replies: AtomicBool,
    /// What it has sent of late, where that is limited.
    pub(crate) gauge: OnceLock<Gauge>,
    /// What the client wants to be subscribed to, and how far that has come.
    pub(crate) subscriptions: Mutex<Desired>,
    /// What the venue chose at the last upgrade.
    pub(crate) subprotocol: Mutex<Option<String>>,
    /// The first epoch of those that follow on each other without a hole: what was said in it can still be answered.
    unbroken_since: AtomicU64,
}

impl Shared {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            id: ConnectionId::next(),
            state: AtomicU64::new(pack(ClientState::NeverConnected, 0)),
            queued_bytes: AtomicUsize::new(0),
            max_queued_bytes: AtomicUsize::new(Limits::default().max_queued_bytes),
            ending: Mutex::new(None),
            changed: Condvar::new(),
            last_send: Mutex::new(0),
            counters: ConnectionCounters::default(),
            round_trips: LatencyRecorder::default(),
            tick_to_trade: LatencyRecorder::default(),
            events: unbounded(),
            tap: Mutex::default(),
            halted: Mutex::default(),
            stale: AtomicBool::new(false),
            requests: Arc::default(),
            knows_replies: AtomicBool::new(false),
            gauge: OnceLock::new(),
            subscriptions: Mutex::default(),
            subprotocol: Mutex::new(None),
            unbroken_since: AtomicU64::new(0),
        })
    }

    /// The state, and the epoch of the latest live spell.
    pub(crate) fn state(&self) -> (ClientState, u64) {
        unpack(self.state.load(Ordering::Acquire))
    }

    /// A live spell begins that does not go on where the last one ended.
    pub(crate) fn begin_unbroken(&self, epoch: u64) {
        self.unbroken_since.store(epoch, Ordering::Release);
    }

    /// Whether all of the feed from this epoch on has come without a hole.
    pub(crate) fn is_unbroken_since(&self, epoch: u64) -> bool {
        self.unbroken_since.load(Ordering::Acquire) <= epoch
    }

    /// The loop tells where the client stands now.
    pub(crate) fn transition(&self, state: ClientState, epoch: u64) {
        let packed = pack(state, epoch);
        if self.state.load(Ordering::Acquire) == packed {
            return;
        }
        // The flags first: whoever sees the new state must not find a flag of the old one. The lock is held over both, so
        // that who joins a flag meanwhile joins with the state that the flag has been told.
        let mut members = lock(&self.halted);
        for member in members.iter_mut() {
            member.set_down(self.halts(state));
        }
        self.state.store(packed, Ordering::Release);
        drop(members);
        self.wake_waiting();
    }

    /// Lets those who wait for something look again.
    pub(crate) fn wake_waiting(&self) {
        // Whoever is between looking and waiting must not miss it.
        drop(self.lock_ending());
        self.changed.notify_all();
    }

    /// Counts for this flag from now on; once, however often it joins.
    pub(crate) fn join_halted_flag(&self, flag: &Arc<AtomicBool>) {
        let mut members = lock(&self.halted);
        if !members.iter().any(|member| member.is_of(flag)) {
            members.push(HaltedMember::join(flag, self.halts(self.state().0)));
        }
    }

    /// Whether the client counts as down in this state.
    fn halts(&self, state: ClientState) -> bool {
        state.is_down() || state == ClientState::Live && self.stale.load(Ordering::Acquire)
    }

    /// The loop tells whether a route is stale.
    pub(crate) fn set_stale(&self, stale: bool) {
        let mut members = lock(&self.halted);
        if self.stale.swap(stale, Ordering::AcqRel) != stale {
            let halts = self.halts(self.state().0);
            members.iter_mut().for_each(|member| member.set_down(halts));
        }
    }

    /// Counts for this flag no longer.
    pub(crate) fn leave_halted_flag(&self, flag: &Arc<AtomicBool>) {
        lock(&self.halted).retain(|member| !member.is_of(flag));
    }

    /// Counts for no flag any more.
    pub(crate) fn leave_halted_flags(&self) {
        lock(&self.halted).clear();
    }

    /// The client is over.
    pub(crate) fn close(&self, reason: &DisconnectReason, epoch: u64) {
        *self.lock_ending() = Some(reason.clone());
        let state = match reason {
            DisconnectReason::Shutdown => ClientState::Closed,
            _ => ClientState::Failed,
        };
        self.transition(state, epoch);
    }

    /// Waits until live.
    pub(crate) fn wait_live(&self, deadline: Instant) -> Result<()> {
        self.wait_until(deadline, |state, ending| match state {
            ClientState::Live => Some(Ok(())),
            ClientState::Closed | ClientState::Failed => Some(Err(closed(ending))),
            _ => None,
        })
    }

    /// Waits until there has been a live spell, however short.
    pub(crate) fn wait_first_live(&self, deadline: Instant) -> Result<()> {
        self.wait_until(deadline, |state, ending| match state {
            _ if self.state().1 > 0 => Some(Ok(())),
            ClientState::Closed | ClientState::Failed => Some(Err(closed(ending))),
            _ => None,
        })
    }

    /// Waits until closed or failed.
    pub(crate) fn wait_closed(&self, deadline: Instant) -> Result<()> {
        self.wait_until(deadline, |state, _| {
            matches!(state, ClientState::Closed | ClientState::Failed).then_some(Ok(()))
        })
    }

    /// Why the client closed, where it has.
    pub(crate) fn ending(&self) -> Option<DisconnectReason> {
        self.lock_ending().clone()
    }

    /// Waits until `outcome` is one.
    pub(crate) fn wait_until(
        &self,
        deadline: Instant,
        mut outcome: impl FnMut(ClientState, Option<&DisconnectReason>) -> Option<Result<()>>,
    ) -> Result<()> {
        let begin = clock::now();
        let mut ending = self.lock_ending();
        loop {
            if let Some(outcome) = outcome(self.state().0, ending.as_ref()) {
                return outcome;
            }
            let now = clock::now();
            if now >= deadline {
                return Err(HyperSocketError::TimedOut(deadline.saturating_duration_since(begin)));
            }
            ending = self.changed.wait_timeout(ending, deadline - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock_ending(&self) -> MutexGuard<'_, Option<DisconnectReason>> {
        lock(&self.ending)
    }

    /// Sets bytes aside for a message that is about to be queued, if the venue's limit lets it through.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<()> {
        if let Some(gauge) = self.gauge.get() {
            gauge.admit(clock::now())?;
        }
        let limit_bytes = self.max_queued_bytes.load(Ordering::Relaxed);
        let queued_bytes = self.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        // An empty queue takes a message of any size, or a large one could never be sent.
        if queued_bytes > 0 && queued_bytes.saturating_add(bytes) > limit_bytes {
            self.release(bytes);
            return Err(HyperSocketError::WriteBufferFull { queued_bytes, limit_bytes });
        }
        Ok(())
    }

    /// An id for a message that skips the queue, behind all ids given so far.
    pub(crate) fn next_send_id(&self) -> SendId {
        let mut last = lock(&self.last_send);
        *last += 1;
        SendId(*last)
    }

    /// The kernel took these bytes, or they were dropped.
    pub(crate) fn release(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// A queued message will not be sent. Called by the loop.
    pub(crate) fn drop_send(&self, payload_bytes: usize) {
        self.release(payload_bytes);
        self.counters.sends_dropped.add(1);
    }

    /// Tells whoever listens; `event` is only made where there is room for it.
    pub(crate) fn report(&self, event: impl FnOnce() -> ClientEvent) {
        self.report_within(0, event);
    }

    /// The same for what one bad message brings about: a flood of those leaves room for what becomes of the connection.
    pub(crate) fn report_fault(&self, event: impl FnOnce() -> ClientEvent) {
        self.report_within(EVENTS_BOUND / 4, event);
    }

    fn report_within(&self, kept_free: usize, event: impl FnOnce() -> ClientEvent) {
        // The receivers live as long as the senders do, or nobody wants to know.
        match &*lock(&self.tap) {
            Some(tap) if tap.queue.len() + kept_free < TAP_BOUND => {
                let _ = tap.queue.send((Arc::clone(&tap.name), event()));
            }
            None if self.events.0.len() + kept_free < EVENTS_BOUND => {
                let _ = self.events.0.send(event());
            }
            _ => self.counters.events_dropped.add_shared(1),
        }
    }

    /// Lets events go to this tap from now on, behind those that wait here.
    pub(crate) fn tap(&self, tap: Tap) {
        let mut current = lock(&self.tap);
        for event in self.events.1.try_iter() {
            let _ = tap.queue.send((Arc::clone(&tap.name), event));
        }
        *current = Some(tap);
    }

    /// Keeps its events for itself again.
    pub(crate) fn untap(&self) {
        *lock(&self.tap) = None;
    }

    pub(crate) fn events(&self) -> &Receiver<ClientEvent> {
        &self.events.1
    }
}

fn closed(ending: Option<&DisconnectReason>) -> HyperSocketError {
    match ending {
        Some(reason) => HyperSocketError::Closed(reason.clone()),
        None => HyperSocketError::NotConnected,
    }
}

fn pack(state: ClientState, epoch: u64) -> u64 {
    epoch << 3 | state as u64
}

fn unpack(packed: u64) -> (ClientState, u64) {
    let state = match packed & 7 {
        0 => ClientState::NeverConnected,
        1 => ClientState::Connecting,
        2 => ClientState::Live,
        3 => ClientState::BackingOff,
        4 => ClientState::Closing,
        5 => ClientState::Closed,
        _ => ClientState::Failed,
    };
    (state, packed >> 3)
}

/// Enough for the events of a bad minute; what nobody takes is counted and must not grow.
const EVENTS_BOUND: usize = 1024;
/// The same for a thousand clients together.
const TAP_BOUND: usize = 64 * EVENTS_BOUND;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_epoch_survive_packing() {
        use ClientState::{BackingOff, Closed, Closing, Connecting, Failed, Live, NeverConnected};
        for state in [NeverConnected, Connecting, Live, BackingOff, Closing, Closed, Failed] {
            for epoch in [0, 1, 77, u64::MAX >> 3] {
                assert_eq!(unpack(pack(state, epoch)), (state, epoch));
            }
        }
    }

    #[test]
    fn queued_bytes_are_bounded_but_one_message_always_fits() {
        let shared = Shared::new();
        shared.max_queued_bytes.store(100, Ordering::Relaxed);
        assert!(shared.reserve(1_000).is_ok());
        assert!(matches!(shared.reserve(1), Err(HyperSocketError::WriteBufferFull { .. })));
        shared.release(1_000);
        assert!(shared.reserve(60).is_ok() && shared.reserve(40).is_ok() && shared.reserve(1).is_err());
    }

    #[test]
    fn events_that_nobody_takes_are_counted_not_kept() {
        let shared = Shared::new();
        for _ in 0..EVENTS_BOUND + 7 {
            shared.report(|| ClientEvent::ParseFailed { error: String::new() });
        }
        assert_eq!((shared.events().len(), shared.counters.events_dropped.get()), (EVENTS_BOUND, 7));
        let flooded = Shared::new();
        for _ in 0..EVENTS_BOUND {
            flooded.report_fault(|| ClientEvent::ParseFailed { error: String::new() });
        }
        assert_eq!(flooded.events().len(), EVENTS_BOUND * 3 / 4, "what becomes of the connection has room");
    }
}
