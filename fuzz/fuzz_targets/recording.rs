#![no_main]

#[path = "../../tests/fuzz/bodies/recording.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
