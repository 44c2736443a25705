//! `halted_flag`: true while any client that holds the flag should be live and is not. Counted in one place per flag, so
//! that clients which share one cannot clear it for each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::sync::lock;

/// One flag and how many of its clients are down.
#[derive(Debug)]
struct HaltedFlag {
    flag: Arc<AtomicBool>,
    down: Mutex<usize>,
}

impl HaltedFlag {
    fn change(&self, went_down: bool) {
        let mut down = lock(&self.down);
        *down = if went_down { *down + 1 } else { *down - 1 };
        // Written under the lock, or two changes could write in the wrong order.
        self.flag.store(*down > 0, Ordering::Release);
    }
}

/// One client's share in a flag; gives it up when dropped, but a client that failed for good counts to the end.
#[derive(Debug)]
pub(crate) struct HaltedMember {
    shared: Arc<HaltedFlag>,
    down: bool,
}

impl HaltedMember {
    /// Joins as a client that is, or is not, down.
    pub(crate) fn join(flag: &Arc<AtomicBool>, down: bool) -> Self {
        let mut flags = lock(&FLAGS);
        flags.retain(|known| known.strong_count() > 0);
        let known = flags.iter().filter_map(Weak::upgrade).find(|known| Arc::ptr_eq(&known.flag, flag));
        let shared = known.unwrap_or_else(|| {
            let shared = Arc::new(HaltedFlag { flag: Arc::clone(flag), down: Mutex::new(0) });
            flags.push(Arc::downgrade(&shared));
            shared
        });
        drop(flags);
        let mut member = Self { shared, down: false };
        member.set_down(down);
        member
    }

    pub(crate) fn is_of(&self, flag: &Arc<AtomicBool>) -> bool {
        Arc::ptr_eq(&self.shared.flag, flag)
    }

    pub(crate) fn set_down(&mut self, down: bool) {
        if self.down != down {
            self.down = down;
            self.shared.change(down);
        }
    }
}

impl Drop for HaltedMember {
    fn drop(&mut self) {
        self.set_down(false);
    }
}

static FLAGS: Mutex<Vec<Weak<HaltedFlag>>> = Mutex::new(Vec::new());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_clear_the_flag_while_another_is_down() {
        let flag = Arc::new(AtomicBool::new(false));
        let halted = || flag.load(Ordering::Acquire);
        let (mut first, mut second) = (HaltedMember::join(&flag, true), HaltedMember::join(&flag, true));
        assert!(halted());
        first.set_down(false);
        assert!(halted(), "the second is still down");
        second.set_down(false);
        assert!(!halted());
        first.set_down(true);
        first.set_down(true);
        second.set_down(false);
        assert!(halted());
        drop(first);
        assert!(!halted(), "a client that is gone need not be live");
    }

    #[test]
    fn different_flags_do_not_meet() {
        let (one, other) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let _down = HaltedMember::join(&one, true);
        drop(HaltedMember::join(&other, true));
        assert!(one.load(Ordering::Acquire) && !other.load(Ordering::Acquire));
    }
}
