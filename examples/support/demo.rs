//! What the small examples have in common: a URL or the embedded simulator, a time, Ctrl-C, and the closing summary.
#![allow(dead_code)] // each example takes its own part of the support

use std::time::Duration;

use clap::Parser;
use hypersockets::{CtrlC, ShutdownReport};

use super::duration::duration;

/// The command line of the small examples.
#[derive(Debug, Parser)]
pub(crate) struct Demo {
    /// Where to dial; the embedded simulator unless given
    pub(crate) url: Option<String>,

    /// Play against the embedded simulator, which is the default
    #[arg(long, conflicts_with = "url")]
    simulate: bool,

    /// Stop by itself after this long, such as 10s, 500ms or 2m; after 5s with the simulator unless given
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) run_for: Option<Duration>,
}

impl Demo {
    /// Waits for the end: the time that was given, or Ctrl-C.
    pub(crate) fn wait(&self, ctrl_c: &CtrlC) {
        match self.longest() {
            Some(longest) => drop(ctrl_c.wait_timeout(longest)),
            None => ctrl_c.wait(),
        }
    }

    /// How long to run; `None` is until Ctrl-C.
    pub(crate) fn longest(&self) -> Option<Duration> {
        self.run_for.or(self.url.is_none().then_some(SIMULATED_FOR))
    }
}

/// Says how it went.
pub(crate) fn summary(report: &ShutdownReport) {
    let metrics = &report.metrics;
    println!("--");
    println!(
        "received {}, handled {}, sent {}; errors {}; {} reconnects; closed in {:?}: {}",
        metrics.messages_received,
        metrics.messages_handled,
        metrics.messages_sent,
        metrics.parse_errors + metrics.handler_errors,
        metrics.reconnect_count,
        report.took,
        report.reason
    );
}

/// Long enough to see something, short enough to wait for.
const SIMULATED_FOR: Duration = Duration::from_secs(5);
