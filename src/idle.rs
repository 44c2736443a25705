//! What a thread does when a turn found no work: spin, yield or park. The time is a parameter.

use std::fmt;
use std::time::{Duration, Instant};

use crate::cpu::SpinPermit;

/// How a thread of the engine waits for work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdleStrategy {
    /// Never sleeps and never yields. Takes a whole core: for a pinned thread on an isolated core.
    BusySpin,
    /// Spins only while work comes often enough for spinning to pay, then yields, then parks.
    ///
    /// It spins while the moving average of the gaps between arrivals is at most `spin`, until three such gaps have passed
    /// since the last arrival: spinning for less than the gap between messages is pure loss. While it spins unpinned it
    /// offers the processor to others at every look, and at most four threads a processor of the process spin at a time.
    Backoff {
        /// The longest average gap that is worth spinning for.
        spin: Duration,
        /// How often to yield once spinning no longer pays, before parking.
        yields: u32,
        /// The longest sleep before looking around again.
        max_park: Duration,
    },
    /// Parks at once.
    Park,
}

impl Default for IdleStrategy {
    /// `Backoff { spin: 1 ms, yields: 0, max_park: 1 s }`: next to no processor time on a quiet feed, a spin on a busy one.
    fn default() -> Self {
        Self::Backoff { spin: Duration::from_millis(1), yields: 0, max_park: Duration::from_secs(1) }
    }
}

impl fmt::Display for IdleStrategy {
    /// `busy-spin`, `adaptive (spin 1 ms)`, `park`; yields and the longest park only where they are not the default's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Backoff { spin, yields, max_park } = *self else {
            return f.pad(if *self == Self::Park { "park" } else { "busy-spin" });
        };
        let mut words = format!("adaptive (spin {}", with_unit(spin));
        if yields != 0 {
            words += &format!(", {yields} yields");
        }
        if max_park != Duration::from_secs(1) {
            words += &format!(", park {}", with_unit(max_park));
        }
        f.pad(&(words + ")"))
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Idle {
    /// Look again at once.
    Spin,
    /// Give the processor away, then look again.
    Yield,
    /// Sleep until woken, at most this long.
    Park(Duration),
}

/// One thread's waiting: its strategy and what it has seen of the gaps.
#[derive(Debug)]
pub(crate) struct Waiter {
    strategy: IdleStrategy,
    /// The thread has a core of its own: a yield, which is a system call, would give it to nobody.
    pinned: bool,
    permit: SpinPermit,
    last_arrival: Option<Instant>,
    /// No gap counts for more: one long silence ends no spinning for the messages after it, and a feed that wakes up is
    /// believed after some ten of them.
    longest_gap: Duration,
    /// Moving average of the gaps between arrivals, weight 1/16 for the newest.
    mean_gap: Duration,
    yielded: u32,
    /// No work was found since the last arrival: the next one ends a gap. A burst over many turns counts once.
    in_gap: bool,
}

impl Waiter {
    pub(crate) fn new(strategy: IdleStrategy, pinned: bool) -> Self {
        let mut permit = SpinPermit::default();
        if strategy == IdleStrategy::BusySpin {
            permit.force();
        }
        let longest_gap = match strategy {
            IdleStrategy::Backoff { spin, .. } => spin.saturating_mul(2),
            IdleStrategy::BusySpin | IdleStrategy::Park => Duration::ZERO,
        };
        let mean_gap = longest_gap;
        Self { strategy, pinned, permit, last_arrival: None, longest_gap, mean_gap, yielded: 0, in_gap: true }
    }

    /// Work came. The time is asked for only by a strategy that counts gaps.
    pub(crate) fn worked(&mut self, now: impl FnOnce() -> Instant) {
        if !matches!(self.strategy, IdleStrategy::Backoff { .. }) {
            return;
        }
        let now = now();
        if let (true, Some(last)) = (self.in_gap, self.last_arrival) {
            let gap = now.saturating_duration_since(last).min(self.longest_gap);
            self.mean_gap = (self.mean_gap * 15 + gap) / 16;
        }
        self.last_arrival = Some(now);
        self.yielded = 0;
        self.in_gap = false;
    }

    /// No work was found: waits here for a moment, or says how long to sleep.
    pub(crate) fn pause(&mut self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        match self.idle(now) {
            Idle::Yield if !self.pinned => std::thread::yield_now(),
            Idle::Spin | Idle::Yield => std::hint::spin_loop(),
            Idle::Park(longest) => return Some(longest),
        }
        None
    }

    /// What to do before the next look.
    fn idle(&mut self, now: impl FnOnce() -> Instant) -> Idle {
        self.in_gap = true;
        match self.strategy {
            IdleStrategy::BusySpin => Idle::Spin,
            IdleStrategy::Park => Idle::Park(LONGEST_PARK),
            IdleStrategy::Backoff { spin, yields, max_park } => {
                let pays = self.mean_gap <= spin
                    && self.last_arrival.is_some_and(|last| now() < last + self.mean_gap * SPIN_GAPS);
                if pays && self.permit.acquire() {
                    return Idle::Yield;
                }
                self.permit.release();
                if self.yielded < yields {
                    self.yielded += 1;
                    return Idle::Yield;
                }
                Idle::Park(max_park)
            }
        }
    }
}

/// `250 µs`, where `Duration`'s own words have no blank.
fn with_unit(time: Duration) -> String {
    let words = format!("{time:?}");
    let unit = words.find(char::is_alphabetic).unwrap_or(words.len());
    format!("{} {}", &words[..unit], &words[unit..])
}

/// Three average gaps without an arrival: the burst is over. Measured: 0.21 to 0.31 of an async client's median.
const SPIN_GAPS: u32 = 3;
/// `Park` looks around this often even if nobody wakes it.
const LONGEST_PARK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(gap: Duration) -> (Waiter, Instant) {
        let mut waiter = Waiter::new(IdleStrategy::default(), false);
        let mut now = Instant::now();
        for _ in 0..256 {
            waiter.idle(|| now);
            now += gap;
            waiter.worked(|| now);
        }
        (waiter, now)
    }

    #[test]
    fn a_quiet_feed_parks_at_once() {
        let (mut waiter, now) = settled(Duration::from_millis(10));
        assert!(matches!(waiter.idle(|| now), Idle::Park(_)));
    }

    #[test]
    fn a_busy_feed_spins_for_three_gaps_and_then_parks() {
        let gap = Duration::from_micros(50);
        let (mut waiter, now) = settled(gap);
        assert!(matches!(waiter.idle(|| now + gap * 4), Idle::Park(_)));
        // Other tests of this process may hold the permits, so the spin itself is only seen where one is left.
        assert!(matches!(waiter.idle(|| now + gap), Idle::Yield | Idle::Park(_)));
    }

    #[test]
    fn busy_spin_never_sleeps() {
        let mut waiter = Waiter::new(IdleStrategy::BusySpin, false);
        assert_eq!(waiter.idle(Instant::now), Idle::Spin);
    }

    #[test]
    fn a_strategy_says_in_few_words_how_it_waits() {
        assert_eq!(IdleStrategy::BusySpin.to_string(), "busy-spin");
        assert_eq!(IdleStrategy::Park.to_string(), "park");
        assert_eq!(IdleStrategy::default().to_string(), "adaptive (spin 1 ms)");
        let (spin, max_park) = (Duration::from_micros(1_500), Duration::from_millis(20));
        let own = IdleStrategy::Backoff { spin, yields: 4, max_park };
        assert_eq!(own.to_string(), "adaptive (spin 1.5 ms, 4 yields, park 20 ms)");
        assert_eq!(format!("{:>6}|", IdleStrategy::Park), "  park|");
    }
}
