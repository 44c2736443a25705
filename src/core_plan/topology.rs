//! What the host says of its cores. Invariant: a file that is missing or unreadable says that there are none of the kind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::cpu;

/// The cores of the host, as far as a plan is judged by them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Topology {
    /// Those of the process's affinity mask.
    pub(super) allowed: BTreeSet<usize>,
    /// Those that the scheduler gives to nobody by itself.
    pub(super) isolated: BTreeSet<usize>,
    /// Those whose timer tick stops while one thread has them for itself.
    pub(super) nohz_full: BTreeSet<usize>,
}

impl Topology {
    pub(super) fn of_this_host() -> Self {
        Self::read(Path::new("/sys"), cpu::allowed().iter().copied().collect())
    }

    /// From the tree that Linux shows under `/sys`.
    fn read(sys: &Path, allowed: BTreeSet<usize>) -> Self {
        let listed = |file: &str| {
            let text = fs::read_to_string(sys.join(file)).unwrap_or_default();
            cores_of(text.trim()).unwrap_or_default()
        };
        let mut isolated = listed("devices/system/cpu/isolated");
        // Isolated at run time, by a cgroup's partition, and not at boot.
        isolated.append(&mut listed("fs/cgroup/cpuset.cpus.isolated"));
        Self { allowed, isolated, nohz_full: listed("devices/system/cpu/nohz_full") }
    }
}

/// Reads a list such as `2-5,8`; `None` where it is none (the kernel says `(null)` too).
fn cores_of(list: &str) -> Option<BTreeSet<usize>> {
    let mut cores = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= MAX_CORES {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

/// Writes a list such as `2-5,8`.
pub(super) fn listed(cores: impl IntoIterator<Item = usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for core in cores {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => runs.push((core, core)),
        }
    }
    let parts: Vec<_> = runs
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(",") }
}

/// Linux can be built for 8,192 at most; a longer range is no list of cores.
const MAX_CORES: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    fn set<const N: usize>(cores: [usize; N]) -> BTreeSet<usize> {
        BTreeSet::from(cores)
    }

    #[test]
    fn lists_of_cores_are_read_as_the_kernel_writes_them() {
        assert_eq!(cores_of("2-5,8"), Some(set([2, 3, 4, 5, 8])));
        assert_eq!(cores_of("0"), Some(set([0])));
        for none in ["", "(null)", "2-", "-2", "a-b", "1,,2", "0-99999999999", "18446744073709551616"] {
            assert_eq!(cores_of(none), None, "{none:?}");
        }
    }

    #[test]
    fn lists_of_cores_are_written_as_the_kernel_writes_them() {
        for list in ["0", "2-5,8", "0-1,3,5-7"] {
            assert_eq!(listed(cores_of(list).expect("it is one")), list);
        }
        assert_eq!(listed([]), "none");
    }

    #[test]
    fn a_hosts_tree_is_read_where_it_is_there() {
        let sys = std::env::temp_dir().join(format!("hypersockets-sys-{}", std::process::id()));
        assert_eq!(
            Topology::read(&sys, set([0])),
            Topology { allowed: set([0]), ..Topology::default() },
            "nothing there, nothing isolated"
        );
        for (file, cores) in [
            ("devices/system/cpu/isolated", "2-3\n"),
            ("devices/system/cpu/nohz_full", "  (null)\n"),
            ("fs/cgroup/cpuset.cpus.isolated", "7\n"),
        ] {
            let file = sys.join(file);
            fs::create_dir_all(file.parent().expect("it has a folder")).unwrap();
            fs::write(file, cores).unwrap();
        }
        let read = Topology::read(&sys, set([0, 1]));
        fs::remove_dir_all(&sys).unwrap();
        assert_eq!(read, Topology { allowed: set([0, 1]), isolated: set([2, 3, 7]), nohz_full: set([]) });
    }
}
