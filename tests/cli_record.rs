//! The commands `record`, `replay` and `simulate`, run as a user runs them.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use hypersockets::simulator::{Recording, Session, Venue};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(30);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hypersockets"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("built with the tests")
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).expect("UTF-8").lines().map(str::to_owned).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn terminate(child: Child) -> Output {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGTERM).expect("it runs");
    child.wait_with_output().expect("a child")
}

/// A directory of the test's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hs-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn session(venue: &Venue) -> Session {
    venue.next_session(PATIENCE).expect("the command dials")
}

/// Sends these numbers as text, every tenth as binary, and waits until they have been read.
fn send(session: &Session, numbers: std::ops::Range<u32>) {
    for n in numbers {
        match n % 10 {
            0 => session.send_binary(n.to_be_bytes()),
            _ => session.send_text(format!("{n}\n")),
        }
    }
    session.send_ping("read?");
    session.await_pong(PATIENCE).expect("it reads");
}

/// Records 200 messages over two sessions.
fn record(path: &str) {
    let venue = Venue::scripted().start().expect("a free port");
    let child = command(&["record", &venue.url(), path]).spawn().expect("built");
    let first = session(&venue);
    send(&first, 0..100);
    first.drop_rst();
    send(&session(&venue), 100..200);
    let output = terminate(child);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", said(&output));
    assert!(said(&output).contains("200 messages"), "{}", said(&output));
}

fn expected() -> Vec<String> {
    use base64::Engine;
    let line = |n: u32| match n % 10 {
        0 => base64::engine::general_purpose::STANDARD.encode(n.to_be_bytes()),
        _ => format!("{n}\\n"),
    };
    (0..200).map(line).collect()
}

#[test]
fn what_was_recorded_is_replayed_once_in_order_and_the_same_each_time() {
    let scratch = Scratch::new("replayed");
    let path = scratch.path("feed.hsrec");
    record(&path);
    let recording = Recording::load(&path).expect("a sound recording");
    assert_eq!((recording.len(), recording.gaps(), recording.cut()), (200, &[100][..], None));
    let times = recording.received_ns().expect("recorded with times");
    assert!(times.is_sorted());

    for speed in ["max", "1000", "1"] {
        let replayed = run(&["replay", &path, "--speed", speed]);
        assert!(replayed.status.success(), "{}", said(&replayed));
        assert_eq!(lines(&replayed), expected(), "speed {speed}");
        assert!(said(&replayed).contains("a new session began"), "the gap is told: {}", said(&replayed));
    }
    let [first, second] = ["max", "100"].map(|speed| run(&["replay", &path, "--speed", speed, "--jsonl"]));
    assert_eq!(first.stdout, second.stdout, "with the times of the recording");
    assert!(lines(&first)[7].contains(&times[7].to_string()));
}

#[test]
fn a_recording_cut_anywhere_replays_all_before_the_cut_and_says_so() {
    let scratch = Scratch::new("cut");
    let path = scratch.path("feed.hsrec");
    record(&path);
    let bytes = fs::read(&path).expect("just recorded");
    for at in [3, 8, 9, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..at]).expect("a file");
        let replayed = run(&["replay", &path, "--speed", "max"]);
        assert!(replayed.status.success(), "cut at {at}: {}", said(&replayed));
        let lines = lines(&replayed);
        assert_eq!(lines, expected()[..lines.len()], "cut at {at}");
        let whole_records = at == 8;
        assert_eq!(
            said(&replayed).contains("cut or damaged at byte"),
            !whole_records,
            "cut at {at}: {}",
            said(&replayed)
        );
    }
}

#[test]
fn a_recorder_that_is_killed_keeps_what_it_was_sent() {
    let scratch = Scratch::new("killed");
    let path = scratch.path("feed.hsrec");
    let venue = Venue::scripted().start().expect("a free port");
    let mut child = command(&["record", &venue.url(), &path]).spawn().expect("built");
    let session = session(&venue);
    send(&session, 1..10);
    // Written at the end of each batch: wait for the file, not for the clock.
    let whole = || Recording::load(&path).is_ok_and(|recording| recording.len() == 9);
    while !whole() {
        std::thread::yield_now();
    }
    child.kill().expect("it runs");
    child.wait().expect("a child");
    assert_eq!(lines(&run(&["replay", &path, "--speed", "max"])), expected()[1..10]);
}

#[test]
fn no_recording_is_written_over_and_faults_name_the_file() {
    let scratch = Scratch::new("faults");
    let path = scratch.path("dear.hsrec");
    fs::write(&path, "dear").expect("a file");
    let refused = run(&["record", "ws://127.0.0.1:1/", &path]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("dear.hsrec"), "{}", said(&refused));
    assert_eq!(fs::read_to_string(&path).expect("still there"), "dear");
    let missing = run(&["replay", &scratch.path("none.hsrec")]);
    assert!(missing.status.code() == Some(1) && said(&missing).contains("none.hsrec"), "{}", said(&missing));
    let speed = run(&["replay", &path, "--speed=-1"]);
    assert!(speed.status.code() == Some(2) && said(&speed).contains("above 0"), "{}", said(&speed));
}

#[test]
fn the_simulator_serves_books_and_recordings_to_listen() {
    let scratch = Scratch::new("simulate");
    let subscribe = r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#;
    let mut venue = command(&["simulate", "--coins", "1", "--rate", "1000"]).spawn().expect("built");
    let url = first_line(&mut venue);
    let heard = run(&["listen", &url, "--subscribe", subscribe, "--count", "20"]);
    let lines_heard = lines(&heard);
    assert_eq!(lines_heard.len(), 20, "{}", said(&heard));
    assert!(lines_heard[1..].iter().all(|line| line.contains(r#""channel":"l2Book""#)), "{lines_heard:?}");
    assert!(terminate(venue).status.success());

    let path = scratch.path("feed.hsrec");
    record(&path);
    let certificate = scratch.path("venue.pem");
    let arguments = ["simulate", "--replay", &path, "--speed", "max", "--tls", "--cert-out", &certificate];
    let mut venue = command(&arguments).spawn().expect("built");
    let url = first_line(&mut venue);
    assert!(Path::new(&certificate).exists() && url.starts_with("wss://"), "{url}");
    let heard = run(&["listen", &url, "--ca-file", &certificate, "--subscribe", "go", "--count", "200"]);
    assert_eq!(lines(&heard), expected(), "{}", said(&heard));
    assert!(terminate(venue).status.success());
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("UTF-8");
    line.trim_end().to_owned()
}

#[test]
fn completions_name_every_subcommand() {
    let script = String::from_utf8(run(&["completions", "bash"]).stdout).expect("UTF-8");
    for name in ["listen", "latency", "simulate", "record", "replay"] {
        assert!(script.contains(name), "{name}");
    }
    for arguments in [&["--help"][..], &["listen", "--help"], &["latency", "--help"], &["record", "--help"]] {
        let help = String::from_utf8(run(arguments).stdout).expect("UTF-8");
        assert!(help.contains("Usage: hypersockets"), "{help}");
        assert!(arguments.len() == 1 || help.contains("Example"), "{help}");
    }
}
