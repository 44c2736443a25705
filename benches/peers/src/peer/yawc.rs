//! yawc, with its check that texts are UTF-8 switched on, as its documentation recommends for input that is not trusted.

use yawc::{OpCode, Options, WebSocket};

use super::{Feed, Peer, on_this_thread};
use crate::Result;
use crate::tally::Tally;

pub(super) const PEER: Peer = Peer { name: "yawc", run: |feed| on_this_thread(read(feed)) };

async fn read(feed: &Feed) -> Result<Tally> {
    let options = Options::default().with_utf8();
    let mut websocket = WebSocket::handshake(feed.url().parse()?, feed.dial_async()?, options).await?;
    let mut tally = Tally::new(feed.messages);
    loop {
        let frame = websocket.next_frame().await?;
        match frame.opcode() {
            OpCode::Text => feed.handle(frame.payload(), &mut tally)?,
            OpCode::Close => return Ok(tally),
            _ => {}
        }
    }
}
