//! The command `hypersockets listen`, run as a user runs it.

mod support {
    pub(crate) mod lines;
}

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use hypersockets::simulator::{Ending, Received, Session, Venue};
use support::lines::PATIENCE;

const BINARY: &str = env!("CARGO_BIN_EXE_hypersockets");

/// A run of the command, killed when the test fails.
struct Run {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Run {
    fn new(arguments: &[&str]) -> Self {
        let mut child = Command::new(BINARY)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command is built with the tests");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("UTF-8")
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("it runs");
    }

    /// What else it prints, what it says on standard error, and how it ends.
    fn end(mut self) -> (Vec<String>, String, ExitStatus) {
        let rest = self.lines.by_ref().map(|line| line.expect("UTF-8")).collect();
        let mut said = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
        (rest, said, self.child.wait().expect("a child"))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn venue() -> Venue {
    Venue::scripted().start().expect("a free port")
}

fn session(venue: &Venue) -> Session {
    venue.next_session(PATIENCE).expect("the command dials")
}

#[test]
fn every_message_is_a_line_once_and_in_order_and_sigterm_flushes_all() {
    let venue = venue();
    let mut run = Run::new(&["listen", &venue.url()]);
    let session = session(&venue);
    for n in 0..60_000 {
        session.send_text(format!(r#"{{"n":{n}}}"#));
    }
    session.flush(PATIENCE).expect("the command reads");
    assert_eq!(run.line(), r#"{"n":0}"#);
    // All the rest is in the kernel or in the command when the signal comes.
    run.signal(nix::sys::signal::Signal::SIGTERM);
    let (rest, said, status) = run.end();
    assert!(status.success(), "{status}: {said}");
    assert_eq!(rest.len(), 59_999, "{said}");
    assert!(rest.iter().zip(1..).all(|(line, n): (_, u32)| *line == format!(r#"{{"n":{n}}}"#)));
}

#[test]
fn a_message_never_leaves_its_line_and_binary_is_base64() {
    let venue = venue();
    let mut run = Run::new(&["listen", &venue.url(), "--count", "4"]);
    let session = session(&venue);
    session.send_text("{\n \"a\": 1,\r\n \"b\": \"\\n\"}");
    session.send_binary(vec![0xFF, 0x00]);
    session.send_text("");
    session.send_text("last");
    let lines = [(); 4].map(|()| run.line());
    assert_eq!(lines, [r#"{\n "a": 1,\r\n "b": "\n"}"#, "/wA=", "", "last"]);
    let (rest, said, status) = run.end();
    assert!(rest.is_empty() && status.success(), "{status}: {said}");
}

#[test]
fn json_lines_hold_time_session_kind_and_payload() {
    let venue = venue();
    let mut run = Run::new(&["listen", &venue.url(), "--jsonl", "--count", "2"]);
    let session = session(&venue);
    session.send_text("line\nbreak \u{1}");
    session.send_binary(vec![1, 2, 3]);
    let [text, binary] = [(); 2].map(|()| serde_json::from_str::<serde_json::Value>(&run.line()).expect("JSON"));
    assert_eq!((&text["kind"], &text["payload"]), (&"text".into(), &"line\nbreak \u{1}".into()));
    assert_eq!((&binary["kind"], &binary["payload"], &binary["epoch"]), (&"binary".into(), &"AQID".into(), &1.into()));
    assert!(text["received_unix_ns"].as_u64() > Some(1_600_000_000_000_000_000));
}

#[test]
fn raw_prints_what_came() {
    let venue = venue();
    let mut run = Run::new(&["listen", &venue.url(), "--raw", "--count", "1"]);
    session(&venue).send_text("{\n}");
    assert_eq!([run.line(), run.line()], ["{", "}"]);
}

#[test]
fn it_reconnects_and_subscribes_again_once_a_session() {
    let venue = venue();
    let mut run = Run::new(&["listen", &venue.url(), "--subscribe", "one", "--subscribe", "two"]);
    for n in 0..3 {
        let session = session(&venue);
        for wanted in ["one", "two"] {
            session.assert_received(wanted);
        }
        session.send_text(format!("session {n}"));
        assert_eq!(run.line(), format!("session {n}"));
        session.drop_rst();
    }
    let heard = venue.received();
    assert_eq!(heard.len(), 6, "{heard:?}");
    run.signal(nix::sys::signal::Signal::SIGINT);
    let (rest, said, status) = run.end();
    assert!(rest.is_empty() && status.success(), "{status}: {said}");
    assert!(said.contains("connected again"), "{said}");
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let venue = venue();
    let mut child = Command::new(BINARY)
        .args(["listen", &venue.url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("built");
    let session = session(&venue);
    drop(child.stdout.take());
    session.send_text("nobody reads this");
    let output = child.wait_with_output().expect("it ends by itself");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert!(!said.contains("error") && !said.contains("pipe"), "{said}");
}

#[test]
fn tls_needs_the_authority_and_never_falls_back() {
    let venue = Venue::scripted().tls().start().expect("a free port");
    let pem = venue.root_certificate_pem().expect("it speaks TLS");
    let file = std::env::temp_dir().join(format!("hs-cli-{}.pem", std::process::id()));
    std::fs::write(&file, pem).expect("a file");
    let path = file.to_str().expect("UTF-8");
    let mut trusted = Run::new(&["listen", &venue.url(), "--ca-file", path, "--count", "1"]);
    session(&venue).send_text("over TLS");
    assert_eq!(trusted.line(), "over TLS");
    drop(trusted);
    let untrusted = Run::new(&["listen", &venue.url(), "--for", "1s"]);
    let (rest, said, status) = untrusted.end();
    assert!(rest.is_empty() && status.success(), "time is up: {status}: {said}");
    assert!(said.contains("certificate") || said.contains("TLS"), "{said}");
    assert_eq!(venue.sessions_accepted(), 1);
    let missing = Run::new(&["listen", &venue.url(), "--ca-file", "/nowhere.pem"]);
    let (_, said, status) = missing.end();
    assert!(status.code() == Some(1) && said.contains("/nowhere.pem"), "{status}: {said}");
    std::fs::remove_file(file).expect("written above");
}

#[test]
fn headers_heartbeat_and_text_pings_do_what_they_say() {
    let venue = venue();
    let mut run = Run::new(&[
        "listen",
        &venue.url(),
        "--header",
        "X-Key: s3cret:x",
        "--heartbeat",
        "50ms=beat",
        "--text-ping",
        "ping=pong",
    ]);
    let session = session(&venue);
    session.assert_received("beat");
    session.send_text("ping");
    session.send_text("data");
    assert_eq!(run.line(), "data", "a ping is not printed");
    let next = || session.await_message(PATIENCE).expect("it beats");
    assert!((0..1_000).any(|_| next() == Received::Text("pong".to_owned())), "among the beats, the answer");
    run.signal(nix::sys::signal::Signal::SIGINT);
    let (_, said, _) = run.end();
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn what_is_wrong_is_said_and_the_exit_code_tells() {
    for (arguments, code, word) in [
        (&["listen"][..], 2, "URL"),
        (&["listen", "http://127.0.0.1:1/"], 1, "ws or wss"),
        (&["listen", "ws://127.0.0.1:1/", "--header", "no colon"], 2, "Name: value"),
        (&["listen", "ws://127.0.0.1:1/", "--header", "A: b\r\nC: d"], 1, "control character"),
        (&["listen", "ws://127.0.0.1:1/", "--header", "Host: elsewhere"], 1, "Host"),
        (&["listen", "ws://127.0.0.1:1/", "--heartbeat", "0s=x"], 2, "beats"),
        (&["listen", "ws://127.0.0.1:1/", "--heartbeat", "x"], 2, "30s=TEXT"),
        (&["listen", "ws://127.0.0.1:1/", "--text-ping", "ping"], 2, "ping=pong"),
        (&["listen", "ws://127.0.0.1:1/", "--raw", "--jsonl"], 2, "--jsonl"),
    ] {
        let (lines, said, status) = Run::new(arguments).end();
        assert_eq!(status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(word) && lines.is_empty(), "{arguments:?}: {said}");
    }
}

#[test]
fn a_venue_that_is_away_is_waited_for() {
    let venue = venue();
    let url = venue.url();
    venue.stop(Ending::Fin);
    let mut run = Run::new(&["listen", &url, "--count", "1"]);
    let mut said = BufReader::new(run.child.stderr.take().expect("piped")).lines();
    let first = said.next().expect("a line").expect("UTF-8");
    assert!(first.contains("attempt 2 in"), "{first}");
    venue.restart().expect("its port is kept");
    session(&venue).send_text("back");
    assert_eq!(run.line(), "back");
}
