//! Messages on standard output, a line each. Invariant: each exactly once and in order, written out as soon as no more wait.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use hypersockets::{Delivery, MessageHandler, MessageRouter, WsMessage};

use crate::client::{Running, unix_ns_ago};

/// How a message becomes a line.
#[derive(Args, Clone, Copy)]
pub(crate) struct Format {
    /// Prints each message as it came, line breaks and all, with a line break behind it; binary ones too.
    #[arg(long, conflicts_with = "jsonl")]
    raw: bool,
    /// Prints a JSON object a message: `received_unix_ns`, `epoch`, `kind` (text or binary), `payload` (binary as base64).
    #[arg(long)]
    jsonl: bool,
}

/// A message as it came.
#[derive(Debug)]
pub(crate) enum Raw {
    Text(String),
    Binary(Vec<u8>),
}

/// Takes every message as it is, all on one route.
pub(crate) struct AsItIs;

impl MessageRouter for AsItIs {
    type Message = Raw;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> hypersockets::Result<Raw> {
        Ok(match message {
            WsMessage::Text(text) => Raw::Text(text.into_owned()),
            WsMessage::Binary(bytes) => Raw::Binary(bytes.into_owned()),
        })
    }

    fn route_key(&self, _: &Raw) {}
}

/// How the printing went, for whoever waits for it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    closed: AtomicBool,
    failed: std::sync::Mutex<Option<io::Error>>,
}

impl Outcome {
    /// Why messages could not be printed; a pipe that nobody reads any more is no fault.
    pub(crate) fn error(&self) -> Option<io::Error> {
        self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    /// Whoever read our output has gone: what is left is for nobody.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// Prints messages.
pub(crate) struct Printer {
    out: BufWriter<File>,
    format: Format,
    /// How many may still be printed.
    left: u64,
    running: Running,
    outcome: Arc<Outcome>,
    /// When the messages were received, where that was long ago.
    times: std::vec::IntoIter<u64>,
}

impl Printer {
    /// At most `count` messages.
    pub(crate) fn new(
        format: Format,
        count: Option<u64>,
        running: &Running,
        outcome: &Arc<Outcome>,
    ) -> io::Result<Self> {
        // Not `Stdout`: that would flush at every line.
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, out),
            format,
            left: count.unwrap_or(u64::MAX),
            running: running.clone(),
            outcome: Arc::clone(outcome),
            times: Vec::new().into_iter(),
        })
    }

    /// With the times at which the messages to come were received, in order.
    pub(crate) fn with_times(mut self, times: Vec<u64>) -> Self {
        self.times = times.into_iter();
        self
    }

    fn print(&mut self, message: &Raw, epoch: u64, received_unix_ns: u64) -> io::Result<()> {
        let out = &mut self.out;
        if self.format.jsonl {
            write!(out, "{{\"received_unix_ns\":{received_unix_ns},\"epoch\":{epoch},\"kind\":")?;
            match message {
                Raw::Text(text) => {
                    out.write_all(b"\"text\",\"payload\":")?;
                    serde_json::to_writer(&mut *out, text)?;
                }
                Raw::Binary(bytes) => {
                    write!(out, "\"binary\",\"payload\":\"{}\"", STANDARD.encode(bytes))?;
                }
            }
            return out.write_all(b"}\n");
        }
        match message {
            Raw::Text(text) if self.format.raw => out.write_all(text.as_bytes())?,
            Raw::Binary(bytes) if self.format.raw => out.write_all(bytes)?,
            Raw::Text(text) => write_escaped(out, text)?,
            Raw::Binary(bytes) => out.write_all(STANDARD.encode(bytes).as_bytes())?,
        }
        out.write_all(b"\n")
    }

    /// Prints it, if any more are to be printed.
    fn take(&mut self, message: &Raw, epoch: u64, age: Duration) {
        if self.left == 0 {
            return;
        }
        // Only JSON lines hold the time: the others are spared the clock.
        let received_unix_ns = match self.times.next() {
            Some(time) => time,
            None if self.format.jsonl => unix_ns_ago(age),
            None => 0,
        };
        let printed = self.print(message, epoch, received_unix_ns);
        self.judge(printed);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.flush();
            self.running.stop();
        }
    }

    /// After a failure there is nothing more to be printed, and no reason to go on.
    fn judge(&mut self, printed: io::Result<()>) {
        let Err(error) = printed else { return };
        self.left = 0;
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.outcome.closed.store(true, Ordering::Release);
        } else {
            let mut failed = self.outcome.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            failed.get_or_insert(error);
        }
        self.running.stop();
    }

    fn flush(&mut self) {
        let flushed = if self.outcome.is_closed() { Ok(()) } else { self.out.flush() };
        self.judge(flushed);
    }
}

impl MessageHandler<Raw> for Printer {
    fn handle(&mut self, message: Raw) -> hypersockets::Result<()> {
        self.take(&message, 0, Duration::ZERO);
        Ok(())
    }

    fn handle_delivery(&mut self, message: Raw, delivery: &mut Delivery<'_>) -> hypersockets::Result<()> {
        self.take(&message, delivery.epoch(), delivery.stamps().age());
        Ok(())
    }

    fn on_batch_end(&mut self) {
        self.flush();
    }

    fn on_stop(&mut self) {
        self.flush();
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        // What could not be written must not be tried again, where nobody reads.
        if self.outcome.is_closed() {
            let out = File::open("/dev/null").map(BufWriter::new);
            if let Ok(nowhere) = out {
                drop(std::mem::replace(&mut self.out, nowhere).into_parts());
            }
        }
    }
}

/// Line feeds and carriage returns become `\n` and `\r`, so that a message stays on its line; all else is as it came.
fn write_escaped(out: &mut impl Write, text: &str) -> io::Result<()> {
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest.as_bytes()) {
        let (line, behind) = rest.split_at(at);
        out.write_all(line.as_bytes())?;
        out.write_all(if behind.starts_with('\n') { b"\\n" } else { b"\\r" })?;
        rest = &behind[1..];
    }
    out.write_all(rest.as_bytes())
}

/// A burst goes out in pieces of this size.
const BUFFER_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_on_its_line() {
        let mut out = Vec::new();
        write_escaped(&mut out, "{\n\t\"a\": \"\\n\"\r\n}").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\\n\t\"a\": \"\\n\"\\r\\n}");
    }
}
