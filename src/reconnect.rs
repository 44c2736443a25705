//! How long to wait before the next dial: the trait and its built-ins.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// Says how long to wait before each dial.
pub trait ReconnectionStrategy: Send + Sync + 'static {
    /// The wait before the next dial, after `attempt` failures in a row (from 0); `None` gives up for good.
    fn next_delay(&self, attempt: usize) -> Option<Duration>;
}

/// Doubles the delay at each failure, up to a maximum.
#[derive(Debug, Clone)]
pub struct ExponentialBackoff {
    initial: Duration,
    max: Duration,
    max_attempts: Option<usize>,
    jitter: f64,
    random: RandomState,
}

impl ExponentialBackoff {
    /// `initial`, twice that, four times that … never more than `max`; gives up after `max_attempts`, or never.
    pub fn new(initial: Duration, max: Duration, max_attempts: Option<usize>) -> Self {
        Self { initial, max, max_attempts, jitter: 0.0, random: RandomState::new() }
    }

    /// Spreads each delay at random by up to this fraction, down and up, so that many clients which lost one server
    /// together do not come back together. Clamped to `0.0..=0.14`: above that, delays would no longer grow by 1.5 each
    /// time. A jittered delay is never above the maximum.
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.jitter = if fraction.is_finite() { fraction.clamp(0.0, 0.14) } else { 0.0 };
        self
    }
}

impl Default for ExponentialBackoff {
    /// 1 s, 2 s, 4 s … 60 s, for ever, each spread by 10 %.
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60), None).jitter(0.1)
    }
}

impl ReconnectionStrategy for ExponentialBackoff {
    fn next_delay(&self, attempt: usize) -> Option<Duration> {
        if self.max_attempts.is_some_and(|max| attempt >= max) {
            return None;
        }
        let factor = u32::try_from(attempt).ok().and_then(|shift| 1u32.checked_shl(shift));
        let exact = factor.and_then(|factor| self.initial.checked_mul(factor)).map_or(self.max, |d| d.min(self.max));
        if self.jitter == 0.0 {
            return Some(exact);
        }
        // RandomState hashes under a random key; a counter that never repeats makes each draw a fresh one.
        let draw = self.random.hash_one(DRAWS.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let unit = (draw >> 11) as f64 / (1u64 << 53) as f64;
        Some(exact.mul_f64(1.0 + self.jitter * (2.0 * unit - 1.0)).min(self.max))
    }
}

static DRAWS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Waits the same time before every dial.
#[derive(Debug, Clone)]
pub struct FixedDelay {
    delay: Duration,
    max_attempts: Option<usize>,
}

impl FixedDelay {
    /// `delay` before each dial; gives up after `max_attempts`, or never.
    pub fn new(delay: Duration, max_attempts: Option<usize>) -> Self {
        Self { delay, max_attempts }
    }
}

impl ReconnectionStrategy for FixedDelay {
    fn next_delay(&self, attempt: usize) -> Option<Duration> {
        self.max_attempts.is_none_or(|max| attempt < max).then_some(self.delay)
    }
}

/// Never dials again.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverReconnect;

impl ReconnectionStrategy for NeverReconnect {
    fn next_delay(&self, _attempt: usize) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(strategy: &dyn ReconnectionStrategy, attempts: usize) -> Vec<Option<u64>> {
        (0..attempts).map(|attempt| strategy.next_delay(attempt).map(|delay| delay.as_secs())).collect()
    }

    #[test]
    fn exponential_backoff_doubles_exactly_and_stays_at_its_maximum() {
        let strategy = ExponentialBackoff::new(Duration::from_secs(1), Duration::from_secs(60), Some(8));
        let expected = [1, 2, 4, 8, 16, 32, 60, 60].map(Some).into_iter().chain([None, None]).collect::<Vec<_>>();
        assert_eq!(secs(&strategy, 10), expected);
        let forever = ExponentialBackoff::new(Duration::from_secs(1), Duration::from_secs(60), None);
        assert_eq!(forever.next_delay(usize::MAX), Some(Duration::from_secs(60)));
    }

    #[test]
    fn jitter_keeps_delays_growing_and_under_the_maximum() {
        let strategy = ExponentialBackoff::new(Duration::from_secs(1), Duration::from_secs(60), None).jitter(0.9);
        for attempt in 0..5 {
            let exact = Duration::from_secs(1 << attempt);
            let delays: Vec<_> = (0..500).filter_map(|_| strategy.next_delay(attempt)).collect();
            assert!(delays.iter().all(|&d| d >= exact.mul_f64(0.859) && d <= exact.mul_f64(1.141)));
            assert!(delays.iter().any(|&d| d < exact) && delays.iter().any(|&d| d > exact), "no spread");
        }
        assert!((0..500).all(|_| strategy.next_delay(40).is_some_and(|d| d <= Duration::from_secs(60))));
    }

    #[test]
    fn fixed_delay_and_never_reconnect_keep_their_word() {
        assert_eq!(secs(&FixedDelay::new(Duration::from_secs(5), Some(2)), 3), [Some(5), Some(5), None]);
        assert_eq!(NeverReconnect.next_delay(0), None);
    }
}
