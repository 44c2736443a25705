//! hypersockets beside other WebSocket clients: whole pipelines and bare clients, from one interleaved run. Invariant: a
//! run whose messages do not all arrive, each once and as sent, is void, and makes the program fail.

mod chart;
mod cpu_time;
mod machine;
mod measure;
mod payload;
mod peer;
mod report;
mod run;
mod stamp;
mod tally;
mod texts;
mod venue;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use measure::{Effort, Measure};
use report::Report;

/// The result of whatever has nobody to tell but the user.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Compares hypersockets with other clients on this machine.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    /// What to measure; everything by default.
    measures: Vec<Measure>,
    /// Under a minute, to see that it works: too short to believe.
    #[arg(long)]
    quick: bool,
    /// Also writes every run, with a description of the machine, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draws a bar chart of every table into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What the processes of one run do.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Venue(venue::Programme),
    #[command(hide = true)]
    Client(run::ClientRun),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.role {
        Some(Role::Venue(programme)) => venue::run(programme).map(|()| true),
        Some(Role::Client(client)) => run::client(&client).map(|()| true),
        None => compare(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the measures; whether every run counts.
fn compare(arguments: &Arguments) -> Result<bool> {
    let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
    let measures = if arguments.measures.is_empty() { &Measure::ALL[..] } else { &arguments.measures };
    let mut report = Report::new(effort);
    println!("{}\n", report.machine);
    for &measure in measures {
        for cell in measure.cells(effort) {
            let rows = run::interleave(measure.field(), cell, effort.rounds);
            report.add(measure, cell, rows);
        }
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(file) = &arguments.svg {
        std::fs::write(file, report.svg()?)?;
    }
    Ok(report.is_valid())
}
