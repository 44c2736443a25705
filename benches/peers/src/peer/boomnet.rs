//! boomnet, as its README shows it: no selector, `read_batch` again and again. It does not check that texts are UTF-8.

use boomnet::stream::tcp::TcpStream;
use boomnet::ws::{Error, IntoWebsocket, WebsocketFrame};

use super::{Feed, Peer};
use crate::Result;
use crate::tally::Tally;

pub(super) const PEER: Peer = Peer { name: "boomnet", run };

fn run(feed: &Feed) -> Result<Vec<Tally>> {
    let socket = feed.dial()?;
    socket.set_nonblocking(true)?;
    let mut websocket = TcpStream::new(socket, ("127.0.0.1", feed.port).into()).into_websocket("/");
    let mut tally = Tally::new(feed.messages);
    loop {
        let batch = match websocket.read_batch() {
            Ok(batch) => batch,
            Err(error) => return ended(error, tally),
        };
        for frame in batch {
            match frame {
                Ok(WebsocketFrame::Text(_, text)) => feed.handle(text, &mut tally)?,
                Ok(_) => {}
                Err(error) => return ended(error, tally),
            }
        }
    }
}

fn ended(error: Error, tally: Tally) -> Result<Vec<Tally>> {
    match error {
        Error::ReceivedCloseFrame(..) | Error::Closed => Ok(vec![tally]),
        error => Err(error.into()),
    }
}
