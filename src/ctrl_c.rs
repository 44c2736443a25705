//! Ctrl-C and SIGTERM as a flag that clients watch and a word that `main` can wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::error::{HyperSocketError, Result};

/// Catches SIGINT, SIGTERM and SIGHUP: the first one clears [`flag`](Self::flag) and ends [`wait`](Self::wait). It takes
/// them over even where they were ignored before, as a shell script's `&` and `nohup` have it.
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
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig) where it was called before: there can be one.
    pub fn install() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(true));
        let (signal, signalled) = bounded::<()>(0);
        // Dropping the sending end is the signal: it wakes every waiter and stays seen.
        let mut first = Some((Arc::clone(&flag), signal));
        // `try_set_handler` would refuse to start in the background of a script, where SIGINT is ignored from birth.
        ctrlc::set_handler(move || {
            if let Some((flag, signal)) = first.take() {
                flag.store(false, Ordering::Release);
                drop(signal);
            }
        })
        .map_err(|error| HyperSocketError::InvalidConfig(format!("signal handler: {error}")))?;
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
