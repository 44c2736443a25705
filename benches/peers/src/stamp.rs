//! Time that two processes of one machine agree on.

use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds, shifted so that it has 19 digits: a stamp in a JSON text never changes its length.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    SHIFT_NS + now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs()
}

/// How many digits a stamp has.
pub(crate) const DIGITS: usize = 19;
/// What is added to the clock. It leaves 270 years of uptime before a twentieth digit.
const SHIFT_NS: u64 = 1_000_000_000_000_000_000;

/// Writes the digits of `stamp_ns` over those that are there.
pub(crate) fn write(mut stamp_ns: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (stamp_ns % 10) as u8;
        stamp_ns /= 10;
    }
}
