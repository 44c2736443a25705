//! What the user is to see of a connection: events, messages, sends and their fate. Knows frames, but no socket calls beyond
//! the flush of an inline send.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::outlet::{Beside, DirectOutlet, account, send_own};
use super::plan::Plan;
use super::settled::Settled;
use crate::auth::AuthVerdict;
use crate::error::DisconnectReason;
use crate::event::{ClientEvent, ConnectionEvent};
use crate::handler::Arrival;
use crate::ids::SendId;
use crate::lifecycle::{Action, Input, Lifecycle, Phase};
use crate::message::WsMessage;
use crate::metrics::{KernelStamp, Trail};
use crate::pipeline::Pipeline;
use crate::router::SubscriptionReply;
use crate::state::{ClientState, Shared};
use crate::subscriptions::{Answer, SubscriptionProgress};
use crate::sync::lock;
use crate::transport::{FrameWriter, Incoming, Stream, WriteBuffer};

/// One client, seen from its loop, over all its sockets.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) lifecycle: Lifecycle,
    pub(super) pipeline: Box<dyn Pipeline>,
    pub(super) plan: Arc<Plan>,
    /// Which line of its feed this is.
    pub(super) line: u8,
    pub(super) role: Role,
    /// Another session is live that takes over should this one fail: then nobody is to hear of that.
    pub(super) relieved: bool,
    /// The venue has said that it will end the connection, or it is old.
    pub(super) wants_rotation: bool,
    /// Messages are looked at before they go to the pipeline.
    inspects: bool,
    beside: Beside,
    /// The auth message of the current dial, until it is sent.
    pub(super) auth_message: Option<WsMessage<'static>>,
    /// How far this session has come with the subscriptions.
    pub(super) progress: SubscriptionProgress,
    /// When the limit lets the next subscription through.
    subscribe_at: Option<Instant>,
    pub(super) settled: Settled,
    /// Counts our pings: the payload that tells which of them a pong answers.
    pub(super) pings: u64,
    /// The ping that is unanswered, and when it was queued.
    pub(super) ping: Option<(u64, Instant)>,
    /// A message for the user came with the read at hand: told to the lifecycle once, since all of a read came at one time.
    pub(super) data_came: bool,
    /// Why the session must end although the socket is fine; ends reading.
    pub(super) verdict: Option<DisconnectReason>,
    /// Writing failed. Reading goes on to the end, since what the kernel has acknowledged is ours to deliver.
    pub(super) write_error: Option<io::Error>,
    /// When the current live spell began.
    pub(super) live_since: Option<Instant>,
}

/// What a session is to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that speaks for it.
    Current,
    /// To take over from the current one.
    Relief,
    /// It has been taken over from, and says goodbye.
    Retired,
}

/// When a read returned, and what else is known of where its messages come from.
#[derive(Debug)]
pub(super) struct ReadTime {
    pub(super) returned: Instant,
    /// Lent to each message in turn: what they do not have in common is written anew.
    pub(super) arrival: Arrival,
    pub(super) kernel: Option<KernelStamp>,
}

impl Session {
    /// Before its first dial.
    pub(super) fn new(
        shared: Arc<Shared>,
        lifecycle: Lifecycle,
        pipeline: Box<dyn Pipeline>,
        plan: Arc<Plan>,
        line: u8,
    ) -> Self {
        Self {
            line,
            role: Role::Current,
            relieved: false,
            wants_rotation: false,
            inspects: plan.passive_ping.is_some() || plan.reply_id.is_some() || plan.rotation.notice.is_some(),
            beside: Beside::default(),
            shared,
            lifecycle,
            pipeline,
            plan,
            auth_message: None,
            progress: SubscriptionProgress::default(),
            subscribe_at: None,
            settled: Settled::default(),
            pings: 0,
            ping: None,
            data_came: false,
            verdict: None,
            write_error: None,
            live_since: None,
        }
    }

    /// A session over this end of the pipeline that is to take over from this one.
    pub(super) fn relief(&self, now: Instant, pipeline: Box<dyn Pipeline>, line: u8) -> Self {
        let lifecycle = self.lifecycle.relief(now);
        let mut relief = Self::new(Arc::clone(&self.shared), lifecycle, pipeline, Arc::clone(&self.plan), line);
        relief.role = Role::Relief;
        relief.beside.aside = Some((self.plan.outlet)());
        relief
    }

    /// Takes over from `before`, whose end of the pipeline leads nowhere from now on.
    pub(super) fn take_over(&mut self, before: &mut Self, pipeline: Box<dyn Pipeline>) {
        self.pipeline = pipeline;
        (self.role, before.role) = (Role::Current, Role::Retired);
        self.beside.aside = None;
        self.settled = std::mem::take(&mut before.settled);
        self.settled.begin_session();
        self.lifecycle.take_over();
        self.shared.counters.rotations.add(1);
        lock(&self.shared.subscriptions).adopt(&self.progress);
        let epoch = self.lifecycle.epoch();
        log::info!("client {}: moved to a new connection, epoch {epoch}", self.shared.id);
        self.tell(ConnectionEvent::Rotated { epoch });
    }

    /// Whether what becomes of this session becomes of the client.
    pub(super) fn speaks(&self) -> bool {
        self.role == Role::Current && !self.relieved
    }

    /// One frame came with the read of `time`, and is the end of it or not.
    pub(super) fn on_frame(
        &mut self,
        incoming: Incoming<'_>,
        is_last: bool,
        writer: &mut FrameWriter<'_>,
        stream: &mut Stream,
        time: &mut ReadTime,
    ) {
        match incoming {
            Incoming::Ping => {
                self.shared.counters.pings_answered.add(1);
                self.note_control_frame(time.returned);
            }
            Incoming::Pong(payload) => self.on_pong(payload, time.returned),
            // After a verdict the rest of the read is not for the user.
            Incoming::Message(_) | Incoming::Inflated(..) if self.verdict.is_some() => {}
            Incoming::Message(message) => self.on_message(message, is_last, writer, stream, time),
            Incoming::Inflated(message, took_ns) => {
                time.arrival.trail.inflate(took_ns);
                self.on_message(message, is_last, writer, stream, time);
                time.arrival.trail.inflate(None);
            }
        }
    }

    /// Only the pong of our last ping counts: an unsolicited one proves nothing about the round trip.
    fn on_pong(&mut self, payload: &[u8], received: Instant) {
        if let Some((_, sent)) = self.ping.take_if(|(number, _)| number.to_be_bytes() == payload) {
            if self.plan.measure_round_trips {
                let took = received.saturating_duration_since(sent);
                self.shared.round_trips.record_ns(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
            self.lifecycle.handle_input(received, Input::Ponged);
        }
    }

    fn on_message(
        &mut self,
        message: &WsMessage<'_>,
        is_last: bool,
        writer: &mut FrameWriter<'_>,
        stream: &mut Stream,
        time: &mut ReadTime,
    ) {
        self.shared.counters.messages_received.add(1);
        let authenticating = matches!(self.lifecycle.phase(), Phase::Authenticating { .. });
        if authenticating && self.judge(message, writer, time.returned) {
            return self.shared.counters.auth_messages.add(1);
        }
        if self.inspects && self.inspect(message, writer, time.returned) {
            return;
        }
        self.data_came = true;
        let live = self.lifecycle.session_open();
        // Before acceptance, messages belong to the epoch that the acceptance would begin, also while we say goodbye.
        let epoch = self.lifecycle.epoch() + u64::from(!live);
        let arrival = time.arrival(epoch, is_last);
        let Self { pipeline, shared, settled, write_error, beside, .. } = self;
        let mut outlet = DirectOutlet { shared, settled, write_error, writer, stream, live, beside };
        pipeline.deliver(message, arrival, &mut outlet);
        if arrival.awaits_reply {
            self.take_subscription_replies(time.returned, writer);
        }
    }

    /// Whether the message is for us: a ping, or a reply that somebody waits for.
    fn inspect(&mut self, message: &WsMessage<'_>, writer: &mut FrameWriter<'_>, now: Instant) -> bool {
        if self.answer_passive_ping(message, writer) {
            self.note_message(now);
            self.shared.counters.passive_pings_answered.add(1);
            return true;
        }
        if self.take_reply(message) {
            return true;
        }
        if let Some(notice) = &self.plan.rotation.notice {
            // One that panics has announced nothing.
            self.wants_rotation |= catch_unwind(AssertUnwindSafe(|| notice(message))).unwrap_or(false);
        }
        false
    }

    fn take_subscription_replies(&mut self, now: Instant, writer: &mut FrameWriter<'_>) {
        while let Some(reply) = self.beside.replies.pop() {
            self.on_subscription_reply(reply);
            // What is desired is the same, but the next batch may go.
            self.send_subscriptions(now, writer);
        }
    }

    /// When a read returned, and what its messages have in common.
    pub(super) fn read_time(&self, returned: Instant, trail: Trail, kernel: Option<KernelStamp>) -> ReadTime {
        let (connection, line, awaits_reply) = (self.shared.id, self.line, self.progress.awaits_reply());
        // The epoch is each message's own.
        ReadTime { returned, arrival: Arrival { connection, line, awaits_reply, epoch: 0, trail }, kernel }
    }

    /// Lets the auth provider judge; true where the message was meant for it.
    fn judge(&mut self, message: &WsMessage<'_>, writer: &mut FrameWriter<'_>, now: Instant) -> bool {
        let Some(auth) = &self.plan.providers.auth else { return false };
        let verdict = catch_unwind(AssertUnwindSafe(|| auth.judge_auth_response(message)));
        match verdict {
            Ok(AuthVerdict::Unrelated) => return false,
            Ok(AuthVerdict::Accepted) => {
                self.lifecycle.handle_input(now, Input::Authenticated);
                self.perform_writing(now, writer);
            }
            Ok(AuthVerdict::Reply(reply)) => {
                writer.send(&reply);
                self.note_message(now);
            }
            Ok(AuthVerdict::Rejected(why)) => self.verdict = Some(DisconnectReason::AuthRejected(why)),
            Err(_) => self.verdict = Some(DisconnectReason::Provider("auth provider panicked".to_owned())),
        }
        true
    }

    /// Gives a reply to whoever made the request; true where it is one.
    fn take_reply(&mut self, message: &WsMessage<'_>) -> bool {
        let Some(reply_id) = &self.plan.reply_id else { return false };
        // One that panics has found no id: the message goes on to the router.
        let found = catch_unwind(AssertUnwindSafe(|| reply_id(message))).unwrap_or_else(|_| {
            self.shared.counters.raw_panics.add(1);
            None
        });
        let Some(id) = found else { return false };
        let counters = &self.shared.counters;
        if !self.shared.requests.reply(&id, self.lifecycle.epoch(), message, &counters.replies) {
            counters.replies_unmatched.add(1);
        }
        true
    }

    fn answer_passive_ping(&self, message: &WsMessage<'_>, writer: &mut FrameWriter<'_>) -> bool {
        let Some(detector) = &self.plan.passive_ping else { return false };
        let answered = catch_unwind(AssertUnwindSafe(|| {
            detector.is_ping(message) && {
                writer.send(&detector.pong_for(message));
                true
            }
        }));
        // A detector that panics has not recognised a ping: the message goes on to the router.
        answered.unwrap_or_else(|_| {
            self.shared.counters.raw_panics.add(1);
            self.shared
                .report_fault(|| ClientEvent::ParseFailed { error: "passive ping detector panicked".to_owned() });
            false
        })
    }

    /// Performs the pending actions, all of which put frames on the wire.
    pub(super) fn perform_writing(&mut self, now: Instant, writer: &mut FrameWriter<'_>) {
        while let Some(action) = self.lifecycle.poll_action() {
            self.write_action(now, &action, writer);
        }
        self.publish_state();
    }

    /// Performs one action that puts frames on the wire.
    pub(super) fn write_action(&mut self, now: Instant, action: &Action, writer: &mut FrameWriter<'_>) {
        match action {
            Action::SendAuth => {
                if let Some(message) = self.auth_message.take() {
                    writer.send(&message);
                    self.note_message(now);
                }
            }
            Action::GoLive { epoch } => self.go_live(now, *epoch, writer),
            Action::SendHeartbeat => {
                if let Some(heartbeat) = &self.plan.heartbeat {
                    send_own(heartbeat, writer);
                    self.note_message(now);
                }
            }
            Action::SendPing => {
                self.pings += 1;
                self.ping = Some((self.pings, now));
                writer.ping(&self.pings.to_be_bytes());
                self.note_control_frame(now);
            }
            other => debug_assert!(false, "not an action that writes: {other:?}"),
        }
    }

    fn go_live(&mut self, now: Instant, epoch: u64, writer: &mut FrameWriter<'_>) {
        if self.role == Role::Current {
            log::info!("client {}: live, epoch {epoch}", self.shared.id);
            self.shared.begin_unbroken(epoch);
            if epoch > 1 {
                self.shared.counters.reconnects.add(1);
            }
        }
        self.settled.begin_session();
        self.live_since = Some(now);
        self.tell(ConnectionEvent::Live { epoch });
        self.follow_subscriptions(now, writer);
    }

    /// Sends what is desired now and was not, and what ends what is desired no more, as far as it may go now.
    pub(super) fn follow_subscriptions(&mut self, now: Instant, writer: &mut FrameWriter<'_>) {
        if !matches!(self.lifecycle.phase(), Phase::Live(_)) {
            return;
        }
        self.progress.follow(&lock(&self.shared.subscriptions));
        self.send_subscriptions(now, writer);
    }

    /// Sends what is still to be sent of the subscriptions, as far as it may go now, and lets handles see how far that is.
    fn send_subscriptions(&mut self, now: Instant, writer: &mut FrameWriter<'_>) {
        self.subscribe_at = None;
        while self.progress.has_more() {
            let turn = self.shared.gauge.get().map_or(now, |gauge| gauge.next(now));
            if turn > now {
                self.subscribe_at = Some(turn);
                break;
            }
            let Some(message) = self.progress.next(now) else { break };
            send_own(&message, writer);
            self.note_message(now);
        }
        if self.role == Role::Current {
            self.progress.publish(&mut lock(&self.shared.subscriptions));
        }
    }

    fn note_message(&self, now: Instant) {
        if let Some(gauge) = self.shared.gauge.get() {
            gauge.note_message(now);
        }
    }

    fn note_control_frame(&self, now: Instant) {
        if let Some(gauge) = self.shared.gauge.get() {
            gauge.note_control_frame(now);
        }
    }

    /// When the next subscription may go, where one waits.
    pub(super) fn next_subscription(&self) -> Option<Instant> {
        self.subscribe_at.or_else(|| self.progress.next_due())
    }

    /// The venue has answered a subscription.
    fn on_subscription_reply(&mut self, reply: SubscriptionReply) {
        let answer = self.progress.reply(reply);
        if self.role != Role::Current {
            return;
        }
        self.progress.publish(&mut lock(&self.shared.subscriptions));
        match answer {
            Answer::Accepted { name } => self.shared.report(|| ClientEvent::Subscribed { name }),
            Answer::Rejected { name, why } => {
                log::warn!("client {}: the venue refused a subscription", self.shared.id);
                self.shared.report(|| ClientEvent::SubscriptionFailed { name, why });
            }
            Answer::Nothing => {}
        }
    }

    /// Tells the handlers, each in its own queue, and whoever listens to the client.
    pub(super) fn tell(&mut self, event: ConnectionEvent) {
        if matches!(event, ConnectionEvent::Lost { .. }) {
            self.live_since = None;
            self.progress = SubscriptionProgress::default();
            self.subscribe_at = None;
            if self.speaks() {
                lock(&self.shared.subscriptions).adopt(&self.progress);
            }
        }
        // First the state, or a handler that answers `Live` could be told that nothing is live.
        self.publish_state();
        self.pipeline.event(&event);
        let over = if let ConnectionEvent::Lost { epoch, .. } = &event { Some(*epoch) } else { None };
        if self.speaks() {
            self.shared.report(|| ClientEvent::Connection(event));
        }
        // Whoever hears of it finds the state that it tells of.
        if let Some(epoch) = over {
            self.shared.requests.lost(epoch);
        }
    }

    /// Lets every handle see where the client stands.
    pub(super) fn publish_state(&self) {
        if !self.speaks() {
            return;
        }
        let state = match self.lifecycle.phase() {
            Phase::Dialing { .. }
            | Phase::TlsHandshake { .. }
            | Phase::Upgrading { .. }
            | Phase::Authenticating { .. } => ClientState::Connecting,
            Phase::Live(_) => ClientState::Live,
            Phase::Closing { .. } => ClientState::Closing,
            Phase::Backoff { .. } if self.lifecycle.has_dialed() => ClientState::BackingOff,
            Phase::Backoff { .. } => ClientState::NeverConnected,
            // `Shared::close` publishes the end, with its reason, once the handlers have been told.
            Phase::Closed if self.shared.ending().is_none() => ClientState::Closing,
            Phase::Closed => return,
        };
        self.shared.transition(state, self.lifecycle.epoch());
    }

    /// An RST that a write has met. The kernel tells of it once; the reads behind it end as if a FIN had come.
    pub(super) fn take_reset(&mut self) -> Option<DisconnectReason> {
        let reset = self.write_error.take_if(|error| error.kind() == io::ErrorKind::ConnectionReset);
        reset.map(|error| DisconnectReason::Broken(error.to_string()))
    }

    /// Counts the messages that the kernel has taken by now.
    pub(super) fn account(&mut self, stream: &Stream, out: &mut WriteBuffer) {
        account(&self.shared, &mut self.settled, stream, out);
    }

    /// The session is over: what still waits in `out` never left.
    pub(super) fn drop_unwritten(&mut self, out: &mut WriteBuffer) {
        for sent in out.clear() {
            if let Some(id) = sent.id {
                self.drop_send(id, sent.payload_bytes);
            }
        }
    }

    /// A queued message will not be sent.
    pub(super) fn drop_send(&mut self, id: SendId, payload_bytes: usize) {
        self.shared.drop_send(payload_bytes);
        self.shared.requests.dropped(id);
        self.settled.settle(id, false);
    }
}

impl ReadTime {
    /// Where the next message of the read comes from.
    #[inline]
    fn arrival(&mut self, epoch: u64, is_last: bool) -> &mut Arrival {
        self.arrival.epoch = epoch;
        if let Some(kernel) = self.kernel {
            self.arrival.trail.kernel(kernel, is_last);
        }
        &mut self.arrival
    }
}
