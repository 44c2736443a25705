//! The venue: numbers each route's messages in each session, and sends a few of each twenty times a second.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hypersockets::simulator::{Ending, Session, Venue};

use crate::ROUTES;

const PER_BURST: u64 = 10;
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Feeder {
    /// Locked while it feeds, and while it restarts.
    venue: Arc<Mutex<Venue>>,
    port: u16,
    sent: Arc<AtomicU64>,
    paused: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    pub(crate) fn start() -> io::Result<Self> {
        let venue = Venue::scripted().start()?;
        let port = venue.port();
        let venue = Arc::new(Mutex::new(venue));
        let (sent, paused, ends) =
            (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let feeding = (Arc::clone(&venue), Arc::clone(&sent), Arc::clone(&paused), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            let (venue, sent, paused, ends) = feeding;
            let mut sessions = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                while let Ok(session) =
                    venue.lock().unwrap_or_else(PoisonError::into_inner).next_session(Duration::ZERO)
                {
                    sessions.push((session, [0; ROUTES]));
                }
                sessions.retain(|(session, _)| session.await_end(Duration::ZERO).is_err());
                if !paused.load(Ordering::Relaxed) {
                    sessions.iter_mut().for_each(|(session, numbers)| feed(session, numbers));
                    sent.fetch_add(sessions.len() as u64 * ROUTES as u64 * PER_BURST, Ordering::Relaxed);
                }
                thread::sleep(PAUSE);
            }
        });
        Ok(Self { venue, port, sent, paused, ends, thread: Some(thread) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Says nothing more.
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    /// Goes, by a FIN or an RST to each session, stays away for so long, and comes back.
    pub(crate) fn restart(&self, by_rst: bool, away: Duration) -> io::Result<()> {
        let venue = self.venue.lock().unwrap_or_else(PoisonError::into_inner);
        venue.stop(if by_rst { Ending::Rst } else { Ending::Fin });
        thread::sleep(away);
        venue.restart()
    }
}

fn feed(session: &Session, numbers: &mut [u64; ROUTES]) {
    for _ in 0..PER_BURST {
        for (route, number) in numbers.iter_mut().enumerate() {
            *number += 1;
            session.send_text(format!("{route} {} {number}", session.number()));
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
