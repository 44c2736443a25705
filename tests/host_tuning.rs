//! Promise: `hypersockets doctor` and `tuning/check.sh` find the same, and what is there to be found; `tuning/apply.sh` changes nothing
//! before it has written the way back, and the way back leads back.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A host, as the files of which the checks know.
struct Host {
    name: &'static str,
    /// The cores that are asked about.
    cores: &'static [usize],
    files: BTreeMap<String, String>,
    /// What is in the way, in the words before the colon; hints with an `h` before them.
    wrong: &'static [&'static str],
}

/// Four cpus as a server is delivered.
fn delivered() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut put = |path: &str, text: &str| drop(files.insert(path.to_owned(), format!("{text}\n")));
    put("sys/devices/system/cpu/online", "0-3");
    put("sys/devices/system/cpu/isolated", "");
    put("sys/devices/system/cpu/nohz_full", "(null)");
    put("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet");
    put("proc/irq/default_smp_affinity", "f");
    for (irq, list) in [(9, "0-3"), (40, "0"), (41, "1"), (42, "0-3")] {
        put(&format!("proc/irq/{irq}/smp_affinity_list"), list);
    }
    for (pid, comm) in [(1, "systemd"), (733, "irqbalance"), (900, "sshd")] {
        put(&format!("proc/{pid}/comm"), comm);
    }
    put("sys/class/net/eth0/device/local_cpulist", "0-3");
    put("sys/class/net/eth0/queues/rx-0/rps_cpus", "0");
    put("sys/class/net/eth0/queues/rx-1/rps_cpus", "00000000,0000000c");
    for cpu in 0..4 {
        let cpu_place = format!("sys/devices/system/cpu/cpu{cpu}");
        put(&format!("{cpu_place}/topology/thread_siblings_list"), if cpu % 2 == 0 { "0,2" } else { "1,3" });
        put(&format!("{cpu_place}/cpufreq/scaling_governor"), "schedutil");
        for (state, latency) in [(0, "0"), (1, "2"), (2, "133")] {
            put(&format!("{cpu_place}/cpuidle/state{state}/latency"), latency);
            put(&format!("{cpu_place}/cpuidle/state{state}/disable"), "0");
        }
    }
    put("sys/devices/virtual/workqueue/cpumask", "f");
    put("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never");
    put("proc/sys/kernel/numa_balancing", "1");
    put("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 8388604 0 -2");
    put("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc");
    put("proc/sys/vm/stat_interval", "1");
    put("proc/sys/kernel/timer_migration", "1");
    put("proc/sys/kernel/nmi_watchdog", "1");
    put("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1");
    put("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456");
    put("proc/sys/net/core/busy_poll", "0");
    files
}

/// The same host, with cores 2 and 3 kept for trading.
fn tuned() -> BTreeMap<String, String> {
    let mut files = delivered();
    let changes = [
        ("sys/devices/system/cpu/isolated", "2-3"),
        ("sys/devices/system/cpu/nohz_full", "2-3"),
        (
            "proc/cmdline",
            "BOOT_IMAGE=/vmlinuz isolcpus=managed_irq,domain,2-3 nohz_full=2-3 rcu_nocbs=2-3 irqaffinity=0,1",
        ),
        ("proc/irq/default_smp_affinity", "3"),
        ("proc/irq/9/smp_affinity_list", "0-1"),
        ("proc/irq/42/smp_affinity_list", "0-1"),
        ("proc/733/comm", "chronyd"),
        ("sys/class/net/eth0/queues/rx-1/rps_cpus", "00000000,00000003"),
        ("sys/devices/virtual/workqueue/cpumask", "3"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]"),
        ("proc/sys/kernel/numa_balancing", "0"),
        ("proc/swaps", "Filename\tType\tSize\tUsed\tPriority"),
        ("proc/sys/vm/stat_interval", "10"),
        ("proc/sys/kernel/timer_migration", "0"),
        ("proc/sys/kernel/nmi_watchdog", "0"),
        ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "0"),
        ("proc/sys/net/ipv4/tcp_rmem", "4096\t1048576\t16777216"),
        ("proc/sys/net/core/busy_poll", "50"),
    ];
    for (path, text) in changes {
        files.insert(path.to_owned(), format!("{text}\n"));
    }
    for cpu in 2..4 {
        let cpu_place = format!("sys/devices/system/cpu/cpu{cpu}");
        files.insert(format!("{cpu_place}/topology/thread_siblings_list"), format!("{cpu}\n"));
        files.insert(format!("{cpu_place}/cpufreq/scaling_governor"), "performance\n".to_owned());
        files.insert(format!("{cpu_place}/cpuidle/state2/disable"), "1\n".to_owned());
    }
    files
}

/// A small machine of a cloud: no frequencies, no idle states, no cards that can be told, and a kernel without a full dynamic tick.
fn cloud() -> BTreeMap<String, String> {
    let mut files = tuned();
    files.retain(|path, _| {
        !["cpufreq", "cpuidle", "nohz_full", "/net/eth0", "proc/irq", "nmi_watchdog"]
            .iter()
            .any(|part| path.contains(part))
    });
    files.insert("sys/devices/system/clocksource/clocksource0/current_clocksource".to_owned(), "xen\n".to_owned());
    files
}

/// Two sockets of four cores without siblings. Cores 2 and 3 are isolated, and the program is to run on 3 and 6; the card is on the
/// first node, and core 6 on the second. Core 7 is offline.
fn two_sockets() -> BTreeMap<String, String> {
    let mut files = tuned();
    let mut put = |path: &str, text: &str| drop(files.insert(path.to_owned(), format!("{text}\n")));
    put("sys/devices/system/cpu/online", "0-6");
    put("sys/devices/system/cpu/nohz_full", "2-6");
    put("proc/cmdline", r"initrd=\EFI\nixos\cold isolcpus=domain,2-3 nohz_full=2-6 rcu_nocbs=2-N irqaffinity=0-1");
    put("sys/class/net/eth0/device/local_cpulist", "0-3");
    put("sys/devices/system/clocksource/clocksource0/current_clocksource", "hyperv_clocksource_tsc_page");
    put("sys/devices/system/cpu/cpu6/topology/thread_siblings_list", "6");
    put("sys/devices/system/cpu/cpu6/cpufreq/scaling_governor", "performance");
    put("sys/devices/system/cpu/cpu7/online", "0");
    files
}

/// Somebody has turned a few things back since.
fn worn() -> BTreeMap<String, String> {
    let mut files = tuned();
    files.insert("proc/irq/42/smp_affinity_list".to_owned(), "0,3\n".to_owned());
    files.insert("proc/77/comm".to_owned(), "irqbalance\n".to_owned());
    files.insert("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor".to_owned(), "powersave\n".to_owned());
    files.insert("sys/kernel/mm/transparent_hugepage/enabled".to_owned(), "always [madvise] never\n".to_owned());
    files.insert("proc/sys/vm/stat_interval".to_owned(), "120\n".to_owned());
    files
}

const ALL_OF_THE_HOST: [&str; 10] = [
    "irqbalance",
    "thp",
    "numa_balancing",
    "swap",
    "stat_interval",
    "timer_migration",
    "nmi_watchdog",
    "slow_start",
    "tcp_rmem",
    "h busy_poll",
];

fn hosts() -> Vec<Host> {
    vec![
        Host { name: "delivered", cores: &[], files: delivered(), wrong: &ALL_OF_THE_HOST },
        Host { name: "tuned", cores: &[2, 3], files: tuned(), wrong: &[] },
        Host {
            name: "tuned for other cores",
            cores: &[1],
            files: tuned(),
            wrong: &[
                "isolated, core 1",
                "nohz_full, core 1",
                "rcu_nocbs, core 1",
                "irq, core 1",
                "irq_default, core 1",
                "rps, core 1",
                "smt, core 1",
                "governor, core 1",
                "c_states, core 1",
                "workqueues, core 1",
            ],
        },
        Host { name: "cloud", cores: &[2], files: cloud(), wrong: &["clocksource"] },
        Host {
            name: "two sockets",
            cores: &[3, 6, 7],
            files: two_sockets(),
            wrong: &[
                "isolated, core 6",
                "h nic_node, core 6",
                "online, core 7",
                "isolated, core 7",
                "nohz_full, core 7",
                "h nic_node, core 7",
            ],
        },
        Host { name: "worn", cores: &[2, 3], files: worn(), wrong: &["irq, core 3", "irqbalance", "governor, core 3"] },
    ]
}

impl Host {
    /// Puts the files where they can be looked at.
    fn build(&self, tag: &str) -> PathBuf {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hosts").join(tag).join(self.name);
        if root.exists() {
            fs::remove_dir_all(&root).expect("it is ours");
        }
        for (path, text) in &self.files {
            let file = root.join(path);
            fs::create_dir_all(file.parent().expect("below the root")).expect("a place of our own");
            fs::write(file, text).expect("a place of our own");
        }
        root
    }

    fn ask(&self, mut command: Command, root: &Path) -> Output {
        for core in self.cores {
            command.arg("--core").arg(core.to_string());
        }
        command.arg("--root").arg(root).output().expect("it can be started")
    }

    fn doctor(&self, root: &Path) -> Output {
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_hypersockets"));
        doctor.arg("doctor");
        self.ask(doctor, root)
    }

    fn check(&self, root: &Path) -> Output {
        self.ask(script("check.sh"), root)
    }
}

fn script(name: &str) -> Command {
    let mut sh = Command::new("sh");
    sh.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(name));
    sh
}

fn text(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Every file below a folder, with its text.
fn everything(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut places = vec![root.to_owned()];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(place).expect("a folder").map(|entry| entry.expect("readable").path()) {
            if entry.is_dir() {
                places.push(entry);
            } else {
                let text = fs::read_to_string(&entry).expect("a text");
                found.insert(entry, text);
            }
        }
    }
    found
}

#[test]
fn on_six_hosts_both_find_what_is_wrong_and_nothing_else_in_the_same_words() {
    for host in hosts() {
        let root = host.build("judged");
        let (doctor, check) = (host.doctor(&root), host.check(&root));
        let said = text(&doctor);
        assert_eq!(said, text(&check), "{}", host.name);
        let finding = |line: &str| {
            let (name, hint) =
                line.strip_prefix("FAIL  ").map(|it| (it, "")).or(line.strip_prefix("hint  ").map(|it| (it, "h ")))?;
            Some(format!("{hint}{}", name.split(':').next().unwrap_or_default()))
        };
        let mut found: Vec<_> = said.lines().filter_map(finding).collect();
        let mut wrong = host.wrong.to_vec();
        found.sort();
        wrong.sort_unstable();
        assert_eq!(found, wrong, "{}: {said}", host.name);
        let code = i32::from(host.wrong.iter().any(|name| !name.starts_with("h ")));
        assert_eq!((doctor.status.code(), check.status.code()), (Some(code), Some(code)), "{}", host.name);
        assert_eq!(everything(&root).len(), host.files.len(), "nothing was written");
    }
}

#[test]
fn whatever_the_files_say_both_say_the_same() {
    let seed = 20_261_126_u64;
    let mut dice = seed;
    let mut roll = |limit: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % limit
    };
    const TEXTS: [&str; 34] = [
        "",
        "0",
        "1",
        "2-3",
        "0-1,3",
        "(null)",
        "10",
        "-1",
        "performance",
        "always [madvise] never",
        "never",
        "[x",
        "f",
        "ff,0000000c",
        "123456789",
        "00000000,00000003",
        "xyz",
        "tsc",
        "4096 131072 6291456",
        "99999999999999999999",
        "irqbalance",
        "a b\nc",
        "quiet rcu_nocbs=2-3",
        "rcu_nocbs=all",
        "managed_irq,domain,2",
        "+5",
        "0x10",
        "2:",
        r"initrd=\EFI\nixos\cold rcu_nocbs=2-N",
        "-n",
        "\u{1b}[31mred",
        "price \u{e9} and so many more words that they are more than is shown of a text",
        "never\r",
        "all",
    ];
    for tree in 0..25 {
        let mut files = worn();
        for text in files.values_mut() {
            if roll(2) == 0 {
                *text = format!("{}\n", TEXTS[roll(TEXTS.len())]);
            }
        }
        let host = Host { name: "random", cores: &[1, 3], files, wrong: &[] };
        let root = host.build("random");
        assert_eq!(
            text(&host.doctor(&root)),
            text(&host.check(&root)),
            "seed {seed}, tree {tree}, in {}",
            root.display()
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_passed_over_by_both() {
    let host = Host { name: "unreadable", cores: &[2], files: tuned(), wrong: &[] };
    let root = host.build("unreadable");
    let thp = root.join("sys/kernel/mm/transparent_hugepage/enabled");
    fs::remove_file(&thp).expect("it is ours");
    // It opens, and gives an error to whoever reads it, root too.
    std::os::unix::fs::symlink("/proc/self/clear_refs", &thp).expect("a place of our own");
    let said = text(&host.doctor(&root));
    assert_eq!(said, text(&host.check(&root)));
    assert!(said.contains("skip  thp: "), "{said}");
}

#[test]
fn on_this_host_both_say_the_same() {
    let host = Host { name: "this", cores: &[0], files: BTreeMap::new(), wrong: &[] };
    if !Path::new("/sys/devices/system/cpu/cpu0").is_dir() {
        println!("SKIPPED: this host does not show its cores");
        return;
    }
    let said = |output: Output| {
        // Processes come and go between the two.
        let said = text(&output);
        said.lines().filter(|line| !line.contains("irqbalance")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(said(host.doctor(Path::new("/"))), said(host.ask(script("check.sh"), Path::new(""))));
}

#[test]
fn a_core_or_a_folder_that_there_is_not_is_refused_by_both() {
    let host = Host { name: "no such core", cores: &[9], files: tuned(), wrong: &[] };
    let root = host.build("refused");
    for output in [host.doctor(&root), host.check(&root)] {
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("no core 9"));
    }
    let host = Host { name: "no such folder", cores: &[], files: BTreeMap::new(), wrong: &[] };
    for output in [host.doctor(&root.join("mistyped")), host.check(&root.join("mistyped"))] {
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("is no folder"));
    }
}

#[test]
fn apply_only_talks_until_it_is_told_to_act_and_its_undo_leads_back() {
    for host in hosts() {
        let root = host.build("applied");
        let before = everything(&root);
        let undo = root.with_extension("undo.sh");
        let _ = fs::remove_file(&undo);
        let apply = |act: bool| {
            let mut apply = script("apply.sh");
            apply.arg("--undo").arg(&undo);
            if act {
                apply.arg("--apply");
            }
            host.ask(apply, &root)
        };
        let planned = apply(false);
        assert!(planned.status.success());
        assert_eq!(everything(&root), before, "{}: a dry run", host.name);
        assert!(!undo.exists());

        let would_write = text(&planned).lines().filter(|line| line.starts_with("would write")).count();
        let done = text(&apply(true));
        assert_eq!(done.lines().filter(|line| line.starts_with("wrote")).count(), would_write, "{}: {done}", host.name);
        let changed = everything(&root).iter().filter(|(path, text)| before[*path] != **text).count();
        assert_eq!(changed, would_write, "{}: {done}", host.name);
        if would_write == 0 {
            continue;
        }
        // What is left is what has to be done by hand.
        let left = text(&host.doctor(&root));
        for name in
            ["irq,", "rps,", "governor", "c_states", "thp", "numa_balancing", "stat_interval", "slow_start", "tcp_rmem"]
        {
            assert!(!left.contains(&format!("FAIL  {name}")), "{}: {left}", host.name);
        }
        let again = apply(true);
        assert!(text(&again).starts_with("nothing to change"), "{}", host.name);

        let restored = Command::new("sh").arg(&undo).status().expect("a script");
        assert!(restored.success());
        let words = |files: BTreeMap<PathBuf, String>| -> Vec<_> {
            // The kernel shows a choice with its alternatives; a file keeps what was written.
            let word = |text: String| match text.split_once('[') {
                Some((_, rest)) => rest.split(']').next().unwrap_or_default().to_owned(),
                None => text.split_whitespace().collect::<Vec<_>>().join(" "),
            };
            files.into_iter().map(|(path, text)| (path, word(text))).collect()
        };
        assert_eq!(words(everything(&root)), words(before), "{}", host.name);
    }
}

#[test]
fn an_earlier_way_back_is_not_written_over() {
    let host = Host { name: "twice", cores: &[2], files: delivered(), wrong: &[] };
    let root = host.build("kept");
    let undo = root.with_extension("undo.sh");
    fs::write(&undo, "# the only way back\n").expect("a place of our own");
    let before = everything(&root);
    let mut apply = script("apply.sh");
    apply.arg("--apply").arg("--undo").arg(&undo);
    let output = host.ask(apply, &root);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("only way back"));
    assert_eq!(everything(&root), before);
    assert_eq!(fs::read_to_string(&undo).expect("still there"), "# the only way back\n");
}

/// `apply.sh --apply` on one core.
fn apply(root: &Path, undo: &Path, core: usize) -> Command {
    let _ = fs::remove_file(undo);
    let mut apply = script("apply.sh");
    apply.arg("--apply").arg("--core").arg(core.to_string()).arg("--root").arg(root).arg("--undo").arg(undo);
    apply
}

#[test]
fn no_text_and_no_name_is_taken_for_an_order_on_the_way_there_or_back() {
    let mut files = delivered();
    let governor = "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor";
    files.insert(governor.to_owned(), r"x'; echo \cold > stolen; '".to_owned() + "\n");
    files.insert("proc/cmdline".to_owned(), "initrd=\\cold\n".to_owned());
    files.insert("sys/class/net/it's $(touch stolen)/queues/rx-0/rps_cpus".to_owned(), "f\n".to_owned());
    let host = Host { name: "it's quoted", cores: &[], files, wrong: &[] };
    let root = host.build("quoted");
    let before = everything(&root);
    let undo = root.with_extension("undo.sh");
    let said = text(&apply(&root, &undo, 1).current_dir(&root).output().expect("it can be started"));
    // It stands behind the text with the backslash.
    assert!(said.contains("wrote \"0\" to") && said.contains("  workqueues, core 1: "), "{said}");
    assert_eq!(fs::read_to_string(root.join(governor)).expect("a text"), "performance\n");
    let back = Command::new("sh").arg(&undo).current_dir(&root).output().expect("a script");
    assert!(back.status.success() && text(&back).is_empty());
    let after = everything(&root);
    let changed = |path: &&PathBuf| before.get(*path) != after.get(*path);
    // The file keeps the one word of it that was in force.
    let thp = root.join("sys/kernel/mm/transparent_hugepage/enabled");
    let tcp_rmem = root.join("proc/sys/net/ipv4/tcp_rmem");
    assert_eq!(after.keys().filter(changed).collect::<Vec<_>>(), [&tcp_rmem, &thp]);
}

#[test]
fn interrupts_are_kept_off_isolated_cores_that_were_not_named() {
    let mut files = tuned();
    files.insert("proc/irq/42/smp_affinity_list".to_owned(), "0-3\n".to_owned());
    let host = Host { name: "another's", cores: &[], files, wrong: &[] };
    let root = host.build("isolated");
    let done = apply(&root, &root.with_extension("undo.sh"), 3).output().expect("it can be started");
    assert!(text(&done).contains("wrote \"0,1\" to"));
    assert_eq!(fs::read_to_string(root.join("proc/irq/42/smp_affinity_list")).expect("a text"), "0,1\n");
}

#[test]
fn what_the_host_refuses_is_told_and_the_rest_is_done_and_led_back() {
    if !Path::new("/proc/version").exists() {
        println!("SKIPPED: this host has no file that refuses what is written");
        return;
    }
    let host = Host { name: "refusing", cores: &[], files: delivered(), wrong: &[] };
    let root = host.build("refusing");
    let governor = root.join("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor");
    fs::remove_file(&governor).expect("it is ours");
    std::os::unix::fs::symlink("/proc/version", &governor).expect("a place of our own");
    let undo = root.with_extension("undo.sh");
    let output = apply(&root, &undo, 1).output().expect("it can be started");
    let (said, refused) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    assert!(refused.starts_with("refused: ") && refused.lines().count() == 1, "{refused}");
    assert!(said.contains("smp_affinity_list, which said \"0-3\""), "{said}");
    let back = Command::new("sh").arg(&undo).output().expect("a script");
    assert_eq!(back.status.code(), Some(1), "the way back says so too");
    assert_eq!(fs::read_to_string(root.join("proc/irq/9/smp_affinity_list")).expect("a text"), "0-3\n");
    assert_eq!(fs::read_to_string(root.join("proc/sys/vm/stat_interval")).expect("a text"), "1\n");
}

#[test]
fn whoever_may_write_nothing_is_told_so_and_leaves_no_way_back_behind() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host { name: "read only", cores: &[], files: delivered(), wrong: &[] };
    let root = host.build("read only");
    for file in everything(&root).keys() {
        fs::set_permissions(file, fs::Permissions::from_mode(0o444)).expect("it is ours");
    }
    if fs::OpenOptions::new().append(true).open(root.join("proc/swaps")).is_ok() {
        println!("SKIPPED: root may write all");
        return;
    }
    let undo = root.with_extension("undo.sh");
    let output = apply(&root, &undo, 1).output().expect("it can be started");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("run it as root"));
    assert!(!undo.exists());
}

#[test]
fn the_scripts_are_clean_by_shellcheck() {
    let scripts = ["check.sh", "apply.sh"].map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(name));
    match Command::new("shellcheck").args(scripts).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(_) => println!("SKIPPED: no shellcheck on this machine"),
    }
}
