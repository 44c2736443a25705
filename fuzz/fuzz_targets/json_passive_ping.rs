#![no_main]

#[path = "../../tests/fuzz/bodies/json_passive_ping.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
