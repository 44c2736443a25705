//! One run of one peer: a venue and a client, each a process of its own, so that no peer inherits another's memory, threads
//! or processor time.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::cpu_time::CpuMeter;
use crate::measure::Cell;
use crate::payload::{Parse, Shape};
use crate::peer::{Feed, PEERS, Peer};
use crate::tally::Tally;
use crate::venue::Sent;

/// What the client process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientRun {
    #[arg(long)]
    peer: String,
    #[arg(long)]
    url: String,
    #[arg(long)]
    shape: Shape,
    #[arg(long)]
    parse: Parse,
}

/// What the client process has seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) messages: u64,
    pub(crate) digest: u64,
    pub(crate) overtaken: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    pub(crate) cores: f64,
    /// From the first send to the last handler's end.
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
pub(crate) fn once(peer: &Peer, cell: Cell) -> Result<Run> {
    let mut venue = this_program()?
        .args(["venue", "--shape", &name(&cell.shape), "--messages", &cell.messages.to_string()])
        .args(["--per-sec", &cell.per_sec.to_string()])
        .spawn()?;
    let received = receive(peer, cell, &mut venue);
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
    if received.digest != sent.digest {
        return Err("what was handled is not what was sent".into());
    }
    Ok(Run { sent, received })
}

fn receive(peer: &Peer, cell: Cell, venue: &mut Child) -> Result<Received> {
    let stdout = venue.stdout.as_mut().ok_or("the venue has no output")?;
    let mut port = String::new();
    // What it reads ahead is nothing: the venue says no more before its client has gone.
    BufReader::new(stdout).read_line(&mut port)?;
    let url = format!("ws://127.0.0.1:{}/", port.trim());
    let client = this_program()?
        .args(["client", "--peer", peer.name, "--url", &url])
        .args(["--shape", &name(&cell.shape), "--parse", &name(&cell.parse)])
        .spawn()?;
    serde_json::from_slice(&client.wait_with_output()?.stdout).map_err(|_| "the client failed".into())
}

fn this_program() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.stdout(Stdio::piped());
    Ok(command)
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
    let peer = PEERS.iter().find(|peer| peer.name == client.peer).ok_or("no such peer")?;
    let feed = Feed { url: client.url.clone(), shape: client.shape, parse: client.parse };
    let tallies = (peer.run)(&feed)?;
    let cores = CpuMeter::cores()?;
    let all = tallies.iter().fold(Tally::new(), Tally::merge);
    let us = |ns: u64| ns as f64 / 1e3;
    let received = Received {
        messages: all.messages,
        digest: all.digest,
        overtaken: all.overtaken,
        p50_us: us(all.latency_ns.value_at_quantile(0.5)),
        p90_us: us(all.latency_ns.value_at_quantile(0.9)),
        p99_us: us(all.latency_ns.value_at_quantile(0.99)),
        max_us: us(all.latency_ns.max()),
        cores,
        per_sec: all.messages as f64 * 1e9 / (all.last_handled_ns - all.first_stamp_ns) as f64,
    };
    println!("{}", serde_json::to_string(&received)?);
    Ok(())
}

/// Many times what any run takes; a peer that hangs should not hang the bench.
const LONGEST_RUN: Duration = Duration::from_secs(120);
