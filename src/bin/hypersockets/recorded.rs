//! Recordings as the subcommands take them: the file, and how fast it is played.

use std::path::PathBuf;

use hypersockets::simulator::{Pace, Recording};

use crate::{Result, status};

/// A recording, and a word on standard error about what it lacks.
pub(crate) fn load(file: &PathBuf) -> Result<Recording> {
    let recording = Recording::load(file)?;
    if let Some(cut) = recording.cut() {
        status::say(&format!("{}: {cut}; the {} messages before it are sound", file.display(), recording.len()));
    }
    let gaps = recording.gaps().len();
    if gaps > 0 {
        status::say(&format!("{}: {gaps} times a new session began; messages may be missing there", file.display()));
    }
    Ok(recording)
}

/// A speed from the command line.
pub(crate) fn pace(text: &str) -> Result<Pace, String> {
    if text == "max" {
        return Ok(Pace::FlatOut);
    }
    match text.parse::<f64>() {
        Ok(factor) if factor > 0.0 && factor.is_finite() => Ok(Pace::Factor(factor)),
        _ => Err("expected a number above 0, or `max`".to_owned()),
    }
}
