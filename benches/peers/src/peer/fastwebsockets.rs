//! fastwebsockets, as its own client example shows it. Whether a text is UTF-8 is left to its user; here nobody asks.

use bytes::Bytes;
use fastwebsockets::{FragmentCollector, OpCode, handshake};
use http_body_util::Empty;
use hyper::Request;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::rt::Executor;

use super::{Feed, Peer, on_this_thread};
use crate::Result;
use crate::tally::Tally;

pub(super) const PEER: Peer = Peer { name: "fastwebsockets", run: |feed| on_this_thread(read(feed)) };

struct Spawner;

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

async fn read(feed: &Feed) -> Result<Tally> {
    let request = Request::get(feed.url())
        .header(HOST, feed.address().to_string())
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "upgrade")
        .header("Sec-WebSocket-Key", handshake::generate_key())
        .header("Sec-WebSocket-Version", "13")
        .body(Empty::<Bytes>::new())?;
    let (websocket, _) = handshake::client(&Spawner, request, feed.dial_async()?).await?;
    let mut websocket = FragmentCollector::new(websocket);
    let mut tally = Tally::new(feed.messages);
    loop {
        let frame = websocket.read_frame().await?;
        match frame.opcode {
            OpCode::Text => feed.handle(&frame.payload, &mut tally)?,
            OpCode::Close => return Ok(tally),
            _ => {}
        }
    }
}
