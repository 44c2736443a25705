//! The command `hypersockets latency`, run as a user runs it.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use hypersockets::simulator::{Ending, Venue};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
/// Those of every message.
const STAGES: [&str; 6] = ["kernel_to_read", "read_to_parse", "parse", "queue", "handle", "total"];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hypersockets"));
    command.arg("latency").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn json(arguments: &[&str]) -> Value {
    let output = command(arguments).output().expect("built with the tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object, and nothing else")
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("hs-{}-{name}", std::process::id()))
}

#[test]
fn simulated_counts_are_what_the_venue_sent_and_the_stages_sum_to_the_total() {
    let three = ["--tls", "--connections", "3", "--size", "2048", "--idle", "park"];
    for (more, is_compressed) in [(&[][..], false), (&three, false), (&["--deflate"], true)] {
        let mut arguments = vec!["--simulate", "--for", "1s", "--rate", "2000", "--json"];
        arguments.extend(more);
        let json = json(&arguments);
        let sent = json["messages_sent_by_venue"].as_u64().expect("the simulator counts");
        assert!(sent > 100, "{json}");
        for stage in &STAGES[1..] {
            assert_eq!(json["stages"][stage]["count"], sent, "{stage}");
        }
        let in_kernel = json["stages"]["kernel_to_read"]["count"].as_u64().expect("a count");
        assert_eq!(in_kernel + json["kernel_upper_bounds"].as_u64().expect("a count"), sent);
        for stage in STAGES {
            let figures = ["p50", "p90", "p99", "p99.9", "max"].map(|name| json["stages"][stage][name].as_u64());
            assert!(figures.iter().all(Option::is_some) && figures.is_sorted(), "{stage}: {figures:?}");
        }
        assert_eq!(json["stages"]["inflate"]["count"], if is_compressed { sent } else { 0 });
        let mean = |stage: &str| json["stages"][stage]["mean"].as_f64().expect("a mean");
        let sum: f64 = STAGES[1..5].iter().chain(&["inflate"]).map(|stage| mean(stage)).sum();
        assert!((sum / mean("total") - 1.0).abs() < 0.02, "{sum} of {}", mean("total"));
    }
}

/// Stops the process, and returns once each of its threads stands still.
fn stop(pid: Pid) {
    kill(pid, Signal::SIGSTOP).expect("it runs");
    let stands = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).expect("a thread of a process that does not end");
        // Behind the name, which is in brackets.
        stat.rsplit(") ").next().expect("a state").starts_with('T')
    };
    let tasks = || fs::read_dir(format!("/proc/{pid}/task")).expect("it is there");
    while !tasks().all(|task| stands(task.expect("a thread"))) {
        std::thread::yield_now();
    }
}

#[test]
fn a_process_that_was_stopped_finds_the_time_between_the_kernel_and_the_read() {
    let venue = Venue::scripted().start().expect("a free port");
    let child = command(&[&venue.url(), "--json"]).spawn().expect("built with the tests");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let session = venue.next_session(PATIENCE).expect("the command dials");
    for n in 0..10 {
        stop(pid);
        // The pong tells that both were read, and the read ends with the message.
        session.send_ping("read?");
        session.send_text(format!("{n}"));
        session.flush(PATIENCE).expect("the kernel takes it");
        // The delay that is injected.
        std::thread::sleep(Duration::from_millis(20));
        kill(pid, Signal::SIGCONT).expect("it is there");
        session.await_pong(PATIENCE).expect("it goes on");
    }
    kill(pid, Signal::SIGTERM).expect("it runs");
    let output = child.wait_with_output().expect("a child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let p50 = |stage: &str| json["stages"][stage]["p50"].as_u64().expect("a figure");
    // Linux begins to stamp a moment after the machine's first socket asks for it: the first packets may carry no time.
    let stamped = json["stages"]["kernel_to_read"]["count"].as_u64().expect("a count");
    assert!((6..=10).contains(&stamped), "{json}");
    assert!(p50("kernel_to_read") > 15_000_000, "{json}");
    assert!(STAGES[1..].iter().all(|stage| p50(stage) < 15_000_000), "{json}");
}

#[test]
fn the_files_are_written_and_hold_all() {
    let [html, hgrm, hlog] = ["l.html", "l.hgrm", "l.hlog"].map(scratch);
    let files = [&html, &hgrm, &hlog].map(|path| path.to_str().expect("UTF-8"));
    let json = json(&[
        "--simulate",
        "--for",
        "2s",
        "--rate",
        "500",
        "--json",
        "--html",
        files[0],
        "--hgrm",
        files[1],
        "--hlog",
        files[2],
    ]);
    let sent = json["messages_sent_by_venue"].as_u64().expect("a count");
    let page = fs::read_to_string(&html).expect("written");
    assert!(page.matches("<svg").count() == 3 && page.contains(&sent.to_string()));
    let text = fs::read_to_string(&hgrm).expect("written");
    assert!(text.contains(&format!("Total count    = {sent:>12}]")), "{text}");
    let log = fs::read_to_string(&hlog).expect("written");
    assert!(
        log.starts_with("#[Histogram log format version 1.3]\n") && log.matches("Tag=total,").count() >= 2,
        "{log}"
    );
    for stage in &STAGES[..5] {
        let path = hgrm.with_extension(format!("{stage}.hgrm"));
        assert!(fs::read_to_string(&path).expect("written").contains("Total count"));
        fs::remove_file(path).expect("written");
    }
    [html, hgrm, hlog].iter().for_each(|path| fs::remove_file(path).expect("written"));
}

#[test]
fn a_table_is_printed_where_no_json_is_asked_for() {
    let venue = Venue::ticks(100).rate_per_sec(1_000.0).start().expect("a free port");
    let output = command(&[&venue.url(), "--for", "1s"]).output().expect("built with the tests");
    venue.stop(Ending::Fin);
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(STAGES.iter().all(|stage| table.lines().any(|line| line.starts_with(stage))), "{table}");
    assert!(table.contains("our clock at the read less the venue's"), "the offset is stated: {table}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains('\u{1b}'), "no live table where nobody watches: {said:?}");
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for (arguments, word) in [
        (&[][..], "URL"),
        (&["--simulate", "ws://127.0.0.1:1/"], "cannot be used"),
        (&["ws://127.0.0.1:1/", "--rate", "5"], "cannot be used"),
        (&["--simulate", "--rate", "0", "--for", "1s"], "above zero"),
        (&["--simulate", "--idle", "lazy"], "backoff"),
        (&["--simulate", "--core", "4096", "--for", "1s"], "4096"),
    ] {
        let output = command(arguments).output().expect("built with the tests");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(word), "{arguments:?}: {said}");
    }
}
