//! Starting a thread of the engine: named, pinned, with a stack of its size, and marked as ours.

use std::io;
use std::thread::{Builder, JoinHandle};

use crate::cpu::{self, Pin};
use crate::error::Result;
use crate::idle::IdleStrategy;
use crate::own_thread;

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

    /// Starts a thread that runs `body`; `name` where the options give none. `body` is told whether it has a core of its own.
    pub(crate) fn start(&self, name: &str, body: impl FnOnce(Pinned) + Send + 'static) -> io::Result<JoinHandle<()>> {
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
            let _spinning = (idle == IdleStrategy::BusySpin).then(|| cpu::Spinner::new(&name, pinned));
            body(Pinned(pinned.is_some()));
        })
    }
}

/// Whether a thread has been pinned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pinned(pub(crate) bool);

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
