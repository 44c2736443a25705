//! tokio-websockets with its defaults. It checks that texts are UTF-8.

use futures_util::StreamExt;
use tokio_websockets::ClientBuilder;

use super::{Feed, Peer, on_this_thread};
use crate::Result;
use crate::tally::Tally;

pub(super) const PEER: Peer = Peer { name: "tokio-websockets", run: |feed| on_this_thread(read(feed)) };

async fn read(feed: &Feed) -> Result<Tally> {
    let (mut socket, _) = ClientBuilder::new().uri(&feed.url())?.connect_on(feed.dial_async()?).await?;
    let mut tally = Tally::new(feed.messages);
    while let Some(message) = socket.next().await {
        if let Some(text) = message?.as_text() {
            feed.handle(text.as_bytes(), &mut tally)?;
        }
    }
    Ok(tally)
}
