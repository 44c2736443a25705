//! Plans in TOML: read, or refused with where and why; a plan that is read can be printed and asked.

use hypersockets::CorePlan;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match CorePlan::from_toml(text) {
        Ok(plan) => {
            assert!(!plan.to_string().is_empty());
            // Cores that this host has not are errors, not panics.
            let _ = plan.check();
        }
        Err(error) => {
            let words = error.to_string();
            assert!(words.contains("line"), "no place: {words}");
        }
    }
}
