//! The runs of the peers, in turn: a venue and a client, each a process of its own, so that no peer inherits another's memory,
//! threads or processor time.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::cpu_time::CpuMeter;
use crate::measure::Cell;
use crate::payload::{Parse, Shape};
use crate::peer::{Feed, Field, Peer};
use crate::tally::Tally;
use crate::venue::Sent;

/// A peer's runs of one cell, in the order of the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) peer: &'static str,
    pub(crate) runs: Vec<Run>,
    /// Why it does not count, where it does not.
    pub(crate) void: Option<String>,
}

/// Lets all peers take turns, a different one first in each round. A peer that fails once is not run again.
pub(crate) fn interleave(field: Field, cell: Cell, rounds: usize) -> Vec<Row> {
    let peers = field.peers();
    let mut rows: Vec<_> =
        peers.iter().map(|&Peer { name, .. }| Row { peer: name, runs: Vec::new(), void: None }).collect();
    for round in 0..rounds {
        for turn in 0..peers.len() {
            let index = (round + turn) % peers.len();
            let row = &mut rows[index];
            if row.void.is_none() {
                match once(&peers[index], field, cell) {
                    Ok(run) => row.runs.push(run),
                    Err(error) => row.void = Some(error.to_string()),
                }
            }
        }
    }
    rows
}

/// What the client process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientRun {
    #[arg(long)]
    peer: String,
    #[arg(long)]
    field: Field,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    shape: Shape,
    #[arg(long)]
    parse: Option<Parse>,
    #[arg(long)]
    messages: u64,
}

/// What the client process has seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) messages: u64,
    /// The sum of all messages' digests.
    pub(crate) digest: u64,
    /// The digest of the message that was sent last.
    pub(crate) last_digest: u64,
    pub(crate) overtaken: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    pub(crate) cores: f64,
    /// Processor time of the whole process, from the first message to its end.
    pub(crate) cpu_ns_per_message: f64,
    /// From the first send to the last handler's end; from the first handler's where nothing is stamped.
    pub(crate) per_sec: f64,
}

/// Both ends of one run, which agree.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    pub(crate) sent: Sent,
    pub(crate) received: Received,
}

impl Run {
    pub(crate) fn overtaken_percent(&self) -> f64 {
        100.0 * self.received.overtaken as f64 / self.received.messages as f64
    }
}

/// Lets `peer` receive one cell's messages.
///
/// # Errors
/// Where a process failed, or the two ends disagree about what was sent: the run is void.
fn once(peer: &Peer, field: Field, cell: Cell) -> Result<Run> {
    let mut venue = this_program()?
        .args(["venue", "--shape", &name(&cell.shape)])
        .args(parse_arguments(cell))
        .args(["--messages", &cell.messages.to_string()])
        .args(["--per-sec", &cell.per_sec.to_string()])
        .spawn()?;
    let received = receive(peer, field, cell, &mut venue);
    if received.is_err() {
        // It may still be waiting for its client; one that has gone cannot be killed.
        let _ = venue.kill();
    }
    let venue = venue.wait_with_output()?;
    let received = received?;
    let sent: Sent = serde_json::from_slice(&venue.stdout).map_err(|_| "the venue failed")?;
    if received.messages != sent.messages {
        return Err(format!("{} messages of {} were handled", received.messages, sent.messages).into());
    }
    if received.digest != sent.digest || received.last_digest != sent.last_digest {
        return Err("what was handled is not what was sent".into());
    }
    Ok(Run { sent, received })
}

fn receive(peer: &Peer, field: Field, cell: Cell, venue: &mut Child) -> Result<Received> {
    let stdout = venue.stdout.as_mut().ok_or("the venue has no output")?;
    let mut port = String::new();
    // What it reads ahead is nothing: the venue says no more before its client has gone.
    BufReader::new(stdout).read_line(&mut port)?;
    let client = this_program()?
        .args(["client", "--peer", peer.name, "--field", &name(&field), "--port", port.trim()])
        .args(["--shape", &name(&cell.shape)])
        .args(parse_arguments(cell))
        .args(["--messages", &cell.messages.to_string()])
        .spawn()?;
    serde_json::from_slice(&client.wait_with_output()?.stdout).map_err(|_| "the client failed".into())
}

fn this_program() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.stdout(Stdio::piped());
    Ok(command)
}

fn parse_arguments(cell: Cell) -> Vec<String> {
    cell.parse.map_or_else(Vec::new, |parse| vec!["--parse".to_owned(), name(&parse)])
}

/// A value as the command line spells it.
fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The client process.
pub(crate) fn client(client: &ClientRun) -> Result<()> {
    std::thread::spawn(|| {
        std::thread::sleep(LONGEST_RUN);
        eprintln!("the venue's Close did not come");
        std::process::exit(1);
    });
    let peer = client.field.peers().iter().find(|peer| peer.name == client.peer).ok_or("no such peer")?;
    let ClientRun { port, shape, parse, messages, .. } = *client;
    if client.field == Field::Clients
        && let Some(&first) = core_affinity::get_core_ids().unwrap_or_default().first()
    {
        core_affinity::set_for_current(first);
    }
    let tallies = (peer.run)(&Feed { port, shape, parse, messages })?;
    let (cpu, elapsed) = CpuMeter::used_in()?;
    let all = tallies.iter().fold(Tally::new(messages), Tally::merge);
    let us = |ns: u64| ns as f64 / 1e3;
    let received = Received {
        messages: all.messages,
        digest: all.digest,
        last_digest: all.last_digest,
        overtaken: all.overtaken,
        p50_us: us(all.latency_ns.value_at_quantile(0.5)),
        p90_us: us(all.latency_ns.value_at_quantile(0.9)),
        p99_us: us(all.latency_ns.value_at_quantile(0.99)),
        max_us: us(all.latency_ns.max()),
        cores: cpu.as_secs_f64() / elapsed.as_secs_f64(),
        cpu_ns_per_message: cpu.as_nanos() as f64 / all.messages as f64,
        per_sec: all.messages as f64 * 1e9 / all.last_handled_ns.saturating_sub(all.first_ns) as f64,
    };
    println!("{}", serde_json::to_string(&received)?);
    Ok(())
}

/// Many times what any run takes; a peer that hangs should not hang the bench.
const LONGEST_RUN: Duration = Duration::from_secs(120);
