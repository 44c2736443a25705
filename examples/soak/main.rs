//! A long bad day: clients behind a proxy that delays, throttles and cuts, of a venue that restarts, in a process that is
//! stopped and continued. At the end every message is accounted for.
//!
//! `cargo run --release --example soak -- 30` runs for thirty minutes (one, unless told) and prints a line a minute; it ends with 1
//! where anything was lost, doubled or out of order, or where threads or descriptors are left. Linux.
//!
//! The clients are a process of their own, so that they can be stopped while the venue goes on.

mod clients;
mod process;
mod proxy;
mod random;
mod venue;

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hypersockets::Result;

use clients::Handled;
use proxy::{Fate, Forwarded, Proxy};
use random::Random;
use venue::Feeder;

pub(crate) const CLIENTS: usize = 16;
pub(crate) const ROUTES: usize = 4;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match arguments.next().as_deref() {
        Some("clients") => clients::run(&arguments.next().unwrap_or_default()).map(|()| true),
        None => soak(Duration::from_secs(60)),
        Some(minutes) => match minutes.parse::<f64>() {
            Ok(minutes) => soak(Duration::from_secs_f64(minutes * 60.0)),
            Err(_) => Err(format!("{minutes:?} is no number of minutes").into()),
        },
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

fn soak(duration: Duration) -> Result<bool> {
    let mut random = Random::new();
    let feeder = Feeder::start()?;
    let proxy = Arc::new(Proxy::start(feeder.port())?);
    let mut clients = Clients::start(&format!("ws://127.0.0.1:{}/", proxy.port()))?;
    let begin = Instant::now();
    let (mut restarts, mut stops, mut next_word) = (0, 0, Duration::from_secs(60));
    while begin.elapsed() < duration {
        std::thread::sleep(Duration::from_millis(250));
        // A cut about every second, a stop about every fifteen, a restart about every thirty.
        if random.one_in(4) {
            proxy.cut_one(random.one_in(2));
        }
        if random.one_in(60) {
            clients.signal("-STOP")?;
            std::thread::sleep(Duration::from_millis(200 + random.below(2_000)));
            clients.signal("-CONT")?;
            stops += 1;
        }
        if random.one_in(120) {
            feeder.restart(random.one_in(2), Duration::from_millis(random.below(3_000)))?;
            restarts += 1;
        }
        if begin.elapsed() >= next_word {
            next_word += Duration::from_secs(60);
            println!(
                "{:>4} min: {} messages sent, {} sessions, {restarts} restarts, {stops} stops",
                begin.elapsed().as_secs() / 60,
                feeder.sent(),
                proxy.sessions(),
            );
        }
    }
    // A last session for each, undisturbed, so that the end is like any other.
    feeder.pause();
    let report = clients.finish()?;
    drop(feeder);
    let forwarded = Arc::into_inner(proxy).ok_or("the proxy is still in use")?.finish();
    Ok(judge(&report, &forwarded, begin.elapsed(), restarts, stops))
}

/// What the clients' process told at its end.
struct Report {
    handled: Vec<Handled>,
    /// All that it has to say beside that.
    words: Vec<String>,
    /// Threads and descriptors are as at its start.
    is_clean: bool,
}

fn judge(report: &Report, forwarded: &[Forwarded], took: Duration, restarts: u32, stops: u32) -> bool {
    let (mut lost, mut unaccounted, mut messages) = (0, 0, 0);
    let [doubled, reordered, holes] = [|h: &Handled| h.doubled, |h: &Handled| h.reordered, |h: &Handled| h.holes]
        .map(|of| -> u64 { report.handled.iter().map(of).sum() });
    for session in forwarded {
        let handled: u64 = report
            .handled
            .iter()
            .filter(|handled| handled.session == session.session)
            .map(|handled| handled.count)
            .sum();
        messages += handled;
        match session.fate {
            // All that was passed on was acknowledged by the clients' kernel.
            Fate::Fin => lost += session.messages.saturating_sub(handled),
            // What an RST overtakes is gone; but nothing may come from nowhere.
            Fate::Rst => unaccounted += handled.saturating_sub(session.messages),
        }
    }
    let exact = forwarded.iter().filter(|session| session.fate == Fate::Fin).count();
    println!(
        "{messages} messages in {} sessions ({exact} of them ended by a FIN, so each message is known), {:.0} s, {restarts} restarts of \
         the venue, {stops} stops of the clients",
        forwarded.len(),
        took.as_secs_f64(),
    );
    println!("lost {lost}, holes {holes}, doubled {doubled}, out of order {reordered}, from nowhere {unaccounted}");
    report.words.iter().for_each(|word| println!("{word}"));
    [lost, holes, doubled, reordered, unaccounted] == [0; 5] && report.is_clean && messages > 0
}

/// The clients' process.
struct Clients {
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Clients {
    fn start(url: &str) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["clients", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take();
        Ok(Self { process, stdin })
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        Command::new("kill").arg(signal).arg(self.process.id().to_string()).status().map(drop)
    }

    /// Asks it to end, and reads what it has to say.
    fn finish(&mut self) -> Result<Report> {
        drop(self.stdin.take());
        let output = BufReader::new(self.process.stdout.take().ok_or("its output was read before")?);
        let mut report = Report { handled: Vec::new(), words: Vec::new(), is_clean: false };
        for line in output.lines() {
            let line = line?;
            match line.parse() {
                Ok(handled) => report.handled.push(handled),
                Err(()) => {
                    report.is_clean |= line.ends_with(process::CLEAN);
                    report.words.push(line);
                }
            }
        }
        if !self.process.wait()?.success() {
            return Err("the clients' process failed".into());
        }
        Ok(report)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
