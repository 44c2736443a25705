//! The words of the lifecycle: its phases, what can happen, and what is to be done.

use std::time::{Duration, Instant};

use crate::config::{Liveness, Settings};
use crate::error::DisconnectReason;

use super::later;

/// Where a client stands. Each variant but `Closed` carries the deadline that ends it.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Providers asked, name resolved, TCP connecting.
    Dialing { deadline: Instant },
    /// TCP connected, TLS not yet.
    TlsHandshake { deadline: Instant },
    /// The upgrade request is out.
    Upgrading { deadline: Instant },
    /// The auth message is out; subscriptions wait.
    Authenticating { deadline: Instant },
    /// Messages flow.
    Live(Live),
    /// Our Close is out; `live`: handlers have yet to be told that the session is lost.
    Closing { deadline: Instant, live: bool },
    /// Waiting for the next dial.
    Backoff { until: Instant },
    /// Over.
    Closed,
}

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// The TCP connection of this dial stands.
    Connected { attempt: u64, tls: bool },
    /// This dial failed before a connection stood.
    DialFailed { attempt: u64, reason: DisconnectReason },
    /// This dial is not to be made before then: nobody has failed.
    HeldBack { attempt: u64, until: Instant },
    /// The TLS handshake is done.
    Encrypted,
    /// The venue agreed to speak WebSocket.
    Upgraded { authenticate: bool },
    /// The venue accepted our authentication.
    Authenticated,
    /// Bytes came in.
    Received,
    /// The pong of our last ping came in.
    Ponged,
    /// A data message came in.
    Data,
    /// The connection is over, and everything that had arrived was delivered.
    Disconnected(DisconnectReason),
    /// The user wants to stop.
    Shutdown,
    /// Nothing that a new dial could mend.
    GiveUp(DisconnectReason),
}

/// Something to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask the providers, resolve, connect; answer with the attempt's number.
    Dial { attempt: u64, deadline: Instant },
    /// Send the upgrade request.
    SendUpgrade,
    /// Send the auth message.
    SendAuth,
    /// Tell the handlers, then send the subscriptions.
    GoLive { epoch: u64 },
    /// Send the user's heartbeat.
    SendHeartbeat,
    /// Send a ping frame.
    SendPing,
    /// Send Close 1000.
    SendClose,
    /// Let go of the socket, if there is one.
    DropLink,
    /// Tell the handlers that the session is over.
    ReportLost { epoch: u64, reason: DisconnectReason },
    /// Tell the client that a dial follows after `retry_in`.
    ReportRetry { failures: usize, reason: DisconnectReason, retry_in: Duration },
    /// The last action: nothing follows.
    Finish { reason: DisconnectReason },
}

/// The timers of a live session.
#[derive(Debug)]
pub(crate) struct Live {
    since: Instant,
    /// When a ping is due.
    ping_at: Instant,
    /// When the peer counts as dead; set while a ping is unanswered.
    pong_by: Option<Instant>,
    /// When a feed without data counts as dead.
    data_by: Option<Instant>,
    heartbeat_at: Option<Instant>,
}

impl Live {
    pub(super) fn new(now: Instant, settings: &Settings) -> Self {
        Self {
            since: now,
            ping_at: later(now, settings.liveness.interval()),
            pong_by: None,
            data_by: settings.data_idle_timeout.map(|timeout| later(now, timeout)),
            heartbeat_at: settings.heartbeat_every.map(|every| later(now, every)),
        }
    }

    pub(super) fn next_deadline(&self) -> Instant {
        // While a ping is unanswered no other is due.
        let liveness = self.pong_by.unwrap_or(self.ping_at);
        [self.data_by, self.heartbeat_at].into_iter().flatten().fold(liveness, Instant::min)
    }

    pub(super) fn lived(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Bytes came: a sign of life, where any will do.
    pub(super) fn received(&mut self, now: Instant, liveness: Liveness) {
        if let Liveness::OnSilence { after, .. } = liveness {
            self.pong_by = None;
            self.ping_at = later(now, after);
        }
    }

    pub(super) fn ponged(&mut self) {
        self.pong_by = None;
    }

    pub(super) fn data(&mut self, now: Instant, timeout: Option<Duration>) {
        self.data_by = timeout.map(|timeout| later(now, timeout));
    }

    /// Why the session is dead, if it is.
    pub(super) fn overdue(&self, now: Instant) -> Option<DisconnectReason> {
        if self.pong_by.is_some_and(|by| now >= by) {
            return Some(DisconnectReason::PongTimeout);
        }
        self.data_by.is_some_and(|by| now >= by).then_some(DisconnectReason::DataIdle)
    }

    /// Whether a ping is due; takes it, so that it is due once. Like a heartbeat, one that was missed is skipped.
    pub(super) fn take_ping(&mut self, now: Instant, liveness: Liveness) -> bool {
        let due = self.pong_by.is_none() && now >= self.ping_at;
        if due {
            self.pong_by = Some(later(now, liveness.timeout()));
            self.ping_at = next_tick(self.ping_at, now, liveness.interval());
        }
        due
    }

    /// Whether a heartbeat is due; ticks that were missed are skipped, so a late one is not followed by a burst.
    pub(super) fn take_heartbeat(&mut self, now: Instant, every: Option<Duration>) -> bool {
        let (Some(at), Some(every)) = (self.heartbeat_at, every) else { return false };
        let due = now >= at;
        if due {
            self.heartbeat_at = Some(next_tick(at, now, every));
        }
        due
    }
}

/// The first tick after `now` of a beat that had one at `at`.
fn next_tick(at: Instant, now: Instant, every: Duration) -> Instant {
    let missed = now.saturating_duration_since(at).as_nanos() / every.as_nanos().max(1);
    let skip = u32::try_from(missed + 1).ok().and_then(|ticks| every.checked_mul(ticks));
    skip.map_or_else(|| later(now, every), |skip| later(at, skip))
}
