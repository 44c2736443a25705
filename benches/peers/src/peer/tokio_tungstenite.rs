//! tokio-tungstenite with its defaults. tungstenite checks that texts are UTF-8.

use futures_util::StreamExt;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::{Feed, Peer, on_this_thread};
use crate::Result;
use crate::tally::Tally;

pub(super) const PEER: Peer = Peer { name: "tokio-tungstenite", run: |feed| on_this_thread(read(feed)) };

async fn read(feed: &Feed) -> Result<Tally> {
    let (mut socket, _) = client_async(feed.url(), feed.dial_async()?).await?;
    let mut tally = Tally::new(feed.messages);
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message? {
            feed.handle(text.as_bytes(), &mut tally)?;
        }
    }
    Ok(tally)
}
