//! sockudo-ws with its defaults. It checks that texts are UTF-8.

use futures_util::StreamExt;
use sockudo_ws::client::WebSocketClient;
use sockudo_ws::{Config, Http1, Message};

use super::{Feed, Peer, on_this_thread};
use crate::Result;
use crate::tally::Tally;

pub(super) const PEER: Peer = Peer { name: "sockudo-ws", run: |feed| on_this_thread(read(feed)) };

async fn read(feed: &Feed) -> Result<Tally> {
    let client = WebSocketClient::<Http1>::new(Config::default());
    let (mut socket, _) = client.connect(feed.dial_async()?, &feed.address().to_string(), "/", None).await?;
    let mut tally = Tally::new(feed.messages);
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) => feed.handle(&text, &mut tally)?,
            Message::Close(_) => break,
            _ => {}
        }
    }
    Ok(tally)
}
