//! A plan against a host's cores: what cannot run is an error, what will hurt a warning. Pure but for
//! [`CorePlan::check`], which looks at this host.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::topology::{Topology, listed};
use super::{CorePlan, Planned};
use crate::cpu::Pin;
use crate::error::{HyperSocketError, Result};
use crate::idle::IdleStrategy;

/// What will hurt in a plan that can run. Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanWarning {
    /// The process may not use the core that the thread would prefer, so it will run unpinned.
    PreferredCoreMissing {
        /// The thread's name.
        thread: String,
        /// The core that it would prefer.
        core: usize,
        /// The cores that the process may use.
        allowed: Vec<usize>,
    },
    /// A thread spins wherever the scheduler puts it, and may be put upon a core where another spins.
    SpinsUnpinned {
        /// The thread's name.
        thread: String,
    },
    /// A thread spins on a core that is not isolated: other tasks take its turns.
    SpinsUnisolated {
        /// The thread's name.
        thread: String,
        /// Its core.
        core: usize,
    },
    /// A thread spins on an isolated core whose timer tick goes on: it is interrupted some hundred times a second.
    SpinsUnderTick {
        /// The thread's name.
        thread: String,
        /// Its core.
        core: usize,
    },
    /// A thread that never sleeps has its core in common with one that wants it too.
    SpinnerShares {
        /// The one that never sleeps.
        spinner: String,
        /// The one that waits for its turns.
        other: String,
        /// Their core.
        core: usize,
    },
    /// More threads spin than the process has cores, less one for everything else.
    TooManySpinners {
        /// How many spin.
        spinners: usize,
        /// How many cores the process may use.
        cores: usize,
    },
    /// Several threads are pinned to one isolated core, which was isolated to belong to one.
    IsolatedCoreShared {
        /// The core.
        core: usize,
        /// The names of its threads.
        threads: Vec<String>,
    },
    /// Two names are equal as far as the system shows them: 15 bytes.
    NamesLookAlike {
        /// The name that was planned first.
        first: String,
        /// The other.
        second: String,
    },
}

impl fmt::Display for PlanWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PreferredCoreMissing { thread, core, allowed } => write!(
                f,
                "thread {thread:?} will run unpinned: core {core} is not in the affinity mask of this process ({}); \
                 plan one that is, or start the process with a wider mask (taskset -c)",
                listed(allowed.iter().copied())
            ),
            Self::SpinsUnpinned { thread } => write!(
                f,
                "thread {thread:?} spins and is not pinned, so the scheduler may put it where another thread spins: pin it, \
                 or let it wait adaptively"
            ),
            Self::SpinsUnisolated { thread, core } => write!(
                f,
                "thread {thread:?} spins on core {core}, which is not isolated, so other tasks take turns with it: isolate \
                 the core (isolcpus={core}), or let the thread wait adaptively"
            ),
            Self::SpinsUnderTick { thread, core } => write!(
                f,
                "thread {thread:?} spins on core {core}, which is isolated but has its timer tick: stop that too \
                 (nohz_full={core})"
            ),
            Self::SpinnerShares { spinner, other, core } => write!(
                f,
                "thread {other:?} is pinned to core {core}, where {spinner:?} never sleeps: move one of them to another core"
            ),
            Self::TooManySpinners { spinners, cores } => write!(
                f,
                "{spinners} of the threads spin and the process has {cores} cores, of which one should be left for \
                 everything else: let {} of them wait adaptively",
                spinners.saturating_sub(cores.saturating_sub(1))
            ),
            Self::IsolatedCoreShared { core, threads } => write!(
                f,
                "threads {} are pinned to core {core}, which is isolated to belong to one: leave it to one of them",
                threads.iter().map(|thread| format!("{thread:?}")).collect::<Vec<_>>().join(", ")
            ),
            Self::NamesLookAlike { first, second } => write!(
                f,
                "threads {first:?} and {second:?} look the same in top -H, which shows {SHOWN_BYTES} bytes: let their \
                 names differ sooner"
            ),
        }
    }
}

impl CorePlan {
    /// Compares the plan with this host: the process's affinity mask, the cores that are isolated, those without a tick.
    ///
    /// Returns what will hurt and can run all the same, in the order of the threads.
    ///
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig), which names the thread and says what to do, where a thread is
    /// pinned to a core that the process may not use, where two spin on one core, and where
    /// [`engine_thread`](Self::engine_thread) would err for any name.
    pub fn check(&self) -> Result<Vec<PlanWarning>> {
        self.check_on(&Topology::of_this_host())
    }

    pub(super) fn check_on(&self, host: &Topology) -> Result<Vec<PlanWarning>> {
        self.check_names()?;
        let threads = self.in_order().into_iter().map(|thread| place(thread, host)).collect::<Result<Vec<_>>>()?;
        let mut cores: BTreeMap<usize, Vec<Placed<'_>>> = BTreeMap::new();
        for thread in &threads {
            if let Some(core) = thread.core {
                cores.entry(core).or_default().push(*thread);
            }
        }
        refuse_two_spinners(&cores)?;

        let mut warnings: Vec<_> = threads.iter().flat_map(|thread| warnings_of(thread, host)).collect();
        warnings.extend(cores.iter().flat_map(|(core, threads)| warnings_of_core(*core, threads, host)));
        let spinners = threads.iter().filter(|thread| thread.spins).count();
        if spinners > host.allowed.len().saturating_sub(1) {
            warnings.push(PlanWarning::TooManySpinners { spinners, cores: host.allowed.len() });
        }
        warnings.extend(look_alikes(&threads));
        Ok(warnings)
    }
}

/// A thread on the host.
#[derive(Debug, Clone, Copy)]
struct Placed<'a> {
    name: &'a str,
    pin: Pin,
    /// The core that it will be pinned to.
    core: Option<usize>,
    spins: bool,
}

fn place<'a>(thread: &'a Planned, host: &Topology) -> Result<Placed<'a>> {
    let (name, pin) = (thread.name(), thread.options.pin());
    let core = match pin {
        Pin::Anywhere => None,
        Pin::Core(core) if !host.allowed.contains(&core) => return Err(outside_the_mask(name, core, host)),
        Pin::Core(core) => Some(core),
        Pin::Preferred(core) => host.allowed.contains(&core).then_some(core),
    };
    Ok(Placed { name, pin, core, spins: thread.options.idle_strategy() == IdleStrategy::BusySpin })
}

fn outside_the_mask(name: &str, core: usize, host: &Topology) -> HyperSocketError {
    let allowed = listed(host.allowed.iter().copied());
    HyperSocketError::InvalidConfig(if host.isolated.contains(&core) {
        // The kernel keeps isolated cores out of every mask until somebody asks for them.
        let wider: BTreeSet<_> = host.allowed.union(&host.isolated).copied().collect();
        format!(
            "thread {name:?} is pinned to core {core}, which is isolated and so not in the affinity mask that this process \
             was started with ({allowed}): start it by taskset -c {}",
            listed(wider)
        )
    } else {
        format!(
            "thread {name:?} is pinned to core {core}, which this process may not use (it may use {allowed}): plan another, \
             or prefer_core where it may run unpinned"
        )
    })
}

fn refuse_two_spinners(cores: &BTreeMap<usize, Vec<Placed<'_>>>) -> Result<()> {
    for (core, threads) in cores {
        let mut spinners = threads.iter().filter(|thread| thread.spins);
        if let (Some(first), Some(second)) = (spinners.next(), spinners.next()) {
            return Err(HyperSocketError::InvalidConfig(format!(
                "threads {:?} and {:?} would both spin on core {core}, each for half of the time: give one of them another \
                 core, or let it wait adaptively",
                first.name, second.name
            )));
        }
    }
    Ok(())
}

fn warnings_of(thread: &Placed<'_>, host: &Topology) -> Vec<PlanWarning> {
    let name = || thread.name.to_owned();
    let mut warnings = Vec::new();
    if let (Pin::Preferred(core), None) = (thread.pin, thread.core) {
        let allowed = host.allowed.iter().copied().collect();
        warnings.push(PlanWarning::PreferredCoreMissing { thread: name(), core, allowed });
    }
    if thread.spins {
        warnings.extend(match thread.core {
            None => Some(PlanWarning::SpinsUnpinned { thread: name() }),
            Some(core) if !host.isolated.contains(&core) => Some(PlanWarning::SpinsUnisolated { thread: name(), core }),
            Some(core) if !host.nohz_full.contains(&core) => Some(PlanWarning::SpinsUnderTick { thread: name(), core }),
            Some(_) => None,
        });
    }
    warnings
}

/// At most one of the threads spins: two were refused.
fn warnings_of_core(core: usize, threads: &[Placed<'_>], host: &Topology) -> Vec<PlanWarning> {
    if let Some(spinner) = threads.iter().find(|thread| thread.spins) {
        let others = threads.iter().filter(|thread| !thread.spins);
        return others
            .map(|other| PlanWarning::SpinnerShares {
                spinner: spinner.name.to_owned(),
                other: other.name.to_owned(),
                core,
            })
            .collect();
    }
    if threads.len() > 1 && host.isolated.contains(&core) {
        let threads = threads.iter().map(|thread| thread.name.to_owned()).collect();
        return vec![PlanWarning::IsolatedCoreShared { core, threads }];
    }
    Vec::new()
}

fn look_alikes(threads: &[Placed<'_>]) -> Vec<PlanWarning> {
    let mut shown = HashMap::new();
    let mut warnings = Vec::new();
    for thread in threads {
        let start = thread.name.as_bytes().get(..SHOWN_BYTES).unwrap_or(thread.name.as_bytes());
        let first = *shown.entry(start).or_insert(thread.name);
        if first != thread.name {
            warnings.push(PlanWarning::NamesLookAlike { first: first.to_owned(), second: thread.name.to_owned() });
        }
    }
    warnings
}

/// Linux keeps 16 bytes of a thread's name, the last of them zero.
const SHOWN_BYTES: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::ThreadOptions;

    /// A co-located host: cores 0 and 1 for the system, 2 to 5 isolated, of which 5 has its tick.
    fn colocated() -> Topology {
        Topology { allowed: (0..6).collect(), isolated: (2..6).collect(), nohz_full: (2..5).collect() }
    }

    fn spinning(core: usize) -> ThreadOptions {
        ThreadOptions::new().core(core).idle(IdleStrategy::BusySpin)
    }

    fn warned(plan: &CorePlan) -> Vec<String> {
        let warnings = plan.check_on(&colocated()).expect("it can run");
        warnings.iter().map(ToString::to_string).collect()
    }

    fn refused(plan: &CorePlan, host: &Topology) -> String {
        match plan.check_on(host) {
            Err(HyperSocketError::InvalidConfig(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plan_that_fits_its_host_draws_no_warning() {
        let plan = CorePlan::new()
            .engine("feed", spinning(2))
            .lanes("feed", [spinning(3).name("parse")])
            .handler("books", spinning(4))
            .handler("journal", ThreadOptions::new().core(1))
            .handler("report", ThreadOptions::new().core(1));
        assert_eq!(warned(&plan), [""; 0]);
        assert_eq!(warned(&CorePlan::new()), [""; 0]);
    }

    #[test]
    fn a_core_outside_the_mask_is_refused() {
        let plan = CorePlan::new().engine("feed", spinning(9));
        assert_eq!(
            refused(&plan, &colocated()),
            "thread \"feed\" is pinned to core 9, which this process may not use (it may use 0-5): plan another, or \
             prefer_core where it may run unpinned"
        );
    }

    #[test]
    fn an_isolated_core_outside_the_mask_wants_taskset() {
        let plan = CorePlan::new().handler("books", ThreadOptions::new().core(3));
        let started_plainly = Topology { allowed: BTreeSet::from([0, 1]), ..colocated() };
        assert_eq!(
            refused(&plan, &started_plainly),
            "thread \"books\" is pinned to core 3, which is isolated and so not in the affinity mask that this process was \
             started with (0-1): start it by taskset -c 0-5"
        );
    }

    #[test]
    fn two_that_spin_on_one_core_are_refused() {
        let preferred = ThreadOptions::new().name("parse").prefer_core(2).idle(IdleStrategy::BusySpin);
        let plan = CorePlan::new().engine("feed", spinning(2)).lanes("feed", [preferred]);
        assert_eq!(
            refused(&plan, &colocated()),
            "threads \"feed\" and \"parse\" would both spin on core 2, each for half of the time: give one of them another \
             core, or let it wait adaptively"
        );
    }

    #[test]
    fn a_preferred_core_that_is_not_to_be_had_is_told() {
        let plan = CorePlan::new().handler("books", ThreadOptions::new().prefer_core(7));
        assert_eq!(
            warned(&plan),
            [
                "thread \"books\" will run unpinned: core 7 is not in the affinity mask of this process (0-5); plan one that \
              is, or start the process with a wider mask (taskset -c)"
            ]
        );
    }

    #[test]
    fn a_thread_that_spins_wants_a_core_that_is_its_own() {
        let unpinned = ThreadOptions::new().idle(IdleStrategy::BusySpin);
        let plan = CorePlan::new()
            .engine("anywhere", unpinned.clone())
            .engine("common", spinning(1))
            .engine("ticking", spinning(5))
            .handler("homeless", unpinned.prefer_core(7));
        let host = colocated();
        let warnings = plan.check_on(&host).expect("it can run");
        let thread = |name: &str| name.to_owned();
        assert_eq!(
            warnings,
            [
                PlanWarning::SpinsUnpinned { thread: thread("anywhere") },
                PlanWarning::SpinsUnisolated { thread: thread("common"), core: 1 },
                PlanWarning::SpinsUnderTick { thread: thread("ticking"), core: 5 },
                PlanWarning::PreferredCoreMissing { thread: thread("homeless"), core: 7, allowed: (0..6).collect() },
                PlanWarning::SpinsUnpinned { thread: thread("homeless") },
            ]
        );
    }

    #[test]
    fn who_shares_a_core_with_a_spinner_is_named() {
        let plan = CorePlan::new()
            .engine("feed", spinning(2))
            .handler("books", ThreadOptions::new().core(2))
            .handler("trades", ThreadOptions::new().prefer_core(2));
        assert_eq!(
            warned(&plan),
            [
                "thread \"books\" is pinned to core 2, where \"feed\" never sleeps: move one of them to another core",
                "thread \"trades\" is pinned to core 2, where \"feed\" never sleeps: move one of them to another core",
            ]
        );
    }

    #[test]
    fn an_isolated_core_is_for_one_thread() {
        let plan = CorePlan::new()
            .handler("books", ThreadOptions::new().core(3))
            .handler("trades", ThreadOptions::new().core(3));
        assert_eq!(
            warned(&plan),
            [
                "threads \"books\", \"trades\" are pinned to core 3, which is isolated to belong to one: leave it to one of them"
            ]
        );
    }

    #[test]
    fn one_core_is_left_for_everything_else() {
        let host = Topology { allowed: (0..2).collect(), isolated: (0..2).collect(), nohz_full: (0..2).collect() };
        let plan = CorePlan::new().engine("feed", spinning(0)).engine("orders", spinning(1));
        let warnings = plan.check_on(&host).expect("it can run");
        assert_eq!(warnings, [PlanWarning::TooManySpinners { spinners: 2, cores: 2 }]);
        assert_eq!(
            warnings[0].to_string(),
            "2 of the threads spin and the process has 2 cores, of which one should be left for everything else: let 1 of \
             them wait adaptively"
        );
    }

    #[test]
    fn names_that_top_shows_alike_are_told() {
        let plan = CorePlan::new()
            .handler("hyperliquid-book-btc", ThreadOptions::new())
            .handler("hyperliquid-boo", ThreadOptions::new())
            .handler("hyperliquid-bo", ThreadOptions::new());
        assert_eq!(
            warned(&plan),
            [
                "threads \"hyperliquid-book-btc\" and \"hyperliquid-boo\" look the same in top -H, which shows 15 bytes: let \
              their names differ sooner"
            ]
        );
    }

    #[cfg(feature = "toml")]
    #[test]
    fn the_profiles_fit_the_hosts_that_they_are_for() {
        let vm = Topology { allowed: (0..4).collect(), ..Topology::default() };
        let colocated = Topology { allowed: (0..8).collect(), isolated: (2..8).collect(), nohz_full: (2..8).collect() };
        for (profile, host) in [
            (include_str!("../../tuning/laptop.toml"), &vm),
            (include_str!("../../tuning/cloud-vm.toml"), &vm),
            (include_str!("../../tuning/colocated.toml"), &colocated),
        ] {
            let plan = CorePlan::from_toml(profile).expect("it is a plan");
            assert_eq!(plan.check_on(host).expect("it can run"), [], "\n{plan}");
        }
    }
}
