#![no_main]

#[path = "../../tests/fuzz/bodies/core_plan.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
