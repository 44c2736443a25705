//! A thread of its own for an event loop: named, pinned, waiting by a strategy.

use std::fmt;
use std::sync::{Arc, Mutex};

use super::command::{Command, CommandSender};
use super::event_loop::EventLoop;
use crate::clock;
use crate::error::{HyperSocketError, Result};
use crate::idle::{IdleStrategy, Waiter};
use crate::own_thread;
use crate::pipeline::LanePool;
use crate::sync::{JoinHandle, lock};
use crate::thread::ThreadOptions;

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
    lanes: Option<LanePool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Describes an engine; [`EngineBuilder::start`] starts it.
    pub fn builder() -> EngineBuilder {
        EngineBuilder { thread: ThreadOptions::new(), lanes: Vec::new() }
    }

    /// Closes all clients, each with a Close frame and its `close_timeout`, and waits until the thread has ended, and its
    /// parser lanes have parsed what they had. Handler threads are not waited for:
    /// [`Client::shutdown`](crate::Client::shutdown) does that. A second call does nothing.
    ///
    /// # Errors
    /// [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread of the engine;
    /// [`Custom`](HyperSocketError::Custom) where the loop had panicked.
    pub fn shutdown(&self) -> Result<()> {
        own_thread::refuse("Engine::shutdown")?;
        // The loop may be gone already, and then there is nobody to tell.
        let _ = self.running.commands.send(Command::Stop);
        let ended = match lock(&self.running.thread).take() {
            Some(thread) => thread.join().map_err(|_| HyperSocketError::from("the engine's loop had panicked")),
            None => Ok(()),
        };
        if let Some(lanes) = &self.running.lanes {
            lanes.join();
        }
        ended
    }

    pub(crate) fn lanes(&self) -> Option<&LanePool> {
        self.running.lanes.as_ref()
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
    lanes: Vec<ThreadOptions>,
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

    /// Parses on threads of their own, in place of the loop: one lane for each entry, a core number or
    /// [`ThreadOptions`]. Each connection has its lane, in turn; a router's [`shard_key`](crate::MessageRouter::shard_key)
    /// splits one connection over several. Each message is copied once on its way there, so lanes pay where parsing costs
    /// more than a few microseconds, or must not delay other connections. Inline handlers run on the lanes then.
    pub fn lanes<T: Into<ThreadOptions>>(mut self, lanes: impl IntoIterator<Item = T>) -> Self {
        self.lanes = lanes.into_iter().map(Into::into).collect();
        self
    }

    /// Starts the thread, and those of the lanes.
    ///
    /// # Errors
    /// [`CoreUnavailable`](HyperSocketError::CoreUnavailable), and [`Io`](HyperSocketError::Io) where the system gives no
    /// thread or no descriptor.
    pub fn start(self) -> Result<Engine> {
        self.thread.check()?;
        let event_loop = EventLoop::new()?;
        let commands = event_loop.sender().clone();
        let lanes = if self.lanes.is_empty() { None } else { Some(LanePool::start(&self.lanes)?) };
        let thread = self.thread.start("hs-loop", move |waiter| run(event_loop, waiter))?;
        Ok(Engine { running: Arc::new(Running { commands, lanes, thread: Mutex::new(Some(thread)) }) })
    }
}

fn run(mut event_loop: EventLoop, mut waiter: Waiter) {
    while !event_loop.is_done() {
        if event_loop.turn() > 0 {
            waiter.worked(clock::now);
        } else if let Some(longest) = waiter.pause(clock::now) {
            event_loop.wait(longest);
        }
    }
}
