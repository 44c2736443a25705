//! A thread of its own for an event loop: named, pinned, waiting by a strategy.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::command::{Command, CommandSender};
use super::event_loop::EventLoop;
use crate::clock;
use crate::error::{HyperSocketError, Result};
use crate::idle::{Idle, IdleStrategy, Waiter};
use crate::own_thread;
use crate::sync::lock;
use crate::thread::{Pinned, ThreadOptions};

/// A thread that runs an [`EventLoop`] for any number of clients. Cheap to clone; all clones are the same engine.
///
/// When the last clone and the last of its clients' handles are gone, it closes what is left and its thread ends by itself;
/// [`shutdown`](Self::shutdown) also waits for that.
#[derive(Clone)]
pub struct Engine {
    running: Arc<Running>,
}

struct Running {
    commands: CommandSender,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Describes an engine; [`EngineBuilder::start`] starts it.
    pub fn builder() -> EngineBuilder {
        EngineBuilder { thread: ThreadOptions::new() }
    }

    /// Closes all clients, each with a Close frame and its `close_timeout`, and waits until the thread has ended. Handler
    /// threads are not waited for: [`Client::shutdown`](crate::Client::shutdown) does that. A second call does nothing.
    ///
    /// # Errors
    /// [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread of the engine;
    /// [`Custom`](HyperSocketError::Custom) where the loop had panicked.
    pub fn shutdown(&self) -> Result<()> {
        own_thread::refuse("Engine::shutdown")?;
        // The loop may be gone already, and then there is nobody to tell.
        let _ = self.running.commands.send(Command::Stop);
        match lock(&self.running.thread).take() {
            Some(thread) => thread.join().map_err(|_| HyperSocketError::from("the engine's loop had panicked")),
            None => Ok(()),
        }
    }

    pub(crate) fn sender(&self) -> &CommandSender {
        &self.running.commands
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// An engine to be.
#[derive(Debug, Clone)]
#[must_use = "an engine runs only once started"]
pub struct EngineBuilder {
    thread: ThreadOptions,
}

impl EngineBuilder {
    /// The loop's thread, described as a whole.
    pub fn thread(mut self, options: ThreadOptions) -> Self {
        self.thread = options;
        self
    }

    /// The thread's name; Linux shows its first 15 bytes. `hs-loop` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.thread = self.thread.name(name);
        self
    }

    /// Pins the thread to this core; starting errs where the process may not use it. Unpinned by default.
    pub fn core(mut self, core: usize) -> Self {
        self.thread = self.thread.core(core);
        self
    }

    /// Pins the thread to this core where the process may use it; elsewhere a warning in the log, and unpinned.
    pub fn prefer_core(mut self, core: usize) -> Self {
        self.thread = self.thread.prefer_core(core);
        self
    }

    /// How the loop waits. Adaptive by default.
    pub fn idle(mut self, idle: IdleStrategy) -> Self {
        self.thread = self.thread.idle(idle);
        self
    }

    /// The size of the thread's stack, in bytes.
    pub fn stack_bytes(mut self, bytes: usize) -> Self {
        self.thread = self.thread.stack_bytes(bytes);
        self
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// [`CoreUnavailable`](HyperSocketError::CoreUnavailable), and [`Io`](HyperSocketError::Io) where the system gives no
    /// thread or no descriptor.
    pub fn start(self) -> Result<Engine> {
        self.thread.check()?;
        let event_loop = EventLoop::new()?;
        let commands = event_loop.sender().clone();
        let idle = self.thread.idle_strategy();
        let thread = self.thread.start("hs-loop", move |pinned| run(event_loop, idle, pinned))?;
        Ok(Engine { running: Arc::new(Running { commands, thread: Mutex::new(Some(thread)) }) })
    }
}

fn run(mut event_loop: EventLoop, idle: IdleStrategy, Pinned(pinned): Pinned) {
    let mut waiter = Waiter::new(idle);
    while !event_loop.is_done() {
        if event_loop.turn() > 0 {
            waiter.worked(clock::now());
            continue;
        }
        match waiter.idle(clock::now()) {
            Idle::Spin => std::hint::spin_loop(),
            // A pinned thread has its core for itself, and a yield is a system call.
            Idle::Yield if pinned => std::hint::spin_loop(),
            Idle::Yield => std::thread::yield_now(),
            Idle::Park(longest) => event_loop.wait(longest),
        }
    }
}
