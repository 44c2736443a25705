//! What is measured: the cells of each measure, and its bars.

use serde::Serialize;

use crate::payload::{Parse, Shape};
use crate::peer::{BOOMNET, Field, OURS_INLINE, SPEC_PIPELINE, SPEC_PIPELINE_OF_VALUES, TOKIO_TUNGSTENITE};

/// A question, answered by one table per cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Measure {
    /// Pipelines: from the venue's send to the handler, at a steady rate.
    Latency,
    /// Pipelines: what a feed costs that says little.
    Quiet,
    /// Pipelines: how fast a burst is worked off.
    Throughput,
    /// Clients alone: from the venue's send to the handler, at a steady rate.
    ClientLatency,
    /// Clients alone: how fast texts that nobody parses are taken from a full socket.
    ClientThroughput,
}

/// How long to measure.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    latency_ms: u64,
    quiet_ms: u64,
    burst_messages: u64,
    flood_bytes: u64,
}

impl Effort {
    pub(crate) const FULL: Self =
        Self { rounds: 7, latency_ms: 1_000, quiet_ms: 2_000, burst_messages: 80_000, flood_bytes: 512 << 20 };
    pub(crate) const QUICK: Self =
        Self { rounds: 3, latency_ms: 400, quiet_ms: 500, burst_messages: 20_000, flood_bytes: 64 << 20 };
}

/// One programme of the venue, and how its messages are read.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Cell {
    pub(crate) shape: Shape,
    /// `None`: not at all.
    pub(crate) parse: Option<Parse>,
    pub(crate) messages: u64,
    /// 0 is flat out.
    pub(crate) per_sec: u64,
}

impl Cell {
    fn paced(shape: Shape, per_sec: u64, millis: u64) -> Self {
        Self { shape, parse: Some(Parse::Typed), messages: per_sec * millis / 1000, per_sec }
    }
}

/// One row's figure is to be so many times another's; without another, so much.
pub(crate) struct Bar {
    pub(crate) figure: &'static str,
    pub(crate) row: &'static str,
    pub(crate) of: Option<&'static str>,
    pub(crate) bound: Bound,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    pub(crate) fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

impl Measure {
    pub(crate) const ALL: [Self; 5] =
        [Self::Latency, Self::Quiet, Self::Throughput, Self::ClientLatency, Self::ClientThroughput];

    pub(crate) fn field(self) -> Field {
        match self {
            Self::Latency | Self::Quiet | Self::Throughput => Field::Pipelines,
            Self::ClientLatency | Self::ClientThroughput => Field::Clients,
        }
    }

    pub(crate) fn cells(self, effort: Effort) -> Vec<Cell> {
        let Effort { latency_ms, quiet_ms, burst_messages: messages, flood_bytes, .. } = effort;
        match self {
            Self::Latency => [5_000, 20_000]
                .into_iter()
                .flat_map(|per_sec| [Shape::Ticker, Shape::Book].map(|shape| Cell::paced(shape, per_sec, latency_ms)))
                .collect(),
            Self::Quiet => vec![Cell::paced(Shape::Ticker, 100, quiet_ms)],
            Self::Throughput => vec![Cell { shape: Shape::Book, parse: Some(Parse::Typed), messages, per_sec: 0 }],
            Self::ClientLatency => vec![Cell::paced(Shape::Ticker, 50_000, latency_ms)],
            Self::ClientThroughput => [(Shape::Ticker, 150), (Shape::Trade, 314), (Shape::Book, 2048)]
                .map(|(shape, bytes)| Cell { shape, parse: None, messages: flood_bytes / bytes, per_sec: 0 })
                .to_vec(),
        }
    }

    pub(crate) fn bars(self, cell: Cell) -> Vec<Bar> {
        use Bound::{AtLeast, AtMost};
        let ours = self.field().ours();
        let bar = |figure, row, of, bound| Bar { figure, row, of, bound };
        match self {
            Self::Latency => vec![
                bar("p50 µs", ours, Some(SPEC_PIPELINE), AtMost(0.5)),
                bar("p99 µs", ours, Some(SPEC_PIPELINE), AtMost(1.0)),
                bar("p50 µs", OURS_INLINE, Some(SPEC_PIPELINE), AtMost(0.35)),
            ],
            Self::Quiet => vec![bar("cores", ours, None, AtMost(0.02))],
            Self::Throughput => vec![bar("1,000 msg/s", OURS_INLINE, Some(SPEC_PIPELINE_OF_VALUES), AtLeast(10.0))],
            Self::ClientLatency => vec![
                bar("p50 µs", ours, Some(TOKIO_TUNGSTENITE), AtMost(0.40)),
                bar("p50 µs", ours, Some(BOOMNET), AtMost(1.0)),
            ],
            Self::ClientThroughput => {
                let least = |shape| if shape == Shape::Ticker { 0.90 } else { 0.95 };
                let mut bars = vec![bar("1,000 msg/s", ours, Some(self.field().limit()), AtLeast(least(cell.shape)))];
                if cell.shape == Shape::Ticker {
                    bars.push(bar("1,000 msg/s", ours, Some(TOKIO_TUNGSTENITE), AtLeast(2.4)));
                    bars.push(bar("1,000 msg/s", ours, Some(BOOMNET), AtLeast(1.0)));
                }
                bars
            }
        }
    }
}
