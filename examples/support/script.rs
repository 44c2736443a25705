//! A simulated venue that plays a script.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hypersockets::simulator::{Session, Venue};

/// A simulated venue that follows a script, beat by beat, in each of its sessions. Dropping it ends it.
pub(crate) struct Script {
    venue: Arc<Venue>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Script {
    /// Calls `act` with the newest session at each beat, counted from 0 in each session.
    pub(crate) fn start(beat: Duration, mut act: impl FnMut(&Session, u64) + Send + 'static) -> io::Result<Self> {
        let venue = Arc::new(Venue::scripted().start()?);
        let stop = Arc::<AtomicBool>::default();
        let (playing, stopping) = (Arc::clone(&venue), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut current = None;
            while !stopping.load(Ordering::Acquire) {
                if let Ok(session) = playing.next_session(beat) {
                    current = Some((session, 0));
                } else if let Some((session, beats)) = &mut current {
                    act(session, *beats);
                    *beats += 1;
                }
            }
        });
        Ok(Self { venue, stop, thread: Some(thread) })
    }

    pub(crate) fn url(&self) -> String {
        self.venue.url()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It ends within a beat, and has nothing to tell.
            let _ = thread.join();
        }
    }
}
