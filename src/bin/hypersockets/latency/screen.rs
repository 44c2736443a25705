//! Tables for people: a live one on standard error while it is a terminal, and the summary.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use hypersockets::{Client, Latency, LatencyReport};

/// The live table.
pub(crate) struct Screen {
    is_live: bool,
    lines: usize,
}

impl Screen {
    /// Draws nothing where nobody watches.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { is_live: !quiet && io::stderr().is_terminal(), lines: 0 }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.is_live
    }

    /// Draws over what it drew before.
    pub(crate) fn show(&mut self, interval: &LatencyReport, all: &LatencyReport, clients: &[Client]) {
        if !self.is_live {
            return;
        }
        let reconnects = clients.iter().map(|client| client.metrics().reconnect_count).sum();
        let text = table(interval, all, reconnects);
        let mut drawn = String::new();
        if self.lines > 0 {
            let _ = write!(drawn, "\x1b[{}A", self.lines);
        }
        for line in text.lines() {
            let _ = writeln!(drawn, "{line}\x1b[K");
        }
        self.lines = text.lines().count();
        let _ = io::stderr().write_all(drawn.as_bytes());
    }
}

/// The last second's rate, and each stage of the whole time.
fn table(interval: &LatencyReport, all: &LatencyReport, reconnects: u64) -> String {
    let rate = interval.stages.total.count() as f64 / interval.covers.as_secs_f64().max(1e-9);
    let mut text = format!(
        "{:.0} s   {rate:.0} messages/s   {} in all   {reconnects} reconnects\n",
        all.covers.as_secs_f64(),
        all.stages.total.count()
    );
    text += &rows(all);
    text
}

/// The table at the end.
pub(crate) fn summary(all: &LatencyReport, reconnects: u64, received: u64) -> String {
    let seconds = all.covers.as_secs_f64();
    let mut text = format!("{received} messages in {seconds:.1} s, {reconnects} reconnects\n\n");
    text += &rows(all);
    let offset = &all.stages.venue_to_read;
    if offset.count() > 0 {
        let [low, middle, high] = [0.0, 0.5, 0.99].map(|quantile| {
            let ns = offset.quantile_ns(quantile);
            format!("{}{}", if ns < 0 { "-" } else { "" }, time(ns.unsigned_abs() as f64))
        });
        let _ = writeln!(
            text,
            "\nour clock at the read less the venue's in the message (the way, and the difference of two clocks):\n\
             lowest {low}, median {middle}, p99 {high}; {} of {} came before their own time",
            offset.count_ahead(),
            offset.count()
        );
    }
    if all.stages.kernel_upper_bounds > 0 {
        let _ = writeln!(
            text,
            "\n{} messages shared a read with a later one, and are not in kernel_to_read",
            all.stages.kernel_upper_bounds
        );
    }
    text
}

fn rows(all: &LatencyReport) -> String {
    let mut text = format!(
        "{:<15}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
        "stage", "count", "mean", "p50", "p90", "p99", "p99.9", "max"
    );
    let beside =
        [("tick_to_trade", &all.tick_to_trade), ("round_trips", &all.round_trips), ("loop_gaps", &all.loop_gaps)];
    // Of a feed that is not compressed nobody asks what inflating took.
    let shown = |(name, latency): &(&str, &Latency)| latency.count() > 0 || *name != "inflate";
    let stages = all.stages.named().into_iter().filter(shown);
    for (name, latency) in stages.chain(beside.into_iter().filter(|(_, some)| some.count() > 0)) {
        let _ = write!(text, "{name:<15}{:>12}{:>10}", latency.count(), cell(latency, latency.mean_ns()));
        for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let _ = write!(text, "{:>10}", cell(latency, latency.quantile_ns(quantile) as f64));
        }
        text.push('\n');
    }
    text
}

fn cell(latency: &Latency, ns: f64) -> String {
    if latency.count() == 0 { "-".to_owned() } else { time(ns) }
}

/// A time in the unit that fits it, in at most nine characters.
fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.2} us", ns / 1e3),
        ns if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}
