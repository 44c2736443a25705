//! A thread of the engine: how it is described, how it is started, and the duty cycle that it runs.

use std::io;
use std::sync::Arc;

use crate::bell::{Bell, Wake};
use crate::clock;
use crate::cpu::{Pin, Spinner};
use crate::error::Result;
use crate::idle::{IdleStrategy, Waiter};
use crate::own_thread;
use crate::sync::{Builder, JoinHandle, Parker, Unparker};

/// One thread: its name, its core, how it waits, its stack. For a loop, a parser lane or a handler thread.
///
/// A core number alone is a thread pinned to that core: `Engine::builder().lanes([2, 3])`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct ThreadOptions {
    name: Option<String>,
    pin: Pin,
    idle: IdleStrategy,
    stack_bytes: Option<usize>,
}

impl ThreadOptions {
    /// Named after what it does, unpinned, waiting adaptively, with the platform's stack size.
    pub fn new() -> Self {
        Self { name: None, pin: Pin::Anywhere, idle: IdleStrategy::default(), stack_bytes: None }
    }

    /// The thread's name; Linux shows its first 15 bytes in `top -H`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Pins the thread to this core; starting it errs where the process may not use it.
    pub fn core(mut self, core: usize) -> Self {
        self.pin = Pin::Core(core);
        self
    }

    /// Pins the thread to this core where the process may use it, and leaves it unpinned, with a warning in the log,
    /// where not.
    pub fn prefer_core(mut self, core: usize) -> Self {
        self.pin = Pin::Preferred(core);
        self
    }

    /// How the thread waits.
    pub fn idle(mut self, idle: IdleStrategy) -> Self {
        self.idle = idle;
        self
    }

    /// The size of the thread's stack, in bytes. The platform's default is 2 MiB, of which only what is used takes memory.
    pub fn stack_bytes(mut self, bytes: usize) -> Self {
        self.stack_bytes = Some(bytes);
        self
    }

    pub(crate) fn own_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn pin(&self) -> Pin {
        self.pin
    }

    pub(crate) fn stack_size(&self) -> Option<usize> {
        self.stack_bytes
    }

    pub(crate) fn idle_strategy(&self) -> IdleStrategy {
        self.idle
    }

    /// Errs where the thread cannot be what it is asked to be.
    ///
    /// # Errors
    /// [`CoreUnavailable`](crate::HyperSocketError::CoreUnavailable).
    pub(crate) fn check(&self) -> Result<()> {
        self.pin.check()
    }

    /// Starts a thread that runs `body`; `name` where the options give none.
    pub(crate) fn start(&self, name: &str, body: impl FnOnce(Waiter) + Send + 'static) -> io::Result<JoinHandle<()>> {
        let name = self.name.clone().unwrap_or_else(|| name.to_owned());
        let mut builder = Builder::new().name(name.clone());
        if let Some(bytes) = self.stack_bytes {
            builder = builder.stack_size(bytes);
        }
        let Self { pin, idle, .. } = *self;
        builder.spawn(move || {
            own_thread::mark();
            // Threads inherit masks, so each pins itself, after all that it starts from.
            let pinned = pin.apply(&name);
            let _spinner = (idle == IdleStrategy::BusySpin).then(|| Spinner::new(&name, pinned));
            body(Waiter::new(idle, pinned.is_some()));
        })
    }
}

impl Default for ThreadOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl From<usize> for ThreadOptions {
    fn from(core: usize) -> Self {
        Self::new().core(core)
    }
}

/// Rings for a thread that parks.
pub(crate) type ThreadBell = Bell<Unparker>;

impl Wake for Unparker {
    fn wake(&self) {
        self.unpark();
    }
}

/// A bell, and the place where its one thread sleeps.
pub(crate) fn bell() -> (Arc<ThreadBell>, Parker) {
    let parker = Parker::new();
    (Arc::new(Bell::new(parker.unparker().clone())), parker)
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There was nothing to do.
    Idle,
    /// Something was done, and there may be more.
    Worked,
    /// Nothing will follow.
    Done,
}

/// Work that a thread does turn by turn.
pub(crate) trait Agent {
    /// Does what there is to do now, within bounds. Never waits.
    fn turn(&mut self) -> Turn;
}

/// The duty cycle: turns until the agent is done, and waits between turns that found nothing.
pub(crate) fn run(agent: &mut impl Agent, bell: &ThreadBell, parker: &Parker, mut waiter: Waiter) {
    let mut waiting = true;
    loop {
        match agent.turn() {
            Turn::Done => return,
            // Only what ends a wait tells of gaps: reading the clock in a burst would be for nothing.
            Turn::Worked if !std::mem::take(&mut waiting) => {}
            Turn::Worked => waiter.worked(clock::now),
            Turn::Idle => {
                waiting = true;
                let Some(longest) = waiter.pause(clock::now) else { continue };
                bell.announce_sleep();
                let turn = agent.turn();
                if turn == Turn::Idle {
                    parker.park_timeout(longest);
                }
                bell.woke();
                match turn {
                    Turn::Done => return,
                    Turn::Worked => {
                        waiting = false;
                        waiter.worked(clock::now);
                    }
                    Turn::Idle => {}
                }
            }
        }
    }
}
