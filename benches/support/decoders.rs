//! The same frames, decoded by us, by a parser written by hand, and by tungstenite alone. Each copies what it is given into a buffer
//! of its own, as a read would; each checks that texts are UTF-8.

use std::hint::black_box;
use std::io::{self, Read, Write};

use hypersockets::internals::Receiver;
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::by_hand::{READ_BYTES, take_frames};

/// Takes reads; how many messages they were, and how many bytes of text.
pub(crate) trait Decoder {
    fn take(&mut self, read: &[u8]) -> (usize, usize);
}

pub(crate) struct Ours(Receiver);

impl Ours {
    pub(crate) fn new() -> Self {
        Self(Receiver::new(2 * READ_BYTES))
    }
}

impl Decoder for Ours {
    fn take(&mut self, read: &[u8]) -> (usize, usize) {
        self.0.room()[..read.len()].copy_from_slice(read);
        let (mut messages, mut bytes) = (0, 0);
        let is_open = self.0.read(read.len(), |message| {
            messages += 1;
            bytes += black_box(message.as_text()).map_or(0, str::len);
        });
        assert!(is_open, "the frames are lawful");
        (messages, bytes)
    }
}

/// What cannot be left out, and nothing beyond: the limit.
pub(crate) struct ByHand(Vec<u8>);

impl ByHand {
    pub(crate) fn new() -> Self {
        Self(vec![0; 2 * READ_BYTES])
    }
}

impl Decoder for ByHand {
    fn take(&mut self, read: &[u8]) -> (usize, usize) {
        self.0[..read.len()].copy_from_slice(read);
        let (mut messages, mut bytes) = (0, 0);
        take_frames(&self.0[..read.len()], |text| {
            messages += 1;
            bytes += black_box(Some(text)).map_or(0, str::len);
        });
        (messages, bytes)
    }
}

/// tungstenite alone, with the buffer that suits it best.
pub(crate) struct Tungstenite(Box<WebSocketContext>);

impl Tungstenite {
    pub(crate) fn new() -> Self {
        let config = WebSocketConfig::default().read_buffer_size(4 * 1024);
        Self(Box::new(WebSocketContext::new(Role::Client, Some(config))))
    }
}

impl Decoder for Tungstenite {
    fn take(&mut self, read: &[u8]) -> (usize, usize) {
        let mut wire = Wire(read);
        let (mut messages, mut bytes) = (0, 0);
        loop {
            match self.0.read(&mut wire) {
                Ok(Message::Text(text)) => {
                    messages += 1;
                    bytes += black_box(Some(text.as_str())).map_or(0, str::len);
                }
                Ok(other) => panic!("nobody sent {other:?}"),
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return (messages, bytes);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(room) }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
