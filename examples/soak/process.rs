//! What a process holds: memory, threads, descriptors.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holdings {
    threads: usize,
    descriptors: usize,
}

/// How a line ends that tells of nothing left behind.
pub(crate) const CLEAN: &str = "as at the start";

impl Holdings {
    pub(crate) fn now() -> io::Result<Self> {
        let count = |of| fs::read_dir(of).map(Iterator::count);
        Ok(Self { threads: count("/proc/self/task")?, descriptors: count("/proc/self/fd")? })
    }
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} threads, {} descriptors", self.threads, self.descriptors)
    }
}

/// What is in memory, in KiB, now and then.
#[derive(Default)]
pub(crate) struct Memory {
    samples: Vec<(f64, f64)>,
}

impl Memory {
    pub(crate) fn sample(&mut self, at: Duration) -> io::Result<()> {
        let status = fs::read_to_string("/proc/self/status")?;
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
        self.samples.push((at.as_secs_f64(), resident.unwrap_or(f64::NAN)));
        Ok(())
    }

    /// The least-squares slope over the second half, when all that is allocated once has been, in KiB an hour; and the last
    /// sample.
    pub(crate) fn slope(&self) -> Option<(f64, f64)> {
        let half = &self.samples[self.samples.len() / 2..];
        let count = half.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| half.iter().map(of).sum::<f64>() / count;
        let (mean_at, mean_kib) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let spread: f64 = half.iter().map(|(at, _)| (at - mean_at).powi(2)).sum();
        let along: f64 = half.iter().map(|(at, kib)| (at - mean_at) * (kib - mean_kib)).sum();
        Some((along / spread * 3600.0, half.last()?.1))
    }
}
