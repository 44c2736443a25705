//! What is said on standard error, a line each. Invariant: nothing that a venue sends can break out of its line, or end us.

use std::io::Write;

use hypersockets::{ClientEvent, ConnectionEvent};

/// Says one line. A standard error that is closed is no reason to stop.
pub(crate) fn say(line: &str) {
    let clean: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let _ = writeln!(std::io::stderr(), "hypersockets: {clean}");
}

/// An event in words; `None` where it is of no interest here.
pub(crate) fn words(event: &ClientEvent) -> Option<String> {
    match event {
        ClientEvent::Connection(ConnectionEvent::Live { epoch: 1 }) => Some("connected".to_owned()),
        ClientEvent::Connection(ConnectionEvent::Live { epoch }) => Some(format!("connected again, session {epoch}")),
        ClientEvent::Connection(ConnectionEvent::Lost { epoch, reason, .. }) => {
            Some(format!("session {epoch} ended: {reason}"))
        }
        ClientEvent::DialFailed { attempt, reason, retry_in } => {
            Some(format!("{reason}; attempt {} in {:.1} s", attempt + 1, retry_in.as_secs_f64()))
        }
        ClientEvent::HandlerFailed { error, .. } => Some(error.clone()),
        _ => None,
    }
}
