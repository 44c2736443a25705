//! What TLS 1.3 costs the client: processor time a message, from a full socket to a parser written by hand. `cargo bench --bench tls`
//! prints the ratios to rustls' `read_tls` against their bars; without `--bench`, as under `cargo test --benches`, it makes a short
//! round to see that it still works.
//!
//! *rustls* is this library's TLS layer where rustls reads the records, by its unbuffered API; *in place* the same with the feature
//! `tls-in-place`. *Engine* is all of the way to an inline handler, for comparison: no bar is about it.
//!
//! The thread that measures reads, and the venue's part is its own between the measurements: so nothing but the reading is on the
//! clock, and nobody is waited for. Messages of 150 B come in full records of 16 KiB, as from a venue in a flood, or each in a record
//! of its own, as from most venues at most times.

mod support {
    pub(crate) mod by_hand;
    pub(crate) mod cores;
    pub(crate) mod figures;
    pub(crate) mod flood;
    pub(crate) mod hand;
    pub(crate) mod length;
    pub(crate) mod upgrade;
}

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hypersockets::internals::TlsReader;
use hypersockets::rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
use hypersockets::rustls::{ClientConfig, RootCertStore};
use hypersockets::{Client, EventLoop, HyperSocketError, Result, RouteOptions, TlsOptions};
use support::by_hand::{Feed, Intake, READ_BYTES, take_frames};
use support::figures::{self, median, median_ratio};
use support::flood::RawReader;
use support::hand::{End, Hand, PATIENCE, RECORD_BYTES};
use support::length::{Length, counting};
use support::upgrade;

struct Plan {
    rounds: usize,
    messages: usize,
}

const MEASURED: Plan = Plan { rounds: 31, messages: 40_000 };
const TRIED: Plan = Plan { rounds: 1, messages: 500 };

const TEXT_BYTES: usize = 150;

fn main() -> Result<()> {
    let plan = if figures::is_measured() { MEASURED } else { TRIED };
    println!("TLS 1.3, {TEXT_BYTES} B, ns a message, {} interleaved rounds, medians", plan.rounds);
    let frame = Feed::new(TEXT_BYTES, 0).read;
    let said = frame.repeat(plan.messages);
    for (cipher, suite) in [("AES-128-GCM", TLS13_AES_128_GCM_SHA256), ("AES-256-GCM", TLS13_AES_256_GCM_SHA384)] {
        for (shape, record_bytes, bar) in
            [("records of 16 KiB", RECORD_BYTES, 0.6), ("a record a message", frame.len(), 0.9)]
        {
            let hand = Hand::with_suite(suite)?;
            let mut readers: [(&str, Box<dyn Reader>); 4] = [
                ("read_tls", Box::new(ReadTls::dial(&hand)?)),
                ("rustls", Box::new(OurLayer::dial(&hand, false)?)),
                ("in place", Box::new(OurLayer::dial(&hand, true)?)),
                ("engine", Box::new(InEngine::dial(&hand)?)),
            ];
            let mut costs: [Vec<f64>; 4] = Default::default();
            for _ in 0..plan.rounds {
                for (costs, (_, reader)) in costs.iter_mut().zip(&mut readers) {
                    costs.push(timed(plan.messages, &said, record_bytes, reader.as_mut())?);
                }
            }
            for (cost, (name, _)) in costs.iter().zip(&readers) {
                let ratio = median_ratio(cost, &costs[0]);
                let bar = match *name {
                    "rustls" | "in place" => format!("   bar {bar}x: {}", figures::verdict(ratio <= bar)),
                    _ => String::new(),
                };
                println!("{cipher}   {shape:<18}   {name:<8} {:>6.1}   {ratio:.2}x{bar}", median(cost.clone()));
            }
        }
    }
    Ok(())
}

/// Who reads, with the venue's end beside it.
trait Reader {
    fn end(&mut self) -> &mut End;

    /// Takes what the socket holds; how many messages there have been.
    fn drain(&mut self) -> Result<u64>;
}

/// Nanoseconds a message.
fn timed(messages: usize, said: &[u8], record_bytes: usize, reader: &mut dyn Reader) -> Result<f64> {
    let target = reader.drain()? + messages as u64;
    let (mut busy, mut written, mut taken) = (Duration::ZERO, 0, 0);
    let patience = Instant::now();
    while taken < target {
        reader.end().pour(said, &mut written, record_bytes)?;
        let begin = Instant::now();
        taken = reader.drain()?;
        busy += begin.elapsed();
        if patience.elapsed() > PATIENCE {
            return Err(format!("{} of {messages} messages came", taken + messages as u64 - target).into());
        }
    }
    Ok(busy.as_nanos() as f64 / messages as f64)
}

struct InEngine {
    event_loop: EventLoop,
    handled: Arc<AtomicU64>,
    end: End,
    _client: Client,
}

impl InEngine {
    fn dial(hand: &Hand) -> Result<Self> {
        let handled = Arc::<AtomicU64>::default();
        let root = hand.root().ok_or("a venue without TLS")?;
        let mut event_loop = EventLoop::new()?;
        let client = event_loop.add(
            hypersockets::builder()
                .url(hand.url())
                .router(Length, |routing| {
                    routing.handler_with((), counting(TEXT_BYTES, &handled), RouteOptions::new().inline())
                })
                .tls(TlsOptions::new().add_root_der(root).only_added_roots()),
        )?;
        let end = hand.meet(&mut event_loop, std::slice::from_ref(&client))?.pop().ok_or("nobody was met")?;
        Ok(Self { event_loop, handled, end, _client: client })
    }
}

impl Reader for InEngine {
    fn end(&mut self) -> &mut End {
        &mut self.end
    }

    fn drain(&mut self) -> Result<u64> {
        while self.event_loop.turn() > 0 {}
        Ok(self.handled.load(Ordering::Relaxed))
    }
}

/// rustls' `read_tls`, with the parser written by hand behind it.
struct ReadTls {
    reader: RawReader,
    intake: Intake,
    end: End,
    taken: u64,
}

impl ReadTls {
    fn dial(hand: &Hand) -> Result<Self> {
        let reader = RawReader::dial(hand.port(), hand.root())?;
        let end = hand.accepted()?;
        reader.set_nonblocking()?;
        Ok(Self { reader, intake: Intake::new(), end, taken: 0 })
    }
}

impl Reader for ReadTls {
    fn end(&mut self) -> &mut End {
        &mut self.end
    }

    fn drain(&mut self) -> Result<u64> {
        while self.intake.read(&mut self.reader, |text| {
            assert_eq!(text.len(), TEXT_BYTES, "not what was sent");
            self.taken += 1;
        })? {}
        Ok(self.taken)
    }
}

/// Our TLS layer, with the same parser behind it.
struct OurLayer {
    socket: Unencrypted,
    end: End,
    taken: u64,
}

impl Reader for OurLayer {
    fn end(&mut self) -> &mut End {
        &mut self.end
    }

    fn drain(&mut self) -> Result<u64> {
        let Unencrypted { socket, tls } = &mut self.socket;
        loop {
            match tls.fill(socket) {
                Ok(0) => return Err("it ended early".into()),
                Ok(_) => {}
                Err(HyperSocketError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(self.taken),
                Err(error) => return Err(error),
            }
            let taken = take_frames(tls.plaintext(), |text| {
                assert_eq!(text.len(), TEXT_BYTES, "not what was sent");
                self.taken += 1;
            });
            tls.consume(taken);
        }
    }
}

impl OurLayer {
    fn dial(hand: &Hand, in_place: bool) -> Result<Self> {
        let root = hand.root().ok_or("a venue without TLS")?;
        let mut options = TlsOptions::new().add_root_der(root.clone()).only_added_roots();
        if !in_place {
            // A config that does not let rustls give its secrets away, as any of a caller's own.
            let mut roots = RootCertStore::empty();
            roots.add(root.into()).map_err(|error| error.to_string())?;
            let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            options = options.client_config(Arc::new(config));
        }
        let mut socket = Unencrypted {
            socket: TcpStream::connect(("127.0.0.1", hand.port()))?,
            tls: TlsReader::connect(&options, "localhost", READ_BYTES)?,
        };
        socket.socket.set_nodelay(true)?;
        upgrade::ask(&mut socket)?;
        let end = hand.accepted()?;
        socket.socket.set_nonblocking(true)?;
        Ok(Self { socket, end, taken: 0 })
    }
}

/// A socket and the TLS layer over it.
struct Unencrypted {
    socket: TcpStream,
    tls: TlsReader,
}

/// Blocking, for the upgrade.
impl Read for Unencrypted {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.tls.plaintext().is_empty() {
            self.flush()?;
            self.tls.fill(&mut self.socket).map_err(io::Error::other)?;
        }
        let count = self.tls.plaintext().len().min(room.len());
        room[..count].copy_from_slice(&self.tls.plaintext()[..count]);
        self.tls.consume(count);
        Ok(count)
    }
}

impl Write for Unencrypted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.tls.is_handshaking() {
            self.flush()?;
            self.tls.fill(&mut self.socket).map_err(io::Error::other)?;
        }
        self.tls.write(bytes).map_err(io::Error::other)?;
        self.flush().map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.tls.take_outgoing())
    }
}
