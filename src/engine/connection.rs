//! One client on its loop: its socket, its lifecycle, its pipeline. Performs the lifecycle's actions and tells it what happened.
//!
//! Invariant: what the kernel had received is delivered before the lifecycle hears that the connection is over.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::command::Send;
use super::desk::Desk;
use super::linger::{AFTER_VIOLATION, Linger};
use super::link::{Dialing, Ending, Link, NORMAL_CLOSURE, Open, Protocol, forget};
use super::offload::Job;
use super::plan::{NewConnection, Prepared, UrlSource, Way};
use super::resolver::Source;
use super::rotation::LONGEST_OVERLAP;
use super::session::{Role, Session};
use super::stale::StaleWatch;
use crate::clock;
use crate::config::Limits;
use crate::error::{DisconnectReason, HyperSocketError};
use crate::event::{ClientEvent, ConnectionEvent};
use crate::ids::{ConnectionId, SendId};
use crate::lifecycle::{Action, Input, LONGEST_RETRY_AFTER, Lifecycle, Phase};
use crate::limits::{hold_host, host_held_until};
use crate::metrics::Trail;
use crate::pipeline::{LineChange, feed_of_two};
use crate::state::Shared;
use crate::subscriptions::SubscriptionProgress;
use crate::transport::{
    BOTH, Dial, DialTokens, Progress, ReceiveBuffer, Stream, Target, TlsSession, Upgrade, WriteBuffer,
};

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
    session: Session,
    link: Link,
    out: WriteBuffer,
    /// The frame that is still incomplete, between reads.
    tail: ReceiveBuffer,
    /// How to part from the peer when the link is dropped; `None` just closes.
    farewell: Option<Linger>,
    /// When this dial's turn is, where it has to wait for it.
    turn: Option<Instant>,
    /// Host and port of the last dial.
    host: Option<String>,
    /// What had been written when the link was dropped.
    written_through: Option<SendId>,
    limits: Limits,
    tokens: DialTokens,
    /// What answers from elsewhere call it.
    address: ConnectionId,
    shutdown_flag: Option<Arc<AtomicBool>>,
    stale: StaleWatch,
    /// How many parse sites the pipeline has.
    sites: usize,
    /// Other clients are lines of the same feed.
    in_feed: bool,
    /// When to ask whether it is to be replaced.
    check_at: Option<Instant>,
    /// When its rotation is to be looked at.
    look_at: Option<Instant>,
    /// Old as it is, it is not to be replaced before.
    rotate_again_at: Option<Instant>,
    /// Why it closed.
    ended: Option<DisconnectReason>,
    /// The offload threads have yet to answer this client, whichever dial it was that asked.
    asking: bool,
}

impl Connection {
    /// Takes a client over and begins its first dial.
    pub(super) fn new(new: NewConnection, tokens: DialTokens, desk: &mut Desk) -> Self {
        let limits = new.settings.limits;
        let lifecycle = Lifecycle::start(desk.now, new.settings, new.strategy, new.first_dial);
        let (address, stale) = (new.shared.id, StaleWatch::new(new.stats, desk.now));
        let session = Session::new(new.shared, lifecycle, new.pipeline, Arc::new(new.plan), new.line);
        let mut connection = Self::dialing(session, limits, tokens, address, stale, new.sites);
        connection.shutdown_flag = new.shutdown_flag;
        connection.in_feed = new.in_feed;
        connection.check_again(desk.now);
        connection.perform(desk);
        connection.flush();
        connection
    }

    fn dialing(
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

    /// Begins to dial for a connection that is to take over from this one.
    pub(super) fn relief(&mut self, tokens: DialTokens, desk: &mut Desk) -> Self {
        let (current, line) = (self.session.line, 1 - self.session.line.min(1));
        let epoch = self.session.lifecycle.epoch();
        let [own, other] = feed_of_two(&mut self.session.pipeline, epoch, current, line);
        self.session.pipeline = Box::new(own);
        let session = self.session.relief(desk.now, Box::new(other), line);
        let stale = StaleWatch::new(Arc::default(), desk.now);
        let mut relief = Self::dialing(session, self.limits, tokens, ConnectionId::next(), stale, self.sites);
        relief.perform(desk);
        relief.flush();
        relief
    }

    /// Takes over from `before`, of whose client it is the connection from now on.
    pub(super) fn take_over(&mut self, before: &mut Self, desk: &mut Desk) {
        if before.out.holds_sends() {
            // The peer has not read them for as long as a rotation may take.
            before.session.drop_unwritten(&mut before.out);
        }
        if let Some(mut pipeline) = self.session.pipeline.take_inner() {
            pipeline.line(&LineChange::Left { line: before.session.line });
            pipeline.line(&LineChange::Unwatched);
            self.session.take_over(&mut before.session, pipeline);
        }
        std::mem::swap(&mut self.stale, &mut before.stale);
        self.shutdown_flag = before.shutdown_flag.take();
        self.look_at = None;
        // It may still have to bring replies.
        before.look_at = Some(desk.now + LONGEST_OVERLAP);
        before.leave_if_idle(desk);
    }

    /// Says goodbye on a connection that was taken over from, once nobody waits for a reply on it, or has for long enough.
    pub(super) fn leave_if_idle(&mut self, desk: &mut Desk) {
        if self.session.role != Role::Retired
            || matches!(self.session.lifecycle.phase(), Phase::Closing { .. } | Phase::Closed)
        {
            return;
        }
        let waited_for = self.session.shared.requests.waits_in(self.session.lifecycle.epoch());
        if !(self.is_live() && waited_for && self.look_at.is_some()) {
            self.session.lifecycle.handle_input(desk.now, Input::Shutdown);
            self.perform(desk);
            self.flush();
        }
    }

    /// The connection that was to take over does not: this one goes on alone.
    pub(super) fn dismiss(&mut self, relief: &mut Self, desk: &mut Desk) {
        self.session.relieved = false;
        if let Some(mut pipeline) = self.session.pipeline.take_inner() {
            pipeline.line(&LineChange::Left { line: relief.session.line });
            pipeline.line(&LineChange::Unwatched);
            self.session.pipeline = pipeline;
        }
        relief.session.role = Role::Retired;
        relief.session.lifecycle.handle_input(desk.now, Input::Shutdown);
        relief.perform(desk);
        relief.flush();
    }

    /// When the connection has reached the age at which it is to be replaced.
    fn old_at(&self) -> Option<Instant> {
        let age = self.session.plan.rotation.max_age.filter(|_| self.session.role == Role::Current)?;
        let old_at = self.session.live_since?.checked_add(age)?;
        Some(self.rotate_again_at.map_or(old_at, |again| old_at.max(again)))
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

    /// Has somebody look at its rotation at this time, once.
    pub(super) fn look_at(&mut self, at: Instant) {
        self.look_at = Some(at);
    }

    fn check_again(&mut self, now: Instant) {
        let check = self.session.plan.rotation.check.as_ref();
        self.check_at = check.and_then(|(every, _)| now.checked_add(*every));
    }

    /// Whether it is one line of several, which need not be moved but only replaced.
    pub(super) fn is_in_feed(&self) -> bool {
        self.in_feed
    }

    /// Whether its feed can go on over another connection; the error says why not.
    pub(super) fn check_numbered(&self) -> Result<(), String> {
        self.stale.stats().check_numbered()
    }

    /// The client's own wish for a new connection; once.
    pub(super) fn take_rotation_wish(&mut self) -> bool {
        std::mem::take(&mut self.session.wants_rotation)
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

    /// A connect may have ended.
    pub(super) fn on_dial_ready(&mut self, desk: &mut Desk) {
        if let Link::Dialing(dialing) = &mut self.link {
            let progress = dialing.dial.on_ready(&desk.registry, desk.now);
            self.on_dial(progress, desk.now);
            self.perform(desk);
        }
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
        for _ in 0..reads {
            let Link::Open(open) = &mut self.link else { return report };
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
            // The write side broke earlier, and now the read side has given all it had.
            if let Some(error) = self.session.write_error.take() {
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
        self.look_at.take_if(|due| desk.now >= *due);
        if self.session.next_subscription().is_some_and(|due| desk.now >= due) {
            self.follow_subscriptions(desk);
        }
        if self.check_at.is_some_and(|due| desk.now >= due)
            && let Some((_, check)) = &self.session.plan.rotation.check
        {
            self.session.wants_rotation |= check(desk.now);
            self.check_again(desk.now);
        }
        if self.old_at().is_some_and(|due| desk.now >= due) {
            self.session.wants_rotation = true;
            self.rotate_again_at = Some(desk.now + ROTATE_AGAIN);
        }
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

    /// The offload thread's answer.
    pub(super) fn on_prepared(&mut self, desk: &mut Desk, attempt: u64, outcome: Result<Prepared, DisconnectReason>) {
        self.asking = false;
        match self.session.lifecycle.dialing() {
            Some(current) if current == attempt => self.connect(desk, attempt, outcome),
            // The late answer to an earlier dial is not used, but now this one can ask.
            Some(current) => {
                let deadline = self.session.lifecycle.poll_timeout().unwrap_or(desk.now);
                self.ask(desk, current, deadline);
            }
            None => {}
        }
        self.perform(desk);
        self.flush();
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

    /// Another line of the feed brings the same, so this one can be closed and dialed anew.
    pub(super) fn replace(&mut self, desk: &mut Desk) {
        if self.session.pipeline.is_relieved() {
            self.break_off(desk, DisconnectReason::Replaced);
        }
    }

    /// Nothing that a new dial could mend.
    pub(super) fn give_up(&mut self, desk: &mut Desk, reason: DisconnectReason) {
        self.session.lifecycle.handle_input(desk.now, Input::GiveUp(reason));
        self.perform(desk);
    }

    fn break_off(&mut self, desk: &mut Desk, reason: DisconnectReason) {
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
    fn perform(&mut self, desk: &mut Desk) {
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

    fn dial(&mut self, desk: &mut Desk, attempt: u64, deadline: Instant) {
        let providers = &self.session.plan.providers;
        // Before anybody is asked for what may be stale by the time of its turn.
        if let UrlSource::Fixed(url) = &providers.url
            && let Ok(target) = Target::parse(url)
            && self.is_held_back(desk, attempt, &target)
        {
            return;
        }
        let providers = &self.session.plan.providers;
        if let Some(outcome) = providers.prepare_at_once() {
            return self.connect(desk, attempt, outcome);
        }
        self.link = Link::Preparing;
        self.ask(desk, attempt, deadline);
    }

    /// Has the offload threads prepare this dial. Where a call of an earlier dial still hangs, it is not made again beside
    /// it: those threads are few, and other clients need them, too.
    fn ask(&mut self, desk: &mut Desk, attempt: u64, deadline: Instant) {
        if self.asking {
            return;
        }
        let (providers, reply) = (Arc::clone(&self.session.plan.providers), desk.commands.clone());
        let connection = self.address;
        match desk.offload.submit(Job { providers, connection, attempt, deadline, reply }) {
            Ok(()) => self.asking = true,
            Err(reason) => self.session.lifecycle.handle_input(desk.now, Input::DialFailed { attempt, reason }),
        }
    }

    /// Whether this dial is to wait for its turn, under the venue's limit or after its `Retry-After`: then it is put off.
    fn is_held_back(&mut self, desk: &Desk, attempt: u64, target: &Target) -> bool {
        let plan = Arc::clone(&self.session.plan);
        let (now, host) = (desk.now, format!("{}:{}", target.host, target.port));
        let held_until = host_held_until(&host, now).or_else(|| {
            let turn = self.turn.or_else(|| {
                let limit = plan.connection_limit.as_ref()?;
                Some(limit.reserve(&target.host, plan.providers.socket.source(), now))
            });
            self.turn = turn.filter(|turn| *turn > now);
            self.turn
        });
        self.host = Some(host);
        let Some(until) = held_until else { return false };
        self.link = Link::Down;
        self.session.lifecycle.handle_input(now, Input::HeldBack { attempt, until });
        if self.session.speaks() {
            let retry_in = until - now;
            self.session.shared.report(|| ClientEvent::HeldBack { retry_in });
        }
        true
    }

    fn connect(&mut self, desk: &mut Desk, attempt: u64, outcome: Result<Prepared, DisconnectReason>) {
        if let Ok(prepared) = &outcome
            && matches!(self.session.plan.providers.url, UrlSource::Fresh(_))
            && self.is_held_back(desk, attempt, &prepared.target)
        {
            return;
        }
        self.session.shared.counters.dials.add(1);
        // The request is made before a byte leaves, so that a header that would break it breaks the dial instead.
        let ready = outcome.and_then(|prepared| {
            Upgrade::new(&prepared.target, &prepared.headers, &self.session.plan.subprotocols)
                .map(|upgrade| (prepared, upgrade))
                .map_err(|error| match error {
                    HyperSocketError::InvalidHeader(what) => DisconnectReason::InvalidHeader(what),
                    other => DisconnectReason::Provider(other.to_string()),
                })
        });
        let (Prepared { target, way, auth, subscriptions, .. }, upgrade) = match ready {
            Ok(ready) => ready,
            Err(reason) => {
                return self.session.lifecycle.handle_input(desk.now, Input::DialFailed { attempt, reason });
            }
        };
        self.session.auth_message = auth;
        self.session.progress = SubscriptionProgress::new(self.session.plan.batches, subscriptions);
        let resolved = match way {
            Way::Addresses(resolved) => resolved,
            Way::Connected(socket) => {
                let mut socket = TcpStream::from_std(socket);
                let registered = desk.registry.register(&mut socket, self.tokens.connected, BOTH);
                let connected = registered.map(|()| socket);
                let connected =
                    connected.map_err(|error| DisconnectReason::Connect(format!("the dialer's socket: {error}")));
                return self.on_socket(connected, attempt, &target, upgrade, desk.now);
            }
        };
        if resolved.source == Source::Memory {
            self.session.shared.counters.resolve_fallbacks.add(1);
        }
        let (addresses, options) = (resolved.addresses, Arc::clone(&self.session.plan.providers.socket));
        let deadline = self.session.lifecycle.poll_timeout().unwrap_or(desk.now);
        let mut dial = Dial::new(&addresses, deadline, options, self.tokens);
        let progress = dial.start(&desk.registry, desk.now);
        self.link = Link::Dialing(Box::new(Dialing { dial, addresses, attempt, target, upgrade }));
        self.on_dial(progress, desk.now);
    }

    fn on_dial(&mut self, progress: Progress, now: Instant) {
        let socket = match progress {
            Progress::Pending => return,
            Progress::Connected(socket) => Ok(socket),
            Progress::Failed(reason) => Err(reason),
        };
        let Link::Dialing(dialing) = std::mem::replace(&mut self.link, Link::Down) else {
            debug_assert!(false, "progress of a dial that is not under way");
            return;
        };
        let Dialing { addresses, attempt, target, upgrade, .. } = *dialing;
        if socket.is_ok() {
            self.session.plan.providers.resolver.remember(&target.host, target.port, addresses);
        }
        self.on_socket(socket, attempt, &target, upgrade, now);
    }

    /// The dial has come to a socket, registered under the connection's token, or to nothing.
    fn on_socket(
        &mut self,
        socket: Result<TcpStream, DisconnectReason>,
        attempt: u64,
        target: &Target,
        upgrade: Upgrade,
        now: Instant,
    ) {
        let input = match socket.and_then(|socket| self.open(socket, target, upgrade)) {
            Ok(open) => {
                if let (Role::Current, Some(gauge)) = (self.session.role, self.session.shared.gauge.get()) {
                    gauge.begin();
                }
                self.link = Link::Open(Box::new(open));
                Input::Connected { attempt, tls: target.tls }
            }
            Err(reason) => Input::DialFailed { attempt, reason },
        };
        self.session.lifecycle.handle_input(now, input);
    }

    fn open(&self, socket: TcpStream, target: &Target, upgrade: Upgrade) -> Result<Open, DisconnectReason> {
        let (protocol, options) = (Protocol::Upgrading(upgrade), &self.session.plan.providers.socket);
        if !target.tls {
            return Ok(Open { stream: Stream::plain(socket).reading_by(options), protocol });
        }
        let Some(connector) = &self.session.plan.tls else {
            return Err(DisconnectReason::Tls("no TLS was configured for this client".to_owned()));
        };
        let tls = TlsSession::new(connector, &target.host)?;
        Ok(Open { stream: Stream::tls(socket, tls).reading_by(options), protocol })
    }

    /// What the venue has told us holds for all clients of its host.
    fn note_retry_after(&self, reason: &DisconnectReason, now: Instant) {
        if let DisconnectReason::UpgradeRejected { retry_after: Some(wait), .. } = reason
            && let (Some(host), Some(until)) = (&self.host, now.checked_add((*wait).min(LONGEST_RETRY_AFTER)))
        {
            hold_host(host, until);
        }
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
/// A rotation that was given up is tried again so much later, where it is owed to age.
const ROTATE_AGAIN: Duration = Duration::from_secs(60);
/// Reads of what a silent peer left in the kernel: more than any receive buffer holds, fewer than a flood would like.
const FINAL_DRAIN_READS: usize = 1024;
