//! The upgrade, for both ends that the benches play themselves.
#![allow(dead_code)] // each bench takes its own part of the support

use std::io::{self, Read, Write};

use tungstenite::handshake::derive_accept_key;

/// A venue's part: reads the request and accepts it.
pub(crate) fn accept(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let head = read_head(stream)?;
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes())
}

/// A raw reader's part: asks, and reads the answer without judging it.
pub(crate) fn ask(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    read_head(stream).map(drop)
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}
