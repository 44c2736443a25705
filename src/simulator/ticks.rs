//! Numbered messages at a steady rate. Invariant: a session that was held up is sent all that it missed, none twice.

use std::io::Write;
use std::time::Instant;

use super::clock::Stamp;
use super::due::Due;
use super::frames::Opcode;
use super::outbox::Outbox;
use super::pace;
use super::tally::Counted;

/// One session's messages: `{"seq":1,"sent_unix_ns":…,"pad":"xx…"}`.
pub(super) struct TicksFeed {
    message_bytes: usize,
    /// Infinite is flat out.
    rate_per_sec: f64,
    began: Option<Instant>,
    sent: u64,
    message: Vec<u8>,
}

impl TicksFeed {
    pub(super) fn new(message_bytes: usize, rate_per_sec: f64) -> Self {
        TicksFeed { message_bytes, rate_per_sec, began: None, sent: 0, message: Vec::new() }
    }

    pub(super) fn upgraded(&mut self, now: Stamp) {
        self.began = Some(now.at);
    }

    pub(super) fn emit(&mut self, now: Stamp, outbox: &mut Outbox) -> Due {
        let Some(began) = self.began else { return Due::Never };
        loop {
            let due = began + pace::time_of(self.sent as f64, self.rate_per_sec);
            if due > now.at {
                return Due::Sharp(due);
            }
            if !outbox.has_room() {
                return Due::WhenRoom;
            }
            self.sent += 1;
            self.message.clear();
            // Writing into memory cannot fail.
            let _ = write!(self.message, r#"{{"seq":{},"sent_unix_ns":{},"pad":""#, self.sent, now.unix_ns);
            let padded = self.message_bytes.saturating_sub(2).max(self.message.len());
            self.message.resize(padded, b'x');
            self.message.extend_from_slice(br#""}"#);
            outbox.stage(Opcode::Text, &self.message, Counted::Message);
        }
    }
}
