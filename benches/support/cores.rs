//! Who runs where: the venue on the last core, whoever reads on the first, so that the scheduler decides nothing.
#![allow(dead_code)] // each bench takes its own part of the support

use std::thread;

use hypersockets::Result;

/// Keeps this thread on the last core.
pub(crate) fn stay_on_last() {
    if let Some(&last) = core_affinity::get_core_ids().unwrap_or_default().last() {
        core_affinity::set_for_current(last);
    }
}

/// Does it on a thread of its own on the first core, so that nothing that follows inherits the core.
pub(crate) fn on_first<T: Send + 'static>(read: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let reading = thread::spawn(move || {
        if let Some(&first) = core_affinity::get_core_ids().unwrap_or_default().first() {
            core_affinity::set_for_current(first);
        }
        read()
    });
    reading.join().map_err(|_| "the reader panicked")?
}
