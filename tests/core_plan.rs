//! Promise: a plan file is read as it is meant or refused with the place and the reason, and each profile of `tuning/` is
//! one that loads.

use std::fs;
use std::path::{Path, PathBuf};

use hypersockets::{CorePlan, HyperSocketError, IdleStrategy, PlanWarning, ThreadOptions};

#[test]
fn each_profile_loads_and_prints_its_table() {
    for profile in profiles() {
        let plan = CorePlan::load(&profile).unwrap_or_else(|error| panic!("{error}"));
        let table = plan.to_string();
        println!("{}\n{table}\n", profile.display());
        assert!(table.lines().count() > 3, "it plans nothing:\n{table}");
        assert!(table.lines().any(|line| line.starts_with("feed ") && line.contains(" loop ")), "\n{table}");
        assert!(plan.engine_thread("feed").is_ok() && plan.handler_thread("books").is_ok(), "\n{table}");
    }
}

#[test]
fn the_laptops_profile_runs_anywhere() {
    let plan = CorePlan::load(folder().join("laptop.toml")).expect("it is a plan");
    assert_eq!(plan.check().expect("nothing is pinned"), []);
    let engine = plan.engine_builder("feed").expect("it is planned").start().expect("nothing is pinned");
    engine.shutdown().expect("it had nothing to do");
}

#[test]
fn the_virtual_machines_profile_only_warns_where_a_core_is_missing() {
    let plan = CorePlan::load(folder().join("cloud-vm.toml")).expect("it is a plan");
    let warnings = plan.check().expect("nothing insists on a core");
    assert!(warnings.iter().all(|warning| matches!(warning, PlanWarning::PreferredCoreMissing { .. })), "{warnings:?}");
}

#[test]
fn a_file_says_what_code_says() {
    let spin = IdleStrategy::BusySpin;
    let named = |name: &str| ThreadOptions::new().name(name);
    let own = IdleStrategy::Backoff {
        spin: std::time::Duration::from_micros(50),
        yields: 2,
        max_park: std::time::Duration::from_secs(1),
    };
    let in_code = CorePlan::new()
        .engine("feed", ThreadOptions::new().core(2).idle(spin).stack_bytes(256 << 10))
        .lanes("feed", [named("parse-a").core(3).idle(spin), named("parse-b")])
        .engine("orders", ThreadOptions::new().prefer_core(16))
        .handler("books", ThreadOptions::new().idle(own))
        .handler("journal", ThreadOptions::new().idle(IdleStrategy::Park));
    assert_eq!(CorePlan::from_toml(COMPLETE).expect("it is a plan"), in_code);
    assert_eq!(CorePlan::from_toml(&COMPLETE.replace('\n', "\r\n")).expect("it is a plan"), in_code);
    assert_eq!(CorePlan::from_toml("").expect("it plans nothing"), CorePlan::new());
}

#[test]
fn unknown_keys_are_refused_at_every_level() {
    assert_refused("[[engines]]", "line 1, column 3: a plan has no key \"engines\"; its keys: engine, handler");
    assert_refused(
        "[[engine]]\nname = 'feed'\ncores = 2",
        "line 3, column 1: an engine has no key \"cores\"; its keys: name, core, prefer_core, idle, stack_kib, lanes",
    );
    assert_refused(
        "[[engine]]\nname = 'feed'\nlanes = [{ name = 'a', lanes = [] }]",
        "line 3, column 24: a lane has no key \"lanes\"; its keys: name, core, prefer_core, idle, stack_kib",
    );
    assert_refused(
        "[[handler]]\nname = 'books'\nlanes = []",
        "line 3, column 1: a handler has no key \"lanes\"; its keys: name, core, prefer_core, idle, stack_kib",
    );
    assert_refused(
        "[[handler]]\nname = 'books'\nidle = { spin_ms = 1 }",
        "line 3, column 10: an idle strategy has no key \"spin_ms\"; its keys: spin_us, yields, max_park_ms",
    );
}

#[test]
fn values_of_the_wrong_type_or_size_are_refused_where_they_stand() {
    for (line, reason) in [
        ("core = 'two'", "column 8: core must be a whole number; this is of type string"),
        ("core = 2.0", "column 8: core must be a whole number; this is of type float"),
        ("core = -1", "column 8: core must be 0 to 8191; this is -1"),
        ("core = 0xffff_ffff_ffff", "column 8: core must be 0 to 8191; this is 0xffffffffffff"),
        ("prefer_core = []", "column 15: prefer_core must be a whole number; this is of type array"),
        ("stack_kib = 262144", "column 13: stack_kib must be 16 to 65536; this is 262144"),
        ("lanes = 2", "column 9: lanes must be an array of tables, each a lane; this is of type integer"),
        ("lanes = [3, 4]", "column 10: lanes must be tables only, each a lane; this is of type integer"),
        ("idle = { max_park_ms = 0 }", "column 24: max_park_ms must be 1 to 60000; this is 0"),
        ("idle = { yields = true }", "column 19: yields must be a whole number; this is of type boolean"),
        ("core = 1\nprefer_core = 2", "column 15: core and prefer_core exclude each other: keep one of them"),
    ] {
        let number = 2 + line.lines().count();
        assert_refused(&format!("[[engine]]\nname = 'feed'\n{line}"), &format!("line {number}, {reason}"));
    }
    let words = "idle must be \"busy-spin\", \"adaptive\", \"park\", or a table such as \
                 { spin_us = 250, yields = 0, max_park_ms = 1000 }";
    let idle = |value: &str| format!("[[handler]]\nname = 'books'\nidle = {value}");
    assert_refused(&idle("'spin'"), &format!("line 3, column 8: {words}; this is \"spin\""));
    assert_refused(&idle("1979-05-27"), &format!("line 3, column 8: {words}; this is of type datetime"));
    assert_refused(
        "[engine]\nname = 'feed'",
        "line 1, column 1: engine must be an array of tables, each an engine; this is of type table",
    );
    assert_refused("[[handler]]\nname = 7", "line 2, column 8: name must be a string; this is of type integer");
}

#[test]
fn names_are_required_and_unique() {
    assert_refused("\n[[engine]]\ncore = 1", "line 2, column 1: an engine needs a name");
    assert_refused("[[engine]]\nname = 'feed'\nlanes = [{ core = 1 }]", "line 3, column 10: a lane needs a name");
    assert_refused(
        "[[handler]]\nname = ''",
        "line 1, column 1: a thread of the plan (handler) has no name: give it one that no other has",
    );
    assert_refused(
        "[[engine]]\nname = 'feed'\n\n[[handler]]\nname = 'feed'",
        "line 4, column 1: two threads are named \"feed\" (loop and handler): give each a name of its own",
    );
    assert_refused(
        "[[handler]]\nname = \"a\\u0000\"",
        "line 1, column 1: the name of thread \"a\\0\" (handler) holds a control character: leave it out",
    );
}

#[test]
fn two_that_spin_on_one_core_of_this_machine_are_refused() {
    let plan = CorePlan::from_toml(
        "[[engine]]\nname = 'feed'\nprefer_core = 0\nidle = 'busy-spin'\n\
         [[handler]]\nname = 'books'\nprefer_core = 0\nidle = 'busy-spin'",
    )
    .expect("it reads well");
    match plan.check() {
        Err(error) => {
            assert!(error.to_string().contains("\"feed\" and \"books\" would both spin on core 0"), "{error}");
        }
        // Core 0 is not everybody's.
        Ok(warnings) => {
            assert!(matches!(warnings[..], [PlanWarning::PreferredCoreMissing { .. }, ..]), "{warnings:?}");
        }
    }
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_place() {
    let refused = |text: &str| CorePlan::from_toml(text).expect_err("it is no TOML").to_string();
    let unfinished = refused("[[engine]]\nname = \"feed");
    assert!(unfinished.starts_with("invalid configuration: line 2, column "), "{unfinished}");
    let twice = refused("[[engine]]\nname = 'ä'\nname = 'b'");
    assert!(twice.starts_with("invalid configuration: line 3, column 1: "), "{twice}");
    // Columns are characters, not bytes.
    let behind_umlauts = refused("[[engine]]\nname = 'äöü' 7");
    assert!(behind_umlauts.starts_with("invalid configuration: line 2, column 14: "), "{behind_umlauts}");
    println!("{unfinished}\n{twice}\n{behind_umlauts}");
}

#[test]
fn a_file_is_named_in_its_errors() {
    let missing = folder().join("nowhere.toml");
    match CorePlan::load(&missing) {
        Err(HyperSocketError::Io(error)) => {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
            assert!(error.to_string().starts_with(&missing.display().to_string()), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let broken = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-plan.toml");
    fs::write(&broken, "[[engine]]\nnome = 'feed'\n").expect("a place of our own");
    let error = CorePlan::load(&broken).expect_err("it has an unknown key").to_string();
    let expected = format!("invalid configuration: {}, line 2, column 1: an engine has no key", broken.display());
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn no_text_whatever_makes_reading_panic() {
    let seed = std::env::var("PLAN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x1357_9bdf_2468_ace0);
    println!("PLAN_SEED={seed}");
    let mut random = Random(seed | 1);
    let mut seeds: Vec<_> = profiles().iter().map(|path| fs::read(path).expect("a profile of ours")).collect();
    seeds.push(COMPLETE.as_bytes().to_vec());
    let mut read = 0;
    for _ in 0..20_000 {
        let bytes = if random.below(4) == 0 { random.bytes() } else { random.mutation_of(&seeds) };
        let text = String::from_utf8_lossy(&bytes);
        match CorePlan::from_toml(&text) {
            Ok(plan) => {
                read += 1;
                assert!(!plan.to_string().is_empty());
                // It has to fit no host, and must not panic on one.
                let _ = plan.check();
            }
            Err(HyperSocketError::InvalidConfig(what)) => assert!(what.starts_with("line "), "{what}"),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!((100..19_900).contains(&read), "{read} of 20,000 were plans: the mutations are too wild or too tame");
}

#[test]
fn deep_nesting_is_refused_before_the_stack_ends() {
    for nest in ["[", "{a=", "[{a="] {
        assert!(CorePlan::from_toml(&format!("engine = {}", nest.repeat(100_000))).is_err());
    }
    assert!(CorePlan::from_toml(&format!("engine.{}a = 1", "a.".repeat(100_000))).is_err());
}

const COMPLETE: &str = r#"
[[engine]]
name = "feed"
core = 2
idle = "busy-spin"
stack_kib = 256
lanes = [
    { name = "parse-a", core = 3, idle = "busy-spin" },
    { name = "parse-b" },
]

[[engine]]
name = "orders"
prefer_core = 0x10
idle = "adaptive"

[[handler]]
name = "books"
idle = { spin_us = 50, yields = 2 }

[[handler]]
name = "journal"
idle = "park"
"#;

#[track_caller]
fn assert_refused(text: &str, reason: &str) {
    match CorePlan::from_toml(text) {
        Err(HyperSocketError::InvalidConfig(what)) => assert_eq!(what, reason, "\n{text}"),
        other => panic!("{other:?} of\n{text}"),
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning")
}

fn profiles() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).expect("a folder of ours").map(|file| file.expect("a folder of ours").path());
    let mut profiles: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    // What the doctor reads is no plan.
    profiles.retain(|path| path.file_stem().is_some_and(|name| name != "checks"));
    profiles.sort();
    assert!(profiles.len() >= 3, "{profiles:?}");
    profiles
}

/// Xorshift: the seed is all there is.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(64)).map(|_| self.next() as u8).collect()
    }

    /// One of the texts with up to three bytes changed, a piece cut out, or a piece of another put in.
    fn mutation_of(&mut self, texts: &[Vec<u8>]) -> Vec<u8> {
        let mut text = texts[self.below(texts.len())].clone();
        match self.below(3) {
            0 => {
                for _ in 0..=self.below(3) {
                    let place = self.below(text.len());
                    text[place] =
                        if self.below(2) == 0 { self.next() as u8 } else { b"[]{}=\"'#.,\n0"[self.below(12)] };
                }
            }
            1 => drop(text.drain(self.piece_of(text.len()))),
            _ => {
                let other = &texts[self.below(texts.len())];
                let piece = other[self.piece_of(other.len())].to_vec();
                let place = self.below(text.len());
                text.splice(place..place, piece);
            }
        }
        text
    }

    fn piece_of(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length);
        start..start + self.below((length - start).min(80))
    }
}
