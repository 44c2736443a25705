//! A plan from a TOML file. Invariant: whatever the text, the answer is a plan that gives out its threads, or an error with
//! the place and what is wrong there.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::{CorePlan, Planned, Role};
use crate::error::Result;
use crate::idle::IdleStrategy;
use crate::thread::ThreadOptions;
use crate::toml_file::{self, Entry, Mistake, Section};

impl CorePlan {
    /// Reads a plan from a TOML text. A key that is not named here is refused.
    ///
    /// ```
    /// let plan = hypersockets::CorePlan::from_toml(
    ///     r#"
    ///     [[engine]]             # an event loop; any number of them
    ///     name = "feed"          # required and unique, over all threads
    ///     core = 2               # pinned, or an error; prefer_core = 2: pinned where possible; neither: unpinned
    ///     idle = "busy-spin"     # "adaptive" (the default), "park", or a table as below
    ///     stack_kib = 256        # 16 to 65536; the platform's default where it is not given
    ///     lanes = [              # its parser lanes: the same keys, but for lanes
    ///         { name = "parse-a", core = 3, idle = "busy-spin" },
    ///         { name = "parse-b", core = 4, idle = "busy-spin" },
    ///     ]
    ///
    ///     [[handler]]            # a handler's thread: the same keys, but for lanes
    ///     name = "books"
    ///     prefer_core = 5
    ///     idle = { spin_us = 50, yields = 0, max_park_ms = 20 }   # each has the default's value where it is not given
    ///     "#,
    /// )?;
    /// assert_eq!(plan.lanes_of("feed")?.len(), 2);
    /// # Ok::<(), hypersockets::HyperSocketError>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::HyperSocketError::InvalidConfig) with line, column, and what is wrong there.
    pub fn from_toml(text: &str) -> Result<Self> {
        toml_file::read(text, read)
    }

    /// Reads a plan from a TOML file, as [`from_toml`](Self::from_toml) does.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::HyperSocketError::InvalidConfig) with file, line, column, and what is wrong there;
    /// [`Io`](crate::HyperSocketError::Io) where the file cannot be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        toml_file::load(path.as_ref(), read)
    }
}

const THREAD_KEYS: &[&str] = &["name", "core", "prefer_core", "idle", "stack_kib"];
const ENGINE_KEYS: &[&str] = &["name", "core", "prefer_core", "idle", "stack_kib", "lanes"];

fn read(text: &str) -> Result<CorePlan, Mistake> {
    let document = toml_file::parse(text)?;
    let file = Section::new("a plan", 0, document.get_ref(), &["engine", "handler"])?;
    let mut plan = CorePlan::new();
    let mut places = Vec::new();
    let mut add = |role: Role, section: &Section<'_>| -> Result<(), Mistake> {
        places.push(section.at);
        plan.threads.push(Planned { role, options: thread(section)? });
        Ok(())
    };
    for engine in file.sections("engine", "an engine", ENGINE_KEYS)? {
        add(Role::Loop, &engine)?;
        for lane in engine.sections("lanes", "a lane", THREAD_KEYS)? {
            add(Role::LaneOf(engine.name()?.to_owned()), &lane)?;
        }
    }
    for handler in file.sections("handler", "a handler", THREAD_KEYS)? {
        add(Role::Handler, &handler)?;
    }
    match plan.fault() {
        Some(fault) => Err(Mistake { at: places[fault.thread], what: fault.what }),
        None => Ok(plan),
    }
}

fn thread(section: &Section<'_>) -> Result<ThreadOptions, Mistake> {
    let mut options = ThreadOptions::new().name(section.name()?);
    if let Some(core) = section.number("core", CORES)? {
        options = options.core(core as usize);
    }
    if let Some(core) = section.number("prefer_core", CORES)? {
        if let Some(entry) = section.entry("prefer_core").filter(|_| section.entry("core").is_some()) {
            return Err(entry.mistake("core and prefer_core exclude each other: keep one of them".to_owned()));
        }
        options = options.prefer_core(core as usize);
    }
    if let Some(entry) = section.entry("idle") {
        options = options.idle(idle(&entry)?);
    }
    if let Some(kib) = section.number("stack_kib", STACK_KIB)? {
        options = options.stack_bytes(kib as usize * 1024);
    }
    Ok(options)
}

fn idle(entry: &Entry<'_>) -> Result<IdleStrategy, Mistake> {
    match entry.value.get_ref() {
        DeValue::String(word) => match word.as_ref() {
            "busy-spin" => Ok(IdleStrategy::BusySpin),
            "adaptive" => Ok(IdleStrategy::default()),
            "park" => Ok(IdleStrategy::Park),
            other => Err(entry.mistake(format!("{IDLE_WORDS}; this is {other:?}"))),
        },
        DeValue::Table(table) => {
            let at = entry.value.span().start;
            let own = Section::new("an idle strategy", at, table, &["spin_us", "yields", "max_park_ms"])?;
            adaptive(&own)
        }
        other => Err(entry.mistake(format!("{IDLE_WORDS}; this is of type {}", other.type_str()))),
    }
}

const IDLE_WORDS: &str = r#"idle must be "busy-spin", "adaptive", "park", or a table such as { spin_us = 250, yields = 0, max_park_ms = 1000 }"#;

/// The default strategy with the numbers that are given.
fn adaptive(own: &Section<'_>) -> Result<IdleStrategy, Mistake> {
    let mut strategy = IdleStrategy::default();
    if let IdleStrategy::Backoff { spin, yields, max_park } = &mut strategy {
        if let Some(micros) = own.number("spin_us", SPIN_US)? {
            *spin = Duration::from_micros(micros.into());
        }
        if let Some(times) = own.number("yields", YIELDS)? {
            *yields = times;
        }
        if let Some(millis) = own.number("max_park_ms", MAX_PARK_MS)? {
            *max_park = Duration::from_millis(millis.into());
        }
    }
    Ok(strategy)
}

/// Linux can be built for 8,192 at most.
const CORES: RangeInclusive<u32> = 0..=8_191;
/// From the least that systems start a thread with to far more than one needs, so that bytes given for KiB are found out.
const STACK_KIB: RangeInclusive<u32> = 16..=65_536;
/// A second between two messages is not worth a core.
const SPIN_US: RangeInclusive<u32> = 0..=1_000_000;
/// A million yields take a large part of a second.
const YIELDS: RangeInclusive<u32> = 0..=1_000_000;
/// No park at all would be a spin by system calls; a loop that looks around less than once a minute is stuck to the eye.
const MAX_PARK_MS: RangeInclusive<u32> = 1..=60_000;
