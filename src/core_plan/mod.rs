//! Which thread runs where, decided in one place. Invariant: a plan gives out its threads only while each has a name of its
//! own and each lane an engine.

mod check;
#[cfg(feature = "toml")]
mod file;
mod table;
mod topology;

use std::collections::HashMap;
use std::fmt;

pub use check::PlanWarning;

use crate::engine::{Engine, EngineBuilder};
use crate::error::{HyperSocketError, Result};
use crate::thread::ThreadOptions;

/// Which thread runs where: the loops of the engines, their parser lanes, the handlers' threads.
///
/// Each thread has a name of its own, by which it is handed out. [`check`](Self::check) compares the plan with the host
/// before anything runs, and the plan prints as a table.
///
/// ```
/// use hypersockets::{CorePlan, IdleStrategy, ThreadOptions};
///
/// # fn main() -> hypersockets::Result<()> {
/// let plan = CorePlan::new()
///     .engine("feed", ThreadOptions::new().prefer_core(2).stack_bytes(256 << 10))
///     .lanes("feed", [ThreadOptions::new().name("parse-a").prefer_core(3)])
///     .handler("books", ThreadOptions::new().idle(IdleStrategy::Park));
///
/// for warning in plan.check()? {
///     eprintln!("{warning}");
/// }
/// assert_eq!(
///     plan.to_string(),
///     "
/// thread   role          core          idle                  stack
/// ───────  ────────────  ────────────  ────────────────────  ───────
/// feed     loop          2 if allowed  adaptive (spin 1 ms)  256 KiB
/// parse-a  lane of feed  3 if allowed  adaptive (spin 1 ms)  default
/// books    handler       any           park                  default"
///         .trim_start()
/// );
///
/// let engine = plan.engine_builder("feed")?.start()?;
/// # engine.shutdown()
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct CorePlan {
    threads: Vec<Planned>,
}

/// One thread of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planned {
    role: Role,
    options: ThreadOptions,
}

/// What a thread is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    Loop,
    /// A parser lane of the engine of this name.
    LaneOf(String),
    Handler,
}

impl CorePlan {
    /// No threads yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans an engine: its loop runs on this thread. `name` is the thread's name too, whatever `options` call it.
    pub fn engine(self, name: impl Into<String>, options: ThreadOptions) -> Self {
        self.with(Role::Loop, options.name(name))
    }

    /// Plans more parser lanes for the engine of this name; each of them has to have a name.
    pub fn lanes(self, engine: &str, lanes: impl IntoIterator<Item = ThreadOptions>) -> Self {
        lanes.into_iter().fold(self, |plan, lane| plan.with(Role::LaneOf(engine.to_owned()), lane))
    }

    /// Plans a handler's thread. `name` is the thread's name, whatever `options` call it.
    pub fn handler(self, name: impl Into<String>, options: ThreadOptions) -> Self {
        self.with(Role::Handler, options.name(name))
    }

    /// The engine of this name, to be started: its loop and its lanes run as planned.
    ///
    /// # Errors
    /// As [`engine_thread`](Self::engine_thread).
    pub fn engine_builder(&self, engine: &str) -> Result<EngineBuilder> {
        Ok(Engine::builder().thread(self.engine_thread(engine)?).lanes(self.lanes_of(engine)?))
    }

    /// The thread of this engine's loop.
    ///
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig) where the plan has no such engine, where two of its threads have
    /// one name, where a thread has none, and where lanes are planned for an engine that is not.
    pub fn engine_thread(&self, engine: &str) -> Result<ThreadOptions> {
        self.thread(&Role::Loop, engine)
    }

    /// The parser lanes of this engine, in the order in which they were planned; none where none were.
    ///
    /// # Errors
    /// As [`engine_thread`](Self::engine_thread).
    pub fn lanes_of(&self, engine: &str) -> Result<Vec<ThreadOptions>> {
        let _known = self.thread(&Role::Loop, engine)?;
        Ok(self.threads.iter().filter(|thread| thread.is_lane_of(engine)).map(|lane| lane.options.clone()).collect())
    }

    /// The thread of this handler.
    ///
    /// # Errors
    /// As [`engine_thread`](Self::engine_thread).
    pub fn handler_thread(&self, handler: &str) -> Result<ThreadOptions> {
        self.thread(&Role::Handler, handler)
    }

    fn with(mut self, role: Role, options: ThreadOptions) -> Self {
        self.threads.push(Planned { role, options });
        self
    }

    fn thread(&self, role: &Role, name: &str) -> Result<ThreadOptions> {
        self.check_names()?;
        let found = self.threads.iter().find(|thread| thread.role == *role && thread.name() == name);
        found.map(|thread| thread.options.clone()).ok_or_else(|| {
            let kind = if *role == Role::Loop { "engine" } else { "handler" };
            HyperSocketError::InvalidConfig(format!(
                "the plan has no {kind} {name:?}; its {kind}s: {}",
                self.names_of(role)
            ))
        })
    }

    fn names_of(&self, role: &Role) -> String {
        let names: Vec<_> = self.threads.iter().filter(|thread| thread.role == *role).map(Planned::name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    fn check_names(&self) -> Result<()> {
        self.fault().map_or(Ok(()), |fault| Err(HyperSocketError::InvalidConfig(fault.what)))
    }

    /// The first thread that cannot be told from the others, or has no engine.
    fn fault(&self) -> Option<Fault> {
        let mut seen = HashMap::new();
        self.threads.iter().enumerate().find_map(|(thread, planned)| {
            let (name, role) = (planned.name(), &planned.role);
            let what = if name.is_empty() {
                format!("a thread of the plan ({role}) has no name: give it one that no other has")
            } else if name.contains(char::is_control) {
                format!("the name of thread {name:?} ({role}) holds a control character: leave it out")
            } else if let Some(other) = seen.insert(name, role) {
                format!("two threads are named {name:?} ({other} and {role}): give each a name of its own")
            } else if let Role::LaneOf(engine) = role
                && !self.threads.iter().any(|other| other.role == Role::Loop && other.name() == engine)
            {
                let engines = self.names_of(&Role::Loop);
                format!("lane {name:?} is for engine {engine:?}, which the plan has not; its engines: {engines}")
            } else {
                return None;
            };
            Some(Fault { thread, what })
        })
    }

    /// Each engine's loop with its lanes behind it, then the handlers.
    fn in_order(&self) -> Vec<&Planned> {
        let place_of = |engine: &str| {
            self.threads
                .iter()
                .position(|thread| thread.role == Role::Loop && thread.name() == engine)
                .unwrap_or(usize::MAX)
        };
        let mut threads: Vec<_> = self.threads.iter().collect();
        threads.sort_by_cached_key(|thread| match &thread.role {
            Role::Loop => (place_of(thread.name()), 0),
            Role::LaneOf(engine) => (place_of(engine), 1),
            Role::Handler => (usize::MAX, 2),
        });
        threads
    }
}

/// Why a plan cannot be used.
struct Fault {
    /// Which of the threads is at fault, in the order in which they were planned.
    #[cfg_attr(not(feature = "toml"), expect(dead_code, reason = "only a file has places to point at"))]
    thread: usize,
    what: String,
}

impl Planned {
    /// Empty where it has none.
    fn name(&self) -> &str {
        self.options.own_name().unwrap_or_default()
    }

    fn is_lane_of(&self, engine: &str) -> bool {
        matches!(&self.role, Role::LaneOf(own) if own == engine)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop => f.write_str("loop"),
            Self::LaneOf(engine) => write!(f, "lane of {}", engine.escape_debug()),
            Self::Handler => f.write_str("handler"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idle::IdleStrategy;

    fn named(name: &str) -> ThreadOptions {
        ThreadOptions::new().name(name)
    }

    fn refused(plan: &CorePlan) -> String {
        let refused = plan.check_names().expect_err("it is refused").to_string();
        assert_eq!(plan.engine_thread("feed").expect_err("it gives out nothing").to_string(), refused);
        refused.strip_prefix("invalid configuration: ").expect("the plan is at fault").to_owned()
    }

    #[test]
    fn threads_are_handed_out_by_their_names() {
        let plan = CorePlan::new()
            .lanes("feed", [named("parse-a").core(3), named("parse-b").core(4)])
            .engine("feed", ThreadOptions::new().core(2).idle(IdleStrategy::BusySpin))
            .engine("orders", ThreadOptions::new())
            .handler("books", named("overruled").core(5));
        assert_eq!(plan.engine_thread("feed").unwrap(), named("feed").core(2).idle(IdleStrategy::BusySpin));
        assert_eq!(plan.lanes_of("feed").unwrap(), [named("parse-a").core(3), named("parse-b").core(4)]);
        assert_eq!(plan.lanes_of("orders").unwrap(), []);
        assert_eq!(plan.handler_thread("books").unwrap(), named("books").core(5));
    }

    #[test]
    fn an_engine_runs_on_the_thread_that_is_planned_for_it() {
        let plan = CorePlan::new().engine("planned-loop", ThreadOptions::new().idle(IdleStrategy::Park));
        let engine = plan.engine_builder("planned-loop").unwrap().start().unwrap();
        engine.shutdown().unwrap();
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_there_are() {
        let plan = CorePlan::new()
            .engine("feed", ThreadOptions::new())
            .engine("orders", ThreadOptions::new())
            .lanes("feed", [named("parse")]);
        let error = |answer: Result<ThreadOptions>| answer.expect_err("it is not planned").to_string();
        assert_eq!(
            error(plan.engine_thread("parse")),
            r#"invalid configuration: the plan has no engine "parse"; its engines: feed, orders"#
        );
        assert_eq!(
            error(plan.handler_thread("feed")),
            r#"invalid configuration: the plan has no handler "feed"; its handlers: none"#
        );
        assert!(plan.lanes_of("fed").is_err());
        assert!(plan.engine_builder("fed").is_err());
    }

    #[test]
    fn names_are_unique_over_loops_lanes_and_handlers() {
        let feed = CorePlan::new().engine("feed", ThreadOptions::new());
        assert_eq!(
            refused(&feed.clone().lanes("feed", [named("a"), named("feed")])),
            r#"two threads are named "feed" (loop and lane of feed): give each a name of its own"#
        );
        assert_eq!(
            refused(&feed.handler("feed", ThreadOptions::new())),
            r#"two threads are named "feed" (loop and handler): give each a name of its own"#
        );
    }

    #[test]
    fn every_thread_has_a_name_that_a_table_and_a_kernel_can_hold() {
        let feed = CorePlan::new().engine("feed", ThreadOptions::new());
        assert_eq!(
            refused(&feed.clone().lanes("feed", [ThreadOptions::new()])),
            "a thread of the plan (lane of feed) has no name: give it one that no other has"
        );
        assert_eq!(
            refused(&feed.handler("bo\0oks", ThreadOptions::new())),
            r#"the name of thread "bo\0oks" (handler) holds a control character: leave it out"#
        );
    }

    #[test]
    fn lanes_are_an_engines_and_the_plan_has_it() {
        let plan = CorePlan::new().engine("feed", ThreadOptions::new()).lanes("fed", [named("parse")]);
        assert_eq!(refused(&plan), r#"lane "parse" is for engine "fed", which the plan has not; its engines: feed"#);
    }
}
