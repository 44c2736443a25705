//! Runs a target over its corpus: what fuzzing has found worth keeping, and the seeds that it began with.

use std::fs;
use std::path::Path;

pub(crate) fn run(target: &str, body: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(&directory).expect("it lies beside the sources").collect();
    assert!(files.len() > 3, "{} is empty", directory.display());
    for file in files {
        body(&fs::read(file.expect("it can be read").path()).expect("it can be read"));
    }
}
