//! The corpora of the fuzz targets that need only the public API, as ordinary tests; the others are run by `src/fuzzing.rs`.

#[path = "../fuzz/bodies/core_plan.rs"]
mod core_plan;
#[path = "../fuzz/bodies/json_passive_ping.rs"]
mod json_passive_ping;
#[path = "../fuzz/bodies/recording.rs"]
mod recording;

use std::fs;
use std::path::Path;

fn corpus(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(&directory).expect("it lies beside the sources").collect();
    assert!(files.len() > 3, "{} is empty", directory.display());
    for file in files {
        run(&fs::read(file.expect("it can be read").path()).expect("it can be read"));
    }
}

#[test]
fn the_corpus_of_core_plans() {
    corpus("core_plan", core_plan::run);
}

#[test]
fn the_corpus_of_json_pings() {
    corpus("json_passive_ping", json_passive_ping::run);
}

#[test]
fn the_corpus_of_recordings() {
    corpus("recording", recording::run);
}
