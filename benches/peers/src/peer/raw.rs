//! The limit: a socket, a buffer, and a parser that does what cannot be left out. It answers nothing and survives nothing.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use super::{Feed, Peer};
use crate::Result;
use crate::tally::Tally;

#[path = "../../../support/by_hand.rs"]
mod by_hand;

use by_hand::Intake;

/// Asks the socket again and again.
pub(super) const BUSY: Peer = Peer { name: "raw, busy", run: |feed| run(feed, true) };
/// Sleeps in the kernel.
pub(super) const BLOCKING: Peer = Peer { name: "raw, blocking", run: |feed| run(feed, false) };

fn run(feed: &Feed, busy: bool) -> Result<Vec<Tally>> {
    let mut socket = feed.dial()?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        feed.address()
    );
    socket.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    socket.set_nonblocking(busy)?;
    let mut tally = Tally::new(feed.messages);
    let mut intake = Intake::new();
    while !tally.is_complete() {
        let mut outcome = Ok(());
        intake.read(&mut socket, |text| {
            if outcome.is_ok() {
                outcome = feed.handle(text.as_bytes(), &mut tally);
            }
        })?;
        outcome?;
    }
    // A socket that is dropped with the venue's Close unread would be reset.
    socket.set_nonblocking(false)?;
    socket.shutdown(Shutdown::Write)?;
    io::copy(&mut socket, &mut io::sink())?;
    Ok(vec![tally])
}
