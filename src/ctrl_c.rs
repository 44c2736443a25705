//! Ctrl-C and SIGTERM as a flag that clients watch and a word that `main` can wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::error::{HyperSocketError, Result};

/// Catches SIGINT, SIGTERM and SIGHUP: the first one clears [`flag`](Self::flag) and ends [`wait`](Self::wait).
///
/// A SIGINT that was ignored from birth (a shell script's `&` does that) is caught all the same, since whoever sends it means
/// it. A SIGHUP that was ignored (`nohup`) stays without effect.
///
/// ```no_run
/// # fn main() -> hypersockets::Result<()> {
/// # let builder = hypersockets::builder();
/// let ctrl_c = hypersockets::CtrlC::install()?;
/// // Watching the flag, a client that is still connecting gives up, too.
/// let builder = builder.shutdown_flag(ctrl_c.flag());
/// // … build the client …
/// ctrl_c.wait();
/// // … client.shutdown()? wakes its loop at once and reports.
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CtrlC {
    flag: Arc<AtomicBool>,
    signalled: Receiver<()>,
}

impl CtrlC {
    /// Installs the handler, on a thread of its own that lives as long as the process.
    ///
    /// Call it first in `main`, before any other thread is started: under `nohup`, threads that run already would still
    /// take a SIGHUP.
    ///
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig) where the process has a handler already: there can be one.
    pub fn install() -> Result<Self> {
        let before = Dispositions::of_this_process();
        if before.caught(SIGINT) || before.caught(SIGTERM) {
            return Err(HyperSocketError::InvalidConfig("SIGINT or SIGTERM has a handler already".to_owned()));
        }
        let flag = Arc::new(AtomicBool::new(true));
        let (signal, signalled) = bounded::<()>(0);
        // Dropping the sending end is the signal: it wakes every waiter and stays seen.
        let mut first = Some((Arc::clone(&flag), signal));
        let on_signal = move || {
            if let Some((flag, signal)) = first.take() {
                flag.store(false, Ordering::Release);
                drop(signal);
            }
        };
        if before.ignored(SIGHUP) {
            block_hang_up();
        }
        // `try_set_handler` refuses what is ignored as if it were handled; where it is known that nothing is handled, the
        // ignored ones are taken over.
        let installed = if before.known { ctrlc::set_handler(on_signal) } else { ctrlc::try_set_handler(on_signal) };
        installed.map_err(|error| HyperSocketError::InvalidConfig(format!("signal handler: {error}")))?;
        Ok(Self { flag, signalled })
    }

    /// True until the first signal: what [`ClientBuilder::shutdown_flag`](crate::ClientBuilder::shutdown_flag) wants.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Waits for the first signal.
    pub fn wait(&self) {
        // The end of the channel is the only thing that can come.
        let _ = self.signalled.recv();
    }

    /// Waits for the first signal, at most this long; true where it has come.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        !matches!(self.signalled.recv_timeout(timeout), Err(crossbeam_channel::RecvTimeoutError::Timeout))
    }
}

/// What the process did with its signals so far, as `/proc/self/status` tells it: a mask each, bit 0 for signal 1.
#[derive(Debug, Default)]
struct Dispositions {
    ignored: u64,
    caught: u64,
    /// False where there is no such file: everywhere but on Linux.
    known: bool,
}

impl Dispositions {
    fn of_this_process() -> Self {
        std::fs::read_to_string("/proc/self/status").map_or_else(|_| Self::default(), |status| Self::parse(&status))
    }

    fn parse(status: &str) -> Self {
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        };
        match (mask("SigIgn:"), mask("SigCgt:")) {
            (Some(ignored), Some(caught)) => Self { ignored, caught, known: true },
            _ => Self::default(),
        }
    }

    fn ignored(&self, signal: u32) -> bool {
        self.ignored & (1 << (signal - 1)) != 0
    }

    fn caught(&self, signal: u32) -> bool {
        self.caught & (1 << (signal - 1)) != 0
    }
}

/// Blocks SIGHUP on this thread and on those that it starts from now on, the one of the handler among them.
fn block_hang_up() {
    let hang_up = nix::sys::signal::SigSet::from(nix::sys::signal::SIGHUP);
    if let Err(error) = hang_up.thread_block() {
        log::warn!("SIGHUP was ignored and will now end the client: it could not be blocked: {error}");
    }
}

const SIGHUP: u32 = 1;
const SIGINT: u32 = 2;
const SIGTERM: u32 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispositions_are_read_from_the_masks() {
        let nohup = Dispositions::parse("Name:\tbot\nSigIgn:\t0000000000001003\nSigCgt:\t0000000100004000\n");
        assert!(nohup.known && nohup.ignored(SIGHUP) && nohup.ignored(SIGINT) && !nohup.ignored(SIGTERM));
        assert!(nohup.caught(SIGTERM) && !nohup.caught(SIGINT));
        assert!(!Dispositions::parse("Name:\tbot\n").known);
    }
}
