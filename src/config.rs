//! The numbers that govern one connection, with their defaults and the reasons for them.

use std::time::Duration;

/// Deadlines and limits of one client; set by the builder, read by the lifecycle and the transport.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// For one dial: resolve, TCP, TLS and upgrade together. 10 s outlasts three lost SYNs.
    pub(crate) connect_timeout: Duration,
    /// For the venue's answer to the auth message.
    pub(crate) auth_timeout: Duration,
    /// For the venue's Close after ours, at shutdown; 100 ms keeps the whole shutdown under 150 ms.
    pub(crate) close_timeout: Duration,
    pub(crate) liveness: Liveness,
    /// The longest time without a data message; pings of either kind are none.
    pub(crate) data_idle_timeout: Option<Duration>,
    /// A session that lived this long resets the count of failed attempts.
    pub(crate) stable_after: Duration,
    /// Waited once per disconnect, before the strategy's delay.
    pub(crate) reconnection_delay_offset: Duration,
    /// The client's own messages, one each `every`; missed ones are skipped.
    pub(crate) heartbeat_every: Option<Duration>,
    pub(crate) limits: Limits,
}

/// How a dead peer is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// A ping after so much silence; any byte within the timeout proves life.
    OnSilence { after: Duration, timeout: Duration },
    /// A ping at each interval; its pong must come within the timeout.
    Always { every: Duration, timeout: Duration },
}

impl Liveness {
    /// From the last sign of life, or from the last ping, to the next ping.
    pub(crate) fn interval(self) -> Duration {
        match self {
            Self::OnSilence { after, .. } => after,
            Self::Always { every, .. } => every,
        }
    }

    pub(crate) fn timeout(self) -> Duration {
        match self {
            Self::OnSilence { timeout, .. } | Self::Always { timeout, .. } => timeout,
        }
    }
}

/// What a peer may claim of our memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The largest message, fragments summed, in bytes. A venue's snapshot of 5 MB in one frame is real.
    pub(crate) max_message_bytes: u64,
    /// The most that may be queued for writing, in payload bytes: a peer that stopped reading is noticed long before.
    pub(crate) max_queued_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message_bytes: 16 << 20, max_queued_bytes: 4 << 20 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            auth_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_millis(100),
            liveness: Liveness::OnSilence { after: Duration::from_secs(30), timeout: Duration::from_secs(10) },
            data_idle_timeout: None,
            stable_after: Duration::from_secs(10),
            reconnection_delay_offset: Duration::ZERO,
            heartbeat_every: None,
            limits: Limits::default(),
        }
    }
}
