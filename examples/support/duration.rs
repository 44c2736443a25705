//! Times on the command line.

use std::time::Duration;

/// Reads `10s`, `500ms`, `2m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds_per_unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" => return Err(format!("without a unit: did you mean {text}s? (ms, s, m or h)")),
        other => return Err(format!("unknown unit {other:?}: use ms, s, m or h")),
    };
    let count: f64 = digits.parse().map_err(|_| format!("{digits:?} is not a number: write 10s, 500ms or 2m"))?;
    Duration::try_from_secs_f64(count * seconds_per_unit)
        .map_err(|_| "must be zero or more, and not for ever".to_owned())
}
