//! What the small examples have in common: a URL or the embedded simulator, a time, Ctrl-C, and the closing summary.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use hypersockets::simulator::{Session, Venue};
use hypersockets::{CtrlC, ShutdownReport};

use super::duration::duration;

/// The command line of the small examples.
#[derive(Debug, Parser)]
pub(crate) struct Demo {
    /// Where to dial; the embedded simulator unless given
    pub(crate) url: Option<String>,

    /// Stop by itself after this long, such as 10s, 500ms or 2m; after 5s with the simulator unless given
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    run_for: Option<Duration>,
}

impl Demo {
    /// Waits for the end: the time that was given, or Ctrl-C.
    pub(crate) fn wait(&self, ctrl_c: &CtrlC) {
        match self.run_for.or(self.url.is_none().then_some(SIMULATED_FOR)) {
            Some(longest) => drop(ctrl_c.wait_timeout(longest)),
            None => ctrl_c.wait(),
        }
    }
}

/// Says how it went.
pub(crate) fn summary(report: &ShutdownReport) {
    let metrics = &report.metrics;
    println!("--");
    println!(
        "received {}, handled {}, sent {}; errors {}; {} reconnects; closed in {:?}: {}",
        metrics.messages_received,
        metrics.messages_handled,
        metrics.messages_sent,
        metrics.parse_errors + metrics.handler_errors,
        metrics.reconnect_count,
        report.took,
        report.reason
    );
}

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

/// Long enough to see something, short enough to wait for.
const SIMULATED_FOR: Duration = Duration::from_secs(5);
