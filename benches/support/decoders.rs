//! The same frames, decoded by us, by a parser written by hand, and by tungstenite alone. Each copies what it is given into a buffer
//! of its own, as a read would; each checks that texts are UTF-8.

use std::hint::black_box;
use std::io::{self, Read, Write};

use hypersockets::internals::Receiver;
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

/// What one read brings at most.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// How the frames come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// As many whole frames in each read as fit.
    Batch,
    /// A frame in each read.
    OnePerRead,
}

/// What each read brings: whole frames of texts of this length, in JSON's letters.
pub(crate) struct Feed {
    pub(crate) read: Vec<u8>,
    pub(crate) frames: usize,
}

impl Feed {
    pub(crate) fn new(text_bytes: usize, arrival: Arrival) -> Self {
        let text: Vec<u8> =
            br#"{"s":"BTC","b":"95123.10","B":"3.20"},"#.iter().copied().cycle().take(text_bytes).collect();
        let mut frame = vec![0x81];
        match u8::try_from(text_bytes) {
            Ok(short) if short < 126 => frame.push(short),
            _ => {
                frame.push(126);
                frame.extend_from_slice(&u16::try_from(text_bytes).expect("a bench's message is short").to_be_bytes());
            }
        }
        frame.extend_from_slice(&text);
        let frames = match arrival {
            Arrival::Batch => READ_BYTES / frame.len(),
            Arrival::OnePerRead => 1,
        };
        Self { read: frame.repeat(frames), frames }
    }
}

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
        let mut rest = &self.0[..read.len()];
        let (mut messages, mut bytes) = (0, 0);
        while let [0x81, length, behind @ ..] = rest {
            let (length, behind) = match (length, behind) {
                (0..=125, _) => (usize::from(*length), behind),
                (126, [high, low, behind @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), behind),
                _ => panic!("the frames are shorter"),
            };
            let Some((payload, behind)) = behind.split_at_checked(length) else { break };
            let text = simdutf8::basic::from_utf8(payload).expect("it is JSON");
            messages += 1;
            bytes += black_box(Some(text)).map_or(0, str::len);
            rest = behind;
        }
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
