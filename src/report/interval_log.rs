//! HdrHistogram's interval log, version 1.3 of the log with V2 compressed histograms.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::metrics::{Latency, LatencyReport};

/// Writes the log that HdrHistogram's tools read (`HistogramLogReader`, `HistogramLogProcessor`): a line an interval and
/// stage, the stage as its tag, all values in nanoseconds, the largest of the interval in the fourth column in
/// milliseconds.
pub struct IntervalLog<W> {
    out: W,
    serializer: V2DeflateSerializer,
    has_begun: bool,
}

impl<W> std::fmt::Debug for IntervalLog<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntervalLog").finish_non_exhaustive()
    }
}

impl<W: Write> IntervalLog<W> {
    /// A log that begins with the first interval.
    pub fn new(out: W) -> Self {
        Self { out, serializer: V2DeflateSerializer::new(), has_begun: false }
    }

    /// Adds an interval: what [`LatencyReport::since`] gives, over all routes. A stage of which it holds nothing has no
    /// line.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&mut self, interval: &LatencyReport) -> io::Result<()> {
        let ended = SystemTime::UNIX_EPOCH + Duration::from_nanos(interval.taken_unix_ns);
        let began = ended.checked_sub(interval.covers).unwrap_or(ended);
        let mut text = Vec::new();
        let mut builder = IntervalLogWriterBuilder::new();
        builder.add_comment("[Histogram log format version 1.3]");
        builder.with_start_time(began).with_base_time(SystemTime::UNIX_EPOCH).with_max_value_divisor(1e6);
        let mut log = builder.begin_log_with(&mut text, &mut self.serializer)?;
        let since_epoch = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let beside: [(&str, &Latency); 3] = [
            ("tick_to_trade", &interval.tick_to_trade),
            ("round_trips", &interval.round_trips),
            ("loop_gaps", &interval.loop_gaps),
        ];
        for (name, latency) in interval.stages.named().into_iter().chain(beside).filter(|(_, all)| all.count() > 0) {
            log.write_histogram(latency.histogram(), since_epoch, interval.covers, Tag::new(name))
                .map_err(|error| io::Error::other(format!("{error:?}")))?;
        }
        // The builder begins a log each time; only the first beginning belongs into it.
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            if !self.has_begun || line.starts_with(b"Tag=") {
                self.out.write_all(line)?;
            }
        }
        self.has_begun = true;
        self.out.flush()
    }
}
