//! Recordings.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tungstenite::Message;

use super::{PATIENCE, dial, next_text, read_to_close};
use crate::simulator::{Pace, Recording, RecordingWriter, Venue};

/// A directory of this test run's own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("venue-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Scratch(path)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("the directory was just made");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!(r#"{{"n":{n}}}"#)).collect()
}

#[test]
fn each_session_gets_the_whole_recording_once_in_order() {
    let messages = numbered(50_000);
    for builder in [
        Venue::replay(Recording::from_messages(messages.clone())),
        Venue::replay(Recording::from_messages(messages.clone())).tls(),
    ] {
        let venue = builder.close_after_replay().start().expect("a free port");
        for _ in 0..2 {
            let mut client = dial(&venue);
            client.send(Message::text("go")).expect("the venue reads");
            assert!(read_to_close(&mut client) == messages);
            venue.await_replayed(PATIENCE).expect("it was read whole");
        }
        assert_eq!(venue.sent(), 2 * messages.len() as u64);
    }
}

#[test]
fn behind_the_last_message_the_session_stays_open_and_answers_pings() {
    let venue = Venue::replay(Recording::from_messages(numbered(3))).replay_on_connect().start().expect("a free port");
    let mut client = dial(&venue);
    assert_eq!(next_text(&mut client), r#"{"n":0}"#);
    venue.await_replayed(PATIENCE).expect("three messages fit the socket");
    client.send(Message::Ping("x".into())).expect("the venue reads");
    client.close(None).expect("the venue reads");
    assert_eq!(read_to_close(&mut client).len(), 2);
}

#[test]
fn the_recorded_pauses_are_kept_or_shortened() {
    let scratch = Scratch::new("pauses");
    let path = scratch.write("feed.jsonl", "a\nb\nc\n");
    scratch.write("feed.recv_ns", "1000\n1000\n300001000\n");
    for (pace, expected) in [(Pace::Recorded, 0.3), (Pace::Factor(3.0), 0.1)] {
        let recording = Recording::load(&path).expect("a sound recording");
        assert_eq!(recording.len(), 3);
        let venue = Venue::replay(recording).pace(pace).replay_on_connect().start().expect("a free port");
        let mut client = dial(&venue);
        next_text(&mut client);
        let start = Instant::now();
        next_text(&mut client);
        next_text(&mut client);
        let taken = start.elapsed();
        // The first message may have been read late, never the last one early.
        let least = Duration::from_secs_f64(expected * 0.5);
        assert!(taken > least && taken < PATIENCE, "{pace:?} took {taken:?}");
    }
}

#[test]
fn base64_lines_are_played_as_binary_messages() {
    let scratch = Scratch::new("binary");
    let path = scratch.write("feed.b64l", "AAEC\n/w==\n");
    let recording = Recording::load(&path).expect("a sound recording");
    assert!(recording.is_binary());
    let venue = Venue::replay(recording).replay_on_connect().start().expect("a free port");
    let mut client = dial(&venue);
    for payload in [&[0, 1, 2][..], &[255]] {
        let message = client.read().expect("the venue sends");
        assert_eq!(message, Message::binary(payload.to_vec()));
    }
}

#[test]
fn a_faulty_recording_is_refused_with_its_file_and_line() {
    let scratch = Scratch::new("faulty");
    let text = scratch.write("a.jsonl", "{}\n{}\n");
    let fault = |path: &PathBuf| Recording::load(path).expect_err("a fault").to_string();

    scratch.write("a.recv_ns", "1\ntwo\n");
    assert!(fault(&text).contains("a.recv_ns:2: "), "{}", fault(&text));
    scratch.write("a.recv_ns", "1\n");
    assert!(fault(&text).contains("1 times for the 2 messages"));
    let binary = scratch.write("b.b64l", "AAEC\n!\n");
    assert!(fault(&binary).contains("b.b64l:2: no base64"));
    assert!(fault(&scratch.0.join("none.jsonl")).contains("none.jsonl: "));
}

#[test]
fn a_recording_without_times_is_played_flat_out_or_not_at_all() {
    let recording = Recording::from_messages(numbered(1));
    let refused = Venue::replay(recording).pace(Pace::Recorded).start();
    let refused = refused.expect_err("there are no times").to_string();
    assert!(refused.contains("flat out"), "{refused}");
}

/// A file of the recorder's own format, with `count` messages of all kinds and a gap in the middle.
fn recorded(path: &PathBuf, count: u64) {
    let mut writer = RecordingWriter::create(path).expect("a fresh directory");
    for n in 0..count {
        if n == count / 2 {
            writer.gap(n).expect("a file");
        }
        match n % 3 {
            0 => writer.binary(n * 1_000, &[0xFF; 5][..(n % 5) as usize]),
            _ => writer.text(n * 1_000, &format!("{{\"n\":{n}}}\n")),
        }
        .expect("a file");
    }
    writer.sync().expect("a file");
    assert_eq!(writer.messages(), count);
}

#[test]
fn a_recorded_file_comes_back_whole_with_its_times_and_gaps() {
    let scratch = Scratch::new("recorded");
    let path = scratch.0.join("feed.hsrec");
    recorded(&path, 30);
    let recording = Recording::load(&path).expect("a sound recording");
    assert_eq!((recording.len(), recording.gaps(), recording.cut()), (30, &[15][..], None));
    assert_eq!(recording.received_ns().map(|times| (times[0], times[29])), Some((0, 29_000)));
    let mut client = dial(&Venue::replay(recording).flat_out().replay_on_connect().start().expect("a free port"));
    for n in 0..30_usize {
        let message = client.read().expect("the venue sends");
        match n % 3 {
            0 => assert_eq!(message, Message::binary(vec![0xFF; n % 5])),
            _ => assert_eq!(message, Message::text(format!("{{\"n\":{n}}}\n"))),
        }
    }
}

#[test]
fn no_recording_is_written_over() {
    let scratch = Scratch::new("over");
    let path = scratch.write("feed.hsrec", "dear to somebody");
    let error = RecordingWriter::create(&path).expect_err("it is there");
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn a_file_cut_at_any_byte_holds_every_message_before_the_cut_and_says_so() {
    let scratch = Scratch::new("cut");
    let path = scratch.0.join("feed.hsrec");
    recorded(&path, 12);
    let bytes = fs::read(&path).expect("just written");
    let whole = Recording::load(&path).expect("a sound recording");
    let mut before = 0;
    for at in 1..bytes.len() {
        fs::write(&path, &bytes[..at]).expect("a file");
        let recording = Recording::load(&path).expect("a cut is no fault");
        assert!(whole.messages().take(recording.len()).eq(recording.messages()), "cut at {at}");
        assert!(recording.len() == before || recording.len() == before + 1, "cut at {at}");
        before = recording.len();
        match recording.cut() {
            Some(cut) => assert_eq!(cut.at_byte + cut.bytes_behind, at as u64),
            // Between two records nobody can tell.
            None => assert!(at == 8 || recording.len() + recording.gaps().len() > 0, "cut at {at}"),
        }
    }
    assert_eq!(before, 11, "the last byte belongs to the last message");
}

#[test]
fn a_flipped_bit_ends_the_recording_before_its_record() {
    let scratch = Scratch::new("flipped");
    let path = scratch.0.join("feed.hsrec");
    recorded(&path, 6);
    let bytes = fs::read(&path).expect("just written");
    let whole = Recording::load(&path).expect("a sound recording");
    for bit in 64..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).expect("a file");
        let recording = Recording::load(&path).expect("the magic is as it was");
        assert!(recording.cut().is_some() && recording.len() < 6, "bit {bit}");
        assert!(whole.messages().take(recording.len()).eq(recording.messages()), "bit {bit}");
    }
    // Of another version.
    let mut newer = bytes;
    newer[7] = 2;
    fs::write(&path, &newer).expect("a file");
    let refused = Recording::load(&path).expect_err("a version that nobody knows").to_string();
    assert!(refused.contains("version 2") && refused.contains("feed.hsrec"), "{refused}");
}
