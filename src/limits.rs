//! What venues limit: new connections, messages, and how soon one may come back. Pure: time is a parameter.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::{HyperSocketError, Result};
use crate::sync::lock;

/// So many new connections in any time of this length, for each host and source address. All clients that were given it, or a clone,
/// share it, and a dial waits for its turn: until then the client is [`NeverConnected`](crate::ClientState::NeverConnected) or
/// [`BackingOff`](crate::ClientState::BackingOff), and [`HeldBack`](crate::ClientEvent::HeldBack) says for how long. A dial that fails
/// counts, as it does with the venues.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    count: usize,
    per: Duration,
    windows: Windows,
}

/// So many messages in any time of this length, for each connection. [`Client::send`](crate::Client::send) errs beyond it with
/// [`RateLimited`](HyperSocketError::RateLimited), subscriptions wait for their turn, and what answers the venue's pings always goes.
#[derive(Debug, Clone)]
pub struct MessageLimit {
    count: usize,
    per: Duration,
    control_frames: bool,
    kept_for_pongs: usize,
    /// Where all connections of an address share it.
    windows: Option<Windows>,
}

type Windows = Arc<Mutex<HashMap<(String, Option<IpAddr>), Arc<Mutex<Window>>>>>;

impl ConnectionLimit {
    /// At most `count` new connections in any time of the length `per`.
    ///
    /// # Panics
    /// If `count` or `per` is zero: nothing could ever be dialed.
    pub fn new(count: usize, per: Duration) -> Self {
        assert!(count > 0 && !per.is_zero(), "a limit of {count} connections in {per:?} lets none through");
        Self { count, per, windows: Windows::default() }
    }

    /// Takes the next turn for a dial to this host from this address: when it is. It may lie in the future; a turn that was taken
    /// is not given back.
    pub(crate) fn reserve(&self, host: &str, source: Option<IpAddr>, now: Instant) -> Instant {
        let window = window_of(&self.windows, host, source, self.count, self.per);
        let mut window = lock(&window);
        let turn = window.next(now, 0);
        window.take(turn);
        turn
    }
}

impl MessageLimit {
    /// At most `count` messages in any time of the length `per`.
    ///
    /// # Panics
    /// If `count` or `per` is zero: nothing could ever be sent.
    pub fn new(count: usize, per: Duration) -> Self {
        assert!(count > 0 && !per.is_zero(), "a limit of {count} messages in {per:?} lets none through");
        Self { count, per, control_frames: false, kept_for_pongs: 0, windows: None }
    }

    /// Pings and pongs count, too.
    pub fn counts_control_frames(mut self) -> Self {
        self.control_frames = true;
        self
    }

    /// Keeps so many of the messages back for what answers the venue's pings: all but one of them at most.
    pub fn keep_for_pongs(mut self, count: usize) -> Self {
        self.kept_for_pongs = count.min(self.count - 1);
        self
    }

    /// Counts the messages of all connections from one address to one host together, over all clients that were given this limit,
    /// or a clone.
    pub fn per_address(mut self) -> Self {
        self.windows = Some(Windows::default());
        self
    }

    /// The gauge of a client that dials this host from this address.
    pub(crate) fn gauge(&self, host: &str, source: Option<IpAddr>) -> Gauge {
        let window = match &self.windows {
            Some(windows) => window_of(windows, host, source, self.count, self.per),
            None => Arc::new(Mutex::new(Window::new(self.count, self.per))),
        };
        let per_connection = self.windows.is_none();
        Gauge { window, per_connection, control_frames: self.control_frames, kept: self.kept_for_pongs }
    }
}

fn window_of(windows: &Windows, host: &str, source: Option<IpAddr>, count: usize, per: Duration) -> Arc<Mutex<Window>> {
    let mut windows = lock(windows);
    let window =
        windows.entry((host.to_owned(), source)).or_insert_with(|| Arc::new(Mutex::new(Window::new(count, per))));
    Arc::clone(window)
}

/// What one client has sent of late.
#[derive(Debug)]
pub(crate) struct Gauge {
    window: Arc<Mutex<Window>>,
    /// A new connection begins anew.
    per_connection: bool,
    control_frames: bool,
    kept: usize,
}

impl Gauge {
    /// Counts a message of the user's, if it may go now.
    ///
    /// # Errors
    /// [`RateLimited`](HyperSocketError::RateLimited).
    pub(crate) fn admit(&self, now: Instant) -> Result<()> {
        let mut window = lock(&self.window);
        let next = window.next(now, self.kept);
        if next > now {
            return Err(HyperSocketError::RateLimited { retry_in: next - now });
        }
        window.take(now);
        Ok(())
    }

    /// When the next message of the user's may go.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        lock(&self.window).next(now, self.kept)
    }

    /// Counts a message that goes whatever the limit says.
    pub(crate) fn note_message(&self, now: Instant) {
        lock(&self.window).take(now);
    }

    /// Counts a control frame, where those count.
    pub(crate) fn note_control_frame(&self, now: Instant) {
        if self.control_frames {
            self.note_message(now);
        }
    }

    /// A connection begins.
    pub(crate) fn begin(&self) {
        if self.per_connection {
            lock(&self.window).times.clear();
        }
    }
}

/// At most so many events in any time of one length: a window that slides, since a bucket that refills would let nearly twice as
/// many through in the time that the venue counts.
#[derive(Debug)]
struct Window {
    count: usize,
    per: Duration,
    /// Of the events that count still, those to come included, in order.
    times: VecDeque<Instant>,
}

impl Window {
    fn new(count: usize, per: Duration) -> Self {
        Self { count, per, times: VecDeque::new() }
    }

    /// When the next event may be, with so many kept back.
    fn next(&mut self, now: Instant, kept: usize) -> Instant {
        while self.times.front().is_some_and(|&time| time + self.per <= now) {
            self.times.pop_front();
        }
        let free = self.count.saturating_sub(kept).max(1);
        match self.times.len().checked_sub(free) {
            None => now,
            Some(oldest) => (self.times[oldest] + self.per).max(now),
        }
    }

    fn take(&mut self, at: Instant) {
        self.times.push_back(at);
        // More than that can be in it where pongs had to go all the same; the oldest do not matter then.
        while self.times.len() > 2 * self.count {
            self.times.pop_front();
        }
    }
}

/// Until when a host wants nobody to dial, as its `Retry-After` said to any client of this process.
static HOSTS: Mutex<Option<HashMap<String, Instant>>> = Mutex::new(None);

/// This host wants nobody to dial until then.
pub(crate) fn hold_host(host: &str, until: Instant) {
    let mut hosts = lock(&HOSTS);
    let hosts = hosts.get_or_insert_default();
    let known = hosts.entry(host.to_owned()).or_insert(until);
    *known = (*known).max(until);
}

/// Until when this host is not to be dialed, where it is not to be now. Each caller is told another time, up to a tenth of the wait
/// later, so that not all come back together.
pub(crate) fn host_held_until(host: &str, now: Instant) -> Option<Instant> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let mut hosts = lock(&HOSTS);
    let hosts = hosts.as_mut()?;
    let until = *hosts.get(host)?;
    if until <= now {
        hosts.remove(host);
        return None;
    }
    // The golden ratio puts each fraction far from those before it.
    let spread = f64::from(CALLS.fetch_add(1, Ordering::Relaxed)) * 0.618_033_988_749_895;
    Some(until + (until - now).mul_f64(0.1 * spread.fract()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn no_time_of_the_length_has_more_than_the_count() {
        let begin = Instant::now();
        let mut window = Window::new(5, SECOND);
        let mut times = Vec::new();
        let mut now = begin;
        for step in 0..200 {
            let at = window.next(now, 0);
            window.take(at);
            times.push(at);
            now = at + Duration::from_millis(step % 7 * 40);
        }
        assert!(times.windows(6).all(|six| six[5] - six[0] >= SECOND));
        assert_eq!(times[4] - times[0], Duration::from_millis(240), "the first five go as they come");
    }

    #[test]
    fn turns_are_given_in_order_and_apart_for_each_host_and_address() {
        let now = Instant::now();
        let limit = ConnectionLimit::new(2, SECOND);
        let turns: Vec<_> = (0..5).map(|_| limit.clone().reserve("a", None, now)).collect();
        assert_eq!(turns, [now, now, now + SECOND, now + SECOND, now + 2 * SECOND]);
        assert_eq!(limit.reserve("b", None, now), now);
        assert_eq!(limit.reserve("a", Some(IpAddr::from([127, 0, 0, 2])), now), now);
        assert_eq!(limit.reserve("a", None, now + 3 * SECOND), now + 3 * SECOND);
    }

    #[test]
    fn what_is_kept_for_pongs_is_not_the_users_and_pongs_go_whatever_has_gone() {
        let now = Instant::now();
        let limit = MessageLimit::new(5, SECOND).counts_control_frames().keep_for_pongs(2);
        let gauge = limit.gauge("a", None);
        let admitted = (0..5).filter(|_| gauge.admit(now).is_ok()).count();
        assert_eq!(admitted, 3);
        assert!(matches!(gauge.admit(now), Err(HyperSocketError::RateLimited { retry_in: SECOND })));
        (0..4).for_each(|_| gauge.note_control_frame(now + SECOND / 2));
        assert_eq!(gauge.next(now + SECOND), now + SECOND * 3 / 2);
        gauge.begin();
        assert!(gauge.admit(now + SECOND).is_ok(), "a new connection");
        let plain = MessageLimit::new(1, SECOND).gauge("a", None);
        plain.note_control_frame(now);
        assert!(plain.admit(now).is_ok(), "control frames do not count there");
    }

    #[test]
    fn connections_of_one_address_share_what_counts_for_the_address() {
        let now = Instant::now();
        let limit = MessageLimit::new(2, SECOND).per_address();
        let (one, other) = (limit.gauge("a", None), limit.clone().gauge("a", None));
        assert!(one.admit(now).is_ok() && other.admit(now).is_ok() && one.admit(now).is_err());
        other.begin();
        assert!(other.admit(now).is_err(), "a new connection does not help there");
        assert!(limit.gauge("b", None).admit(now).is_ok());
    }

    #[test]
    fn a_host_that_wants_peace_has_it_from_all_and_they_do_not_come_back_together() {
        let now = Instant::now();
        hold_host("held.example:443", now + 10 * SECOND);
        hold_host("held.example:443", now + 5 * SECOND);
        let times: Vec<_> = (0..8).filter_map(|_| host_held_until("held.example:443", now)).collect();
        assert!(times.iter().all(|at| (10 * SECOND..=11 * SECOND).contains(&(*at - now))));
        assert!(times.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(host_held_until("other.example:443", now), None);
        assert_eq!(host_held_until("held.example:443", now + 10 * SECOND), None);
    }
}
