//! A client's handle: what the application holds.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::clock;
use crate::engine::{Command, Engine};
use crate::error::{DisconnectReason, HyperSocketError, Result};
use crate::event::ClientEvent;
use crate::ids::ConnectionId;
use crate::ids::SendId;
use crate::message::WsMessage;
use crate::metrics::{BesideRoutes, LatencyReport, Metrics, PipelineStats};
use crate::own_thread;
use crate::pipeline::HandlerThreads;
use crate::requests::{PendingReply, RequestId};
use crate::sender::Sender;
use crate::state::{ClientState, Shared, Tap};
use crate::subscriptions::{Subscription, SubscriptionState};
use crate::sync::lock;

/// One connection that is kept up, with its handlers. Cheap to clone; all clones are the same client.
///
/// Dropping the last one requests a shutdown without waiting for it; [`shutdown`](Self::shutdown) waits and reports.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

pub(crate) struct Handle {
    pub(crate) sender: Sender,
    pub(crate) stats: Arc<PipelineStats>,
    pub(crate) threads: Arc<HandlerThreads>,
    /// Keeps a shared engine running; `None` on a loop that the caller drives.
    pub(crate) engine: Option<Engine>,
    /// The engine is this client's own and ends with it.
    pub(crate) private_engine: bool,
    /// When it was built, on the stamps' clock.
    pub(crate) built_ns: u64,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) ending: ShutdownProgress,
}

/// Whether somebody waits for the shutdown's end right now, and the report that was made.
#[derive(Default)]
pub(crate) struct ShutdownProgress {
    state: Mutex<(bool, Option<ShutdownReport>)>,
    changed: Condvar,
}

impl Client {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle: Arc::new(handle) }
    }

    /// Queues a message for sending in the current session. `Ok` means queued: if the session ends first, the message is
    /// gone, and [`Lost`](crate::ConnectionEvent::Lost) says what had left. Nothing is ever sent again by itself.
    ///
    /// # Errors
    /// [`NotConnected`](HyperSocketError::NotConnected) while there is no live session,
    /// [`WriteBufferFull`](HyperSocketError::WriteBufferFull) where the peer reads too slowly,
    /// [`RateLimited`](HyperSocketError::RateLimited) where the client has a message limit. Nothing was queued then.
    pub fn send<'a>(&self, message: impl Into<WsMessage<'a>>) -> Result<SendId> {
        self.handle.sender.send(message)
    }

    /// Like [`send`](Self::send), but only in the session of this epoch.
    ///
    /// # Errors
    /// As for [`send`](Self::send), and [`EpochChanged`](HyperSocketError::EpochChanged).
    pub fn send_in_epoch<'a>(&self, epoch: u64, message: impl Into<WsMessage<'a>>) -> Result<SendId> {
        self.handle.sender.send_in_epoch(epoch, message)
    }

    /// Moves to a new connection without a hole and returns at once: the new one is dialed, authenticated and subscribed beside
    /// the old one, what both bring is put into one order by [`MessageRouter::sequence`](crate::MessageRouter::sequence), and once
    /// the new one brings all streams, the old one is closed. Handlers see one stream, and
    /// [`Rotated`](crate::ConnectionEvent::Rotated) in it; the epoch grows. Streams that are quiet are waited for 5 s. Where the
    /// new connection fails, the client stays on the old one, and [`RotationFailed`](crate::ClientEvent::RotationFailed) says
    /// why. Inline handlers may see a message that waited for another some microseconds later; nothing is sent twice.
    ///
    /// # Errors
    /// [`NotConnected`](HyperSocketError::NotConnected) while there is no live session;
    /// [`NotSpliced`](HyperSocketError::NotSpliced) where messages have come without a sequence, or the sequences count per
    /// connection.
    pub fn rotate(&self) -> Result<()> {
        self.handle.stats.check_numbered().map_err(HyperSocketError::NotSpliced)?;
        self.handle.sender.rotate()
    }

    /// Sends a request and waits for its reply, at most this long: see [`Sender::request`].
    ///
    /// # Errors
    /// Those of [`Sender::request`].
    pub fn request<'a>(
        &self,
        message: impl Into<WsMessage<'a>>,
        id: impl Into<RequestId>,
        timeout: Duration,
    ) -> Result<WsMessage<'static>> {
        self.handle.sender.request(message, id, timeout)
    }

    /// Sends a request and returns at once: see [`Sender::begin_request`].
    ///
    /// # Errors
    /// Those of [`Sender::begin_request`].
    pub fn begin_request<'a>(
        &self,
        message: impl Into<WsMessage<'a>>,
        id: impl Into<RequestId>,
        timeout: Duration,
    ) -> Result<PendingReply> {
        self.handle.sender.begin_request(message, id, timeout)
    }

    /// Subscribes from now on: at once where the client is live, and in every session to come.
    ///
    /// # Errors
    /// [`DuplicateSubscription`](HyperSocketError::DuplicateSubscription),
    /// [`TooManySubscriptions`](HyperSocketError::TooManySubscriptions), and what its closure answers, which is called here.
    pub fn subscribe(&self, subscription: Subscription) -> Result<()> {
        self.handle.sender.subscribe(subscription)
    }

    /// Ends a subscription: at once where the client is live, and it is in no session to come.
    ///
    /// # Errors
    /// [`UnknownSubscription`](HyperSocketError::UnknownSubscription).
    pub fn unsubscribe(&self, name: &str) -> Result<()> {
        self.handle.sender.unsubscribe(name)
    }

    /// Sends a subscription again, for a new snapshot; see [`Sender::resubscribe`].
    ///
    /// # Errors
    /// [`UnknownSubscription`](HyperSocketError::UnknownSubscription), and what its closure answers, which is called here.
    pub fn resubscribe(&self, name: &str) -> Result<()> {
        self.handle.sender.resubscribe(name)
    }

    /// What the client is subscribed to, or wants to be, in the order in which it was asked for, and how far that has come.
    pub fn subscriptions(&self) -> Vec<(String, SubscriptionState)> {
        self.handle.sender.subscriptions()
    }

    /// A sender that does not keep the client up.
    pub fn sender(&self) -> Sender {
        self.handle.sender.clone()
    }

    /// What its messages and events call this connection.
    pub fn connection(&self) -> ConnectionId {
        self.handle.sender.shared.id
    }

    /// Where the client stands.
    pub fn state(&self) -> ClientState {
        self.handle.sender.shared.state().0
    }

    /// The epoch of the latest live spell, from 1; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.handle.sender.shared.state().1
    }

    /// The subprotocol that the venue chose at the last upgrade, where it chose one.
    pub fn subprotocol(&self) -> Option<String> {
        lock(&self.handle.sender.shared.subprotocol).clone()
    }

    /// Waits until the client is live.
    ///
    /// # Errors
    /// [`TimedOut`](HyperSocketError::TimedOut), [`Closed`](HyperSocketError::Closed) where it will never be live again,
    /// [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread of the engine.
    pub fn wait_live(&self, timeout: Duration) -> Result<()> {
        own_thread::refuse("Client::wait_live")?;
        self.handle.sender.shared.wait_live(clock::after(timeout)).map_err(|error| named(error, timeout))
    }

    pub(crate) fn wait_first_live(&self, timeout: Duration) -> Result<()> {
        self.handle.sender.shared.wait_first_live(clock::after(timeout)).map_err(|error| named(error, timeout))
    }

    /// All counters at this moment.
    pub fn metrics(&self) -> Metrics {
        self.handle.metrics()
    }

    /// How long its messages took until now, stage by stage; empty unless the client was built with
    /// [`measure_latency`](crate::ClientBuilder::measure_latency).
    pub fn latency(&self) -> LatencyReport {
        let Handle { sender, stats, built_ns, .. } = &*self.handle;
        let beside = BesideRoutes {
            built_ns: *built_ns,
            tick_to_trade: sender.shared.tick_to_trade.snapshot(),
            round_trips: sender.shared.round_trips.snapshot(),
            loop_gaps: sender.loop_gaps(),
        };
        LatencyReport::read(stats, beside)
    }

    pub(crate) fn join_halted_flag(&self, flag: &Arc<AtomicBool>) {
        self.handle.sender.shared.join_halted_flag(flag);
    }

    pub(crate) fn leave_halted_flag(&self, flag: &Arc<AtomicBool>) {
        self.handle.sender.shared.leave_halted_flag(flag);
    }

    pub(crate) fn tap_events(&self, tap: Tap) {
        self.handle.sender.shared.tap(tap);
    }

    pub(crate) fn untap_events(&self) {
        self.handle.sender.shared.untap();
    }

    /// The client's events, from its start. They wait in a bounded queue that all clones share; what nobody takes in time
    /// is dropped and counted in `events_dropped`. Under the roof of a [`ClientManager`](crate::ClientManager) they go there
    /// instead.
    pub fn events(&self) -> Events {
        Events::of(&self.handle.sender.shared)
    }

    /// Begins the shutdown and returns at once: a Close frame goes out, no message is lost. Callable from anywhere, also
    /// from a handler.
    pub fn request_shutdown(&self) {
        self.handle.request_shutdown();
    }

    /// Shuts down and reports. Everything that had arrived is handled before this returns, as long as the handlers need, up
    /// to the builder's [`shutdown_timeout`](crate::ClientBuilder::shutdown_timeout); with nothing queued it takes
    /// milliseconds, and no longer than the close timeout where the venue ignores our Close. Further calls
    /// return the first one's report. It never writes a caller's shutdown flag.
    ///
    /// # Errors
    /// [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread of the engine: use
    /// [`request_shutdown`](Self::request_shutdown) there.
    pub fn shutdown(&self) -> Result<ShutdownReport> {
        self.shutdown_within(self.handle.shutdown_timeout)
    }

    /// Like [`shutdown`](Self::shutdown), with a deadline of the caller's.
    ///
    /// # Errors
    /// As for [`shutdown`](Self::shutdown).
    pub fn shutdown_within(&self, timeout: Duration) -> Result<ShutdownReport> {
        own_thread::refuse("Client::shutdown")?;
        self.handle.shut_down(timeout)
    }
}

impl Handle {
    fn metrics(&self) -> Metrics {
        Metrics::read(&self.sender.shared.counters, &self.stats, clock::stamp_ns())
    }

    fn request_shutdown(&self) {
        // A client that never got to a loop, or whose loop is gone, has nothing to shut down.
        let _ = self.sender.command(Command::Shutdown(self.sender.shared.id));
    }

    /// A client that nobody wants any more need not be live.
    fn leave_halted_flag(&self) {
        self.sender.shared.leave_halted_flags();
    }

    fn shut_down(&self, timeout: Duration) -> Result<ShutdownReport> {
        let (began, deadline) = (clock::now(), clock::after(timeout));
        self.request_shutdown();
        let mut ending = lock(&self.ending.state);
        loop {
            match &*ending {
                (_, Some(report)) => return Ok(report.clone()),
                (false, _) => break,
                // Another caller waits already; its deadline is not ours.
                (true, _) => {}
            }
            let now = clock::now();
            if now >= deadline {
                return Ok(self.report(began, false));
            }
            ending = self.ending.changed.wait_timeout(ending, deadline - now).unwrap_or_else(PoisonError::into_inner).0;
        }
        ending.0 = true;
        drop(ending);
        let outcome = self.await_end(deadline).map(|complete| self.report(began, complete));
        *lock(&self.ending.state) = (false, outcome.as_ref().ok().cloned());
        self.ending.changed.notify_all();
        outcome
    }

    /// Waits for the loop, the handlers and a private engine; whether all of them have ended.
    fn await_end(&self, deadline: Instant) -> Result<bool> {
        let shared = &self.sender.shared;
        let loop_done = shared.wait_closed(deadline).is_ok();
        let handlers_done = self.threads.join(deadline);
        if let (true, true, Some(engine)) = (loop_done, self.private_engine, &self.engine) {
            engine.shutdown()?;
        }
        self.leave_halted_flag();
        Ok(loop_done && handlers_done)
    }

    fn report(&self, began: Instant, complete: bool) -> ShutdownReport {
        let reason = self.sender.shared.ending().unwrap_or(DisconnectReason::Deadline("shutting down"));
        let took = clock::now().duration_since(began);
        ShutdownReport::new(reason, took, complete, self.metrics(), &self.stats)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.request_shutdown();
        self.leave_halted_flag();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("connection", &self.connection())
            .field("state", &self.state())
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

/// The caller's own timeout, in place of what was left of it.
fn named(error: HyperSocketError, timeout: Duration) -> HyperSocketError {
    match error {
        HyperSocketError::TimedOut(_) => HyperSocketError::TimedOut(timeout),
        other => other,
    }
}

/// How a shutdown went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Why the client closed: [`Shutdown`](DisconnectReason::Shutdown), or what had ended it before.
    pub reason: DisconnectReason,
    /// How long the shutdown took.
    pub took: Duration,
    /// Whether the loop and every handler had finished before the deadline.
    pub complete: bool,
    /// Messages that had arrived and were not handled by the deadline, those that handlers were busy with included; 0 where
    /// `complete`.
    pub unhandled: u64,
    /// Messages that wait in pull routes, where their receivers can still take them.
    pub to_be_pulled: u64,
    /// The final counters.
    pub metrics: Metrics,
}

impl ShutdownReport {
    pub(crate) fn new(
        reason: DisconnectReason,
        took: Duration,
        complete: bool,
        metrics: Metrics,
        stats: &PipelineStats,
    ) -> Self {
        let waiting = |pulled: bool| -> u64 {
            let routes = stats.routes();
            routes.iter().filter(|route| route.pulled == pulled).map(|route| route.depth()).sum()
        };
        let abandoned: u64 = metrics.routes.iter().map(|route| route.abandoned).sum();
        let unhandled = waiting(false) + abandoned + metrics.parse_backlog;
        Self { reason, took, complete, unhandled, to_be_pulled: waiting(true), metrics }
    }
}

/// The events of a client; see [`Client::events`].
#[derive(Debug, Clone)]
pub struct Events {
    queue: Receiver<ClientEvent>,
}

impl Events {
    pub(crate) fn of(shared: &Shared) -> Self {
        Self { queue: shared.events().clone() }
    }

    /// The next event, where there is one.
    pub fn try_next(&self) -> Option<ClientEvent> {
        self.queue.try_recv().ok()
    }

    /// The next event, waiting for it at most this long.
    pub fn next_timeout(&self, timeout: Duration) -> Option<ClientEvent> {
        self.queue.recv_timeout(timeout).ok()
    }
}
