//! Tables for people, JSON for programs. A ratio is the median over the rounds of both peers' figures in the same round.

use serde::Serialize;

use crate::machine::Machine;
use crate::measure::{Cell, Effort, Measure, Row};
use crate::payload::Parse;
use crate::peer::BARRED;
use crate::run::Run;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    effort: Effort,
    tables: Vec<Table>,
}

/// One cell of one measure.
#[derive(Debug, Serialize)]
struct Table {
    measure: Measure,
    cell: Cell,
    rows: Vec<Row>,
    ratios: Vec<Ratio>,
    bars: Vec<Verdict>,
}

/// A peer's figure over the baseline's.
#[derive(Debug, Serialize)]
struct Ratio {
    peer: &'static str,
    figure: &'static str,
    ratio: f64,
}

/// A bar, and whether it was met.
#[derive(Debug, Serialize)]
struct Verdict {
    figure: &'static str,
    reached: f64,
    at_most: f64,
    is_met: bool,
}

impl Report {
    pub(crate) fn new(effort: Effort) -> Self {
        Self { machine: Machine::here(), effort, tables: Vec::new() }
    }

    /// Adds a cell and prints its table.
    pub(crate) fn add(&mut self, measure: Measure, cell: Cell, rows: Vec<Row>) {
        let ratios = ratios(measure, &rows);
        let bars = verdicts(measure, &rows, &ratios);
        let table = Table { measure, cell, rows, ratios, bars };
        table.print();
        self.tables.push(table);
    }

    /// Whether no row is void.
    pub(crate) fn is_valid(&self) -> bool {
        self.tables.iter().flat_map(|table| &table.rows).all(|row| row.void.is_none())
    }
}

impl Table {
    fn print(&self) {
        println!("{}", title(self.measure, self.cell));
        let columns = columns(self.measure);
        print!("{:22}", "");
        for column in columns {
            print!("{:>width$}", column.name, width = column.width());
        }
        println!("{}", if self.ratios.is_empty() { "" } else { "   to the baseline" });
        for row in &self.rows {
            print!("{:22}", row.peer);
            match &row.void {
                Some(reason) => print!("VOID: {reason}"),
                None => {
                    for column in columns {
                        print!("{:>width$}", column.show(row), width = column.width());
                    }
                }
            }
            for ratio in self.ratios.iter().filter(|ratio| ratio.peer == row.peer) {
                print!("   {} {:.2}×", ratio.figure, ratio.ratio);
            }
            println!();
        }
        for Verdict { figure, reached, at_most, is_met } in &self.bars {
            let verdict = if *is_met { "ok" } else { "MISSED" };
            println!("bar for {BARRED}: {figure} {reached:.3} <= {at_most}: {verdict}");
        }
        println!();
    }
}

fn title(measure: Measure, cell: Cell) -> String {
    let size = cell.shape.label();
    let parse = match cell.parse {
        Parse::Typed => "typed parse",
        Parse::Value => "parsed into a Value",
    };
    match measure {
        Measure::Latency => format!("latency: {size}, {}/s, {parse}", cell.per_sec),
        Measure::Quiet => format!("quiet: {size}, {}/s, {parse}", cell.per_sec),
        Measure::Throughput => format!("throughput: a burst of {} messages, {size}, {parse}", cell.messages),
    }
}

/// One figure of a run.
struct Column {
    name: &'static str,
    figure: fn(&Run) -> f64,
    decimals: usize,
    /// Shown with its least and greatest value over the rounds, and compared with the baseline.
    is_compared: bool,
}

impl Column {
    fn width(&self) -> usize {
        if self.is_compared { 22 } else { 14 }
    }

    fn show(&self, row: &Row) -> String {
        let figures = self.figures(row);
        let decimals = self.decimals;
        let middle = format!("{:.decimals$}", median(&figures));
        if !self.is_compared {
            return middle;
        }
        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.iter().copied().fold(0.0, f64::max);
        format!("{middle} ({least:.decimals$}–{most:.decimals$})")
    }

    fn figures(&self, row: &Row) -> Vec<f64> {
        row.runs.iter().map(self.figure).collect()
    }
}

const CORES: Column = Column { name: "cores", figure: |run| run.received.cores, decimals: 3, is_compared: false };

fn columns(measure: Measure) -> &'static [Column] {
    const LATENCY: &[Column] = &[
        Column { name: "p50 µs", figure: |run| run.received.p50_us, decimals: 1, is_compared: true },
        Column { name: "p90 µs", figure: |run| run.received.p90_us, decimals: 1, is_compared: false },
        Column { name: "p99 µs", figure: |run| run.received.p99_us, decimals: 0, is_compared: true },
        Column { name: "max µs", figure: |run| run.received.max_us, decimals: 0, is_compared: false },
        Column { name: "sent late µs", figure: |run| run.sent.late_p99_us, decimals: 0, is_compared: false },
        CORES,
    ];
    const THROUGHPUT: &[Column] = &[
        Column { name: "1,000 msg/s", figure: |run| run.received.per_sec / 1e3, decimals: 1, is_compared: true },
        Column { name: "overtaken %", figure: Run::overtaken_percent, decimals: 1, is_compared: false },
        CORES,
    ];
    match measure {
        Measure::Latency | Measure::Quiet => LATENCY,
        Measure::Throughput => THROUGHPUT,
    }
}

/// All compared figures of all peers but the baseline, which comes first. None where the baseline is void.
fn ratios(measure: Measure, rows: &[Row]) -> Vec<Ratio> {
    let Some((baseline, others)) = rows.split_first() else { return Vec::new() };
    let mut ratios = Vec::new();
    for row in others.iter().filter(|row| row.void.is_none() && baseline.void.is_none()) {
        for column in columns(measure).iter().filter(|column| column.is_compared) {
            let rounds = column.figures(row).into_iter().zip(column.figures(baseline));
            let ratio = median(&rounds.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>());
            ratios.push(Ratio { peer: row.peer, figure: column.name, ratio });
        }
    }
    ratios
}

/// The bars of this measure; one whose row is void has nothing to be held against.
fn verdicts(measure: Measure, rows: &[Row], ratios: &[Ratio]) -> Vec<Verdict> {
    let ratio = |figure| ratios.iter().find(|ratio| ratio.peer == BARRED && ratio.figure == figure).map(|it| it.ratio);
    let cores =
        || rows.iter().find(|row| row.peer == BARRED && row.void.is_none()).map(|row| median(&CORES.figures(row)));
    let bars = match measure {
        Measure::Latency => vec![("p50 µs", ratio("p50 µs"), 0.5), ("p99 µs", ratio("p99 µs"), 1.0)],
        Measure::Quiet => vec![("cores", cores(), 0.02)],
        Measure::Throughput => Vec::new(),
    };
    let judge = |(figure, reached, at_most): (_, Option<f64>, f64)| {
        reached.map(|reached| Verdict { figure, reached, at_most, is_met: reached <= at_most })
    };
    bars.into_iter().filter_map(judge).collect()
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        _ if sorted.is_empty() => f64::NAN,
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}
