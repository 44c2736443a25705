//! A TCP proxy that has bad days: it holds data back as a lost packet would, passes a few bytes at a time, and cuts anywhere, by FIN
//! or by RST. It reads along, so as to know which messages it has passed on whole.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use crate::random::Random;

/// A retransmission timer's first turn, at most.
const LOST_PACKET_MS: u64 = 300;

/// How a session ended towards the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Behind everything that was passed on.
    Fin,
    /// Perhaps before some of it.
    Rst,
}

/// What was passed on to a client in one session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forwarded {
    /// The venue's number for it; 0 where no message was passed on.
    pub(crate) session: u64,
    /// Whole messages.
    pub(crate) messages: u64,
    pub(crate) fate: Fate,
}

pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    links: Mutex<Vec<Arc<Link>>>,
    done: Mutex<Vec<Forwarded>>,
    pumps: Mutex<Vec<JoinHandle<()>>>,
    ends: AtomicBool,
}

/// One connection through the proxy.
struct Link {
    client: TcpStream,
    venue: TcpStream,
    /// 0 where it is not to be cut.
    cut: AtomicU8,
}

const BY_FIN: u8 = 1;
const BY_RST: u8 = 2;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub(crate) fn start(venue_port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::<Shared>::default();
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.ends.load(Ordering::Relaxed) {
                    return;
                }
                // A venue that is away refuses: so does its proxy.
                if let Ok(venue) = TcpStream::connect((Ipv4Addr::LOCALHOST, venue_port)) {
                    let _ = accepting.open(client, venue);
                }
            }
        });
        Ok(Self { port, shared, acceptor })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Sessions that have ended.
    pub(crate) fn sessions(&self) -> usize {
        lock(&self.shared.done).len()
    }

    /// Cuts the connection that has stood the longest.
    pub(crate) fn cut_one(&self, by_rst: bool) {
        let mut links = lock(&self.shared.links);
        if !links.is_empty() {
            links.remove(0).cut.store(if by_rst { BY_RST } else { BY_FIN }, Ordering::Relaxed);
        }
    }

    /// Waits for all pumps; what each session was given.
    pub(crate) fn finish(self) -> Vec<Forwarded> {
        self.shared.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        let _ = self.acceptor.join();
        for pump in std::mem::take(&mut *lock(&self.shared.pumps)) {
            let _ = pump.join();
        }
        let mut done = std::mem::take(&mut *lock(&self.shared.done));
        done.retain(|forwarded| forwarded.session > 0);
        done
    }
}

impl Shared {
    fn open(self: &Arc<Self>, client: TcpStream, venue: TcpStream) -> io::Result<()> {
        for socket in [&client, &venue] {
            socket.set_nodelay(true)?;
            // So that a cut, and the end, are noticed.
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        }
        let link = Arc::new(Link { client, venue, cut: AtomicU8::new(0) });
        lock(&self.links).push(Arc::clone(&link));
        let (up, down, shared) = (Arc::clone(&link), link, Arc::clone(self));
        let mut pumps = lock(&self.pumps);
        pumps.retain(|pump| !pump.is_finished());
        pumps.push(thread::spawn(move || up.pump_up()));
        pumps.push(thread::spawn(move || {
            let forwarded = down.pump_down();
            lock(&shared.done).push(forwarded);
            lock(&shared.links).retain(|link| !Arc::ptr_eq(link, &down));
        }));
        Ok(())
    }
}

impl Link {
    /// From the client to the venue, untouched.
    fn pump_up(&self) {
        let mut buffer = [0; 16 * 1024];
        loop {
            match (&self.client).read(&mut buffer) {
                Ok(0) => break,
                // Where the venue is gone, the client is still read to its end: an RST of ours could overtake what it was given.
                Ok(count) => drop((&self.venue).write_all(&buffer[..count])),
                Err(error) if is_timeout(&error) && self.cut.load(Ordering::Relaxed) < BY_RST => {}
                Err(_) => break,
            }
        }
        let _ = self.venue.shutdown(Shutdown::Write);
    }

    /// From the venue to the client, on a bad day.
    fn pump_down(&self) -> Forwarded {
        let mut random = Random::new();
        let mut reader = Along::default();
        let mut buffer = [0; 16 * 1024];
        let mut fate = Fate::Fin;
        'all: loop {
            let count = match (&self.venue).read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if is_timeout(&error) => 0,
                // The venue's RST: what we hold has been passed on, and a FIN follows it.
                Err(_) => break,
            };
            if random.one_in(40) {
                thread::sleep(Duration::from_millis(random.below(LOST_PACKET_MS)));
            }
            let mut rest = &buffer[..count];
            let cut = self.cut.load(Ordering::Relaxed);
            if cut != 0 {
                // Anywhere, within a frame as well as between two.
                rest = &rest[..usize::try_from(random.below(count as u64 + 1)).unwrap_or(0)];
            }
            while !rest.is_empty() {
                let most = if random.one_in(20) { 7 } else { rest.len() };
                let (piece, behind) = rest.split_at(most.min(rest.len()));
                if (&self.client).write_all(piece).is_err() {
                    fate = Fate::Rst;
                    break 'all;
                }
                reader.read(piece);
                rest = behind;
            }
            match cut {
                0 => {}
                BY_FIN => break,
                _ => {
                    fate = Fate::Rst;
                    let _ = SockRef::from(&self.client).set_linger(Some(Duration::ZERO));
                    break;
                }
            }
        }
        let _ = self.venue.shutdown(Shutdown::Both);
        let end = if fate == Fate::Fin { Shutdown::Write } else { Shutdown::Both };
        let _ = self.client.shutdown(end);
        Forwarded { session: reader.session, messages: reader.messages, fate }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Reads along: counts the whole texts of an unmasked stream behind its head, and learns the session's number from the first.
#[derive(Default)]
struct Along {
    bytes: Vec<u8>,
    is_behind_head: bool,
    session: u64,
    messages: u64,
}

impl Along {
    fn read(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        if !self.is_behind_head {
            let Some(end) = self.bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return };
            self.bytes.drain(..end + 4);
            self.is_behind_head = true;
        }
        let mut at = 0;
        // The venue's frames are short.
        while let [first, length, rest @ ..] = &self.bytes[at..]
            && let Some(payload) = rest.get(..usize::from(*length))
        {
            if *first == 0x81 {
                self.messages += 1;
                if self.session == 0 {
                    let text = String::from_utf8_lossy(payload);
                    self.session = text.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
                }
            }
            at += 2 + payload.len();
        }
        self.bytes.drain(..at);
    }
}
