//! The baseline: an async client's usual pipeline. A Tokio task reads the socket and spawns a parse task per message; a
//! crossbeam channel per route leads to the route's thread, which waits with `recv_timeout`.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use futures_util::StreamExt;
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{Feed, Peer};
use crate::Result;
use crate::payload::{Parse, Update};
use crate::tally::Tally;
use crate::texts::COINS;

pub(super) const PEER: Peer = Peer { name: "tokio pipeline", run };
/// What such clients do more often: a tree for each message, which is freed far from where it was made.
pub(super) const OF_VALUES: Peer =
    Peer { name: "tokio pipeline, Value", run: |feed| run(&Feed { parse: Some(Parse::Value), ..feed.clone() }) };

/// The way from a parse task to the handlers.
struct Routes {
    feed: Feed,
    parse: Parse,
    senders: HashMap<u8, Sender<Update>>,
}

fn run(feed: &Feed) -> Result<Vec<Tally>> {
    let mut senders = HashMap::new();
    let mut handlers = Vec::new();
    for route in 0..COINS.len() as u8 {
        let (sender, queue) = unbounded();
        senders.insert(route, sender);
        handlers.push(start_handler(queue, feed.messages)?);
    }
    let parse = feed.parse.ok_or("a pipeline parses")?;
    let routes = Arc::new(Routes { feed: feed.clone(), parse, senders });

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // On a worker, where sockets are polled: the thread that blocks on a future is none.
    runtime.block_on(async { tokio::spawn(read(routes)).await })??;

    handlers.into_iter().map(|handler| handler.join().map_err(|_| "a handler panicked".into())).collect()
}

async fn read(routes: Arc<Routes>) -> Result<()> {
    const NODELAY: bool = true;
    let (mut socket, _) = connect_async_with_config(routes.feed.url(), None, NODELAY).await?;
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message? {
            let routes = Arc::clone(&routes);
            tokio::spawn(async move { parse(&text, &routes) });
        }
    }
    Ok(())
}

fn parse(text: &Utf8Bytes, routes: &Routes) {
    let Ok(update) = routes.parse.read(text.as_bytes(), routes.feed.shape) else { return };
    if let Some(sender) = routes.senders.get(&update.route()) {
        // Its thread ends only once all senders are gone.
        let _ = sender.send(update);
    }
}

/// The handler's thread; it ends when the last parse task has.
fn start_handler(queue: Receiver<Update>, messages: u64) -> Result<JoinHandle<Tally>> {
    let handle = move || {
        let mut tally = Tally::new(messages);
        loop {
            match queue.recv_timeout(Duration::from_millis(50)) {
                Ok(update) => tally.record(&update),
                // A real client would look at its shutdown flag here.
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return tally,
            }
        }
    };
    Ok(std::thread::Builder::new().spawn(handle)?)
}
