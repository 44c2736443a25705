//! The corpora of the fuzz targets that need only the public API, as ordinary tests; the others are run by `src/fuzzing.rs`.

#[path = "fuzz/bodies/core_plan.rs"]
mod core_plan;
#[path = "fuzz/bodies/corpus.rs"]
mod corpus;
#[path = "fuzz/bodies/json_passive_ping.rs"]
mod json_passive_ping;
#[path = "fuzz/bodies/recording.rs"]
mod recording;

#[test]
fn the_corpus_of_core_plans() {
    corpus::run("core_plan", core_plan::run);
}

#[test]
fn the_corpus_of_json_pings() {
    corpus::run("json_passive_ping", json_passive_ping::run);
}

#[test]
fn the_corpus_of_recordings() {
    corpus::run("recording", recording::run);
}
