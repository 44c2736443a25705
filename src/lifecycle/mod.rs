//! The life of one client, from the first dial to the last Close, as a pure state machine.
//!
//! It never sees a socket, a clock or a thread: what happened comes in as an [`Input`] with the time, what to do comes out
//! as [`Action`]s. Drain [`poll_action`](Lifecycle::poll_action) before the next input. Invariants: every phase but
//! `Closed` has a deadline; each `GoLive` is followed by exactly one `ReportLost`; `Finish` is the last action.

mod phase;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Settings;
use crate::error::DisconnectReason;
use crate::reconnect::ReconnectionStrategy;

use phase::Live;
pub(crate) use phase::{Action, Input, Phase};

/// One client's lifecycle; see the module.
pub(crate) struct Lifecycle {
    phase: Phase,
    settings: Settings,
    strategy: Arc<dyn ReconnectionStrategy>,
    first_dial: FirstDial,
    actions: VecDeque<Action>,
    /// Counts all dials, so that an answer to an earlier one is known as such.
    attempt: u64,
    /// Failed dials and short sessions in a row.
    failures: usize,
    /// Counts the live spells, from 1; 0 before the first.
    epoch: u64,
    /// A dial has come to something, good or bad.
    has_dialed: bool,
    /// The delay offset is owed: set at a disconnect, spent by the next backoff.
    offset_due: bool,
}

/// What a failure before the first live spell means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstDial {
    /// One attempt, then closed: a caller waits for it.
    Once,
    /// The reconnection strategy goes on.
    Retry,
    /// One attempt, beside a session that is live: any failure closes this one, also once it is live itself.
    Relief,
}

impl Lifecycle {
    /// Starts by dialing.
    pub(crate) fn start(
        now: Instant,
        settings: Settings,
        strategy: Arc<dyn ReconnectionStrategy>,
        first_dial: FirstDial,
    ) -> Self {
        let mut lifecycle = Self {
            phase: Phase::Closed,
            settings,
            strategy,
            first_dial,
            actions: VecDeque::new(),
            attempt: 0,
            failures: 0,
            epoch: 0,
            has_dialed: false,
            offset_due: false,
        };
        lifecycle.dial(now);
        lifecycle
    }

    /// Begins to dial for a session that is to take over from this one, in the next epoch.
    pub(crate) fn relief(&self, now: Instant) -> Self {
        let (settings, strategy) = (self.settings.clone(), Arc::clone(&self.strategy));
        let mut relief = Self::start(now, settings, strategy, FirstDial::Relief);
        relief.epoch = self.epoch;
        relief
    }

    /// The session that it stood by for is over: from now on it dials again by the strategy.
    pub(crate) fn take_over(&mut self) {
        self.first_dial = FirstDial::Retry;
    }

    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Counts the live spells, from 1; 0 before the first.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a dial has come to something, good or bad; false while the first waits for its turn.
    pub(crate) fn has_dialed(&self) -> bool {
        self.has_dialed
    }

    /// The attempt that a connection is waited for.
    pub(crate) fn dialing(&self) -> Option<u64> {
        matches!(self.phase, Phase::Dialing { .. }).then_some(self.attempt)
    }

    /// Whether a session is live, or was and is being closed.
    pub(crate) fn session_open(&self) -> bool {
        matches!(self.phase, Phase::Live(_) | Phase::Closing { live: true, .. })
    }

    /// The next thing to do. Drain it before the next input.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` once closed.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Dialing { deadline }
            | Phase::TlsHandshake { deadline }
            | Phase::Upgrading { deadline }
            | Phase::Authenticating { deadline }
            | Phase::Closing { deadline, .. } => Some(*deadline),
            Phase::Backoff { until } => Some(*until),
            Phase::Live(live) => Some(live.next_deadline()),
            Phase::Closed => None,
        }
    }

    /// Something happened.
    pub(crate) fn handle_input(&mut self, now: Instant, input: Input) {
        debug_assert!(self.actions.is_empty(), "actions were left over from the input before");
        match (&mut self.phase, input) {
            // The hot ones.
            (Phase::Live(live), Input::Received) => live.received(now, self.settings.liveness),
            (Phase::Live(live), Input::Data) => live.data(now, self.settings.data_idle_timeout),
            (Phase::Live(live), Input::Ponged) => live.ponged(),
            (_, Input::Received | Input::Data | Input::Ponged) => {}

            (Phase::Closed, _) => {}
            (_, Input::GiveUp(reason)) => self.finish(reason),

            (Phase::Dialing { .. }, Input::DialFailed { attempt, reason }) if attempt == self.attempt => {
                self.fail(now, reason);
            }
            (Phase::Dialing { deadline }, Input::Connected { attempt, tls }) if attempt == self.attempt => {
                let deadline = *deadline;
                self.has_dialed = true;
                if tls {
                    self.phase = Phase::TlsHandshake { deadline };
                } else {
                    self.begin_upgrade(deadline);
                }
            }
            (Phase::Dialing { .. }, Input::HeldBack { attempt, until }) if attempt == self.attempt => {
                let wait = until.saturating_duration_since(now);
                // Somebody waits for this one attempt, but not for ever.
                if self.is_only_chance() && wait > self.settings.connect_timeout {
                    return self.finish(DisconnectReason::HeldBack(wait));
                }
                self.phase = Phase::Backoff { until };
            }
            // The answer to an earlier dial, or one that came after its deadline.
            (_, Input::DialFailed { .. } | Input::Connected { .. } | Input::HeldBack { .. }) => {}

            (Phase::TlsHandshake { deadline }, Input::Encrypted) => {
                let deadline = *deadline;
                self.begin_upgrade(deadline);
            }
            (Phase::Upgrading { .. }, Input::Upgraded { authenticate: true }) => {
                self.phase = Phase::Authenticating { deadline: later(now, self.settings.auth_timeout) };
                self.actions.push_back(Action::SendAuth);
            }
            (Phase::Upgrading { .. }, Input::Upgraded { authenticate: false })
            | (Phase::Authenticating { .. }, Input::Authenticated) => self.go_live(now),
            (_, Input::Encrypted | Input::Upgraded { .. } | Input::Authenticated) => {
                debug_assert!(matches!(self.phase, Phase::Closing { .. }), "progress in the wrong phase");
            }

            (Phase::Backoff { .. } | Phase::Dialing { .. }, Input::Disconnected(_)) => {
                debug_assert!(false, "no link to lose in this phase");
            }
            (Phase::Closing { .. }, Input::Disconnected(_)) => self.finish(DisconnectReason::Shutdown),
            (_, Input::Disconnected(reason)) => self.fail(now, reason),

            (Phase::Closing { .. }, Input::Shutdown) => {}
            (Phase::Live(_), Input::Shutdown) => self.begin_close(now, true),
            (Phase::Authenticating { .. }, Input::Shutdown) => self.begin_close(now, false),
            (_, Input::Shutdown) => self.finish(DisconnectReason::Shutdown),
        }
    }

    /// The deadline of [`poll_timeout`](Self::poll_timeout) may have passed; does nothing where it has not.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        debug_assert!(self.actions.is_empty(), "actions were left over from the input before");
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.phase {
            Phase::Dialing { .. } => self.fail(now, DisconnectReason::Deadline("dialing")),
            Phase::TlsHandshake { .. } => self.fail(now, DisconnectReason::Deadline("in the TLS handshake")),
            Phase::Upgrading { .. } => self.fail(now, DisconnectReason::Deadline("upgrading")),
            Phase::Authenticating { .. } => self.fail(now, DisconnectReason::Deadline("authenticating")),
            Phase::Closing { .. } => self.finish(DisconnectReason::Shutdown),
            Phase::Backoff { .. } => self.dial(now),
            Phase::Live(live) => {
                if let Some(reason) = live.overdue(now) {
                    return self.fail(now, reason);
                }
                if live.take_heartbeat(now, self.settings.heartbeat_every) {
                    self.actions.push_back(Action::SendHeartbeat);
                }
                if live.take_ping(now, self.settings.liveness) {
                    self.actions.push_back(Action::SendPing);
                }
            }
            Phase::Closed => {}
        }
    }

    fn dial(&mut self, now: Instant) {
        self.attempt += 1;
        let deadline = later(now, self.settings.connect_timeout);
        self.phase = Phase::Dialing { deadline };
        self.actions.push_back(Action::Dial { attempt: self.attempt, deadline });
    }

    fn begin_upgrade(&mut self, deadline: Instant) {
        self.phase = Phase::Upgrading { deadline };
        self.actions.push_back(Action::SendUpgrade);
    }

    fn go_live(&mut self, now: Instant) {
        self.epoch += 1;
        self.phase = Phase::Live(Live::new(now, &self.settings));
        self.actions.push_back(Action::GoLive { epoch: self.epoch });
    }

    fn begin_close(&mut self, now: Instant, live: bool) {
        self.phase = Phase::Closing { deadline: later(now, self.settings.close_timeout), live };
        self.actions.push_back(Action::SendClose);
    }

    /// The dial or the session is over: what follows is decided here and nowhere else.
    fn fail(&mut self, now: Instant, reason: DisconnectReason) {
        self.has_dialed = true;
        let ever_live = self.epoch > 0;
        if let Phase::Live(live) = &self.phase {
            if live.lived(now) >= self.settings.stable_after {
                self.failures = 0;
            }
            self.offset_due = true;
        }
        if is_fatal(&reason, ever_live) || self.is_only_chance() {
            return self.finish(reason);
        }
        // What we have ended ourselves is no failure.
        let replaced = reason == DisconnectReason::Replaced;
        let Some(delay) = (if replaced { Some(Duration::ZERO) } else { self.next_delay() }) else {
            return self.finish(reason);
        };
        let mut retry_in = delay.max(least_delay(&reason));
        if std::mem::take(&mut self.offset_due) {
            retry_in = retry_in.saturating_add(self.settings.reconnection_delay_offset);
        }
        self.failures += usize::from(!replaced);
        self.actions.push_back(Action::DropLink);
        if self.session_open() {
            self.actions.push_back(Action::ReportLost { epoch: self.epoch, reason: reason.clone() });
        }
        self.actions.push_back(Action::ReportRetry { failures: self.failures, reason, retry_in });
        self.phase = Phase::Backoff { until: later(now, retry_in) };
    }

    /// Whether there is no other dial, should this one fail.
    fn is_only_chance(&self) -> bool {
        match self.first_dial {
            FirstDial::Once => self.epoch == 0,
            FirstDial::Retry => false,
            FirstDial::Relief => true,
        }
    }

    /// Asks the user's strategy. One that panics is taken for one that waits long: the loop serves other clients, too.
    fn next_delay(&self) -> Option<Duration> {
        let asked = catch_unwind(AssertUnwindSafe(|| self.strategy.next_delay(self.failures)));
        asked.unwrap_or(Some(REJECTED_DELAY))
    }

    fn finish(&mut self, reason: DisconnectReason) {
        self.actions.push_back(Action::DropLink);
        if self.session_open() {
            self.actions.push_back(Action::ReportLost { epoch: self.epoch, reason: reason.clone() });
        }
        self.phase = Phase::Closed;
        self.actions.push_back(Action::Finish { reason });
    }
}

/// Nothing that a new dial could mend. 401 and 403 are fatal only before the first live spell: later they may be the venue's own
/// trouble, and a trading client must not give up on that.
fn is_fatal(reason: &DisconnectReason, ever_live: bool) -> bool {
    match reason {
        DisconnectReason::InvalidUrl(_) => true,
        DisconnectReason::UpgradeRejected { status: 401 | 403, .. } => !ever_live,
        _ => false,
    }
}

/// The least time to stay away: as long as the venue asked for, or long where it threw us out.
fn least_delay(reason: &DisconnectReason) -> Duration {
    match reason {
        DisconnectReason::UpgradeRejected { retry_after: Some(after), .. } => (*after).min(LONGEST_RETRY_AFTER),
        DisconnectReason::UpgradeRejected { status: 401 | 403, .. } | DisconnectReason::AuthRejected(_) => {
            REJECTED_DELAY
        }
        DisconnectReason::ClosedByPeer { code: Some(1008 | 4000..=4999), .. } => REJECTED_DELAY,
        _ => Duration::ZERO,
    }
}

/// An instant that far away; one that the clock cannot name is as good as never.
fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now + NEVER)
}

/// After a rejection, asking again soon is how accounts get blocked.
const REJECTED_DELAY: Duration = Duration::from_secs(60);
/// A venue's `Retry-After` is honoured up to here, in case it is nonsense.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
