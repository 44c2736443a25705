//! The thread that accepts. Invariant: it owns every connection's thread, and ends only after all of them.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use super::command::{Command, Commander, Ending};
use super::connection::{Connection, WAKER};
use super::link::Link;
use super::listening::{Listening, Reserved};
use super::shared::Shared;
use super::tally::lock;
use super::upgrade::UpgradePlan;

const V4: Token = Token(2);
const V6: Token = Token(3);

/// When to try again after the machine refused an accept (out of descriptors, as a rule).
const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// The venue's end of the accepting thread.
pub(super) struct Acceptor {
    thread: JoinHandle<io::Result<Reserved>>,
    stop: Sender<Ending>,
    waker: Waker,
}

impl Acceptor {
    pub(super) fn start(shared: Arc<Shared>, reserved: Reserved) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let port = reserved.port;
        let mut listening = reserved.listen()?;
        let registry = poll.registry();
        registry.register(&mut listening.v4, V4, Interest::READABLE)?;
        if let Some(v6) = &mut listening.v6 {
            registry.register(v6, V6, Interest::READABLE)?;
        }
        let (stop, stopped) = crossbeam_channel::bounded(1);
        let accepting = Accepting { shared, poll, listening, port, stopped, connections: Vec::new() };
        let thread = thread::Builder::new().name("venue-accept".to_owned()).spawn(move || accepting.run())?;
        Ok(Acceptor { thread, stop, waker })
    }

    /// Ends the listener and all connections; the port comes back reserved.
    pub(super) fn stop(self, ending: Ending) -> io::Result<Reserved> {
        // Both fail only if the thread is gone, which `join` tells.
        let _ = self.stop.send(ending);
        let _ = self.waker.wake();
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the venue's accepting thread panicked")))
    }
}

struct Accepting {
    shared: Arc<Shared>,
    poll: Poll,
    listening: Listening,
    port: u16,
    stopped: Receiver<Ending>,
    connections: Vec<(Commander, JoinHandle<()>)>,
}

impl Accepting {
    fn run(mut self) -> io::Result<Reserved> {
        let mut events = Events::with_capacity(8);
        let ending = loop {
            match self.stopped.try_recv() {
                Ok(ending) => break ending,
                Err(TryRecvError::Disconnected) => break Ending::Rst,
                Err(TryRecvError::Empty) => {}
            }
            let timeout = self.accept_all().err().map(|_| ACCEPT_RETRY);
            match self.poll.poll(&mut events, timeout) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => break Ending::Rst,
                _ => {}
            }
        };
        drop(self.listening);
        let reserved = Reserved::bind(self.port);
        for (commander, _) in &self.connections {
            commander.send(Command::Stop(ending));
        }
        for (_, thread) in self.connections {
            // A panic of a connection was printed by its thread.
            let _ = thread.join();
        }
        reserved
    }

    fn accept_all(&mut self) -> io::Result<()> {
        loop {
            let accepted = match self.listening.v4.accept() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => match &self.listening.v6 {
                    Some(v6) => v6.accept(),
                    None => return Ok(()),
                },
                accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.open(stream)?,
                Err(e) => match e.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return Err(e),
                },
            }
        }
    }

    fn open(&mut self, stream: TcpStream) -> io::Result<()> {
        self.connections.retain(|(_, thread)| !thread.is_finished());
        let connection = self.shared.tally.open_connection();
        let plan = lock(&self.shared.plans).pop_front().unwrap_or(UpgradePlan::Accept);
        let link = Link::new(stream, self.shared.tls.clone())?;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (queue, commands) = crossbeam_channel::unbounded();
        let commander = Commander { queue, waker };
        let opened = Connection::new(Arc::clone(&self.shared), link, poll, plan, commander.clone(), commands)?;
        let thread = thread::Builder::new().name(format!("venue-{connection}")).spawn(move || opened.run())?;
        self.connections.push((commander, thread));
        Ok(())
    }
}
