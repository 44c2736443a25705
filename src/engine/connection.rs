//! One client on its loop: its socket, its lifecycle, its pipeline. Performs the lifecycle's actions and tells it what happened.
//!
//! Invariant: what the kernel had received is delivered before the lifecycle hears that the connection is over.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::command::Send;
use super::desk::Desk;
use super::linger::{AFTER_VIOLATION, Linger};
use super::link::{Ending, Link, NORMAL_CLOSURE, Protocol, forget};
use super::plan::NewConnection;
use super::session::Session;
use super::stale::StaleWatch;
use crate::clock;
use crate::config::Limits;
use crate::error::DisconnectReason;
use crate::event::{ClientEvent, ConnectionEvent};
use crate::ids::{ConnectionId, SendId};
use crate::lifecycle::{Action, Input, Lifecycle, Phase};
use crate::metrics::Trail;
use crate::state::Shared;
use crate::transport::{DialTokens, ReceiveBuffer, WriteBuffer};

/// What reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadReport {
    /// Bytes read.
    pub(super) bytes: usize,
    /// The budget ended it: the socket may hold more.
    pub(super) more: bool,
}

/// See the module.
pub(super) struct Connection {
    pub(super) session: Session,
    pub(super) link: Link,
    pub(super) out: WriteBuffer,
    /// The frame that is still incomplete, between reads.
    pub(super) tail: ReceiveBuffer,
    /// How to part from the peer when the link is dropped; `None` just closes.
    pub(super) farewell: Option<Linger>,
    /// When this dial's turn is, where it has to wait for it.
    pub(super) turn: Option<Instant>,
    /// Host and port of the last dial.
    pub(super) host: Option<String>,
    /// What had been written when the link was dropped.
    pub(super) written_through: Option<SendId>,
    pub(super) limits: Limits,
    pub(super) tokens: DialTokens,
    /// What answers from elsewhere call it.
    pub(super) address: ConnectionId,
    pub(super) shutdown_flag: Option<Arc<AtomicBool>>,
    pub(super) stale: StaleWatch,
    /// How many parse sites the pipeline has.
    pub(super) sites: usize,
    /// Other clients are lines of the same feed.
    pub(super) in_feed: bool,
    /// When to ask whether it is to be replaced.
    pub(super) check_at: Option<Instant>,
    /// When its rotation is to be looked at.
    pub(super) look_at: Option<Instant>,
    /// Old as it is, it is not to be replaced before.
    pub(super) rotate_again_at: Option<Instant>,
    /// Why it closed.
    pub(super) ended: Option<DisconnectReason>,
    /// The offload threads have yet to answer this client, whichever dial it was that asked.
    pub(super) asking: bool,
}

impl Connection {
    /// Takes a client over and begins its first dial.
    pub(super) fn new(new: NewConnection, tokens: DialTokens, desk: &mut Desk) -> Self {
        let limits = new.settings.limits;
        let lifecycle = Lifecycle::start(desk.now, new.settings, new.strategy, new.first_dial);
        let (address, stale) = (new.shared.id, StaleWatch::new(new.stats, desk.now));
        let session = Session::new(new.shared, lifecycle, new.pipeline, Arc::new(new.plan), new.line);
        let mut connection = Self::unlinked(session, limits, tokens, address, stale, new.sites);
        connection.shutdown_flag = new.shutdown_flag;
        connection.in_feed = new.in_feed;
        connection.check_again(desk.now);
        connection.perform(desk);
        connection.flush();
        connection
    }

    pub(super) fn unlinked(
        session: Session,
        limits: Limits,
        tokens: DialTokens,
        address: ConnectionId,
        stale: StaleWatch,
        sites: usize,
    ) -> Self {
        Self {
            session,
            sites,
            address,
            link: Link::Down,
            out: WriteBuffer::default(),
            tail: ReceiveBuffer::default(),
            farewell: None,
            turn: None,
            host: None,
            written_through: None,
            limits,
            tokens,
            shutdown_flag: None,
            stale,
            look_at: None,
            rotate_again_at: None,
            asking: false,
            ended: None,
            in_feed: false,
            check_at: None,
        }
    }

    /// What the rotation of this client, or by this connection, is to look at next: see [`super::rotation`].
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.session.lifecycle.phase(), Phase::Live(_))
    }

    /// Sends wait that the kernel has not taken.
    pub(super) fn holds_sends(&self) -> bool {
        self.out.holds_sends()
    }

    pub(super) fn sites(&self) -> usize {
        self.sites
    }

    pub(super) fn address(&self) -> ConnectionId {
        self.address
    }

    /// Why it closed, where it has.
    pub(super) fn ended(&self) -> Option<&DisconnectReason> {
        self.ended.as_ref()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.session.shared
    }

    pub(super) fn shutdown_flag(&self) -> Option<&Arc<AtomicBool>> {
        self.shutdown_flag.as_ref()
    }

    /// Nothing is left to do but to forget it.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.session.lifecycle.phase(), Phase::Closed)
    }

    /// When [`on_deadline`](Self::on_deadline) is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let lifecycle = self.session.lifecycle.poll_timeout();
        let own = match &self.link {
            Link::Dialing(dialing) => lifecycle.map(|deadline| deadline.min(dialing.dial.poll_timeout())),
            _ => lifecycle,
        };
        let release = self.session.pipeline.next_release_ns().map(clock::instant_of);
        [
            own,
            self.stale.next_look(),
            self.look_at,
            self.old_at(),
            self.check_at,
            release,
            self.session.next_subscription(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The end is behind the data.
    pub(super) fn on_read_closed(&mut self) {
        if let Link::Open(open) = &mut self.link {
            open.stream.note_read_closed();
        }
    }

    /// Reads at most `reads` times, delivering as it goes.
    pub(super) fn read(&mut self, desk: &mut Desk, reads: usize) -> ReadReport {
        let mut report = ReadReport { bytes: 0, more: false };
        let mut broke_before = false;
        for _ in 0..reads {
            let Link::Open(open) = &mut self.link else { return report };
            broke_before = self.session.write_error.is_some();
            let mut tail = std::mem::take(&mut self.tail);
            // A short rest moves to the hot buffer; a long one stays, and grows with what comes.
            let buffer = if tail.len() <= desk.hot.capacity() / 2 {
                desk.hot.append(tail.data());
                tail.clear();
                tail.shrink_if_empty(KEEP_TAIL);
                &mut desk.hot
            } else {
                &mut tail
            };
            let fill = open.stream.fill(buffer, &mut desk.cipher);
            report.bytes += fill.bytes;
            report.more = fill.more;
            let ending = if fill.bytes > 0 {
                let returned = clock::now();
                let mut trail = Trail::new(clock::stamp_of(returned));
                if self.session.plan.measure_latency {
                    trail.readable(desk.now_ns);
                }
                let mut time = self.session.read_time(returned, trail, fill.kernel);
                let ending = open.advance(&mut self.session, &mut self.out, buffer, self.limits, &mut time).err();
                // Behind the hand-over: a message waits for nothing that could be done later.
                self.session.shared.counters.bytes_received.add(fill.bytes as u64);
                self.session.lifecycle.handle_input(returned, Input::Received);
                self.session.pipeline.read_done();
                ending
            } else {
                None
            };
            if buffer.is_empty() {
                tail.shrink_if_empty(KEEP_TAIL);
            } else if tail.is_empty() {
                tail.append(desk.hot.data());
            }
            desk.hot.reset(HOT_BYTES);
            desk.cipher.reset(HOT_BYTES);
            self.tail = tail;
            let ending = ending.or(fill.end.map(|reason| {
                let reason = self.session.take_reset().unwrap_or(reason);
                Ending { reason, farewell: None }
            }));
            if let Some(Ending { reason, farewell }) = ending {
                self.farewell = farewell;
                self.flush();
                self.session.pipeline.drained();
                self.session.lifecycle.handle_input(desk.now, Input::Disconnected(reason));
                self.perform(desk);
                return ReadReport { more: false, ..report };
            }
            if !fill.more {
                break;
            }
        }
        self.flush();
        if !report.more {
            self.session.pipeline.drained();
            // The write side broke before the read side gave all it had. Behind a break of this very turn there may be
            // more: what came between the read and the write.
            if broke_before && let Some(error) = self.session.write_error.take() {
                let reason = DisconnectReason::Broken(error.to_string());
                self.session.lifecycle.handle_input(desk.now, Input::Disconnected(reason));
                self.perform(desk);
            }
        }
        report
    }

    /// Gives the kernel what waits. A failure is kept: reading goes on to the end first.
    pub(super) fn flush(&mut self) {
        let Link::Open(open) = &mut self.link else { return };
        while self.session.write_error.is_none() {
            let flushed = open.stream.flush(&mut self.out);
            self.session.account(&open.stream, &mut self.out);
            match flushed {
                Err(error) => self.session.write_error = Some(error),
                Ok(false) => return,
                Ok(true) => {
                    // Now there is room for the pongs that had none.
                    if let Protocol::WebSocket(websocket) = &mut open.protocol {
                        websocket.flush_pongs(&mut self.out);
                    }
                    if self.out.is_empty() {
                        return;
                    }
                }
            }
        }
    }

    /// Writing failed, so the socket is to be read to its end.
    pub(super) fn must_read(&self) -> bool {
        self.session.write_error.is_some()
    }

    /// A deadline has come.
    pub(super) fn on_deadline(&mut self, desk: &mut Desk) {
        if self.stale.next_look().is_some_and(|due| desk.now >= due) {
            self.look_for_stale_routes(desk.now);
        }
        if self.session.pipeline.next_release_ns().is_some() {
            self.session.pipeline.release(clock::stamp_of(desk.now));
            self.session.pipeline.drained();
        }
        if self.session.next_subscription().is_some_and(|due| desk.now >= due) {
            self.follow_subscriptions(desk);
        }
        self.note_age(desk.now);
        if let Link::Dialing(dialing) = &mut self.link {
            let progress = dialing.dial.handle_timeout(&desk.registry, desk.now);
            self.on_dial(progress, desk.now);
            self.perform(desk);
        }
        let due = self.session.lifecycle.poll_timeout().is_some_and(|deadline| desk.now >= deadline);
        if due && matches!(self.session.lifecycle.phase(), Phase::Closing { .. }) {
            // The peer has not answered our Close. What the kernel holds by now is still ours to deliver.
            let mut patience = FINAL_DRAIN_READS;
            while patience > 0 && self.read(desk, 1).more {
                patience -= 1;
            }
        }
        if self.is_closed() {
            return;
        }
        if due && matches!(self.link, Link::Preparing) {
            self.session.shared.counters.providers_abandoned.add(1);
        }
        self.session.lifecycle.handle_timeout(desk.now);
        self.perform(desk);
        self.flush();
        // Nothing came for as long as a ping waits: memory kept for bursts can go.
        self.tail.shrink_if_empty(0);
    }

    fn look_for_stale_routes(&mut self, now: Instant) {
        let session = &mut self.session;
        let changes = self.stale.look(now, clock::stamp_of(now), session.live_since);
        // The flag first: whoever hears of a change finds the flag that goes with it.
        session.shared.set_stale(self.stale.any_stale());
        for (route, why) in changes {
            let event = why.map_or(ConnectionEvent::Fresh, |why| ConnectionEvent::Stale { why });
            session.pipeline.route_event(&route, &event);
            let route = route.name.clone();
            session.shared.report(|| match why {
                Some(why) => ClientEvent::RouteStale { route, why },
                None => ClientEvent::RouteFresh { route },
            });
        }
    }

    /// A message of the user, for the session of `epoch`.
    pub(super) fn send(&mut self, send: &Send) {
        let Send { id, epoch, strictly, ref message, tick_ns, .. } = *send;
        let bytes = message.as_bytes().len();
        // What was meant for the connection before goes out on the one that has taken over, but where that was ruled out.
        let current = self.session.lifecycle.epoch();
        let in_time = current == epoch || !strictly && current > epoch && self.session.shared.is_unbroken_since(epoch);
        if current > epoch && in_time {
            self.session.shared.requests.moved(id, current);
        }
        let current = self.is_live() && in_time && self.session.write_error.is_none();
        if current
            && let Some(websocket) = self.link.websocket()
            && websocket.writer(&mut self.out).send(message)
        {
            return self.out.mark(Some(id), bytes, tick_ns);
        }
        self.session.drop_send(id, bytes);
    }

    /// Other subscriptions are desired than before, or more may go out now.
    pub(super) fn follow_subscriptions(&mut self, desk: &mut Desk) {
        if let Some(websocket) = self.link.websocket() {
            self.session.follow_subscriptions(desk.now, &mut websocket.writer(&mut self.out));
        }
        self.flush();
    }

    /// A route's queue is full, and its policy is to end the session of `epoch`.
    pub(super) fn sever(&mut self, desk: &mut Desk, epoch: Option<u64>, route: String) {
        if epoch.is_none_or(|epoch| self.session.lifecycle.epoch() == epoch) {
            self.break_off(desk, DisconnectReason::QueueFull { route });
        }
    }

    /// Nothing that a new dial could mend.
    pub(super) fn give_up(&mut self, desk: &mut Desk, reason: DisconnectReason) {
        self.session.lifecycle.handle_input(desk.now, Input::GiveUp(reason));
        self.perform(desk);
    }

    pub(super) fn break_off(&mut self, desk: &mut Desk, reason: DisconnectReason) {
        if !self.is_live() {
            return;
        }
        if let Some(websocket) = self.link.websocket() {
            websocket.close(NORMAL_CLOSURE, "", &mut self.out);
        }
        self.farewell = Some(AFTER_VIOLATION);
        self.flush();
        self.session.lifecycle.handle_input(desk.now, Input::Disconnected(reason));
        self.perform(desk);
    }

    /// The user wants to stop.
    pub(super) fn shut_down(&mut self, desk: &mut Desk) {
        self.session.lifecycle.handle_input(desk.now, Input::Shutdown);
        self.perform(desk);
        self.flush();
    }

    /// Performs what the lifecycle asks for.
    pub(super) fn perform(&mut self, desk: &mut Desk) {
        while let Some(action) = self.session.lifecycle.poll_action() {
            match action {
                Action::Dial { attempt, deadline } => self.dial(desk, attempt, deadline),
                Action::SendUpgrade => {
                    self.session.pipeline.coming();
                    if let Link::Open(open) = &mut self.link {
                        open.send_upgrade(&mut self.out);
                    }
                }
                Action::SendClose => {
                    if let Some(websocket) = self.link.websocket() {
                        websocket.close(NORMAL_CLOSURE, "", &mut self.out);
                    }
                }
                Action::DropLink => self.drop_link(desk),
                Action::ReportLost { epoch, reason } => {
                    log::info!("client {}: lost, epoch {epoch}: {reason}", self.session.shared.id);
                    let written_through = self.written_through;
                    self.session.tell(ConnectionEvent::Lost { epoch, reason, written_through });
                }
                Action::ReportRetry { failures, reason, retry_in } => {
                    self.note_retry_after(&reason, desk.now);
                    log::info!("client {}: {reason}; dialing again in {retry_in:?}", self.session.shared.id);
                    let attempt = failures;
                    self.session.pipeline.troubled(&reason);
                    // Whoever hears of it finds the state that it tells of.
                    self.session.publish_state();
                    if self.session.speaks() {
                        self.session.shared.report(|| ClientEvent::DialFailed { attempt, reason, retry_in });
                    }
                }
                Action::Finish { reason } => {
                    self.note_retry_after(&reason, desk.now);
                    self.finish(&reason);
                }
                writing => {
                    if let Some(websocket) = self.link.websocket() {
                        self.session.write_action(desk.now, &writing, &mut websocket.writer(&mut self.out));
                    }
                }
            }
        }
        self.session.publish_state();
    }

    fn drop_link(&mut self, desk: &mut Desk) {
        let link = std::mem::replace(&mut self.link, Link::Down);
        let farewell = self.farewell.take();
        self.session.auth_message = None;
        self.session.ping = None;
        self.session.verdict = None;
        self.session.write_error = None;
        match link {
            Link::Down | Link::Preparing => {}
            Link::Dialing(dialing) => dialing.dial.cancel(&desk.registry),
            Link::Open(open) => {
                let stream = open.stream;
                self.session.account(&stream, &mut self.out);
                self.written_through = self.session.settled.written_through();
                // Sends that have not left must not leave now, behind the report that they did not: no lingering then.
                match farewell {
                    Some(linger) if !self.out.holds_sends() => {
                        let out = std::mem::take(&mut self.out);
                        desk.lingering.push(&desk.registry, desk.now, stream, out, linger);
                    }
                    _ => forget(stream, &desk.registry),
                }
            }
        }
        self.session.drop_unwritten(&mut self.out);
        self.tail.clear();
        self.tail.shrink_if_empty(0);
    }

    fn finish(&mut self, reason: &DisconnectReason) {
        self.session.pipeline.troubled(reason);
        self.session.pipeline.stop();
        self.ended = Some(reason.clone());
        if self.session.speaks() {
            log::info!("client {}: closed: {reason}", self.session.shared.id);
            self.session.shared.close(reason, self.session.lifecycle.epoch());
            self.session.shared.report(|| ClientEvent::Closed { reason: reason.clone() });
        }
    }
}

impl Drop for Connection {
    /// The loop was dropped, or panicked: nobody must wait for this client any more.
    fn drop(&mut self) {
        if self.is_closed() {
            return;
        }
        let reason = DisconnectReason::Broken("the event loop is gone".to_owned());
        self.session.relieved = false;
        if self.session.lifecycle.session_open() {
            let (epoch, written_through) = (self.session.lifecycle.epoch(), self.session.settled.written_through());
            self.session.tell(ConnectionEvent::Lost { epoch, reason: reason.clone(), written_through });
        }
        self.finish(&reason);
    }
}

/// The hot buffer's size: 32 to 64 KiB measured best, 256 KiB leaves the second-level cache.
pub(super) const HOT_BYTES: usize = 64 * 1024;
/// A connection's buffer for unfinished frames keeps this much while messages flow.
const KEEP_TAIL: usize = 64 * 1024;
/// Reads of what a silent peer left in the kernel: more than any receive buffer holds, fewer than a flood would like.
const FINAL_DRAIN_READS: usize = 1024;
