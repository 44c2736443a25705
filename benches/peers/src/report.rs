//! Tables for people, JSON for programs. A ratio is the median over the rounds of both peers' figures in the same round.

use serde::Serialize;

use crate::Result;
use crate::chart::{self, Bars};
use crate::machine::Machine;
use crate::measure::{Bar, Bound, Cell, Effort, Measure};
use crate::payload::Parse;
use crate::run::{Row, Run};

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
    verdicts: Vec<Verdict>,
}

/// A peer's figure over two others' in the same round: this library's, and the limit's.
#[derive(Debug, Serialize)]
struct Ratio {
    peer: &'static str,
    figure: &'static str,
    to_ours: Option<f64>,
    to_limit: Option<f64>,
}

/// A bar, and whether it was met.
#[derive(Debug, Serialize)]
struct Verdict {
    figure: &'static str,
    row: &'static str,
    of: Option<&'static str>,
    reached: f64,
    bound: Bound,
    is_met: bool,
}

impl Report {
    pub(crate) fn new(effort: Effort) -> Self {
        Self { machine: Machine::here(), effort, tables: Vec::new() }
    }

    /// Adds a cell and prints its table.
    pub(crate) fn add(&mut self, measure: Measure, cell: Cell, rows: Vec<Row>) {
        let ratios = ratios(measure, &rows);
        let verdicts = verdicts(measure, cell, &rows);
        let table = Table { measure, cell, rows, ratios, verdicts };
        table.print();
        self.tables.push(table);
    }

    /// Whether no row is void.
    pub(crate) fn is_valid(&self) -> bool {
        self.tables.iter().flat_map(|table| &table.rows).all(|row| row.void.is_none())
    }

    /// One bar chart per table, of the figure that its peers are compared by.
    ///
    /// # Errors
    /// Where a chart cannot be drawn.
    pub(crate) fn svg(&self) -> Result<String> {
        let charts: Vec<_> = self.tables.iter().filter_map(Table::bars).collect();
        chart::svg(&self.machine.to_string(), &charts)
    }
}

impl Table {
    fn print(&self) {
        println!("{}", title(self.measure, self.cell));
        let columns = columns(self.measure);
        print!("{:22}", "");
        for column in columns {
            print!("{:>width$}", column.name, width = column.width());
            if column.is_compared {
                print!("{:>9}{:>9}", "to ours", "to limit");
            }
        }
        println!("  last digest");
        for row in &self.rows {
            print!("{:22}", row.peer);
            if let Some(reason) = &row.void {
                println!("VOID: {reason}");
                continue;
            }
            for column in columns {
                print!("{:>width$}", column.show(row), width = column.width());
                let compared = |ratio: &&Ratio| ratio.peer == row.peer && ratio.figure == column.name;
                if let Some(ratio) = self.ratios.iter().find(compared) {
                    for ratio in [ratio.to_ours, ratio.to_limit] {
                        print!("{:>9}", ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}×")));
                    }
                }
            }
            println!("  {:016x}", row.runs.last().map_or(0, |run| run.received.last_digest));
        }
        for Verdict { figure, row, of, reached, bound, is_met } in &self.verdicts {
            let of = of.map_or(String::new(), |of| format!(" of {of}'s"));
            let (sign, bound) = match bound {
                Bound::AtMost(most) => ("<=", most),
                Bound::AtLeast(least) => (">=", least),
            };
            let verdict = if *is_met { "met" } else { "MISSED" };
            println!("bar: {row}, {figure}: {reached:.3}{of} {sign} {bound}: {verdict}");
        }
        println!();
    }

    fn bars(&self) -> Option<Bars> {
        let column = columns(self.measure).iter().find(|column| column.is_compared)?;
        let counted = self.rows.iter().filter(|row| row.void.is_none());
        Some(Bars {
            title: format!("{} ({})", title(self.measure, self.cell), column.name),
            ours: self.measure.field().ours(),
            bars: counted.map(|row| (row.peer, median(&column.figures(row)))).collect(),
        })
    }
}

fn title(measure: Measure, cell: Cell) -> String {
    let shape = cell.shape.label();
    let messages = cell.messages;
    let parse = match cell.parse {
        Some(Parse::Typed) => "typed parse",
        Some(Parse::Value) => "parsed into a Value",
        None => "not parsed",
    };
    match measure {
        Measure::Latency => format!("latency: {shape}, {}/s, {parse}", cell.per_sec),
        Measure::Quiet => format!("quiet: {shape}, {}/s, {parse}", cell.per_sec),
        Measure::Throughput => format!("throughput: a burst of {messages} messages, {shape}, {parse}"),
        Measure::ClientLatency => format!("client latency: {shape}, {}/s, {parse}", cell.per_sec),
        Measure::ClientThroughput => format!("client throughput: {messages} messages, {shape}, {parse}"),
    }
}

/// One figure of a run.
struct Column {
    name: &'static str,
    figure: fn(&Run) -> f64,
    decimals: usize,
    /// Shown with its least and greatest value over the rounds, and compared with others'.
    is_compared: bool,
}

impl Column {
    fn width(&self) -> usize {
        if self.is_compared { 26 } else { 13 }
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

    /// The median ratio of two rows' figures in the same round.
    fn ratio(&self, row: &Row, of: &Row) -> f64 {
        let rounds = self.figures(row).into_iter().zip(self.figures(of));
        median(&rounds.map(|(figure, of)| figure / of).collect::<Vec<_>>())
    }
}

const MESSAGES: Column =
    Column { name: "messages", figure: |run| run.received.messages as f64, decimals: 0, is_compared: false };
const CORES: Column = Column { name: "cores", figure: |run| run.received.cores, decimals: 3, is_compared: false };

fn columns(measure: Measure) -> &'static [Column] {
    const LATENCY: &[Column] = &[
        Column { name: "p50 µs", figure: |run| run.received.p50_us, decimals: 1, is_compared: true },
        Column { name: "p90 µs", figure: |run| run.received.p90_us, decimals: 1, is_compared: false },
        Column { name: "p99 µs", figure: |run| run.received.p99_us, decimals: 0, is_compared: true },
        Column { name: "max µs", figure: |run| run.received.max_us, decimals: 0, is_compared: false },
        Column { name: "sent late µs", figure: |run| run.sent.late_p99_us, decimals: 0, is_compared: false },
        CORES,
        MESSAGES,
    ];
    const THROUGHPUT: &[Column] = &[
        Column { name: "1,000 msg/s", figure: |run| run.received.per_sec / 1e3, decimals: 1, is_compared: true },
        Column { name: "CPU ns/msg", figure: |run| run.received.cpu_ns_per_message, decimals: 0, is_compared: false },
        Column { name: "overtaken %", figure: Run::overtaken_percent, decimals: 1, is_compared: false },
        CORES,
        MESSAGES,
    ];
    match measure {
        Measure::Latency | Measure::Quiet | Measure::ClientLatency => LATENCY,
        Measure::Throughput | Measure::ClientThroughput => THROUGHPUT,
    }
}

/// A row that counts.
fn row<'a>(rows: &'a [Row], peer: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.peer == peer && row.void.is_none())
}

/// All compared figures of all rows that count.
fn ratios(measure: Measure, rows: &[Row]) -> Vec<Ratio> {
    let field = measure.field();
    let [ours, limit] = [field.ours(), field.limit()].map(|peer| row(rows, peer));
    let mut ratios = Vec::new();
    for row in rows.iter().filter(|row| row.void.is_none()) {
        for column in columns(measure).iter().filter(|column| column.is_compared) {
            let [to_ours, to_limit] = [ours, limit].map(|of| of.map(|of| column.ratio(row, of)));
            ratios.push(Ratio { peer: row.peer, figure: column.name, to_ours, to_limit });
        }
    }
    ratios
}

/// The bars of this cell; one whose rows are void has nothing to be held against.
fn verdicts(measure: Measure, cell: Cell, rows: &[Row]) -> Vec<Verdict> {
    let judge = |bar: Bar| {
        let column = columns(measure).iter().find(|column| column.name == bar.figure)?;
        let judged = row(rows, bar.row)?;
        let reached = match bar.of {
            Some(of) => column.ratio(judged, row(rows, of)?),
            None => median(&column.figures(judged)),
        };
        let Bar { figure, row, of, bound } = bar;
        Some(Verdict { figure, row, of, reached, bound, is_met: bound.is_met(reached) })
    };
    measure.bars(cell).into_iter().filter_map(judge).collect()
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
