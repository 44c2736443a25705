//! A plan from a TOML file. Invariant: whatever the text, the answer is a plan that gives out its threads, or an error with
//! the place and what is wrong there.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{CorePlan, Planned, Role};
use crate::error::{HyperSocketError, Result};
use crate::idle::IdleStrategy;
use crate::thread::ThreadOptions;

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
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig) with line, column, and what is wrong there.
    pub fn from_toml(text: &str) -> Result<Self> {
        read(text).map_err(|mistake| HyperSocketError::InvalidConfig(mistake.told(text)))
    }

    /// Reads a plan from a TOML file, as [`from_toml`](Self::from_toml) does.
    ///
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig) with file, line, column, and what is wrong there;
    /// [`Io`](HyperSocketError::Io) where the file cannot be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = fs::read_to_string(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        read(&text)
            .map_err(|mistake| HyperSocketError::InvalidConfig(format!("{}, {}", path.display(), mistake.told(&text))))
    }
}

/// What is wrong in a file, and where.
struct Mistake {
    /// In bytes from the start of the file.
    at: usize,
    what: String,
}

impl Mistake {
    fn told(&self, text: &str) -> String {
        let before = &text.as_bytes()[..self.at.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = String::from_utf8_lossy(last).chars().count() + 1;
        format!("line {line}, column {column}: {}", self.what)
    }
}

const THREAD_KEYS: &[&str] = &["name", "core", "prefer_core", "idle", "stack_kib"];
const ENGINE_KEYS: &[&str] = &["name", "core", "prefer_core", "idle", "stack_kib", "lanes"];

fn read(text: &str) -> Result<CorePlan, Mistake> {
    let document = DeTable::parse(text).map_err(|error| Mistake {
        at: error.span().map_or(text.len(), |span| span.start),
        what: error.message().to_owned(),
    })?;
    let file = Section::new("a plan", 0, document.get_ref(), &["engine", "handler"])?;
    let mut plan = CorePlan::new();
    let mut places = Vec::new();
    let mut add = |role: Role, section: &Section<'_>| -> Result<(), Mistake> {
        places.push(section.at);
        plan.threads.push(Planned { role, options: section.thread()? });
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

/// A table of the file all of whose keys are known.
struct Section<'a> {
    /// What it describes, with its article.
    what: &'static str,
    at: usize,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    fn new(what: &'static str, at: usize, table: &'a DeTable<'a>, keys: &[&str]) -> Result<Self, Mistake> {
        let strangers = table.keys().filter(|key| !keys.contains(&key.get_ref().as_ref()));
        match strangers.min_by_key(|key| key.span().start) {
            Some(key) => Err(Mistake {
                at: key.span().start,
                what: format!("{what} has no key {:?}; its keys: {}", key.get_ref(), keys.join(", ")),
            }),
            None => Ok(Self { what, at, table }),
        }
    }

    fn entry(&self, key: &'static str) -> Option<Entry<'a>> {
        self.table.get(key).map(|value| Entry { key, value })
    }

    fn number(&self, key: &'static str, bounds: RangeInclusive<u32>) -> Result<Option<u32>, Mistake> {
        self.entry(key).map(|entry| entry.number(bounds)).transpose()
    }

    /// The tables of an array; none where it is not given.
    fn sections(&self, key: &'static str, what: &'static str, keys: &[&str]) -> Result<Vec<Self>, Mistake> {
        let Some(entry) = self.entry(key) else { return Ok(Vec::new()) };
        let wanted = || entry.not(&format!("an array of tables, each {what}"));
        let array = entry.value.get_ref().as_array().ok_or_else(wanted)?;
        array
            .iter()
            .map(|element| {
                let entry = Entry { key, value: element };
                let table = element.get_ref().as_table();
                let table = table.ok_or_else(|| entry.not(&format!("tables only, each {what}")))?;
                Section::new(what, element.span().start, table, keys)
            })
            .collect()
    }

    fn name(&self) -> Result<&'a str, Mistake> {
        let entry = self.entry("name");
        let entry = entry.ok_or_else(|| Mistake { at: self.at, what: format!("{} needs a name", self.what) })?;
        entry.value.get_ref().as_str().ok_or_else(|| entry.not("a string"))
    }

    fn thread(&self) -> Result<ThreadOptions, Mistake> {
        let mut options = ThreadOptions::new().name(self.name()?);
        if let Some(core) = self.number("core", CORES)? {
            options = options.core(core as usize);
        }
        if let Some(core) = self.number("prefer_core", CORES)? {
            if let Some(entry) = self.entry("prefer_core").filter(|_| self.entry("core").is_some()) {
                return Err(entry.mistake("core and prefer_core exclude each other: keep one of them".to_owned()));
            }
            options = options.prefer_core(core as usize);
        }
        if let Some(entry) = self.entry("idle") {
            options = options.idle(entry.idle()?);
        }
        if let Some(kib) = self.number("stack_kib", STACK_KIB)? {
            options = options.stack_bytes(kib as usize * 1024);
        }
        Ok(options)
    }
}

/// A key with its value.
struct Entry<'a> {
    key: &'static str,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Entry<'a> {
    fn mistake(&self, what: String) -> Mistake {
        Mistake { at: self.value.span().start, what }
    }

    fn not(&self, wanted: &str) -> Mistake {
        self.mistake(format!("{} must be {wanted}; this is of type {}", self.key, self.value.get_ref().type_str()))
    }

    fn number(&self, bounds: RangeInclusive<u32>) -> Result<u32, Mistake> {
        let Some(number) = self.value.get_ref().as_integer() else { return Err(self.not("a whole number")) };
        let read = u32::from_str_radix(number.as_str(), number.radix()).ok();
        read.filter(|number| bounds.contains(number)).ok_or_else(|| {
            self.mistake(format!("{} must be {} to {}; this is {number}", self.key, bounds.start(), bounds.end()))
        })
    }

    fn idle(&self) -> Result<IdleStrategy, Mistake> {
        match self.value.get_ref() {
            DeValue::String(word) => match word.as_ref() {
                "busy-spin" => Ok(IdleStrategy::BusySpin),
                "adaptive" => Ok(IdleStrategy::default()),
                "park" => Ok(IdleStrategy::Park),
                other => Err(self.mistake(format!("{IDLE_WORDS}; this is {other:?}"))),
            },
            DeValue::Table(table) => {
                let at = self.value.span().start;
                let own = Section::new("an idle strategy", at, table, &["spin_us", "yields", "max_park_ms"])?;
                adaptive(&own)
            }
            other => Err(self.mistake(format!("{IDLE_WORDS}; this is of type {}", other.type_str()))),
        }
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
