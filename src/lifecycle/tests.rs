//! The lifecycle in virtual time: stories for its rules, random walks for its invariants.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, FirstDial, Input, Lifecycle, Phase};
use crate::config::{Liveness, Settings};
use crate::error::DisconnectReason;
use crate::reconnect::{ExponentialBackoff, FixedDelay, NeverReconnect, ReconnectionStrategy};
use crate::tests_random::Random;

/// A lifecycle with a clock that only moves when told to.
struct Story {
    lifecycle: Lifecycle,
    now: Instant,
    attempt: u64,
}

impl Story {
    fn with(settings: Settings, strategy: impl ReconnectionStrategy, first_dial: FirstDial) -> Self {
        let now = Instant::now();
        let lifecycle = Lifecycle::start(now, settings, Arc::new(strategy), first_dial);
        let mut story = Self { lifecycle, now, attempt: 0 };
        story.drain();
        story
    }

    fn retrying() -> Self {
        let strategy = ExponentialBackoff::new(secs(1), secs(60), None);
        Self::with(Settings::default(), strategy, FirstDial::Retry)
    }

    fn drain(&mut self) -> Vec<Action> {
        let actions: Vec<_> = std::iter::from_fn(|| self.lifecycle.poll_action()).collect();
        for action in &actions {
            if let Action::Dial { attempt, .. } = action {
                self.attempt = *attempt;
            }
        }
        actions
    }

    fn input(&mut self, input: Input) -> Vec<Action> {
        self.lifecycle.handle_input(self.now, input);
        self.drain()
    }

    fn wait(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.lifecycle.handle_timeout(self.now);
        self.drain()
    }

    fn connect(&mut self) -> Vec<Action> {
        self.input(Input::Connected { attempt: self.attempt, tls: false })
    }

    fn go_live(&mut self) {
        assert_eq!(self.connect(), [Action::SendUpgrade]);
        let actions = self.input(Input::Upgraded { authenticate: false });
        assert!(matches!(actions[..], [Action::GoLive { .. }]), "{actions:?}");
    }

    fn lose(&mut self) -> Duration {
        retry_in(&self.input(Input::Disconnected(DisconnectReason::EndOfStream)))
    }
}

/// No ping within any test.
fn quiet() -> Settings {
    let liveness = Liveness::OnSilence { after: secs(100_000), timeout: secs(1) };
    Settings { liveness, ..Settings::default() }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn retry_in(actions: &[Action]) -> Duration {
    match actions.last() {
        Some(Action::ReportRetry { retry_in, .. }) => *retry_in,
        other => panic!("expected a retry, got {other:?}"),
    }
}

fn finished(actions: &[Action]) -> &DisconnectReason {
    match actions.last() {
        Some(Action::Finish { reason }) => reason,
        other => panic!("expected the end, got {other:?}"),
    }
}

#[test]
fn a_wss_session_with_auth_goes_through_every_phase_in_order() {
    let mut story = Story::retrying();
    assert_eq!(story.input(Input::Connected { attempt: 1, tls: true }), []);
    assert_eq!(story.input(Input::Encrypted), [Action::SendUpgrade]);
    assert_eq!(story.input(Input::Upgraded { authenticate: true }), [Action::SendAuth]);
    assert_eq!(story.input(Input::Authenticated), [Action::GoLive { epoch: 1 }]);
}

#[test]
fn a_lost_session_is_reported_once_then_dialed_again_in_a_new_epoch() {
    let mut story = Story::retrying();
    story.go_live();
    let reason = DisconnectReason::EndOfStream;
    let actions = story.input(Input::Disconnected(reason.clone()));
    assert_eq!(
        actions,
        [
            Action::DropLink,
            Action::ReportLost { epoch: 1, reason: reason.clone() },
            Action::ReportRetry { failures: 1, reason, retry_in: secs(1) },
        ]
    );
    assert_eq!(story.wait(Duration::from_millis(999)), []);
    assert!(matches!(story.wait(Duration::from_millis(1))[..], [Action::Dial { attempt: 2, .. }]));
    story.go_live();
    assert_eq!(story.lifecycle.epoch(), 2);
}

#[test]
fn silence_in_each_connecting_phase_meets_its_deadline() {
    let settings = Settings::default();
    let mut story = Story::retrying();
    assert_eq!(story.wait(settings.connect_timeout - Duration::from_nanos(1)), []);
    assert!(retry_in(&story.wait(Duration::from_nanos(1))) == secs(1));

    let mut story = Story::retrying();
    story.input(Input::Connected { attempt: 1, tls: true });
    story.wait(secs(4));
    story.input(Input::Encrypted);
    // One deadline covers dial, TLS and upgrade together.
    assert_eq!(story.wait(secs(6)).len(), 2);

    let mut story = Story::retrying();
    story.connect();
    story.input(Input::Upgraded { authenticate: true });
    let actions = story.wait(settings.auth_timeout);
    assert!(matches!(&actions[1], Action::ReportRetry { reason: DisconnectReason::Deadline("authenticating"), .. }));
}

#[test]
fn delays_grow_over_short_sessions_and_start_anew_after_a_stable_one() {
    let mut story = Story::retrying();
    for expected in [1, 2, 4, 8] {
        story.go_live();
        story.now += secs(9);
        story.lifecycle.handle_input(story.now, Input::Received);
        assert_eq!(story.lose(), secs(expected));
        story.wait(secs(expected));
    }
    story.go_live();
    story.now += secs(10);
    assert_eq!(story.lose(), secs(1));
}

#[test]
fn the_delay_offset_is_waited_once_per_disconnect() {
    let settings = Settings { reconnection_delay_offset: secs(2), ..Settings::default() };
    let mut story = Story::with(settings, FixedDelay::new(secs(5), None), FirstDial::Retry);
    story.go_live();
    assert_eq!(story.lose(), secs(7));
    story.wait(secs(7));
    let failed = Input::DialFailed { attempt: 2, reason: DisconnectReason::Connect("refused".into()) };
    assert_eq!(retry_in(&story.input(failed)), secs(5));
}

#[test]
fn a_first_dial_that_fails_is_the_end_for_a_waiting_caller() {
    let mut story = Story::with(Settings::default(), FixedDelay::new(secs(1), None), FirstDial::Once);
    let reason = DisconnectReason::Connect("refused".into());
    let actions = story.input(Input::DialFailed { attempt: 1, reason: reason.clone() });
    assert_eq!(actions, [Action::DropLink, Action::Finish { reason }]);
    assert_eq!(story.lifecycle.poll_timeout(), None);
}

#[test]
fn a_late_answer_cannot_revive_a_dead_attempt() {
    let mut story = Story::retrying();
    story.wait(secs(10));
    story.wait(secs(1));
    assert_eq!(story.attempt, 2);
    assert_eq!(story.input(Input::Connected { attempt: 1, tls: false }), []);
    let stale = Input::DialFailed { attempt: 1, reason: DisconnectReason::Resolve("late".into()) };
    assert_eq!(story.input(stale), []);
    assert!(matches!(story.lifecycle.phase(), Phase::Dialing { .. }));
}

#[test]
fn rejections_are_fatal_at_first_and_slow_later() {
    let rejected = |status| DisconnectReason::UpgradeRejected { status, retry_after: None };
    let mut story = Story::retrying();
    story.connect();
    assert_eq!(*finished(&story.input(Input::Disconnected(rejected(403)))), rejected(403));

    let mut story = Story::retrying();
    story.go_live();
    story.lose();
    story.wait(secs(1));
    story.connect();
    assert_eq!(retry_in(&story.input(Input::Disconnected(rejected(401)))), secs(60));

    let mut story = Story::retrying();
    story.go_live();
    let thrown_out = DisconnectReason::ClosedByPeer { code: Some(4001), reason: String::new() };
    assert_eq!(retry_in(&story.input(Input::Disconnected(thrown_out))), secs(60));
}

#[test]
fn retry_after_is_honoured() {
    let mut story = Story::retrying();
    story.connect();
    let busy = DisconnectReason::UpgradeRejected { status: 429, retry_after: Some(secs(17)) };
    assert_eq!(retry_in(&story.input(Input::Disconnected(busy))), secs(17));
}

#[test]
fn a_strategy_that_gives_up_ends_the_client() {
    let mut story = Story::with(Settings::default(), NeverReconnect, FirstDial::Retry);
    story.go_live();
    let actions = story.input(Input::Disconnected(DisconnectReason::EndOfStream));
    assert!(matches!(actions[..], [Action::DropLink, Action::ReportLost { .. }, Action::Finish { .. }]));
}

#[test]
fn silence_is_pinged_and_then_given_up() {
    let mut story = Story::retrying();
    story.go_live();
    story.wait(secs(29));
    story.input(Input::Received);
    assert_eq!(story.wait(secs(29)), [], "any byte is a sign of life");
    assert_eq!(story.wait(secs(1)), [Action::SendPing]);
    story.now += secs(10) - Duration::from_millis(1);
    story.input(Input::Received);
    assert_eq!(story.wait(secs(1)), [], "the pong came in time");
    assert_eq!(story.wait(secs(29)), [Action::SendPing]);
    let actions = story.wait(secs(10));
    assert!(matches!(&actions[1], Action::ReportLost { reason: DisconnectReason::PongTimeout, .. }));
}

#[test]
fn a_ping_that_was_asked_for_goes_out_on_a_busy_feed_and_wants_its_own_pong() {
    let liveness = Liveness::Always { every: secs(5), timeout: secs(2) };
    let mut story = Story::with(Settings { liveness, ..Settings::default() }, NeverReconnect, FirstDial::Retry);
    story.go_live();
    story.now += secs(4);
    story.input(Input::Received);
    assert_eq!(story.wait(secs(1)), [Action::SendPing]);
    story.input(Input::Ponged);
    assert_eq!(story.wait(secs(4)), []);
    assert_eq!(story.wait(secs(1)), [Action::SendPing], "the beat is kept");
    story.input(Input::Received);
    let actions = story.wait(secs(2));
    assert!(
        matches!(&actions[1], Action::ReportLost { reason: DisconnectReason::PongTimeout, .. }),
        "bytes are no pong"
    );
}

#[test]
fn a_process_that_was_stopped_sends_one_ping_and_one_heartbeat_not_a_burst() {
    let liveness = Liveness::Always { every: secs(5), timeout: secs(2) };
    let settings = Settings { liveness, heartbeat_every: Some(secs(1)), ..Settings::default() };
    let mut story = Story::with(settings, NeverReconnect, FirstDial::Retry);
    story.go_live();
    assert_eq!(story.wait(secs(63)), [Action::SendHeartbeat, Action::SendPing]);
    story.input(Input::Ponged);
    assert_eq!(story.wait(Duration::ZERO), []);
}

#[test]
fn a_feed_without_data_is_given_up_whatever_else_it_says() {
    let settings = Settings { data_idle_timeout: Some(secs(8)), ..Settings::default() };
    let mut story = Story::with(settings, NeverReconnect, FirstDial::Retry);
    story.go_live();
    story.wait(secs(7));
    story.input(Input::Data);
    story.wait(secs(7));
    story.input(Input::Received);
    story.input(Input::Ponged);
    let actions = story.wait(secs(1));
    assert!(matches!(&actions[1], Action::ReportLost { reason: DisconnectReason::DataIdle, .. }));
}

#[test]
fn heartbeats_that_were_missed_are_skipped() {
    let settings = Settings { heartbeat_every: Some(secs(5)), ..quiet() };
    let mut story = Story::with(settings, NeverReconnect, FirstDial::Retry);
    story.go_live();
    assert_eq!(story.wait(secs(5)), [Action::SendHeartbeat]);
    assert_eq!(story.wait(secs(18)), [Action::SendHeartbeat], "three ticks passed, one is sent");
    assert_eq!(story.wait(secs(1)), []);
    assert_eq!(story.wait(secs(1)), [Action::SendHeartbeat], "and the beat is kept");
}

#[test]
fn shutdown_of_a_live_session_says_goodbye_and_ends_at_the_answer_or_the_deadline() {
    let mut story = Story::retrying();
    story.go_live();
    assert_eq!(story.input(Input::Shutdown), [Action::SendClose]);
    assert_eq!(story.input(Input::Shutdown), []);
    let answered = DisconnectReason::ClosedByPeer { code: Some(1000), reason: String::new() };
    let actions = story.input(Input::Disconnected(answered));
    let lost = Action::ReportLost { epoch: 1, reason: DisconnectReason::Shutdown };
    assert_eq!(actions, [Action::DropLink, lost, Action::Finish { reason: DisconnectReason::Shutdown }]);

    let mut story = Story::retrying();
    story.go_live();
    story.input(Input::Shutdown);
    assert_eq!(story.wait(Duration::from_millis(99)), []);
    assert_eq!(*finished(&story.wait(Duration::from_millis(1))), DisconnectReason::Shutdown);
}

#[test]
fn shutdown_before_a_session_ends_at_once() {
    let mut story = Story::retrying();
    assert_eq!(story.input(Input::Shutdown).len(), 2);
    let mut story = Story::retrying();
    story.go_live();
    story.lose();
    let reason = DisconnectReason::Shutdown;
    assert_eq!(story.input(Input::Shutdown), [Action::DropLink, Action::Finish { reason }]);
}

#[test]
fn one_that_is_held_back_has_not_failed_and_dials_when_its_turn_comes() {
    let mut story = Story::retrying();
    let until = story.now + secs(500);
    assert_eq!(story.input(Input::HeldBack { attempt: 1, until }), []);
    assert!(!story.lifecycle.has_dialed());
    assert_eq!(story.wait(secs(499)), []);
    assert!(matches!(story.wait(secs(1))[..], [Action::Dial { attempt: 2, .. }]));
    let failed = story.input(Input::DialFailed { attempt: 2, reason: DisconnectReason::Connect("refused".into()) });
    assert_eq!(retry_in(&failed), secs(1), "the first failure");
    assert!(story.lifecycle.has_dialed());
}

#[test]
fn one_whose_only_dial_would_have_to_wait_for_long_says_so_but_later_dials_wait() {
    let mut story = Story::with(quiet(), FixedDelay::new(secs(1), None), FirstDial::Once);
    let until = story.now + secs(500);
    let mut impatient = Story::with(quiet(), FixedDelay::new(secs(1), None), FirstDial::Once);
    let refused = impatient.input(Input::HeldBack { attempt: 1, until: impatient.now + secs(500) });
    assert_eq!(*finished(&refused), DisconnectReason::HeldBack(secs(500)));
    story.go_live();
    story.lose();
    story.wait(secs(1));
    assert_eq!(story.input(Input::HeldBack { attempt: 2, until }), []);
}

#[test]
fn a_relief_goes_on_in_the_next_epoch_and_ends_at_its_first_failure_until_it_has_taken_over() {
    let mut story = Story::retrying();
    story.go_live();
    let relieve = |story: &Story| {
        let mut relief = Story { lifecycle: story.lifecycle.relief(story.now), now: story.now, attempt: 0 };
        relief.drain();
        relief.go_live();
        assert_eq!(relief.lifecycle.epoch(), 2);
        relief
    };
    let mut lost = relieve(&story);
    assert_eq!(
        *finished(&lost.input(Input::Disconnected(DisconnectReason::EndOfStream))),
        DisconnectReason::EndOfStream
    );
    let mut taken_over = relieve(&story);
    taken_over.lifecycle.take_over();
    assert_eq!(taken_over.lose(), secs(1));
}

#[test]
fn what_was_replaced_is_dialed_at_once_and_what_is_given_up_never() {
    let mut story = Story::with(quiet(), NeverReconnect, FirstDial::Retry);
    story.go_live();
    assert_eq!(retry_in(&story.input(Input::Disconnected(DisconnectReason::Replaced))), Duration::ZERO);
    assert!(matches!(story.wait(Duration::ZERO)[..], [Action::Dial { .. }]));
    let reason = DisconnectReason::NotSpliced("no numbers".into());
    assert_eq!(*finished(&story.input(Input::GiveUp(reason.clone()))), reason);
}

fn reason(random: &mut Random) -> DisconnectReason {
    match random.below(8) {
        0 => DisconnectReason::UpgradeRejected { status: 401, retry_after: None },
        1 => DisconnectReason::UpgradeRejected { status: 503, retry_after: Some(secs(random.below(9999))) },
        2 => DisconnectReason::ClosedByPeer { code: Some(1008), reason: String::new() },
        3 => DisconnectReason::AuthRejected("no".into()),
        4 => DisconnectReason::ProtocolViolation("mask".into()),
        5 if random.below(20) == 0 => DisconnectReason::InvalidUrl("x".into()),
        _ => DisconnectReason::EndOfStream,
    }
}

/// An input that can happen in this phase, or a stale answer, which can happen in any.
fn input(random: &mut Random, phase: &Phase, attempt: u64) -> Input {
    if random.below(12) == 0 {
        return Input::Connected { attempt: attempt - 1, tls: true };
    }
    match (phase, random.below(6)) {
        (_, 0) => match random.below(3) {
            0 => Input::Data,
            1 => Input::Ponged,
            _ => Input::Received,
        },
        (_, 1) if random.below(10) == 0 => Input::Shutdown,
        (_, 1) if random.below(30) == 0 => Input::GiveUp(reason(random)),
        (Phase::Dialing { deadline }, 1) => Input::HeldBack { attempt, until: *deadline + secs(random.below(9)) },
        (Phase::Dialing { .. }, 2) => Input::DialFailed { attempt, reason: reason(random) },
        (Phase::Dialing { .. }, _) => Input::Connected { attempt, tls: random.below(2) == 0 },
        (Phase::Backoff { .. } | Phase::Closed, _) => Input::Received,
        (_, 2) => Input::Disconnected(reason(random)),
        (Phase::TlsHandshake { .. }, _) => Input::Encrypted,
        (Phase::Upgrading { .. }, _) => Input::Upgraded { authenticate: random.below(2) == 0 },
        (Phase::Authenticating { .. }, _) => Input::Authenticated,
        (Phase::Live(_) | Phase::Closing { .. }, _) => Input::Received,
    }
}

/// What an observer of the actions knows; it must never be surprised.
#[derive(Default)]
struct Observer {
    live: Option<u64>,
    last_epoch: u64,
    linked: bool,
    finished: bool,
}

impl Observer {
    fn see(&mut self, action: &Action) {
        assert!(!self.finished, "an action after the last one");
        match action {
            Action::Dial { .. } => assert!(!self.linked, "a dial while a link stands"),
            Action::SendUpgrade => self.linked = true,
            Action::SendAuth | Action::SendHeartbeat | Action::SendPing | Action::SendClose => {
                assert!(self.linked, "a frame without a link");
            }
            Action::GoLive { epoch } => {
                assert!(self.linked && self.live.is_none(), "live twice, or without a link");
                assert_eq!(*epoch, self.last_epoch + 1, "an epoch was left out");
                self.live = Some(*epoch);
                self.last_epoch = *epoch;
            }
            Action::DropLink => self.linked = false,
            Action::ReportLost { epoch, .. } => assert_eq!(self.live.take(), Some(*epoch), "lost what was not live"),
            Action::ReportRetry { retry_in, .. } => {
                assert!(self.live.is_none(), "a retry of a session that is still live");
                assert!(*retry_in <= secs(3600) + secs(60));
            }
            Action::Finish { .. } => {
                assert!(self.live.is_none() && !self.linked, "finished with something left open");
                self.finished = true;
            }
        }
    }
}

fn walk(seed: u64) {
    let mut random = Random(seed);
    let settings = Settings {
        heartbeat_every: (random.below(2) == 0).then(|| secs(1 + random.below(20))),
        reconnection_delay_offset: secs(random.below(3)),
        data_idle_timeout: (random.below(3) == 0).then(|| secs(1 + random.below(40))),
        liveness: if random.below(2) == 0 {
            Settings::default().liveness
        } else {
            Liveness::Always { every: secs(1 + random.below(30)), timeout: secs(1 + random.below(30)) }
        },
        ..Settings::default()
    };
    let first_dial = match random.below(5) {
        0 => FirstDial::Relief,
        1 | 2 => FirstDial::Once,
        _ => FirstDial::Retry,
    };
    let max_attempts = (random.below(2) == 0).then_some(3);
    let strategy = ExponentialBackoff::new(secs(1), secs(60), max_attempts).jitter(0.1);
    let mut now = Instant::now();
    let mut lifecycle = Lifecycle::start(now, settings, Arc::new(strategy), first_dial);
    let (mut observer, mut attempt) = (Observer::default(), 0);
    for _ in 0..40 {
        while let Some(action) = lifecycle.poll_action() {
            observer.see(&action);
            if let Action::Dial { attempt: number, deadline } = action {
                assert!(number == attempt + 1 && deadline > now);
                attempt = number;
            }
        }
        let closed = matches!(lifecycle.phase(), Phase::Closed);
        assert_eq!(lifecycle.poll_timeout().is_none(), closed, "every phase but Closed has a deadline");
        assert_eq!(observer.finished, closed);
        match random.below(4) {
            0 => {
                now = lifecycle.poll_timeout().unwrap_or(now).max(now);
                lifecycle.handle_timeout(now);
            }
            1 => {
                now += Duration::from_millis(random.below(30_000));
                lifecycle.handle_timeout(now);
            }
            _ => {
                let input = input(&mut random, lifecycle.phase(), attempt);
                lifecycle.handle_input(now, input);
            }
        }
    }
}

#[test]
fn a_hundred_thousand_random_walks_keep_every_invariant() {
    let base = RandomState::new().hash_one("lifecycle");
    println!("random walks from seed {base}; a failing walk names its own");
    for step in 0..100_000u64 {
        let seed = base.wrapping_add(step);
        if let Err(panic) = std::panic::catch_unwind(|| walk(seed)) {
            println!("walk({seed}) failed");
            std::panic::resume_unwind(panic);
        }
    }
}
