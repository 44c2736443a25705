//! What is measured: the cells of each measure, and the peers taking turns at one.

use serde::Serialize;

use crate::Result;
use crate::payload::{Parse, Shape};
use crate::peer::{PEERS, Peer};
use crate::run::{self, Run};

/// A question, answered by one table per cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Measure {
    /// From the venue's send to the handler, at a steady rate.
    Latency,
    /// What a feed costs that says little.
    Quiet,
    /// How fast a burst is worked off.
    Throughput,
}

/// How long to measure.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    latency_ms: u64,
    quiet_ms: u64,
    burst_messages: u64,
}

impl Effort {
    pub(crate) const FULL: Self = Self { rounds: 7, latency_ms: 2_500, quiet_ms: 4_000, burst_messages: 100_000 };
    pub(crate) const QUICK: Self = Self { rounds: 3, latency_ms: 500, quiet_ms: 1_000, burst_messages: 20_000 };
}

/// One programme of the venue, and how its messages are read.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Cell {
    pub(crate) shape: Shape,
    pub(crate) parse: Parse,
    pub(crate) messages: u64,
    /// 0 is flat out.
    pub(crate) per_sec: u64,
}

impl Cell {
    fn paced(shape: Shape, per_sec: u64, millis: u64) -> Self {
        Self { shape, parse: Parse::Typed, messages: per_sec * millis / 1000, per_sec }
    }
}

impl Measure {
    pub(crate) const ALL: [Self; 3] = [Self::Latency, Self::Quiet, Self::Throughput];

    pub(crate) fn cells(self, effort: Effort) -> Vec<Cell> {
        let Effort { latency_ms, quiet_ms, burst_messages: messages, .. } = effort;
        match self {
            Self::Latency => [5_000, 20_000]
                .into_iter()
                .flat_map(|per_sec| [Shape::Ticker, Shape::Book].map(|shape| Cell::paced(shape, per_sec, latency_ms)))
                .collect(),
            Self::Quiet => vec![Cell::paced(Shape::Ticker, 100, quiet_ms)],
            Self::Throughput => [Parse::Typed, Parse::Value]
                .map(|parse| Cell { shape: Shape::Book, parse, messages, per_sec: 0 })
                .to_vec(),
        }
    }
}

/// A peer's runs of one cell, in the order of the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) peer: &'static str,
    pub(crate) runs: Vec<Run>,
    /// Why it does not count, where it does not.
    pub(crate) void: Option<String>,
}

/// Lets all peers take turns, a different one first in each round. A peer that fails once is not run again.
pub(crate) fn interleave(cell: Cell, rounds: usize) -> Result<Vec<Row>> {
    let mut rows = PEERS.map(|Peer { name, .. }| Row { peer: name, runs: Vec::new(), void: None });
    for round in 0..rounds {
        for turn in 0..PEERS.len() {
            let index = (round + turn) % PEERS.len();
            let row = &mut rows[index];
            if row.void.is_none() {
                match run::once(&PEERS[index], cell) {
                    Ok(run) => row.runs.push(run),
                    Err(error) => row.void = Some(error.to_string()),
                }
            }
        }
    }
    Ok(rows.into())
}
