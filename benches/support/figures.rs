//! Figures of interleaved rounds, as every bench reads them.
#![allow(dead_code)] // each bench takes its own part of the support

/// Run by `cargo bench`, and not only tried by `cargo test --benches`.
pub(crate) fn is_measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

pub(crate) fn median(values: Vec<f64>) -> f64 {
    percentile(0.5, values)
}

/// The value below which this part of them lies.
pub(crate) fn percentile(part: f64, mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() as f64 * part) as usize]
}

/// Neighbouring rounds meet the same host: so the median of their ratios, not the ratio of the medians.
pub(crate) fn median_ratio(figures: &[f64], to: &[f64]) -> f64 {
    median(figures.iter().zip(to).map(|(figure, to)| figure / to).collect())
}

pub(crate) fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}
