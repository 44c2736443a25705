//! Whatever features are on, the dependency tree holds no async runtime.

use std::io::ErrorKind;
use std::process::{Command, Output};

#[test]
fn no_feature_brings_an_async_runtime() {
    let Some(tree) = dependency_tree() else {
        return println!("SKIPPED: cargo is not here to print the dependency tree");
    };
    let names: Vec<_> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"hypersockets") && names.contains(&"mio"), "not our dependency tree:\n{tree}");
    let runtimes: Vec<_> = names.iter().filter(|name| RUNTIMES.contains(name)).collect();
    assert!(runtimes.is_empty(), "in the dependency tree: {runtimes:?}");
}

/// Every package that a user of all features compiles into the library; `None` without cargo.
fn dependency_tree() -> Option<String> {
    // Tests run where cargo has fetched everything already; elsewhere it may ask the registry.
    let output = match cargo_tree(&["--locked", "--offline"]) {
        Some(output) if output.status.success() => output,
        _ => cargo_tree(&["--locked"])?,
    };
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("package names are text"))
}

fn cargo_tree(access: &[&str]) -> Option<Output> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| env!("CARGO").to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--all-features", "--edges", "normal", "--target", "all", "--prefix", "none"])
        .args(access)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    match output {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        output => Some(output.expect("cargo can be run")),
    }
}

/// Anything that polls futures, or that brings such a thing along.
const RUNTIMES: &[&str] = &[
    "async-executor",
    "async-global-executor",
    "async-io",
    "async-std",
    "embassy-executor",
    "futures-executor",
    "glommio",
    "monoio",
    "smol",
    "tokio",
];
