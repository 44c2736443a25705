//! Finds the exchange recordings and their expected results, which live beside the project and never inside it.
//! Invariant: a machine without the recordings sees an empty list, not an error.
#![allow(dead_code)] // each test crate takes its own part of the support

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// One recorded session of one venue.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    /// `venue/file`, the key under which the expected results name it.
    pub(crate) name: String,
    /// The venue's folder, such as `kraken-v2`.
    pub(crate) venue: String,
    pub(crate) path: PathBuf,
    pub(crate) framing: Framing,
}

/// What one line of a recording holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The line is a text message as received.
    Text,
    /// The line is a binary message in base64.
    Base64,
}

/// What an independent reader of one recording arrived at.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Expected {
    pub(crate) types: BTreeMap<String, u64>,
    #[serde(rename = "final")]
    pub(crate) final_books: BTreeMap<String, ExpectedBook>,
    pub(crate) gaps: u64,
    pub(crate) checks: u64,
    pub(crate) check_fail: u64,
}

/// One book after the last message: best price and size as the venue spelled them, and levels per side.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ExpectedBook {
    pub(crate) bid: Option<(String, String)>,
    pub(crate) ask: Option<(String, String)>,
    pub(crate) bids: usize,
    pub(crate) asks: usize,
}

impl Recording {
    /// Every text message, in the order received. Not for `Framing::Base64`.
    pub(crate) fn texts(&self) -> Vec<String> {
        assert_eq!(self.framing, Framing::Text, "{} holds binary messages", self.name);
        self.lines()
    }

    /// Every message's payload bytes, in the order received.
    pub(crate) fn payloads(&self) -> Vec<Vec<u8>> {
        let lines = self.lines();
        match self.framing {
            Framing::Text => lines.into_iter().map(String::into_bytes).collect(),
            Framing::Base64 => lines.iter().map(|line| decode_base64(line)).collect(),
        }
    }

    fn lines(&self) -> Vec<String> {
        read(&self.path).lines().map(str::to_owned).collect()
    }
}

/// The recordings' directory, `None` where this machine has none.
pub(crate) fn directory() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    directory.join("EXPECTED.json").is_file().then_some(directory)
}

/// The expected results by recording name, empty where this machine has no recordings.
pub(crate) fn expected() -> BTreeMap<String, Expected> {
    let Some(directory) = directory() else {
        return BTreeMap::new();
    };
    let path = directory.join("EXPECTED.json");
    serde_json::from_str(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text sessions that have expected results, then the binary session, which has none.
pub(crate) fn sessions() -> Vec<Recording> {
    let Some(directory) = directory() else {
        return Vec::new();
    };
    let texts = expected().into_keys().map(|name| recording(&directory, name, Framing::Text));
    let binary = recording(&directory, HTX_SESSION.to_owned(), Framing::Base64);
    texts.chain([binary]).filter(|recording| recording.path.is_file()).collect()
}

/// HTX sends nothing but gzip in binary messages.
pub(crate) const HTX_SESSION: &str = "huobi-htx/spot_gzip_20210417.b64l";
/// Binary messages in the HTX session.
pub(crate) const HTX_MESSAGES: usize = 362;

fn recording(directory: &Path, name: String, framing: Framing) -> Recording {
    let venue = name.split('/').next().unwrap_or_default().to_owned();
    Recording { path: directory.join(&name), name, venue, framing }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn decode_base64(line: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(line.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0u32);
    for digit in line.bytes().take_while(|&digit| digit != b'=') {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("not a base64 digit: {digit:#x}"),
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}
