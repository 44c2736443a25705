//! Instructions a message of 150 B on the receive path, in memory, counted by callgrind: repeatable where time is not. `cargo bench
//! --bench instructions` prints them against their bars, and ends with 1 where one is missed: a check against regressions. Without
//! `--bench`, and where valgrind is not installed, it only sees that it still works.

mod support {
    pub(crate) mod by_hand;
    pub(crate) mod decoders;
    pub(crate) mod figures;
}

use std::hint::black_box;
use std::process::{Command, ExitCode};

use support::by_hand::{Feed, READ_BYTES};
use support::decoders::{ByHand, Decoder, Ours, Tungstenite};
use support::figures;

const TEXT_BYTES: usize = 150;
/// What differs between two runs is what the messages cost, and nothing else.
const READS: [usize; 2] = [100, 1_100];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", decoder, arrival, reads] => {
            run(decoder, arrival, reads.parse().expect("a number"));
            ExitCode::SUCCESS
        }
        _ if !figures::is_measured() => {
            for decoder in ["by-hand", "hypersockets", "tungstenite"] {
                run(decoder, "batch", 2);
            }
            ExitCode::SUCCESS
        }
        _ if Command::new("valgrind").arg("--version").output().is_err() => {
            println!("SKIPPED: valgrind is not installed");
            ExitCode::SUCCESS
        }
        _ => count(),
    }
}

fn count() -> ExitCode {
    println!("instructions a message of {TEXT_BYTES} B");
    let mut is_met = true;
    for (name, arrival, bar) in [("one per read", "one-per-read", 400.0), ("in a batch", "batch", 450.0)] {
        let [by_hand, ours, tungstenite] =
            ["by-hand", "hypersockets", "tungstenite"].map(|decoder| per_message(decoder, arrival));
        is_met &= ours <= bar;
        let verdict = figures::verdict(ours <= bar);
        println!(
            "{name:<13} by hand {by_hand:>5.0}   hypersockets {ours:>5.0}   tungstenite {tungstenite:>5.0}   bar {bar}: {verdict}"
        );
    }
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// By two runs of this program under callgrind.
fn per_message(decoder: &str, arrival: &str) -> f64 {
    let this = std::env::current_exe().expect("a bench has a path");
    let [few, many] = READS.map(|reads| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(&this)
            .args(["run", decoder, arrival, &reads.to_string()])
            .output()
            .expect("it could be run before");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let counted = said.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse::<f64>().ok());
        counted.unwrap_or_else(|| panic!("callgrind tells no count: {said}"))
    });
    let frames = Feed::new(TEXT_BYTES, read_bytes_of(arrival)).frames;
    (many - few) / ((READS[1] - READS[0]) * frames) as f64
}

fn run(decoder: &str, arrival: &str, reads: usize) {
    let feed = Feed::new(TEXT_BYTES, read_bytes_of(arrival));
    let mut decoder: Box<dyn Decoder> = match decoder {
        "by-hand" => Box::new(ByHand::new()),
        "hypersockets" => Box::new(Ours::new()),
        _ => Box::new(Tungstenite::new()),
    };
    let messages: usize = (0..reads).map(|_| decoder.take(black_box(&feed.read)).0).sum();
    assert_eq!(messages, reads * feed.frames, "each message is decoded once");
}

fn read_bytes_of(arrival: &str) -> usize {
    if arrival == "batch" { READ_BYTES } else { 0 }
}
